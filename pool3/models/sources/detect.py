"""Files of weights, known by what is in them and not by how they are called."""

from __future__ import annotations

from collections.abc import Mapping

from pool3.errors import ModelError
from pool3.models.directory import ModelDirectory, model_from_tensors
from pool3.models.sources.archives import is_archive, weights_in_tar
from pool3.models.sources.checkpoints import checkpoint_tensors, is_checkpoint
from pool3.models.sources.describe import look
from pool3.models.sources.frozen_graph import frozen_file_model
from pool3.models.sources.keras_files import is_keras_file, keras_file_model

_GRAPH = b"\n"
"""A GraphDef begins with its first node, field 1 of the message."""

_KNOWN = (
    "a frozen graph (.pb), a checkpoint (.ckpt, .index), a Keras file (.keras, .h5) or an archive "
    "(.tar.gz) of one"
)


def file_model(
    data: bytes,
    *,
    source: str,
    input_tensor: str | None = None,
    output_tensor: str | None = None,
) -> ModelDirectory:
    """Make a model of any file of weights.

    Parameters
    ----------
    data
        The whole file.
    source
        Its name, for messages and for ``model.json``.
    input_tensor, output_tensor
        As in `frozen_file_model`; only a frozen graph has tensors to name.

    Raises
    ------
    ModelError
        If it holds no Inception-v3: says what it looks like.
    """
    tensors_named = input_tensor is not None or output_tensor is not None
    if is_archive(data):
        return _archive_model(data, source, input_tensor, output_tensor)
    if is_keras_file(data):
        model = keras_file_model(data, source=source)
    elif is_checkpoint(data):
        model = checkpoint_model({"weights": data}, source=source)
    elif data.startswith(_GRAPH):
        return frozen_file_model(
            data, source=source, input_tensor=input_tensor, output_tensor=output_tensor
        )
    else:
        raise ModelError(f"{source} cannot be used: expected {_KNOWN}, found {look(data)}")
    if tensors_named:
        raise ModelError(f"tensors can be named in a frozen graph alone, {source} is none")
    return model


def checkpoint_model(files: Mapping[str, bytes], *, source: str) -> ModelDirectory:
    """Make a model of a checkpoint's files; as `file_model` otherwise."""
    try:
        tensors = checkpoint_tensors(files)
    except ModelError as error:
        raise ModelError(f"{source} cannot be used: {error}") from error
    return model_from_tensors(tensors, source=source)


def _archive_model(
    data: bytes, source: str, input_tensor: str | None, output_tensor: str | None
) -> ModelDirectory:
    """Make a model of the one graph, checkpoint or Keras file in an archive."""
    try:
        members = weights_in_tar(data)
    except ModelError as error:
        raise ModelError(f"{source} cannot be used: {error}") from error
    shards = {name for name in members if ".data-" in name}
    heads = sorted(members.keys() - shards)
    if len(heads) != 1:
        raise ModelError(
            f"{source} cannot be used: expected one file of weights in the archive, found "
            f"{', '.join(heads) or 'none'}; unpack it and name one of them"
        )
    (name,) = heads
    if name.endswith(".index"):
        prefix = name.removesuffix("index") + "data-"
        parts = {part: members[part] for part in shards if part.startswith(prefix)}
        return checkpoint_model({name: members[name], **parts}, source=source)
    return file_model(
        members[name],
        source=f"{source}/{name}",
        input_tensor=input_tensor,
        output_tensor=output_tensor,
    )
