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
from pool3.models.keras_layouts import StoredLayer, in_creation_order, stored_layers

log = logging.getLogger(__name__)

_WEIGHTS_MEMBER, _CONFIG_MEMBER = "model.weights.h5", "config.json"
MAX_MEMBER_BYTES = {_WEIGHTS_MEMBER: 2 << 30, _CONFIG_MEMBER: 64 << 20}
"""Most that a member of a ``.keras`` file may unpack to."""

_LOOKS = (
    (b"version https://git-lfs", "a Git LFS pointer, whose file was not fetched: git lfs pull"),
    (b"\x80", "a pickle, which is never opened"),
    (b"<", "a page of HTML or XML"),
    (b"{", "JSON"),
    (b"\x1f\x8b", "a gzip archive"),
)
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_OTHER_NETWORKS = {13: "VGG16", 16: "VGG19", 53: "ResNet50", 104: "ResNet101", 120: "DenseNet121"}


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
            raise ModelError(f"expected HDF5 or a .keras zip, found {_look(data)}")
    except ModelError as error:
        raise ModelError(f"{source} cannot be used: {error}") from error
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{source} is damaged or cut short: {error}; copy or download it again"
        ) from error
    return model_from_tensors(tensors, source=source)


def _look(data: bytes) -> str:
    if not data:
        return "an empty file"
    for beginning, look in _LOOKS:
        if data.startswith(beginning):
            return f"what looks like {look}"
    return f"something that begins with {data[:12]!r}"


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
        return _canonical(stored_layers(file))


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


def _canonical(layers: list[StoredLayer]) -> dict[str, npt.NDArray[np.float32]]:
    convolutions = in_creation_order([layer for layer in layers if layer.kind == "conv"])
    norms = in_creation_order([layer for layer in layers if layer.kind == "norm"])
    for kind, found in (("convolutions", convolutions), ("batch norms", norms)):
        if len(found) != len(inception.CONVOLUTIONS):
            network = _OTHER_NETWORKS.get(len(convolutions))
            looks = f"; this looks like {network}" if network else ""
            raise ModelError(
                f"expected the {len(inception.CONVOLUTIONS)} {kind} of Inception-v3, "
                f"found {len(found)}{looks}"
            )
    for stored in layers:
        if stored.kind == "other":
            log.info("left out %s: it is no part of the features", stored.path)
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for layer, convolution, norm in zip(inception.CONVOLUTIONS, convolutions, norms, strict=True):
        tensors |= _convolution(layer, convolution)
        tensors |= _norm(layer, norm)
    return tensors


def _convolution(layer: inception.Layer, stored: StoredLayer) -> dict[str, npt.NDArray[np.float32]]:
    if extra := sorted(stored.tensors.keys() - {"kernel"}):
        raise ModelError(
            f"expected only a kernel in {stored.path}, found {', '.join(extra)} too: "
            "this is not Keras' own Inception-v3, whose convolutions have no bias"
        )
    name = f"{layer.name}/kernel"
    return {name: _read(stored, "kernel", layer.kernel_shape, name)}


def _norm(layer: inception.Layer, stored: StoredLayer) -> dict[str, npt.NDArray[np.float32]]:
    tensors = {}
    for part in inception.STATISTICS:
        name = f"{layer.name}/{part}"
        if part == "gamma" and part not in stored.tensors:
            tensors[name] = np.ones(layer.channels, np.float32)
        else:
            tensors[name] = _read(stored, part, (layer.channels,), name)
    if (tensors[f"{layer.name}/moving_variance"] < 0).any():
        raise ModelError(f"expected variances of 0 or more in {stored.path}, found one below")
    return tensors


def _read(
    stored: StoredLayer, part: str, shape: tuple[int, ...], name: str
) -> npt.NDArray[np.float32]:
    """Read one tensor whose place in the network is known, checking it against that place."""
    dataset = stored.tensors.get(part)
    if dataset is None:
        raise ModelError(f"expected {part} in {stored.path}, found {sorted(stored.tensors)}")
    if dataset.shape != shape:
        raise ModelError(
            f"expected shape {shape} for {name}, found {dataset.shape} in {stored.path}: "
            "this looks like another network, or another version of Inception"
        )
    if dataset.dtype.kind != "f":
        raise ModelError(
            f"expected floating point numbers in {stored.path}/{part}, found {dataset.dtype}; "
            "save the model with float32 weights"
        )
    values: npt.NDArray[np.float32] = dataset[()].astype(np.float32)
    if not np.isfinite(values).all():
        raise ModelError(f"expected finite numbers in {stored.path}/{part}, found NaN or infinity")
    return values
