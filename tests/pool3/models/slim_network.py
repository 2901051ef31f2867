"""Slim's Inception-v3 of 2016 in a TensorFlow 1 graph, with its original names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.models import inception


def build_slim(tensors: dict[str, npt.NDArray[np.float32]]) -> Any:
    """A graph from ``input`` to ``InceptionV3/Predictions/Reshape_1``, and its session."""
    import tensorflow as tf

    v1 = tf.compat.v1
    graph = tf.Graph()
    initial: list[tuple[Any, Any]] = []

    def variable(name: str, value: Any) -> Any:
        holder = v1.placeholder(tf.float32, np.shape(value))
        made = v1.Variable(holder, name=name, use_resource=False)
        initial.append((made.initializer, {holder: value}))
        return made

    with graph.as_default():
        values = {inception.INPUT: v1.placeholder(tf.float32, (None, 299, 299, 3), "input")}
        for layer in inception.LAYERS:
            inputs = [values[name] for name in layer.inputs]
            scope = f"InceptionV3/{layer.name}"
            if layer.kind == "concat":
                values[layer.name] = tf.concat(inputs, 3, name=scope)
            elif layer.kind == "conv":
                kernel = variable(f"{scope}/weights", tensors[f"{layer.name}/kernel"])
                raw = tf.nn.conv2d(
                    inputs[0], kernel, layer.stride, layer.padding, name=f"{scope}/Conv2D"
                )
                beta, mean, variance = (
                    variable(f"{scope}/BatchNorm/{part}", tensors[f"{layer.name}/{part}"])
                    for part in inception.STATISTICS[1:]
                )
                normal = tf.nn.batch_normalization(
                    raw, mean, variance, beta, None, 0.001, name=f"{scope}/BatchNorm/batchnorm"
                )
                values[layer.name] = tf.nn.relu(normal, name=f"{scope}/Relu")
            else:
                pool = tf.nn.max_pool2d if layer.kind == "max_pool" else tf.nn.avg_pool2d
                values[layer.name] = pool(
                    inputs[0], layer.kernel, layer.stride, layer.padding, name=scope
                )
        last = values[inception.LAYERS[-1].name]
        top = "InceptionV3/Logits"
        pooled = tf.nn.avg_pool2d(last, 8, 1, "VALID", name=f"{top}/AvgPool_1a_8x8/AvgPool")
        dropped = tf.identity(pooled, f"{top}/Dropout_1b/Identity")
        weights = variable(f"{top}/Conv2d_1c_1x1/weights", np.zeros((1, 1, 2048, 1001), "f4"))
        biases = variable(f"{top}/Conv2d_1c_1x1/biases", np.zeros(1001, "f4"))
        logits = tf.nn.bias_add(tf.nn.conv2d(dropped, weights, 1, "SAME"), biases)
        tf.nn.softmax(tf.squeeze(logits, [1, 2]), name="InceptionV3/Predictions/Reshape_1")
        aux = np.zeros((1, 1, 768, 128), "f4")
        variable("InceptionV3/AuxLogits/Conv2d_1b_1x1/weights", aux)
        session = v1.Session(graph=graph)
        feeds = {holder: value for _, feed in initial for holder, value in feed.items()}
        session.run([operation for operation, _ in initial], feeds)
    return session


def save_checkpoint(session: Any, path: Path, version: int) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with session.graph.as_default():
        v1.train.Saver(write_version=version).save(
            session, str(path), write_meta_graph=False, write_state=False
        )


def freeze(session: Any) -> bytes:
    import tensorflow as tf

    v1 = tf.compat.v1
    definition = session.graph.as_graph_def()
    output = ["InceptionV3/Predictions/Reshape_1"]
    frozen = v1.graph_util.convert_variables_to_constants(session, definition, output)
    return bytes(frozen.SerializeToString())
