"""Writes ``classify_image_graph_def.pb`` as it was in 2015, from canonical tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.models import inception

_BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")


def scope_of_2015(layer: inception.Layer) -> str:
    """``Mixed_7b/Branch_1/Conv2d_0b_1x3`` to ``mixed_9/tower/mixed/conv``, and so on."""
    parts = layer.name.split("/")
    if len(parts) == 1:
        names = [each.name for each in inception.LAYERS if "/" not in each.name]
        kind = "pool" if layer.kind == "max_pool" else "conv"
        before = names[: names.index(layer.name)]
        return numbered(kind, sum(name.startswith(parts[0][:4]) for name in before))
    number = _BLOCKS.index(parts[0].removeprefix("Mixed_"))
    block = numbered("mixed", number)
    if layer.kind == "concat" and len(parts) == 2:
        return f"{block}/join"
    alone = "Branch_0" if number != 8 else ""
    branch = parts[1]
    mates = [each for each in inception.LAYERS if each.name.startswith(f"{parts[0]}/{branch}/")]
    if branch == alone or len(mates) == 1:
        return f"{block}/{'conv' if layer.kind == 'conv' else 'pool'}"
    tower = numbered("tower", int(branch[-1]) - (1 if alone else 0))
    if layer.kind == "concat":
        return f"{block}/{tower}/mixed"
    if "pool" in layer.kind:
        return f"{block}/{tower}/pool"
    sides = {name for each in mates if each.kind == "concat" for name in each.inputs}
    inner = "mixed/" if layer.name in sides else ""
    same = [m.name for m in mates if m.kind == "conv" and (m.name in sides) == bool(inner)]
    return f"{block}/{tower}/{inner}{numbered('conv', same.index(layer.name))}"


def numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


class Builder:
    """Adds nodes to TensorFlow's own GraphDef."""

    def __init__(self, producer: int) -> None:
        import tensorflow as tf

        self.tf = tf
        self.graph = tf.compat.v1.GraphDef()
        self.graph.versions.producer = producer

    def node(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        tf = self.tf
        node = self.graph.node.add(op=op, name=name, input=inputs)
        for key, value in attributes.items():
            attribute = node.attr[key]
            if isinstance(value, bool):
                attribute.b = value
            elif isinstance(value, int):
                attribute.i = value
            elif isinstance(value, float):
                attribute.f = value
            elif isinstance(value, str):
                attribute.s = value.encode()
            elif isinstance(value, tuple):
                attribute.list.i.extend(value)
            elif isinstance(value, tf.DType):
                attribute.type = value.as_datatype_enum
            else:
                attribute.CopyFrom(value)
        return name

    def constant(self, name: str, value: Any, dtype: Any = None) -> str:
        tf = self.tf
        proto = tf.make_tensor_proto(value, dtype)
        attribute = tf.compat.v1.AttrValue(tensor=proto)
        return self.node("Const", name, dtype=tf.as_dtype(proto.dtype), value=attribute)


def graph_of_2015(
    tensors: dict[str, npt.NDArray[np.float32]], *, last_pool: str = "MaxPool"
) -> bytes:
    builder = Builder(producer=8)
    tf, add = builder.tf, builder.node
    f32 = tf.float32
    builder.constant("DecodeJpeg/contents", b"", tf.string)
    add("DecodeJpeg", "DecodeJpeg", "DecodeJpeg/contents", channels=3, ratio=1)
    add("Cast", "Cast", "DecodeJpeg", SrcT=tf.uint8, DstT=f32)
    builder.constant("ExpandDims/dim", 0)
    add("ExpandDims", "ExpandDims", "Cast", "ExpandDims/dim", T=f32)
    builder.constant("ResizeBilinear/size", np.array([299, 299], np.int32))
    add("ResizeBilinear", "ResizeBilinear", "ExpandDims", "ResizeBilinear/size", T=f32)
    add("Sub", "Sub", "ResizeBilinear", builder.constant("Sub/y", np.float32(128)), T=f32)
    add("Mul", "Mul", "Sub", builder.constant("Mul/y", np.float32(0.0078125)), T=f32)
    names = {inception.INPUT: "Mul"}
    for layer in inception.LAYERS:
        sources = [names[name] for name in layer.inputs]
        scope = scope_of_2015(layer)
        if layer.kind == "concat":
            if not scope.endswith("/join"):
                names[layer.name] = ",".join(sources)  # 2015 joined all parts at once
                continue
            dim = builder.constant(f"{scope}/concat_dim", 3)
            flat = [part for source in sources for part in source.split(",")]
            names[layer.name] = add("Concat", scope, dim, *flat, N=len(flat), T=f32)
            continue
        window = {"strides": (1, layer.stride, layer.stride, 1), "padding": layer.padding}
        if layer.kind == "conv":
            raw = _normalised(builder, tensors, layer, scope, sources[0], window)
            op, options = "Relu", {}
        else:
            raw = sources[0]
            op = "MaxPool" if layer.kind == "max_pool" else "AvgPool"
            op = last_pool if layer.name == inception.LAST_POOL else op
            options = {"ksize": (1, *layer.kernel, 1), **window}
        add("CheckNumerics", f"{scope}/CheckNumerics", raw, T=f32, message="not finite")
        checked = f"^{scope}/CheckNumerics"
        add("Identity", f"{scope}/control_dependency", raw, checked, T=f32)
        names[layer.name] = add(op, scope, f"{scope}/control_dependency", T=f32, **options)
    _head(builder, names[inception.LAYERS[-1].name])
    return bytes(builder.graph.SerializeToString())


def _normalised(
    builder: Builder, tensors: Any, layer: inception.Layer, scope: str, source: str, window: Any
) -> str:
    f32 = builder.tf.float32
    kernel = builder.constant(f"{scope}/conv2d_params", tensors[f"{layer.name}/kernel"])
    raw = builder.node("Conv2D", f"{scope}/Conv2D", source, kernel, T=f32, **window)
    parts = {
        part: builder.constant(f"{scope}/batchnorm/{part}", tensors[f"{layer.name}/{part}"])
        for part in inception.STATISTICS
    }
    order = ("moving_mean", "moving_variance", "beta", "gamma")
    return builder.node(
        "BatchNormWithGlobalNormalization", f"{scope}/batchnorm", raw,
        *(parts[part] for part in order),
        T=f32, variance_epsilon=0.001, scale_after_normalization=True,
    )  # fmt: skip


def _head(builder: Builder, last: str) -> None:
    f32 = builder.tf.float32
    builder.node(
        "AvgPool", "pool_3", last, T=f32, ksize=(1, 8, 8, 1), strides=(1, 1, 1, 1), padding="VALID"
    )
    shape = builder.constant("pool_3/_reshape/shape", np.array([1, 2048], np.int32))
    builder.node("Reshape", "pool_3/_reshape", "pool_3", shape, T=f32)
    weights = builder.constant("softmax/weights", np.zeros((2048, 1008), np.float32))
    builder.node("MatMul", "softmax/logits/MatMul", "pool_3/_reshape", weights, T=f32)
    biases = builder.constant("softmax/biases", np.zeros(1008, np.float32))
    builder.node("BiasAdd", "softmax/logits", "softmax/logits/MatMul", biases, T=f32)
    builder.node("Softmax", "softmax", "softmax/logits", T=f32)
