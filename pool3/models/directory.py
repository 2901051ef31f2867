"""The model directory: ``weights.safetensors``, ``graph.pb`` and ``model.json``.

Every source of weights is converted to this format, and every engine runs its graph. The graph and
the weights are read on first use and verified with the checksums in ``model.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pool3 import storage
from pool3.errors import CacheFull, ModelError, NotFound, UsageError
from pool3.images.decode import RESIZES
from pool3.images.profiles import COLOURS, IGNORED, SRGB, require_colour
from pool3.models import inception
from pool3.models.graph.freeze import FEATURES, frozen_graph
from pool3.models.graph.graphdef import check_ops
from pool3.models.identity import (
    is_digest,
    is_size,
    model_id_of,
    require_same_weights,
    require_sizes,
)

FORMAT_VERSION = 3
"""Version 2 added ``variant``; a directory of version 1 has the standard variant.

Version 3 added ``colour``; directories before it ignore the colour profiles of pictures.
"""
READABLE = (1, 2, 3)
_WITH_COLOUR = 3
RESIZE = "pil-bilinear"
"""How pictures are resized to the input size, one of `pool3.images.decode.RESIZES`."""

MAX_FEATURE_DIMENSION = 1 << 16
_MAX_FILE_BYTES = 4 << 30
_MAX_JSON_BYTES = 1 << 20

_GRAPH, _WEIGHTS, _JSON = "graph.pb", "weights.safetensors", "model.json"
_FIELDS: dict[str, type] = {
    "model_id": str,
    "feature_dimension": int,
    "feature_node": str,
    "input_size": int,
    "resize": str,
    "source": str,
    "notes": list,
    "files": dict,
}
_CHECKED = ("model_id", "feature_dimension", "feature_node", "input_size", "resize", "colour")
Tensors = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class _StoredFiles:
    """The files of a directory as its ``model.json`` lists them."""

    uri: str
    entries: Mapping[str, Any]

    def check_of(self, model: ModelDirectory) -> str:
        """Return the key of the check of a model: all that its result depends on."""
        fields = {name: getattr(model, name) for name in _CHECKED}
        digests = [self._entry(name)["sha256"] for name in (_GRAPH, _WEIGHTS)]
        return json.dumps(["model", fields, model.variant.as_json(), digests], sort_keys=True)

    def read(self, name: str) -> bytes:
        """Read a file and verify its digest."""
        return storage.verified_bytes(storage.join(self.uri, name), **self._entry(name))

    def verify(self, name: str) -> str:
        """Verify the digest of a file, which is not read if that was done before; return it."""
        entry = self._entry(name)
        storage.verified_file(storage.join(self.uri, name), **entry).close()
        return str(entry["sha256"])

    def _entry(self, name: str) -> dict[str, Any]:
        entry = self.entries.get(name)
        if (
            not isinstance(entry, dict)
            or not is_digest(entry.get("sha256"))
            or not is_size(entry.get("bytes"), _MAX_FILE_BYTES)
        ):
            raise ModelError(
                f"expected the sha256 and bytes of {name} in {_JSON} of {self.uri}, found {entry!r}"
            )
        return {"sha256": entry["sha256"], "size": entry["bytes"]}


@dataclass(frozen=True, kw_only=True)
class ModelDirectory:
    """A model, in memory or at a uri.

    Parameters
    ----------
    model_id
        A hash of the content, see `model_id_of`.
    feature_dimension
        Length of a feature vector.
    feature_node
        The output node of the graph.
    input_size
        Height and width of the input of the graph, in pixels.
    resize
        How a picture is resized to that size, one of `pool3.images.decode.RESIZES`.
    colour
        How the colour profile of a picture is treated, one of `pool3.images.profiles.COLOURS`.
    source
        The source of the weights.
    notes
        Sentences that a person should read before using the model.
    variant
        The variant of Inception-v3.
    """

    model_id: str
    feature_dimension: int
    feature_node: str
    input_size: int
    resize: str
    source: str
    colour: str = IGNORED
    notes: tuple[str, ...] = ()
    variant: inception.Variant = inception.STANDARD
    _read_graph: Callable[[], bytes] = field(repr=False, compare=False)
    _read_weights: Callable[[], bytes] = field(repr=False, compare=False)
    _files: _StoredFiles | None = field(default=None, repr=False, compare=False)

    @cached_property
    def graph(self) -> bytes:
        """The frozen GraphDef: ``uint8 [n, h, w, 3]`` in, ``float32 [n, d]`` out.

        Raises
        ------
        ModelError
            If it has an op that is not allowed, or the model is not what ``model.json`` says.
        StorageError
            If it cannot be read or does not match ``model.json``.
        """
        graph = self._read_graph()
        check_ops(graph)
        self._require_consistent(graph)
        return graph

    @cached_property
    def graph_sha256(self) -> str:
        """The SHA-256 of the graph, by which engines are shared; raises as `graph`.

        The graph of a directory that was checked before is not read for it.
        """
        if self._files is not None and storage.is_remembered(self._files.check_of(self)):
            with suppress(CacheFull):
                return self._files.verify(_GRAPH)
        return hashlib.sha256(self.graph).hexdigest()

    def _require_consistent(self, graph: bytes) -> None:
        """Check a directory's id, graph and sizes, unless files of this content were checked."""
        if self._files is None:
            return
        check = self._files.check_of(self)
        if storage.is_remembered(check):
            return
        where, tensors = self._files.uri, self.tensors()
        variant, size = self.variant, self.input_size
        actual = model_id_of(
            tensors,
            feature_node=self.feature_node,
            resize=self.resize,
            input_size=size,
            variant=variant,
            colour=self.colour,
        )
        if actual != self.model_id:
            raise ModelError(
                f"expected the weights of model {self.model_id} in {where}, as its {_JSON} says, "
                f"found those of model {actual}; import the model again from its weights"
            )
        require_sizes(graph, where=where, input_size=size, feature_dimension=self.feature_dimension)
        require_same_weights(graph, tensors, where=where, variant=variant, input_size=size)
        storage.remember(check)

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """Read the weights (batch norms not folded) by canonical name, float32.

        Raises
        ------
        ModelError
            If the file is not in the safetensors format.
        StorageError
            If it cannot be read or does not match ``model.json``.
        """
        try:
            return load(self._read_weights())
        except SafetensorError as error:
            raise ModelError(
                f"expected safetensors in {_WEIGHTS} of model {self.model_id}, found none: {error}"
            ) from error

    def write(self, uri: str) -> None:
        """Write the directory; ``model.json`` comes last, so a directory that has it is complete.

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
        fields: dict[str, Any] = {"format_version": FORMAT_VERSION}
        fields |= {name: getattr(self, name) for name in _FIELDS if name != "files"}
        fields |= {"colour": self.colour, "variant": self.variant.as_json()}
        for name, data in contents.items():
            storage.put(storage.join(uri, name), data)
        text = json.dumps(fields | {"files": files}, indent=2) + "\n"
        storage.put(storage.join(uri, _JSON), text.encode())


def model_from_tensors(
    tensors: Tensors,
    *,
    source: str,
    notes: tuple[str, ...] = (),
    resize: str = RESIZE,
    colour: str = SRGB,
    variant: inception.Variant = inception.STANDARD,
    input_size: int = inception.INPUT_SIZE,
) -> ModelDirectory:
    """Make a model from the canonical tensors of Inception-v3.

    Parameters
    ----------
    tensors
        All tensors of `inception.tensor_shapes`, float32.
    source, notes, resize, colour, variant, input_size
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
            colour=colour,
        ),
        feature_dimension=inception.FEATURE_DIMENSION,
        feature_node=FEATURES,
        input_size=input_size,
        resize=resize,
        colour=colour,
        source=source,
        notes=notes,
        variant=variant,
        _read_graph=lambda: frozen_graph(contiguous, variant=variant, input_size=input_size),
        _read_weights=lambda: save(contiguous),
    )


