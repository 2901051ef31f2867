"""Reads the layers in the HDF5 layouts of Keras.

There are two layouts. The older one lists its layers in the attribute ``layer_names`` and the
tensors of each layer in ``weight_names`` (``conv2d_5/kernel:0``). The layout of Keras 3 has a group
for each layer, named by class and position (``layers/conv2d_5``), whose ``vars`` are numbered.
Only hard links are accepted: other links can point outside of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import h5py

from pool3.errors import ModelError
from pool3.models import inception

_NORM_TENSORS = {
    3: ("beta", "moving_mean", "moving_variance"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}
_MAX_CHUNKS = 1000


@dataclass
class StoredLayer:
    """A layer with tensors in a file.

    Parameters
    ----------
    path
        The group of the layer, for messages.
    name
        Its name in Keras, if the file has it.
    tensors
        Datasets of the file or arrays, by tensor name (``kernel``, ``moving_mean``, ...).
    """

    path: str
    name: str | None
    tensors: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Literal["conv", "norm", "other"]:
        """The kind of the layer, determined by its tensors."""
        if "moving_mean" in self.tensors:
            return "norm"
        kernel = self.tensors.get("kernel")
        return "conv" if kernel is not None and len(kernel.shape) == 4 else "other"


def stored_layers(file: h5py.File) -> list[StoredLayer]:
    """Return all layers that have tensors, in the order of the file.

    Raises
    ------
    ModelError
        If the layout is unknown, or a link or a dataset points outside of the file.
    """
    if link := file.visititems_links(_external_link):
        raise ModelError(
            f"expected tensors inside of the file, found a link at {link}, which is not followed"
        )
    root = file.get("model_weights", file)
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        layers = _read_old_layout(root)
    else:
        layers = _read_keras_3_layout(file)
    if not layers:
        raise ModelError(
            f"expected the weights of a Keras model, found HDF5 with {sorted(file)[:5]}"
        )
    return layers


def in_creation_order(layers: list[StoredLayer]) -> list[StoredLayer]:
    """Sort the convolutions (or the batch norms) of a network by the order of their creation.

    The numbers of Keras' automatic names determine it (``conv2d``, ``conv2d_1``, ..., or such names
    from any number on). A file without such names lists layers by their depth in the network.
    """
    numbered = sorted(layers, key=lambda layer: _split_name(layer.name or "")[1])
    if _is_consecutive([_split_name(layer.name or "") for layer in numbered]):
        return numbered
    if len(layers) != len(inception.CONVOLUTIONS):
        return layers
    by_scope = {
        layer.name: stored
        for layer, stored in zip(inception.convolutions_by_depth(), layers, strict=True)
    }
    return [by_scope[layer.name] for layer in inception.CONVOLUTIONS]


def numbered_runs(layers: list[StoredLayer]) -> list[list[StoredLayer]]:
    """Group layers into runs whose automatic names have consecutive numbers."""
    runs: dict[tuple[str, str, int], list[StoredLayer]] = {}
    stems: dict[tuple[str, str], list[tuple[int, StoredLayer]]] = {}
    for layer in layers:
        stem, number = _split_name(layer.name or "")
        stems.setdefault((_parent_path(layer), stem), []).append((number, layer))
    for (parent, stem), numbered in stems.items():
        numbered.sort(key=lambda pair: pair[0])
        for position, (number, layer) in enumerate(numbered):
            runs.setdefault((parent, stem, number - position), []).append(layer)
    return list(runs.values())


def _parent_path(layer: StoredLayer) -> str:
    """Return the group that contains a layer; the older layout repeats the name of a layer."""
    groups = layer.path.split("/")
    if len(groups) > 1 and groups[-1] == groups[-2]:
        groups.pop()
    return "/".join(groups[:-1])


def _is_consecutive(names: list[tuple[str, int]]) -> bool:
    """Return whether names have the same stem and consecutive numbers."""
    return names == [(names[0][0], names[0][1] + i) for i in range(len(names))]


def _split_name(name: str) -> tuple[str, int]:
    """Split ``conv2d_5`` into stem and number; ``conv2d`` has the number 0."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if stem and number.isdecimal() else (name, 0)


def _external_link(path: str, link: object) -> str | None:
    """Return a description of a link other than a hard link, which ends the visit."""
    return None if isinstance(link, h5py.HardLink) else f"{path} ({type(link).__name__})"


def _get_dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ModelError(f"expected a tensor at {group.name}/{name}, found {dataset!r}")
    if dataset.external or dataset.is_virtual:
        raise ModelError(f"expected {dataset.name} inside of the file, found it in another file")
    return dataset


def _read_old_layout(root: h5py.Group) -> list[StoredLayer]:
    """Read the older layout, in which a nested model is a group with the tensors of many layers."""
    layers: dict[str, StoredLayer] = {}
    for group_name in _read_names(root, "layer_names"):
        group = root[group_name]
        for weight_name in _read_names(group, "weight_names"):
            path, _, name = f"{group.name}/{weight_name}".rpartition("/")
            layer = layers.setdefault(path, StoredLayer(path, path.rpartition("/")[2]))
            layer.tensors[name.partition(":")[0]] = _get_dataset(group, weight_name)
    return list(layers.values())


def _read_names(group: h5py.Group, attribute: str) -> Iterator[str]:
    """Read an attribute with names, which Keras splits into numbered ones if it is long."""
    keys = [attribute] if attribute in group.attrs else []
    if not keys:
        numbered = (f"{attribute}{i}" for i in range(_MAX_CHUNKS))
        keys = [key for key in numbered if key in group.attrs]
    for key in keys:
        for name in group.attrs[key]:
            yield name.decode() if isinstance(name, bytes) else str(name)


def _read_keras_3_layout(file: h5py.File) -> list[StoredLayer]:
    """Read the layout of Keras 3, in the order of the numbers of the groups."""
    groups: list[h5py.Group] = []

    def collect(path: str, item: object) -> None:
        if path.endswith("/vars") and isinstance(item, h5py.Group) and len(item):
            groups.append(item)

    file.visititems(collect)
    layers = [_read_layer(group) for group in groups]
    return sorted(layers, key=lambda layer: _split_name(layer.path)[1])


def _read_layer(group: h5py.Group) -> StoredLayer:
    path = group.name.removesuffix("/vars")
    name = group.attrs.get("name")
    layer = StoredLayer(path, name if isinstance(name, str) else None)
    keys = sorted(group, key=lambda key: int(key) if key.isdecimal() else 0)
    datasets = [_get_dataset(group, key) for key in keys]
    expected: tuple[str, ...] = ("kernel", "bias")
    if all(len(dataset.shape) == 1 for dataset in datasets):
        expected = _NORM_TENSORS.get(len(datasets), expected)
    names = [expected[i] if i < len(expected) else f"tensor {i}" for i in range(len(datasets))]
    layer.tensors.update(zip(names, datasets, strict=True))
    return layer
