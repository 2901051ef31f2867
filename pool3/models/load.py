"""What ``--model`` and ``--source`` may name, and how it becomes a model."""

from __future__ import annotations

import logging

from pool3 import storage
from pool3.errors import ModelError, UsageError
from pool3.images.decode import RESIZES
from pool3.models.directory import ModelDirectory, is_model, read_model, with_resize

log = logging.getLogger(__name__)

MAX_WEIGHTS_BYTES = 2 << 30
"""Two GiB: Inception-v3 with its top and an optimizer's state has about 300 MB."""


def load_model(
    source: str,
    *,
    resize: str | None = None,
    input_tensor: str | None = None,
    output_tensor: str | None = None,
) -> ModelDirectory:
    """Load a model from any source of weights.

    Parameters
    ----------
    source
        ``imagenet`` (Keras' own download), ``seeded``, or the path or uri of a file of
        Inception-v3 or of a folder: a Keras ``.keras`` or ``.h5`` file or SavedModel, a frozen
        ``.pb``, a checkpoint (of one file, or named by its ``.index`` or its prefix), a tar of one
        of these, a model directory. Files are known by their contents.
    resize
        How pictures are resized instead of as that source was used with; a name that
        `pool3.images.decode` knows.
    input_tensor, output_tensor
        In a frozen graph, where pictures come in and which tensor is the feature, where these
        are not found by structure.

    Raises
    ------
    UsageError
        If it is none of these or cannot be had; `ModelError` if it holds something else.
    """
    if resize is not None and resize not in RESIZES:
        raise UsageError(f"expected a resize of {', '.join(RESIZES)}, found {resize!r}")
    model = _loaded(source, input_tensor, output_tensor)
    if resize is not None:
        model = with_resize(model, resize)
    log.info("model %s from %s", model.model_id, model.source)
    for note in model.notes:
        log.info("model %s: %s", model.model_id[:12], note)
    return model


def _loaded(source: str, input_tensor: str | None, output_tensor: str | None) -> ModelDirectory:
    if source not in ("seeded", "imagenet"):
        uri = storage.canonical_uri(source)
        if storage.exists(uri) and not uri.endswith(".index"):
            from pool3.models.sources.detect import file_model  # noqa: PLC0415

            data = storage.fetch(uri, max_bytes=MAX_WEIGHTS_BYTES)
            return file_model(
                data, source=uri, input_tensor=input_tensor, output_tensor=output_tensor
            )
    if input_tensor is not None or output_tensor is not None:
        raise ModelError(f"tensors can be named in a frozen graph alone, {source} is none")
    if source == "seeded":
        from pool3.models.sources.seeded import seeded_model  # noqa: PLC0415

        return seeded_model()
    if source == "imagenet":
        from pool3.models.sources.imagenet import imagenet_model  # noqa: PLC0415

        return imagenet_model()
    return _of_several_files(source, uri)


def _of_several_files(source: str, uri: str) -> ModelDirectory:
    """Read a model directory, a SavedModel, or a checkpoint of an index and its data."""
    if is_model(uri):
        return read_model(uri)
    if storage.exists(storage.join(uri, "saved_model.pb")):
        prefix = storage.join(uri, "variables", "variables")
    else:
        prefix = uri.removesuffix(".index")
    if not storage.exists(prefix + ".index"):
        found = "none of these in" if storage.is_directory(uri) else "no file or folder"
        raise UsageError(
            "expected a model of imagenet, seeded, a Keras file (.keras or .h5) or SavedModel, a "
            "frozen graph (.pb), a checkpoint, a tar of one of these or a model directory (with a "
            f"model.json), found {found} {source!r}"
        )
    return _checkpoint(prefix, source=uri)


def _checkpoint(prefix: str, *, source: str) -> ModelDirectory:
    from pool3.models.sources.detect import checkpoint_model  # noqa: PLC0415

    folder, _, name = prefix.rpartition("/")
    wanted = (f"{prefix}.index", f"{prefix}.data-")
    found = [item for item in storage.list_objects(folder) if item.uri.startswith(wanted)]
    if sum(item.size for item in found) > MAX_WEIGHTS_BYTES:
        raise ModelError(f"expected {source} to have {MAX_WEIGHTS_BYTES} bytes at most")
    files = {storage.name_of(item.uri): storage.fetch(item.uri) for item in found}
    if len(files) < 2:
        raise ModelError(f"expected {name}.data-… beside {prefix}.index, found none")
    return checkpoint_model(files, source=source)
