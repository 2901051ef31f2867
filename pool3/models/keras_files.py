"""Inception-v3 out of a Keras file, read as tensors.

Every layout that Keras writes is read: the older HDF5 of weights alone and of whole models,
``.weights.h5`` and the zip ``.keras``. No layer is made and no code in the file is run. What the
tensors are called in which layout is known by `pool3.models.keras_layouts`.
"""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pool3.errors import ModelError
from pool3.models import inception
from pool3.models.directory import ModelDirectory, model_from_tensors
from pool3.models.keras_layouts import stored_layers
from pool3.models.keras_matching import canonical_tensors
from pool3.models.looks import look

log = logging.getLogger(__name__)

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
            tensors = _from_zip(data)
        elif data.startswith(_HDF5):
            tensors = _from_hdf5(data, config=None)
        else:
            raise ModelError(f"expected HDF5 or a .keras zip, found {look(data)}")
    except ModelError as error:
        raise ModelError(f"{source} cannot be used: {error}") from error
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{source} is damaged or cut short: {error}; copy or download it again"
        ) from error
    return model_from_tensors(tensors, source=source)


def _from_zip(data: bytes) -> dict[str, npt.NDArray[np.float32]]:
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


def _from_hdf5(data: bytes, config: bytes | None) -> dict[str, npt.NDArray[np.float32]]:
    with h5py.File(io.BytesIO(data), "r") as file:
        attribute = file.attrs.get("model_config")
        text = config if config is not None else attribute
        if text is not None:
            _check_epsilons(json.loads(text))
        return canonical_tensors(stored_layers(file))


def _check_epsilons(config: object) -> None:
    for layer in _objects(config):
        if layer.get("class_name") != "BatchNormalization":
            continue
        settings = layer.get("config")
        if not isinstance(settings, dict):
            continue
        epsilon = settings.get("epsilon", inception.EPSILON)
        if epsilon != inception.EPSILON:
            raise ModelError(
                f"expected batch norms with epsilon {inception.EPSILON}, found {epsilon} in "
                f"{settings.get('name')!r}"
            )


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """Every JSON object within a value, without recursion that a deep file could exhaust."""
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            yield current
            waiting.extend(current.values())
        elif isinstance(current, list):
            waiting.extend(current)
