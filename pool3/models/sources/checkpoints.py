"""Reads Inception-v3 from TensorFlow checkpoints: slim's of 2016, and those of Keras.

TensorFlow's reader returns tensors by name and runs nothing. It needs local files, so they are
written to a temporary folder, under names that do not depend on the source.
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
_KERAS_TENSORS = frozenset({"kernel", "bias", *inception.STATISTICS})


def is_checkpoint(data: bytes) -> bool:
    """Return whether a file is a single-file checkpoint or the index of a checkpoint."""
    return data.endswith(_TABLE_END)


def checkpoint_tensors(files: Mapping[str, bytes]) -> Tensors:
    """Read a checkpoint of Inception-v3.

    Parameters
    ----------
    files
        Bytes by base name: a single file (version 1), or ``NAME.index`` and
        ``NAME.data-00000-of-00001`` (version 2).

    Returns
    -------
    dict
        All canonical tensors, float32.

    Raises
    ------
    ModelError
        If it is damaged or contains another network.
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
            return (_keras_tensors if _OBJECTS in shapes else _slim_tensors)(reader, shapes)
        except ModelError:
            raise
        except Exception as error:
            # TensorFlow raises its own exceptions, RuntimeError or ValueError for damaged files.
            reason = str(error).splitlines()[0].replace(str(prefix), "it")
            raise ModelError(
                f"the checkpoint is damaged or cut short: {reason}; copy or download it again"
            ) from error


def _slim_tensors(reader: Any, shapes: Mapping[str, list[int]]) -> Tensors:
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
        scope, _, kind = name.rpartition("/")
        variable = f"{prefix}{scope}/{_SLIM[kind]}"
        if variable not in shapes and kind == "gamma":
            tensors[name] = np.ones(shape, np.float32)
            continue
        if tuple(shapes.get(variable, ())) != shape:
            raise ModelError(
                f"expected {variable} of shape {shape} in the checkpoint, found "
                f"{tuple(shapes[variable]) if variable in shapes else 'none'}: this looks like "
                "another network, or another version of Inception"
            )
        tensors[name] = _checked(reader.get_tensor(variable), variable)
    return tensors


def _checked(values: Any, name: str) -> npt.NDArray[np.float32]:
    array = np.asarray(values)
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ModelError(f"expected finite floating point numbers in {name}, found others")
    if name.endswith("moving_variance") and (array < 0).any():
        raise ModelError(f"expected variances of 0 or more in {name}, found one below")
    return array.astype(np.float32)


def _keras_tensors(reader: Any, shapes: Mapping[str, list[int]]) -> Tensors:
    """Read variables by the names in the object graph, which Keras gave them."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2  # noqa: PLC0415

    objects = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor(_OBJECTS)
    )
    layers: dict[str, StoredLayer] = {}
    seen = set()
    for attribute in (value for node in objects.nodes for value in node.attributes):
        path, _, name = attribute.full_name.rpartition("/")
        if name not in _KERAS_TENSORS or attribute.checkpoint_key not in shapes:
            continue
        if (path, name) in seen:
            continue
        seen.add((path, name))
        layer = layers.setdefault(path, StoredLayer(path, path.rpartition("/")[2]))
        layer.tensors[name] = reader.get_tensor(attribute.checkpoint_key)
    return canonical_tensors(list(layers.values()))
