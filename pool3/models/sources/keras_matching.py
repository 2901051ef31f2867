"""Which of a Keras model's layers are those of Inception-v3.

A file lists layers, not how they are joined. Their automatic names say in which order they were
made, else their order in the file says how deep they lie; a model with more layers, such as a
classifier's head, has the network where all 94 shapes follow one another.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pool3.errors import ModelError
from pool3.models import inception
from pool3.models.sources.describe import network_of
from pool3.models.sources.keras_layouts import StoredLayer, by_number, in_creation_order

log = logging.getLogger(__name__)

_COUNT = len(inception.CONVOLUTIONS)


def canonical_tensors(layers: list[StoredLayer]) -> dict[str, npt.NDArray[np.float32]]:
    """Give the tensors of Inception-v3 out of a model's layers.

    Parameters
    ----------
    layers
        Every layer with tensors, in the order of the file.

    Returns
    -------
    dict
        Every canonical tensor, float32.

    Raises
    ------
    ModelError
        If they are not all there; the first that does not fit is named.
    """
    convolutions = _chosen([layer for layer in layers if layer.kind == "conv"], "convolutions")
    norms = _chosen([layer for layer in layers if layer.kind == "norm"], "batch norms")
    chosen = {id(layer) for layer in (*convolutions, *norms)}
    for stored in layers:
        if id(stored) not in chosen:
            log.info("left out %s: it is no part of the features", stored.path)
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for layer, convolution, norm in zip(inception.CONVOLUTIONS, convolutions, norms, strict=True):
        tensors |= _convolution(layer, convolution)
        tensors |= _norm(layer, norm)
    return tensors


def _chosen(layers: list[StoredLayer], kind: str) -> list[StoredLayer]:
    """Choose the 94 convolutions or batch norms, in Keras' creation order."""
    if len(layers) == _COUNT:
        return in_creation_order(layers)
    found: list[list[StoredLayer]] = []
    for window in _windows(layers):
        places = {id(layer) for layer in window}
        if all({id(layer) for layer in other} != places for other in found):
            found.append(window)
    if len(found) > 1:
        raise ModelError(f"expected one Inception-v3, found the {kind} of {len(found)}")
    if not found:
        raise ModelError(
            f"expected the {_COUNT} {kind} of Inception-v3, found {len(layers)}"
            f"{network_of(len(layers))}"
        )
    return found[0]


def _windows(layers: list[StoredLayer]) -> Iterator[list[StoredLayer]]:
    """Give each run of 94 layers whose sizes are those of the network, in creation order."""
    depth = inception.convolutions_by_depth()
    for run in by_number(layers):
        yield from _fitting(run, inception.CONVOLUTIONS)
    for run in (layers, *_by_parent(layers)):
        for window in _fitting(run, depth):
            scopes = dict(zip((layer.name for layer in depth), window, strict=True))
            yield [scopes[layer.name] for layer in inception.CONVOLUTIONS]


def _by_parent(layers: list[StoredLayer]) -> list[list[StoredLayer]]:
    groups: dict[str, list[StoredLayer]] = {}
    for layer in layers:
        groups.setdefault(layer.path.rpartition("/")[0], []).append(layer)
    return list(groups.values())


def _fitting(
    run: Sequence[StoredLayer], wanted: Sequence[inception.Layer]
) -> Iterator[list[StoredLayer]]:
    for start in range(len(run) - len(wanted) + 1):
        window = list(itertools.islice(run, start, start + len(wanted)))
        if all(_fits(stored, layer) for stored, layer in zip(window, wanted, strict=True)):
            yield window


def _fits(stored: StoredLayer, layer: inception.Layer) -> bool:
    if "kernel" in stored.tensors:
        return bool(stored.tensors["kernel"].shape == layer.kernel_shape)
    return bool(stored.tensors["moving_mean"].shape == (layer.channels,))


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
