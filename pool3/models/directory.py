"""The model directory: ``weights.safetensors``, ``graph.pb`` and ``model.json``.

Every source of weights becomes this form, and every engine runs its graph. The graph and the
weights are read when they are first asked for, checked against the sums in ``model.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pool3 import storage
from pool3.errors import ModelError, NotFound, UsageError
from pool3.images.decode import RESIZES
from pool3.models import inception
from pool3.models.graph.freeze import FEATURES, frozen_graph
from pool3.models.graph.graphdef import check_ops

FORMAT_VERSION = 2
"""Version 2 added ``variant``; a directory of version 1 has the usual one."""
READABLE = (1, 2)
RESIZE = "pil-bilinear"
"""How pictures are brought to the input size; a name that `pool3.images.decode` knows."""

_GRAPH, _WEIGHTS, _JSON = "graph.pb", "weights.safetensors", "model.json"
_FACTS: dict[str, type] = {
    "model_id": str,
    "feature_dimension": int,
    "feature_node": str,
    "input_size": int,
    "resize": str,
    "source": str,
    "notes": list,
    "files": dict,
}
Tensors = Mapping[str, npt.NDArray[np.float32]]


def model_id_of(
    tensors: Tensors,
    *,
    feature_node: str,
    resize: str,
    input_size: int,
    variant: inception.Variant = inception.USUAL,
) -> str:
    """Give the id of a model by its content, 64 hexadecimal digits.

    Neither engine, precision, serialisation nor where the weights came from are part of it.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape}\n".encode())
        digest.update(tensors[name].astype("<f4", copy=False).tobytes())
    digest.update(f"{feature_node} {resize} {input_size}\n".encode())
    if variant != inception.USUAL:
        digest.update(f"{variant.last_pool} {variant.divisor} {variant.offset}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class ModelDirectory:
    """A model, in memory or behind a uri.

    Parameters
    ----------
    model_id
        The model by its content, see `model_id_of`.
    feature_dimension
        Numbers that describe one picture.
    feature_node
        Node of the graph that gives them.
    input_size
        Height and width of the graph's input, pixels.
    resize
        How a picture is brought to that size, a name that `pool3.images.decode` knows.
    source
        Where the weights came from.
    notes
        Sentences that a person should read before using the model.
    variant
        Which Inception-v3 it is.
    """

    model_id: str
    feature_dimension: int
    feature_node: str
    input_size: int
    resize: str
    source: str
    notes: tuple[str, ...] = ()
    variant: inception.Variant = inception.USUAL
    _read_graph: Callable[[], bytes] = field(repr=False, compare=False)
    _read_weights: Callable[[], bytes] = field(repr=False, compare=False)

    @cached_property
    def graph(self) -> bytes:
        """The frozen GraphDef: ``uint8 [n, h, w, 3]`` in, ``float32 [n, d]`` out.

        Raises
        ------
        ModelError
            If it has an op that is not allowed.
        StorageError
            If it cannot be read, or is not what ``model.json`` says.
        """
        graph = self._read_graph()
        check_ops(graph)
        return graph

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """Read the unfolded weights by canonical name, float32.

        Raises
        ------
        ModelError
            If they are no safetensors.
        StorageError
            If they cannot be read, or are not what ``model.json`` says.
        """
        try:
            return load(self._read_weights())
        except SafetensorError as error:
            raise ModelError(
                f"expected safetensors in {_WEIGHTS} of model {self.model_id}, found none: {error}"
            ) from error

    def write(self, uri: str) -> None:
        """Write the directory; ``model.json`` comes last, so where it stands all is there.

        Parameters
        ----------
        uri
            Canonical uri of the directory.
        """
        contents = {_GRAPH: self.graph, _WEIGHTS: self._read_weights()}
        files = {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in contents.items()
        }
        facts: dict[str, Any] = {"format_version": FORMAT_VERSION}
        facts |= {name: getattr(self, name) for name in _FACTS if name != "files"}
        facts["variant"] = self.variant.as_json()
        for name, data in contents.items():
            storage.put(storage.join(uri, name), data)
        text = json.dumps(facts | {"files": files}, indent=2) + "\n"
        storage.put(storage.join(uri, _JSON), text.encode())


def model_from_tensors(
    tensors: Tensors,
    *,
    source: str,
    notes: tuple[str, ...] = (),
    resize: str = RESIZE,
    variant: inception.Variant = inception.USUAL,
    input_size: int = inception.INPUT_SIZE,
) -> ModelDirectory:
    """Make a model of Inception-v3's canonical tensors.

    Parameters
    ----------
    tensors
        Every tensor of `inception.tensor_shapes`, float32.
    source, notes, resize, variant, input_size
        As in `ModelDirectory`.
    """
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return ModelDirectory(
        model_id=model_id_of(
            contiguous,
            feature_node=FEATURES,
            resize=resize,
            input_size=input_size,
            variant=variant,
        ),
        feature_dimension=inception.FEATURE_DIMENSION,
        feature_node=FEATURES,
        input_size=input_size,
        resize=resize,
        source=source,
        notes=notes,
        variant=variant,
        _read_graph=lambda: frozen_graph(contiguous, variant=variant, input_size=input_size),
        _read_weights=lambda: save(contiguous),
    )


def is_model(uri: str) -> bool:
    """Tell whether a model directory stands at `uri`."""
    return storage.exists(storage.join(uri, _JSON))


def read_model(uri: str) -> ModelDirectory:
    """Open a model directory.

    Parameters
    ----------
    uri
        Where it stands.

    Raises
    ------
    ModelError
        If there is none, its ``model.json`` is damaged, or its format is newer than this release.
    """
    uri = storage.canonical_uri(uri)
    facts = _facts(uri)
    files = facts.pop("files")
    facts["notes"] = tuple(facts["notes"])
    return ModelDirectory(
        **facts,
        _read_graph=lambda: _verified(uri, files, _GRAPH),
        _read_weights=lambda: _verified(uri, files, _WEIGHTS),
    )


def copy_model(source_uri: str, target_uri: str) -> None:
    """Copy a model directory, checked on the way; one that stands there already is left alone."""
    if not is_model(target_uri):
        read_model(source_uri).write(target_uri)


def _facts(uri: str) -> dict[str, Any]:
    where = storage.join(uri, _JSON)
    try:
        facts = json.loads(storage.fetch(where))
    except NotFound as error:
        raise ModelError(
            f"expected a model directory with a {_JSON}, found none in {uri}"
        ) from error
    except ValueError as error:
        raise ModelError(f"expected JSON in {where}, found none: {error}") from error
    version = facts.get("format_version") if isinstance(facts, dict) else None
    if version not in READABLE:
        raise ModelError(
            f"expected format_version {' or '.join(map(str, READABLE))} in {where}, "
            f"found {version!r}; "
            "a newer release of pool3 may read it"
        )
    for name, kind in _FACTS.items():
        if not isinstance(facts.get(name), kind):
            raise ModelError(
                f"expected {name!r} in {where} to be {kind.__name__}, found {facts.get(name)!r}"
            )
    return {name: facts[name] for name in _FACTS} | {"variant": _variant(facts, where)}


def _variant(facts: dict[str, Any], where: str) -> inception.Variant:
    if facts["format_version"] == 1:
        return inception.USUAL
    try:
        return inception.Variant.from_json(facts["variant"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"expected the variant of the network in {where}: {error!r}") from error


def with_resize(model: ModelDirectory, resize: str) -> ModelDirectory:
    """Give the same model for pictures that are resized in another way, under an id of its own.

    Raises
    ------
    UsageError
        If there is no such resize.
    ModelError
        If the model's weights are not those of an Inception-v3.
    """
    if resize not in RESIZES:
        raise UsageError(f"expected a resize of {', '.join(RESIZES)}, found {resize!r}")
    if resize == model.resize:
        return model
    tensors = model.tensors()
    if {name: tensor.shape for name, tensor in tensors.items()} != inception.tensor_shapes():
        raise ModelError(
            f"expected the weights of Inception-v3 in {model.source}, found others; "
            "its resize cannot be changed"
        )
    return model_from_tensors(
        tensors,
        source=model.source,
        notes=model.notes,
        resize=resize,
        variant=model.variant,
        input_size=model.input_size,
    )


def _verified(uri: str, files: dict[str, Any], name: str) -> bytes:
    entry = files.get(name)
    if not isinstance(entry, dict) or not {"sha256", "bytes"} <= entry.keys():
        raise ModelError(f"expected the sha256 and bytes of {name} in {_JSON} of {uri}, found none")
    where = storage.join(uri, name)
    return storage.verified_bytes(where, sha256=entry["sha256"], size=entry["bytes"])
