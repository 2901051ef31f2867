"""Detects the format of a weights file by its content, not by its name."""

from __future__ import annotations

from collections.abc import Mapping

from pool3.errors import ModelError
from pool3.models.directory import ModelDirectory
from pool3.models.pixels import Pixels
from pool3.models.preparation import prepared_model
from pool3.models.sources.archives import is_archive, weights_in_tar
from pool3.models.sources.checkpoints import checkpoint_tensors, is_checkpoint
from pool3.models.sources.describe import describe_file
from pool3.models.sources.frozen_graph import frozen_file_model
from pool3.models.sources.keras_files import is_keras_file, keras_file_model
from pool3.models.sources.saved_model import saved_model_pixels

_GRAPH = b"\n"
"""First byte of a GraphDef, whose first field is its first node."""

_FORMATS = (
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
    """Make a model from a weights file of any format.

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
        If it does not contain Inception-v3; the message describes the file.
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
        raise ModelError(
            f"{source} cannot be used: expected {_FORMATS}, found {describe_file(data)}"
        )
    if tensors_named:
        raise ModelError(f"tensors can be named only for a frozen graph, and {source} is none")
    return model


def checkpoint_model(
    files: Mapping[str, bytes], *, source: str, saved_model: bytes | None = None
) -> ModelDirectory:
    """Make a model from the files of a checkpoint; otherwise as `file_model`.

    With `saved_model`, the ``saved_model.pb`` of a SavedModel, its signature determines what is
    done with pictures before the network.
    """
    try:
        pixels = Pixels() if saved_model is None else saved_model_pixels(saved_model)
        return prepared_model(checkpoint_tensors(files), pixels, source=source)
    except ModelError as error:
        raise ModelError(f"{source} cannot be used: {error}") from error


def _archive_model(
    data: bytes, source: str, input_tensor: str | None, output_tensor: str | None
) -> ModelDirectory:
    """Make a model from the graph, checkpoint or Keras file in an archive."""
    try:
        members = weights_in_tar(data)
    except ModelError as error:
        raise ModelError(f"{source} cannot be used: {error}") from error
    data_files = {name for name in members if ".data-" in name}
    candidates = sorted(members.keys() - data_files)
    if len(candidates) != 1:
        raise ModelError(
            f"{source} cannot be used: expected one file of weights in the archive, found "
            f"{', '.join(candidates) or 'none'}; unpack it and name one of them"
        )
    (name,) = candidates
    if name.endswith(".index"):
        prefix = name.removesuffix("index") + "data-"
        files = {file: members[file] for file in data_files if file.startswith(prefix)}
        return checkpoint_model({name: members[name], **files}, source=source)
    return file_model(
        members[name],
        source=f"{source}/{name}",
        input_tensor=input_tensor,
        output_tensor=output_tensor,
    )
