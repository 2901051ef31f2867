"""Where Keras' HDF5 layouts keep the tensors of a layer.

Two layouts exist. The older one lists its layers in the attribute ``layer_names`` and the tensors
of each in ``weight_names`` (``conv2d_5/kernel:0``). The one of Keras 3 has a group for each layer,
named by class and place (``layers/conv2d_5``), whose ``vars`` are numbered. Links that leave the
file, or whose target can change, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import h5py

from pool3.errors import ModelError
from pool3.models import inception

_NORM_PARTS = {
    3: ("beta", "moving_mean", "moving_variance"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}
_MAX_CHUNKS = 1000


@dataclass
class StoredLayer:
    """One layer with tensors, as found in a file.

    Parameters
    ----------
    path
        The layer's group, for messages.
    name
        What Keras called it, where the file says so.
    tensors
        Part (``kernel``, ``moving_mean``, ...) to the dataset in the file, or to an array.
    """

    path: str
    name: str | None
    tensors: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Literal["conv", "norm", "other"]:
        """What the layer is, by its tensors."""
        if "moving_mean" in self.tensors:
            return "norm"
        kernel = self.tensors.get("kernel")
        return "conv" if kernel is not None and len(kernel.shape) == 4 else "other"


def stored_layers(file: h5py.File) -> list[StoredLayer]:
    """Find every layer that has tensors, in the order in which the file lists them.

    Raises
    ------
    ModelError
        If the layout is none of Keras', or a link or a dataset points outside of the file.
    """
    if found := file.visititems_links(_link_out):
        raise ModelError(
            f"expected tensors inside of the file, found a link at {found}, which is not followed"
        )
    root = file.get("model_weights", file)
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        layers = _listed(root)
    else:
        layers = _numbered(file)
    if not layers:
        raise ModelError(
            f"expected the weights of a Keras model, found HDF5 with {sorted(file)[:5]}"
        )
    return layers


def in_creation_order(layers: list[StoredLayer]) -> list[StoredLayer]:
    """Sort the convolutions (or the batch norms) of one network as Keras created them.

    The numbers of Keras' automatic names say so (``conv2d``, ``conv2d_1``, ... or any run with an
    offset). Where a file has no such names its own order does, which is that of the depth in the
    network.
    """
    numbered = sorted(layers, key=lambda layer: _split(layer.name or "")[1])
    if _is_run([_split(layer.name or "") for layer in numbered]):
        return numbered
    if len(layers) != len(inception.CONVOLUTIONS):
        return layers
    by_scope = {
        layer.name: stored
        for layer, stored in zip(inception.convolutions_by_depth(), layers, strict=True)
    }
    return [by_scope[layer.name] for layer in inception.CONVOLUTIONS]


def by_number(layers: list[StoredLayer]) -> list[list[StoredLayer]]:
    """Give the layers of each automatic name in the order of its numbers, without gaps."""
    runs: dict[tuple[str, str, int], list[StoredLayer]] = {}
    stems: dict[tuple[str, str], list[tuple[int, StoredLayer]]] = {}
    for layer in layers:
        stem, number = _split(layer.name or "")
        stems.setdefault((_parent(layer), stem), []).append((number, layer))
    for (parent, stem), numbered in stems.items():
        numbered.sort(key=lambda pair: pair[0])
        for place, (number, layer) in enumerate(numbered):
            runs.setdefault((parent, stem, number - place), []).append(layer)
    return list(runs.values())


def _parent(layer: StoredLayer) -> str:
    """Give what holds a layer; the older layout repeats a layer's name around its tensors."""
    parts = layer.path.split("/")
    if len(parts) > 1 and parts[-1] == parts[-2]:
        parts.pop()
    return "/".join(parts[:-1])


def _is_run(names: list[tuple[str, int]]) -> bool:
    """Tell whether names have one stem, and numbers that follow one another."""
    return names == [(names[0][0], names[0][1] + i) for i in range(len(names))]


def _split(name: str) -> tuple[str, int]:
    """Split ``conv2d_5`` into its stem and its number; ``conv2d`` has the number 0."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if stem and number.isdecimal() else (name, 0)


def _link_out(path: str, link: object) -> str | None:
    """Stop the visit at the first link that is not simply the object's place."""
    return None if isinstance(link, h5py.HardLink) else f"{path} ({type(link).__name__})"


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    found = group[name]
    if not isinstance(found, h5py.Dataset):
        raise ModelError(f"expected a tensor at {group.name}/{name}, found {found!r}")
    if found.external or found.is_virtual:
        raise ModelError(f"expected {found.name} inside of the file, found it kept elsewhere")
    return found


def _listed(root: h5py.Group) -> list[StoredLayer]:
    """Read the older layout; a nested model is one group with the tensors of many layers."""
    layers: dict[str, StoredLayer] = {}
    for group_name in _names(root, "layer_names"):
        group = root[group_name]
        for weight_name in _names(group, "weight_names"):
            path, _, part = f"{group.name}/{weight_name}".rpartition("/")
            layer = layers.setdefault(path, StoredLayer(path, path.rpartition("/")[2]))
            layer.tensors[part.partition(":")[0]] = _dataset(group, weight_name)
    return list(layers.values())


def _names(group: h5py.Group, attribute: str) -> Iterator[str]:
    """Read an attribute of names, which Keras splits into numbered ones when it is long."""
    keys = [attribute] if attribute in group.attrs else []
    if not keys:
        numbered = (f"{attribute}{i}" for i in range(_MAX_CHUNKS))
        keys = [key for key in numbered if key in group.attrs]
    for key in keys:
        for name in group.attrs[key]:
            yield name.decode() if isinstance(name, bytes) else str(name)


def _numbered(file: h5py.File) -> list[StoredLayer]:
    """Read the layout of Keras 3, in the order of the groups' numbers."""
    groups: list[h5py.Group] = []

    def collect(path: str, found: object) -> None:
        if path.endswith("/vars") and isinstance(found, h5py.Group) and len(found):
            groups.append(found)

    file.visititems(collect)
    layers = [_numbered_layer(group) for group in groups]
    return sorted(layers, key=lambda layer: _split(layer.path)[1])


def _numbered_layer(group: h5py.Group) -> StoredLayer:
    path = group.name.removesuffix("/vars")
    name = group.attrs.get("name")
    layer = StoredLayer(path, name if isinstance(name, str) else None)
    keys = sorted(group, key=lambda key: int(key) if key.isdecimal() else 0)
    datasets = [_dataset(group, key) for key in keys]
    parts: tuple[str, ...] = ("kernel", "bias")
    if all(len(dataset.shape) == 1 for dataset in datasets):
        parts = _NORM_PARTS.get(len(datasets), parts)
    names = [parts[i] if i < len(parts) else f"tensor {i}" for i in range(len(datasets))]
    layer.tensors.update(zip(names, datasets, strict=True))
    return layer
