"""Files of tensors that state their format version: safetensors with a version in the header.

The files of a snapshot are written and read here; tensors that only pass between tasks are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pool3.errors import InvalidIndex

FORMAT_VERSION = 1

Tensors = dict[str, npt.NDArray[Any]]

# One key for all header fields, since safetensors does not preserve the order of several.
_HEADER = "pool3"


def serialised(tensors: Mapping[str, npt.NDArray[np.generic]], **header: Any) -> bytes:
    """Return the bytes of a file: equal tensors and header fields give equal bytes."""
    text = json.dumps({"format_version": FORMAT_VERSION, **header}, sort_keys=True)
    return bytes(save(dict(tensors), metadata={_HEADER: text}))


def parsed(data: bytes, what: str) -> Tensors:
    """Return the tensors of a file that `serialised` made.

    Parameters
    ----------
    data
        The bytes of the file.
    what
        What the file should be, for errors.

    Raises
    ------
    InvalidIndex
        When it is something else, or in a format that this release does not know.
    """
    try:
        tensors = load(data)
        # The first eight bytes are the length of the header, which `load` does not return.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        version = json.loads(header["__metadata__"][_HEADER])["format_version"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InvalidIndex(f"expected {what}; found another file: {error}") from error
    if version != FORMAT_VERSION:
        raise InvalidIndex(
            f"expected {what} of format version {FORMAT_VERSION}; found version {version!r}: open "
            "the index with the pool3 that wrote it, or build it again"
        )
    return dict(tensors)
