"""Loads a model from what ``--model`` or ``--source`` names."""

from __future__ import annotations

import logging

from pool3 import storage
from pool3.errors import ModelError, UsageError
from pool3.images.decode import RESIZES
from pool3.images.profiles import require_colour
from pool3.models.directory import (
    ModelDirectory,
    is_model,
    read_model,
    with_colour,
    with_resize,
)

log = logging.getLogger(__name__)

MAX_WEIGHTS_BYTES = 2 << 30
"""Inception-v3 with its top and the state of an optimizer has about 300 MB."""

MAX_GRAPH_BYTES = 256 << 20
"""The ``saved_model.pb`` of Inception-v3 has about 10 MB."""


def load_model(
    source: str,
    *,
    resize: str | None = None,
    colour: str | None = None,
    input_tensor: str | None = None,
    output_tensor: str | None = None,
) -> ModelDirectory:
    """Load a model from any source of weights.

    Parameters
    ----------
    source
        ``imagenet`` (downloaded by Keras), ``seeded``, or the path or uri of Inception-v3 weights:
        a Keras ``.keras`` or ``.h5`` file or SavedModel, a frozen ``.pb``, a checkpoint (a single
        file, its ``.index`` file or its prefix), a tar of one of these, or a model directory.
        Files are recognised by their content.
    resize
        How pictures are resized, one of `pool3.images.decode.RESIZES`, instead of the resize that
        belongs to the source.
    colour
        How colour profiles of pictures are treated, one of `pool3.images.profiles.COLOURS`. By
        default a model directory keeps its own, and other sources convert to sRGB.
    input_tensor, output_tensor
        Only for a frozen graph: the tensors of the pictures and of the features, if they are not
        recognised by structure.

    Raises
    ------
    UsageError
        If it is none of these or is not available.
    ModelError
        If it does not contain Inception-v3, or a model directory is not what its ``model.json``
        says.
    """
    if resize is not None and resize not in RESIZES:
        raise UsageError(f"expected a resize of {', '.join(RESIZES)}, found {resize!r}")
    if colour is not None:
        require_colour(colour)
    model = _load(source, input_tensor, output_tensor)
    if resize is not None:
        model = with_resize(model, resize)
    if colour is not None:
        model = with_colour(model, colour)
    log.info("model %s from %s", model.model_id, model.source)
    for note in model.notes:
        log.info("model %s: %s", model.model_id[:12], note)
    return model


def _load(source: str, input_tensor: str | None, output_tensor: str | None) -> ModelDirectory:
    if source not in ("seeded", "imagenet"):
        uri = storage.canonical_uri(source)
        if storage.exists(uri) and not uri.endswith(".index"):
            from pool3.models.sources.detect import file_model  # noqa: PLC0415

            data = storage.fetch(uri, max_bytes=MAX_WEIGHTS_BYTES)
            return file_model(
                data, source=uri, input_tensor=input_tensor, output_tensor=output_tensor
            )
    if input_tensor is not None or output_tensor is not None:
        raise ModelError(f"tensors can be named only for a frozen graph, and {source} is none")
    if source == "seeded":
        from pool3.models.sources.seeded import seeded_model  # noqa: PLC0415

        return seeded_model()
    if source == "imagenet":
        from pool3.models.sources.imagenet import imagenet_model  # noqa: PLC0415

        return imagenet_model()
    return _load_directory(source, uri)


def _load_directory(source: str, uri: str) -> ModelDirectory:
    """Load a model directory, a SavedModel, or a checkpoint with an index and data files."""
    if is_model(uri):
        model = read_model(uri)
        _ = model.graph_sha256  # checks that the model is what its model.json says
        return model
    saved_model = storage.join(uri, "saved_model.pb")
    if storage.exists(saved_model):
        prefix = storage.join(uri, "variables", "variables")
    else:
        saved_model, prefix = "", uri.removesuffix(".index")
    if not storage.exists(prefix + ".index"):
        problem = "none of these in" if storage.is_directory(uri) else "no file or folder"
        raise UsageError(
            "expected a model of imagenet, seeded, a Keras file (.keras or .h5) or SavedModel, a "
            "frozen graph (.pb), a checkpoint, a tar of one of these or a model directory (with a "
            f"model.json), found {problem} {source!r}"
        )
    return _load_checkpoint(prefix, source=uri, saved_model=saved_model)


def _load_checkpoint(prefix: str, *, source: str, saved_model: str) -> ModelDirectory:
    from pool3.models.sources.detect import checkpoint_model  # noqa: PLC0415

    folder, _, name = prefix.rpartition("/")
    beginnings = (f"{prefix}.index", f"{prefix}.data-")
    objects = [item for item in storage.list_objects(folder) if item.uri.startswith(beginnings)]
    if sum(item.size for item in objects) > MAX_WEIGHTS_BYTES:
        raise ModelError(f"expected {source} to have {MAX_WEIGHTS_BYTES} bytes at most")
    files = {storage.name_of(item.uri): storage.fetch(item.uri) for item in objects}
    if len(files) < 2:
        raise ModelError(f"expected {name}.data-… beside {prefix}.index, found none")
    graph = storage.fetch(saved_model, max_bytes=MAX_GRAPH_BYTES) if saved_model else None
    return checkpoint_model(files, source=source, saved_model=graph)
