"""NumPy files, read without unpickling.

NumPy parses their headers with Python's own parser, which in Python 3.11 sometimes fails when
several threads use it at once: ``SystemError: AST constructor recursion depth mismatch``. A lock
lets one thread at a time read a header.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from pool3.errors import InvalidIndex

#: Lock to hold while reading a header.
PARSING = threading.Lock()


def read_array(
    source: Path | IO[bytes], name: str, *, mmap_mode: Literal["r"] | None = None
) -> npt.NDArray[Any]:
    """Return the array of a NumPy file, read or memory-mapped.

    Parameters
    ----------
    source
        A path, or an open file; to be mapped it must be a path.
    name
        Its name in errors.
    mmap_mode
        ``"r"`` to map the file.

    Raises
    ------
    InvalidIndex
        When the file is not a NumPy file of plain numbers.
    """
    try:
        with PARSING:
            array = np.load(source, mmap_mode=mmap_mode, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidIndex(f"{name} must be a NumPy file; found another file: {error}") from error
    return np.asarray(array)
