"""What ``--model`` may name, and how it becomes a model."""

from __future__ import annotations

import logging

from pool3 import storage
from pool3.errors import NotFound, UsageError
from pool3.models.directory import ModelDirectory, is_model, read_model, with_resize

log = logging.getLogger(__name__)

MAX_WEIGHTS_BYTES = 2 << 30
"""Two GiB: Inception-v3 with its top and an optimizer's state has about 300 MB."""


def load_model(source: str, *, resize: str | None = None) -> ModelDirectory:
    """Load a model from any source of weights.

    Parameters
    ----------
    source
        ``imagenet`` (Keras' own download), ``seeded``, the path or uri of a Keras ``.keras`` or
        ``.h5`` file of Inception-v3, or of a model directory.
    resize
        How pictures are resized instead of as that source was used with; a name that
        `pool3.decode` knows.

    Raises
    ------
    UsageError
        If it is none of these or cannot be had; `ModelError` if it holds something else.
    """
    if source == "seeded":
        from pool3.models.seeded import seeded_model  # noqa: PLC0415

        model = seeded_model()
    elif source == "imagenet":
        from pool3.models.imagenet import imagenet_model  # noqa: PLC0415

        model = imagenet_model()
    elif source.endswith((".keras", ".h5", ".hdf5")):
        model = _keras_model(source)
    else:
        model = _stored_model(source)
    if resize is not None:
        model = with_resize(model, resize)
    log.info("model %s from %s", model.model_id, model.source)
    for note in model.notes:
        log.info("model %s: %s", model.model_id[:12], note)
    return model


def _keras_model(source: str) -> ModelDirectory:
    from pool3.models.keras_files import keras_file_model  # noqa: PLC0415

    uri = storage.canonical_uri(source)
    try:
        data = storage.fetch(uri, max_bytes=MAX_WEIGHTS_BYTES)
    except NotFound as error:
        raise UsageError(f"expected a Keras file of weights, found no file {uri}") from error
    return keras_file_model(data, source=uri)


def _stored_model(source: str) -> ModelDirectory:
    uri = storage.canonical_uri(source)
    if not is_model(uri):
        raise UsageError(
            "expected a model of imagenet, seeded, a Keras file (.keras or .h5) or a model "
            f"directory (with a model.json), found {source!r}"
        )
    return read_model(uri)
