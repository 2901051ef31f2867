"""Files of tensors that say in which format they are: safetensors with a version.

A snapshot's own files are written and read here; what merely travels between tasks is not.
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

# One key for all facts, since safetensors does not keep the order of several.
_FACTS = "pool3"


def written(tensors: Mapping[str, npt.NDArray[np.generic]], **facts: Any) -> bytes:
    """Return the bytes of a file: equal tensors and facts give equal bytes."""
    told = json.dumps({"format_version": FORMAT_VERSION, **facts}, sort_keys=True)
    return bytes(save(dict(tensors), metadata={_FACTS: told}))


def read(data: bytes, what: str) -> Tensors:
    """Return the tensors of a file that `written` made.

    Parameters
    ----------
    data
        The file.
    what
        What an error says that it is not.

    Raises
    ------
    InvalidIndex
        When it is something else, or in a format that this release does not know.
    """
    try:
        tensors = load(data)
        # Eight bytes tell the length of the header, which safetensors itself keeps to itself.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        version = json.loads(header["__metadata__"][_FACTS])["format_version"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InvalidIndex(f"{what}: {error}") from error
    if version != FORMAT_VERSION:
        raise InvalidIndex(
            f"{what} of format version {FORMAT_VERSION}, which this release reads; found "
            f"{version!r}: open the index with the pool3 that wrote it, or build it again"
        )
    return dict(tensors)
