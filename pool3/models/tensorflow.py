"""Imports TensorFlow on demand, without its messages on stderr."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pool3.errors import EngineMissing, install_remedy

log = logging.getLogger(__name__)


def import_tensorflow() -> Any:
    """Import TensorFlow; ``TF_CPP_MIN_LOG_LEVEL`` controls its log, by default errors only.

    Raises
    ------
    EngineMissing
        If it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with _native_stderr_as_debug_log():
            import tensorflow  # noqa: PLC0415
    except ImportError as error:
        raise EngineMissing(
            f"running a model needs TensorFlow, which cannot be imported ({error}); "
            f"{install_remedy('tensorflow')}"
        ) from error
    return tensorflow


@contextmanager
def _native_stderr_as_debug_log() -> Iterator[None]:
    """Log what native code writes to stderr as debug lines.

    On import, before its log settings take effect, TensorFlow writes that oneDNN is on.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            captured.seek(0)
            for line in captured.read().decode(errors="replace").splitlines():
                log.debug("%s", line)
