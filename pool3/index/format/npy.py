"""NumPy files, read without anything that could be code.

NumPy reads their headers with Python's own parser, which in Python 3.11 now and then fails in one
of several threads: ``SystemError: AST constructor recursion depth mismatch``. So one thread reads
a header at a time.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from pool3.errors import InvalidIndex

#: Held while a header is read.
PARSING = threading.Lock()


def read_array(
    source: Path | IO[bytes], name: str, *, mmap_mode: Literal["r"] | None = None
) -> npt.NDArray[Any]:
    """Return the array of a NumPy file, or map it.

    Parameters
    ----------
    source
        Where it is; to be mapped, a path.
    name
        What an error calls it.
    mmap_mode
        ``"r"`` to map it.

    Raises
    ------
    InvalidIndex
        When it holds no array.
    """
    try:
        with PARSING:
            array = np.load(source, mmap_mode=mmap_mode, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidIndex(f"{name} holds no array: {error}") from error
    return np.asarray(array)
