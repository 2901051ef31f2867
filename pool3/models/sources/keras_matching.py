"""Finds the layers of Inception-v3 among those of a Keras model.

A file lists layers, but not their connections. Automatic names give the order of creation, else the
order in the file gives the order by depth. In a model with more layers, such as a classifier's
head, the network is the run of layers that has all 94 shapes in sequence.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pool3.errors import ModelError
from pool3.models import inception
from pool3.models.sources.describe import network_hint
from pool3.models.sources.keras_layouts import StoredLayer, in_creation_order, numbered_runs

log = logging.getLogger(__name__)

_COUNT = len(inception.CONVOLUTIONS)


def canonical_tensors(layers: list[StoredLayer]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the tensors of Inception-v3 from the layers of a model.

    Parameters
    ----------
    layers
        All layers with tensors, in the order of the file.

    Returns
    -------
    dict
        All canonical tensors, float32.

    Raises
    ------
    ModelError
        If tensors are missing or do not match; the message names the first.
    """
    convolutions = _choose_layers(
        [layer for layer in layers if layer.kind == "conv"], "convolutions"
    )
    norms = _choose_layers([layer for layer in layers if layer.kind == "norm"], "batch norms")
    chosen = {id(layer) for layer in (*convolutions, *norms)}
    for stored in layers:
        if id(stored) not in chosen:
            log.info("skipped %s: it is not needed for the features", stored.path)
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for layer, convolution, norm in zip(inception.CONVOLUTIONS, convolutions, norms, strict=True):
        tensors |= _read_convolution(layer, convolution)
        tensors |= _read_norm(layer, norm)
    return tensors


def _choose_layers(layers: list[StoredLayer], kind: str) -> list[StoredLayer]:
    """Choose the 94 convolutions or batch norms, in Keras' creation order."""
    if len(layers) == _COUNT:
        return in_creation_order(layers)
    matches: list[list[StoredLayer]] = []
    for window in _windows(layers):
        ids = {id(layer) for layer in window}
        if all({id(layer) for layer in other} != ids for other in matches):
            matches.append(window)
    if len(matches) > 1:
        raise ModelError(f"expected one Inception-v3, found the {kind} of {len(matches)}")
    if not matches:
        raise ModelError(
            f"expected the {_COUNT} {kind} of Inception-v3, found {len(layers)}"
            f"{network_hint(len(layers))}"
        )
    return matches[0]


def _windows(layers: list[StoredLayer]) -> Iterator[list[StoredLayer]]:
    """Yield each sequence of 94 layers with the shapes of the network, in creation order."""
    by_depth = inception.convolutions_by_depth()
    for run in numbered_runs(layers):
        yield from _matching_windows(run, inception.CONVOLUTIONS)
    for run in (layers, *_by_parent(layers)):
        for window in _matching_windows(run, by_depth):
            scopes = dict(zip((layer.name for layer in by_depth), window, strict=True))
            yield [scopes[layer.name] for layer in inception.CONVOLUTIONS]


def _by_parent(layers: list[StoredLayer]) -> list[list[StoredLayer]]:
    groups: dict[str, list[StoredLayer]] = {}
    for layer in layers:
        groups.setdefault(layer.path.rpartition("/")[0], []).append(layer)
    return list(groups.values())


def _matching_windows(
    run: Sequence[StoredLayer], expected: Sequence[inception.Layer]
) -> Iterator[list[StoredLayer]]:
    for start in range(len(run) - len(expected) + 1):
        window = list(itertools.islice(run, start, start + len(expected)))
        if all(_matches(stored, layer) for stored, layer in zip(window, expected, strict=True)):
            yield window


def _matches(stored: StoredLayer, layer: inception.Layer) -> bool:
    if "kernel" in stored.tensors:
        return bool(stored.tensors["kernel"].shape == layer.kernel_shape)
    return bool(stored.tensors["moving_mean"].shape == (layer.channels,))


def _read_convolution(
    layer: inception.Layer, stored: StoredLayer
) -> dict[str, npt.NDArray[np.float32]]:
    if extra := sorted(stored.tensors.keys() - {"kernel"}):
        raise ModelError(
            f"expected only a kernel in {stored.path}, found {', '.join(extra)} too: "
            "this is not Keras' own Inception-v3, whose convolutions have no bias"
        )
    name = f"{layer.name}/kernel"
    return {name: _read_tensor(stored, "kernel", layer.kernel_shape, name)}


def _read_norm(layer: inception.Layer, stored: StoredLayer) -> dict[str, npt.NDArray[np.float32]]:
    tensors = {}
    for key in inception.STATISTICS:
        name = f"{layer.name}/{key}"
        if key == "gamma" and key not in stored.tensors:
            tensors[name] = np.ones(layer.channels, np.float32)
        else:
            tensors[name] = _read_tensor(stored, key, (layer.channels,), name)
    if (tensors[f"{layer.name}/moving_variance"] < 0).any():
        raise ModelError(f"expected variances of 0 or more in {stored.path}, found one below")
    return tensors


def _read_tensor(
    stored: StoredLayer, key: str, shape: tuple[int, ...], name: str
) -> npt.NDArray[np.float32]:
    """Read a tensor and check it against its place in the network."""
    dataset = stored.tensors.get(key)
    if dataset is None:
        raise ModelError(f"expected {key} in {stored.path}, found {sorted(stored.tensors)}")
    if dataset.shape != shape:
        raise ModelError(
            f"expected shape {shape} for {name}, found {dataset.shape} in {stored.path}: "
            "this looks like another network, or another version of Inception"
        )
    if dataset.dtype.kind != "f":
        raise ModelError(
            f"expected floating point numbers in {stored.path}/{key}, found {dataset.dtype}; "
            "save the model with float32 weights"
        )
    values: npt.NDArray[np.float32] = dataset[()].astype(np.float32)
    if not np.isfinite(values).all():
        raise ModelError(f"expected finite numbers in {stored.path}/{key}, found NaN or infinity")
    return values
