"""Inception-v3 out of a Keras file, read as tensors.

Every layout that Keras writes is read: the older HDF5 of weights alone and of whole models,
``.weights.h5`` and the zip ``.keras``. No layer is made and no code in the file is run. What the
tensors are called in which layout is known by `pool3.models.sources.keras_layouts`.
"""

from __future__ import annotations

import io
import json
import zipfile

import h5py
import numpy as np
import numpy.typing as npt

from pool3.errors import ModelError
from pool3.models.directory import ModelDirectory, model_from_tensors
from pool3.models.sources.describe import look
from pool3.models.sources.keras_config import Setup, setup_of
from pool3.models.sources.keras_layouts import stored_layers
from pool3.models.sources.keras_matching import canonical_tensors

Tensors = dict[str, npt.NDArray[np.float32]]

_WEIGHTS_MEMBER, _CONFIG_MEMBER = "model.weights.h5", "config.json"
MAX_MEMBER_BYTES = {_WEIGHTS_MEMBER: 2 << 30, _CONFIG_MEMBER: 64 << 20}
"""Most that a member of a ``.keras`` file may unpack to."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"


def is_keras_file(data: bytes) -> bool:
    """Tell whether a file is HDF5 or a zip, which is how Keras writes files."""
    return data.startswith((_ZIP, _HDF5))


def keras_file_model(data: bytes, *, source: str) -> ModelDirectory:
    """Make a model of a Keras file of Inception-v3.

    Parameters
    ----------
    data
        The whole file.
    source
        Its name, for messages and for ``model.json``.

    Raises
    ------
    ModelError
        If it is no such file, is damaged, or holds another network; the first tensor that does
        not fit is named.
    """
    try:
        if data.startswith(_ZIP):
            tensors, setup = _from_zip(data)
        elif data.startswith(_HDF5):
            tensors, setup = _from_hdf5(data, config=None)
        else:
            raise ModelError(f"expected HDF5 or a .keras zip, found {look(data)}")
    except ModelError as error:
        raise ModelError(f"{source} cannot be used: {error}") from error
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{source} is damaged or cut short: {error}; copy or download it again"
        ) from error
    return model_from_tensors(
        tensors, source=source, variant=setup.variant, input_size=setup.input_size
    )


def _from_zip(data: bytes) -> tuple[Tensors, Setup]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.namelist()
        if _WEIGHTS_MEMBER not in members or _CONFIG_MEMBER not in members:
            raise ModelError(
                f"expected {_CONFIG_MEMBER} and {_WEIGHTS_MEMBER} in the zip, found "
                f"{', '.join(members[:5]) or 'nothing'}"
            )
        config = _member(archive, _CONFIG_MEMBER)
        return _from_hdf5(_member(archive, _WEIGHTS_MEMBER), config)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a member, never more than its limit whatever its header declares."""
    limit = MAX_MEMBER_BYTES[name]
    declared = archive.getinfo(name).file_size
    if declared > limit:
        raise ModelError(
            f"expected {name} to have {limit} bytes at most, found {declared} declared"
        )
    with archive.open(name) as member:
        return member.read(limit)


def _from_hdf5(data: bytes, config: bytes | None) -> tuple[Tensors, Setup]:
    with h5py.File(io.BytesIO(data), "r") as file:
        attribute = file.attrs.get("model_config")
        text = config if config is not None else attribute
        setup = Setup() if text is None else setup_of(json.loads(text))
        return canonical_tensors(stored_layers(file)), setup
