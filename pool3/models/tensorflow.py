"""TensorFlow, imported where it is needed and quietly."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pool3.errors import EngineMissing

log = logging.getLogger(__name__)


def import_tensorflow() -> Any:
    """Import TensorFlow, quietly unless the environment asks otherwise.

    Raises
    ------
    EngineMissing
        If it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with _native_stderr_held_back():
            import tensorflow  # noqa: PLC0415
    except ImportError as error:
        raise EngineMissing(
            f"running a model needs TensorFlow, which cannot be imported ({error}); "
            "install it with: pip install 'pool3[tensorflow]'"
        ) from error
    return tensorflow


@contextmanager
def _native_stderr_held_back() -> Iterator[None]:
    """Turn what native code writes to stderr into debug lines of the log.

    TensorFlow says on import, before its own log settings count, that oneDNN is on.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            for line in written.read().decode(errors="replace").splitlines():
                log.debug("%s", line)
