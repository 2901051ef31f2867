"""Reads the tensors of Inception-v3 from a Keras file.

Supports all formats that Keras writes: the older HDF5 files of weights and of whole models,
``.weights.h5``, and the zip ``.keras``. Creates no layer and runs no code of the file.
`pool3.models.sources.keras_layouts` knows the names of the tensors in each format.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pool3.errors import ModelError
from pool3.models.directory import ModelDirectory
from pool3.models.pixels import Pixels
from pool3.models.preparation import prepared_model
from pool3.models.sources.describe import describe_file
from pool3.models.sources.keras_config import read_pixels
from pool3.models.sources.keras_layouts import StoredLayer, stored_layers
from pool3.models.sources.keras_matching import canonical_tensors

Tensors = dict[str, npt.NDArray[np.float32]]

_WEIGHTS_MEMBER, _CONFIG_MEMBER = "model.weights.h5", "config.json"
MAX_MEMBER_BYTES = {_WEIGHTS_MEMBER: 2 << 30, _CONFIG_MEMBER: 64 << 20}
"""The largest unpacked size of each member of a ``.keras`` file."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"


def is_keras_file(data: bytes) -> bool:
    """Return whether a file is HDF5 or a zip, the formats of Keras."""
    return data.startswith((_ZIP, _HDF5))


def keras_file_model(data: bytes, *, source: str) -> ModelDirectory:
    """Make a model from a Keras file of Inception-v3.

    Parameters
    ----------
    data
        The whole file.
    source
        Its name, for messages and for ``model.json``.

    Raises
    ------
    ModelError
        If it is no Keras file, is damaged, or contains another network; the message names the
        first tensor that does not match.
    """
    try:
        if data.startswith(_ZIP):
            tensors, pixels = _read_zip(data)
        elif data.startswith(_HDF5):
            tensors, pixels = _read_hdf5(data, config=None)
        else:
            raise ModelError(f"expected HDF5 or a .keras zip, found {describe_file(data)}")
        return prepared_model(tensors, pixels, source=source)
    except ModelError as error:
        raise ModelError(f"{source} cannot be used: {error}") from error
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{source} is damaged or cut short: {error}; copy or download it again"
        ) from error


def _read_zip(data: bytes) -> tuple[Tensors, Pixels]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.namelist()
        if _WEIGHTS_MEMBER not in members or _CONFIG_MEMBER not in members:
            raise ModelError(
                f"expected {_CONFIG_MEMBER} and {_WEIGHTS_MEMBER} in the zip, found "
                f"{', '.join(members[:5]) or 'nothing'}"
            )
        config = _read_member(archive, _CONFIG_MEMBER)
        return _read_hdf5(_read_member(archive, _WEIGHTS_MEMBER), config)


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a member, at most up to its limit, whatever size its header declares."""
    limit = MAX_MEMBER_BYTES[name]
    declared = archive.getinfo(name).file_size
    if declared > limit:
        raise ModelError(
            f"expected {name} to have {limit} bytes at most, found {declared} declared"
        )
    with archive.open(name) as member:
        return member.read(limit)


def _read_hdf5(data: bytes, config: bytes | None) -> tuple[Tensors, Pixels]:
    with h5py.File(io.BytesIO(data), "r") as file:
        attribute = file.attrs.get("model_config")
        text = config if config is not None else attribute
        layers = stored_layers(file)
        pixels = Pixels()
        if text is not None:
            pixels = read_pixels(json.loads(text), lambda name: _layer_tensors(layers, name))
        return canonical_tensors(layers), pixels


def _layer_tensors(layers: list[StoredLayer], name: str) -> dict[str, Any]:
    """Return the tensors of a layer; none if not exactly one layer has the name."""
    matches = [layer for layer in layers if layer.name == name]
    return matches[0].tensors if len(matches) == 1 else {}