def is_model(uri: str) -> bool:
    """Return whether there is a model directory at `uri`."""
    return storage.exists(storage.join(uri, _JSON))


def read_model(uri: str) -> ModelDirectory:
    """Open a model directory.

    Parameters
    ----------
    uri
        The directory.

    Raises
    ------
    ModelError
        If it does not exist, its ``model.json`` is damaged, or its format is unknown.
    """
    uri = storage.canonical_uri(uri)
    fields = _read_fields(uri)
    files = _StoredFiles(uri, fields.pop("files"))
    fields["notes"] = tuple(fields["notes"])
    return ModelDirectory(
        **fields,
        _read_graph=lambda: files.read(_GRAPH),
        _read_weights=lambda: files.read(_WEIGHTS),
        _files=files,
    )


def copy_model(source_uri: str, target_uri: str) -> None:
    """Copy a model directory and verify its files; does nothing if the target exists."""
    if not is_model(target_uri):
        read_model(source_uri).write(target_uri)


def _read_fields(uri: str) -> dict[str, Any]:
    json_uri = storage.join(uri, _JSON)
    try:
        fields = json.loads(storage.fetch(json_uri, max_bytes=_MAX_JSON_BYTES))
    except NotFound as error:
        raise ModelError(
            f"expected a model directory with a {_JSON}, found none in {uri}"
        ) from error
    except ValueError as error:
        raise ModelError(f"expected JSON in {json_uri}, found none: {error}") from error
    except RecursionError:
        raise ModelError(
            f"expected a flat JSON object in {json_uri}, found one that is nested too deeply"
        ) from None
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if version not in READABLE:
        raise ModelError(
            f"expected format_version {', '.join(map(str, READABLE[:-1]))} or {READABLE[-1]} "
            f"in {json_uri}, "
            f"found {version!r}; a newer release of pool3 may read it"
        )
    for name, kind in _FIELDS.items():
        if not isinstance(fields.get(name), kind):
            raise ModelError(
                f"expected {name!r} in {json_uri} to be {kind.__name__}, "
                f"found {fields.get(name)!r:.200}"
            )
    _require_valid(fields, json_uri)
    variant, colour = _variant_of(fields, json_uri), _colour_of(fields, json_uri)
    return {name: fields[name] for name in _FIELDS} | {"variant": variant, "colour": colour}


