"""Inception-v3 out of TensorFlow checkpoints: slim's of 2016, and those of Keras.

TensorFlow's own reader reads them: tensors by name, and nothing is run. It wants local files, so
they are written to a temporary folder under names of our own.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.errors import ModelError
from pool3.models import inception
from pool3.models.sources.keras_layouts import StoredLayer
from pool3.models.sources.keras_matching import canonical_tensors
from pool3.models.tensorflow import import_tensorflow

Tensors = dict[str, npt.NDArray[np.float32]]

_TABLE_END = bytes.fromhex("57fb808b247547db")
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_SLIM = {
    "kernel": "weights",
    "gamma": "BatchNorm/gamma",
    "beta": "BatchNorm/beta",
    "moving_mean": "BatchNorm/moving_mean",
    "moving_variance": "BatchNorm/moving_variance",
}
_DATA = re.compile(r"\.data-\d{5}-of-\d{5}$")
_KERAS_PARTS = frozenset({"kernel", "bias", *inception.STATISTICS})


def is_checkpoint(data: bytes) -> bool:
    """Tell whether bytes are a checkpoint of one file, or the index of one of several."""
    return data.endswith(_TABLE_END)


def checkpoint_tensors(files: Mapping[str, bytes]) -> Tensors:
    """Read a checkpoint of Inception-v3.

    Parameters
    ----------
    files
        Base names to bytes: one file of version 1, or ``NAME.index`` and its
        ``NAME.data-00000-of-00001`` of version 2.

    Returns
    -------
    dict
        Every canonical tensor, float32.

    Raises
    ------
    ModelError
        If it is damaged, or holds another network.
    EngineMissing
        If TensorFlow, which reads it, is not installed.
    """
    tf = import_tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder, "weights")
        for name, data in files.items():
            shard = _DATA.search(name)
            ending = ".index" if name.endswith(".index") else shard[0] if shard else ""
            Path(f"{prefix}{ending}").write_bytes(data)
        try:
            reader = tf.train.load_checkpoint(str(prefix))
            shapes = reader.get_variable_to_shape_map()
            return (_keras if _OBJECTS in shapes else _slim)(reader, shapes)
        except ModelError:
            raise
        except Exception as error:
            # TensorFlow raises its own errors, RuntimeError and ValueError for what it cannot read.
            reason = str(error).splitlines()[0].replace(str(prefix), "it")
            raise ModelError(
                f"the checkpoint is damaged or cut short: {reason}; copy or download it again"
            ) from error


def _slim(reader: Any, shapes: Mapping[str, list[int]]) -> Tensors:
    first = inception.CONVOLUTIONS[0].name + "/weights"
    prefixes = [name.removesuffix(first) for name in shapes if name.endswith(first)]
    if not prefixes:
        names = ", ".join(sorted({name.partition("/")[0] for name in shapes})[:5])
        raise ModelError(
            f"expected slim's variables of Inception-v3 ({first}), found a checkpoint of {names}"
        )
    prefix = min(prefixes, key=len)
    tensors: Tensors = {}
    for name, shape in inception.tensor_shapes().items():
        scope, _, part = name.rpartition("/")
        variable = f"{prefix}{scope}/{_SLIM[part]}"
        if variable not in shapes and part == "gamma":
            tensors[name] = np.ones(shape, np.float32)
            continue
        if tuple(shapes.get(variable, ())) != shape:
            raise ModelError(
                f"expected {variable} of shape {shape} in the checkpoint, found "
                f"{tuple(shapes[variable]) if variable in shapes else 'none'}: this looks like "
                "another network, or another version of Inception"
            )
        tensors[name] = _sound(reader.get_tensor(variable), variable)
    return tensors


def _sound(values: Any, name: str) -> npt.NDArray[np.float32]:
    found = np.asarray(values)
    if found.dtype.kind != "f" or not np.isfinite(found).all():
        raise ModelError(f"expected finite floating point numbers in {name}, found others")
    if name.endswith("moving_variance") and (found < 0).any():
        raise ModelError(f"expected variances of 0 or more in {name}, found one below")
    return found.astype(np.float32)


def _keras(reader: Any, shapes: Mapping[str, list[int]]) -> Tensors:
    """Read by the names that Keras gave its variables, which the object graph keeps."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2  # noqa: PLC0415

    objects = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor(_OBJECTS)
    )
    layers: dict[str, StoredLayer] = {}
    seen = set()
    for attribute in (value for node in objects.nodes for value in node.attributes):
        path, _, part = attribute.full_name.rpartition("/")
        if part not in _KERAS_PARTS or attribute.checkpoint_key not in shapes:
            continue
        if (path, part) in seen:
            continue
        seen.add((path, part))
        layer = layers.setdefault(path, StoredLayer(path, path.rpartition("/")[2]))
        layer.tensors[part] = reader.get_tensor(attribute.checkpoint_key)
    return canonical_tensors(list(layers.values()))