def _require_valid(fields: dict[str, Any], json_uri: str) -> None:
    """Check the values of the fields, whose types are right."""
    expected = {
        "model_id": (is_digest(fields["model_id"]), "64 lower-case hexadecimal digits"),
        "feature_dimension": (
            is_size(fields["feature_dimension"], MAX_FEATURE_DIMENSION),
            f"1 to {MAX_FEATURE_DIMENSION}",
        ),
        "feature_node": (fields["feature_node"] == FEATURES, repr(FEATURES)),
        "input_size": (
            is_size(fields["input_size"], inception.MAX_INPUT_SIZE),
            f"1 to {inception.MAX_INPUT_SIZE}",
        ),
        "resize": (
            fields["resize"] in RESIZES,
            f"{' or '.join(RESIZES)} (a newer release of pool3 may have others)",
        ),
        "notes": (all(isinstance(note, str) for note in fields["notes"]), "sentences"),
    }
    for name, (valid, text) in expected.items():
        if not valid:
            raise ModelError(
                f"expected {name!r} in {json_uri} to be {text}, found {fields[name]!r:.200}"
            )


def _variant_of(fields: dict[str, Any], json_uri: str) -> inception.Variant:
    if fields["format_version"] == 1:
        return inception.STANDARD
    try:
        return inception.Variant.from_json(fields["variant"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"expected the variant of the network in {json_uri}: {error!r}") from error


def _colour_of(fields: dict[str, Any], json_uri: str) -> str:
    if fields["format_version"] < _WITH_COLOUR:
        return IGNORED
    colour = fields.get("colour")
    if colour not in COLOURS:
        raise ModelError(
            f"expected 'colour' in {json_uri} to be {' or '.join(COLOURS)} (a newer release of "
            f"pool3 may have others), found {colour!r:.200}"
        )
    return str(colour)


def with_colour(model: ModelDirectory, colour: str) -> ModelDirectory:
    """Return the model with another treatment of colour profiles, which has another id.

    Raises
    ------
    UsageError
        If `colour` is unknown.
    """
    require_colour(colour)
    if colour == model.colour:
        return model
    model_id = model_id_of(
        model.tensors(),
        feature_node=model.feature_node,
        resize=model.resize,
        input_size=model.input_size,
        variant=model.variant,
        colour=colour,
    )
    return replace(model, colour=colour, model_id=model_id)


def with_resize(model: ModelDirectory, resize: str) -> ModelDirectory:
    """Return the model with another resize of its pictures, which has another id.

    Raises
    ------
    UsageError
        If the resize is unknown.
    ModelError
        If the weights are not those of an Inception-v3.
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
        colour=model.colour,
        variant=model.variant,
        input_size=model.input_size,
    )
