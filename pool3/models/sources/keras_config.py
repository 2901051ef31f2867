"""Reads from the configuration of a Keras model what it does with pictures before the network.

The layers are followed from the input to the first convolution of Inception-v3. Each is described
by `Pixels`; nothing is run, and a layer that is not described is refused by name, if the network
depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pool3.errors import ModelError
from pool3.models import inception
from pool3.models.pixels import Pixels
from pool3.models.sources.keras_steps import Step, describe_step

LayerWeights = Callable[[str], Mapping[str, Any]]
"""Returns the tensors of a layer by its name."""

_MIN_SIZE = 75
_MAX_DEPTH = 20
_MODELS = ("Functional", "Model", "Sequential")


@dataclass(frozen=True)
class Unknown:
    """A tensor that is no function of the pixels that `Pixels` describes."""

    reason: str


Value = Any
"""`Pixels`, an `Unknown`, or several of them for the outputs of one layer."""


def read_pixels(config: object, weights: LayerWeights) -> Pixels:
    """Read a model's JSON configuration; return the input of the first convolution.

    Raises
    ------
    ModelError
        If its batch norms have another epsilon, the size of its pictures is not supported, or a
        layer before the network is not understood; the message names it.
    """
    layers = [layer for layer in _objects(config) if isinstance(layer.get("config"), dict)]
    _check_epsilons(
        [layer["config"] for layer in layers if layer.get("class_name") == "BatchNormalization"]
    )
    if not isinstance(config, dict):
        raise ModelError("expected the configuration of a Keras model, found none")
    walk = _Walk(weights)
    outputs = walk.model({"class_name": "Sequential", **config}, [])
    inputs = walk.inputs or [value for value in outputs if "class_name" not in config]
    if not inputs:
        raise ModelError(
            "expected the first convolution of Inception-v3 behind the input of the model, found "
            "it in no layer of its configuration"
        )
    for value in inputs:
        if isinstance(value, Unknown):
            raise ModelError(f"expected pixels before the first convolution, found {value.reason}")
    if any(value != inputs[0] for value in inputs):
        raise ModelError("expected one preparation of pictures, found several convolutions on them")
    pixels: Pixels = inputs[0]
    return pixels


class _Walk:
    """Evaluates models; `inputs` collects the inputs of convolutions like the first one."""

    def __init__(self, weights: LayerWeights) -> None:
        self.inputs: list[Value] = []
        self._weights = weights

    def model(self, model: dict[str, Any], values: list[Value], depth: int = 0) -> list[Value]:
        """Evaluate a model for the values of its inputs; without values it is the outer one."""
        config: Any = model.get("config")
        layers: Any = config if isinstance(config, list) else (config or {}).get("layers")
        if depth > _MAX_DEPTH or not _are_layers(layers):
            return [Unknown(_described(model))]
        if model.get("class_name") == "Sequential":
            return self._sequential(layers, values, depth)
        return self._functional(model["config"], layers, values, depth)

    def _sequential(
        self, layers: list[dict[str, Any]], values: list[Value], depth: int
    ) -> list[Value]:
        value = values[0] if values else None
        for layer in layers:
            if layer.get("class_name") == "InputLayer":
                value = _input_pixels(layer) if value is None else value
            elif value is None and layer.get("class_name") in _MODELS:
                value = self._call(layer, [], {}, depth)
            elif value is None:
                value = self._call(layer, [_input_pixels(layer)], {}, depth)
            else:
                value = self._call(layer, [value], {}, depth)
        return [Pixels() if value is None else value]

    def _functional(
        self, config: dict[str, Any], layers: list[dict[str, Any]], values: list[Value], depth: int
    ) -> list[Value]:
        results: dict[tuple[str, int], Value] = {}
        names = _tensor_names(config.get("input_layers"))
        for number, (name, _) in enumerate(names):
            layer = next((item for item in layers if _name(item) == name), {})
            own = _input_pixels(layer)
            results[name, 0] = _with_size(values[number], own) if number < len(values) else own
        for layer in layers:
            for index, node in enumerate(layer.get("inbound_nodes") or []):
                arguments, options = _arguments(node)
                try:
                    positional = [_resolved(item, results) for item in arguments]
                    named = {key: _resolved(item, results) for key, item in options.items()}
                except KeyError as error:
                    value: Value = Unknown(f"a layer behind {error.args[0]!r}, which comes later")
                else:
                    value = self._call(layer, positional, named, depth)
                results[_name(layer), index] = value
        return [
            results.get(name, Unknown("no such output"))
            for name in _tensor_names(config.get("output_layers"))
        ]

    def _call(
        self, layer: dict[str, Any], arguments: list[Value], options: dict[str, Value], depth: int
    ) -> Value:
        unknown = next(
            (item for item in _flat([arguments, options]) if isinstance(item, Unknown)), None
        )
        if _is_first_convolution(layer):
            self.inputs.append(unknown or _only(arguments, layer))
            return Unknown(_described(layer))
        if unknown is not None and layer.get("class_name") not in _MODELS:
            return unknown
        if layer.get("class_name") in _MODELS and not _is_custom(layer):
            outputs = self.model(layer, _flat(arguments), depth + 1)
            return outputs[0] if len(outputs) == 1 else outputs
        if _is_custom(layer):
            return Unknown(_described(layer))
        try:
            return describe_step(
                Step(layer["class_name"], layer.get("config") or {}, arguments, options),
                lambda: self._weights(_name(layer)),
            )
        except (ModelError, IndexError, KeyError, TypeError, ValueError) as error:
            reason = f": {error}" if isinstance(error, ModelError) and str(error) else ""
            return Unknown(_described(layer) + reason)


def _with_size(given: Value, own: Value) -> Value:
    """Return the pixels that a nested model is given, with its own size if they have none."""
    if not isinstance(given, Pixels) or not isinstance(own, Pixels):
        return given
    has_size = given.size is not None or given.resized is not None
    return given if has_size else replace(given, size=own.size)


def _only(arguments: list[Value], layer: dict[str, Any]) -> Value:
    flat = _flat(arguments)
    config = layer["config"]
    if len(flat) != 1 or not isinstance(flat[0], Pixels):
        return Unknown(_described(layer))
    if config.get("data_format") not in (None, "channels_last"):
        return Unknown(f"{_described(layer)} with channels first: save it with channels last")
    return flat[0]


def _is_first_convolution(layer: dict[str, Any]) -> bool:
    """Return whether a layer is a convolution like the first one of the network."""
    config, first = layer.get("config") or {}, inception.CONVOLUTIONS[0]
    return (
        layer.get("class_name") == "Conv2D"
        and config.get("filters") == first.channels
        and _as_pair(config.get("kernel_size")) == first.kernel
        and _as_pair(config.get("strides")) == (first.stride, first.stride)
        and str(config.get("padding")).upper() == first.padding
    )


def _as_pair(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value, value)


def _is_custom(layer: dict[str, Any]) -> bool:
    """Return whether the class of a layer is not Keras' own, whatever its name is."""
    module, registered = layer.get("module"), layer.get("registered_name")
    foreign = isinstance(module, str) and module.partition(".")[0] not in ("keras", "tf_keras")
    return foreign or (isinstance(registered, str) and ">" in registered)


def _described(layer: dict[str, Any]) -> str:
    kind, name = layer.get("class_name"), _name(layer)
    if kind == "Lambda":
        return f"the Lambda layer {name!r}, which is code and is never run"
    return f"the layer {name!r} ({kind}), which is not understood"


def _name(layer: dict[str, Any]) -> str:
    config = layer.get("config")
    inner = config.get("name") if isinstance(config, dict) else None
    return str(layer.get("name") or inner)


def _are_layers(layers: object) -> bool:
    return isinstance(layers, list) and all(isinstance(layer, dict) for layer in layers)


def _tensor_names(entries: object) -> list[tuple[str, int]]:
    """Return layers and nodes from ``["a", 0, 0]`` or a list of such entries."""
    if not isinstance(entries, list):
        return []
    if len(entries) == 3 and isinstance(entries[0], str):
        entries = [entries]
    return [(str(entry[0]), int(entry[1])) for entry in entries if isinstance(entry, list)]


def _arguments(node: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments of a call, of the form of Keras 3 or of the older one."""
    if isinstance(node, dict):
        return list(node.get("args") or []), dict(node.get("kwargs") or {})
    if node and not isinstance(node[0], list):
        node = [node]
    options = {key: value for entry in node if len(entry) > 3 for key, value in entry[3].items()}
    tensors = [_OldTensor(entry) for entry in node]
    return ([tensors] if len(tensors) > 1 else list(tensors)), options


class _OldTensor:
    """A tensor in the older form: ``["layer", node, output, options]``."""

    def __init__(self, entry: list[Any]) -> None:
        self.is_constant = entry[0] == "_CONSTANT_VALUE"
        self.value = entry[2] if self.is_constant else None
        self.history = entry[:3]


def _resolved(item: Any, results: Mapping[tuple[str, int], Value]) -> Any:
    """Replace references to tensors by their values, and constants by what they are."""
    if isinstance(item, _OldTensor):
        return item.value if item.is_constant else _output(item.history, results)
    if isinstance(item, list):
        if len(item) == 3 and isinstance(item[0], str) and (item[0], item[1]) in results:
            return _output(item, results)
        return [_resolved(value, results) for value in item]
    return _resolved_object(item, results) if isinstance(item, dict) else item


def _resolved_object(item: dict[str, Any], results: Mapping[tuple[str, int], Value]) -> Any:
    config, kind = item.get("config") or {}, item.get("class_name")
    if kind == "__keras_tensor__":
        return _output(config["keras_history"], results)
    if kind in ("__tensor__", "__numpy__"):
        return config["value"]
    if kind == "__ellipsis__":
        return ...
    if kind == "__slice__":
        return slice(config.get("start"), config.get("stop"), config.get("step"))
    if item.keys() == {"start", "stop", "step"}:
        return slice(item["start"], item["stop"], item["step"])
    return item


def _output(history: list[Any], results: Mapping[tuple[str, int], Value]) -> Value:
    name, node, output = history[:3]
    if (name, node) not in results:
        raise KeyError(name)
    value = results[name, node]
    return value[output] if isinstance(value, list) else value


def _flat(value: Any) -> list[Any]:
    """Return what is in nested lists and dicts and may be a tensor."""
    if isinstance(value, (list, dict)):
        items = value.values() if isinstance(value, dict) else value
        return [inner for item in items for inner in _flat(item)]
    return [value] if isinstance(value, (Pixels, Unknown)) else []


def _check_epsilons(norms: list[dict[str, Any]]) -> None:
    """Reject another epsilon, unless the remaining batch norms are enough for the network."""
    others = [norm for norm in norms if norm.get("epsilon", 0.001) != inception.EPSILON]
    if others and len(norms) - len(others) < len(inception.CONVOLUTIONS):
        raise ModelError(
            f"expected batch norms with epsilon {inception.EPSILON}, found "
            f"{others[0]['epsilon']} in {others[0].get('name')!r}"
        )


def _input_pixels(layer: dict[str, Any]) -> Value:
    """Return the pixels of an input layer, or of a layer that has the shape of its input."""
    config = layer.get("config") or {}
    shape = config.get("batch_shape", config.get("batch_input_shape"))
    is_bytes = config.get("dtype") == "uint8"
    if not isinstance(shape, list) or len(shape) != 4 or 3 not in (shape[1], shape[3]):
        if shape is None:
            return Pixels(is_bytes=is_bytes)
        return Unknown(f"an input of shape {shape}")
    axes = "nhwc" if shape[3] == 3 else "nchw"
    height, width = shape[1:3] if axes == "nhwc" else shape[2:]
    if height is None and width is None:
        return Pixels(axes=axes, is_bytes=is_bytes)
    if height != width or not isinstance(height, int) or height < 1:
        raise ModelError(
            f"expected pictures of one square size of {_MIN_SIZE} pixels or more, found "
            f"{(height, width)}"
        )
    return Pixels(axes=axes, size=height, is_bytes=is_bytes)


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """Yield all JSON objects in a value; no recursion, as a file may be nested deeply."""
    stack = [value]
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            yield current
            stack.extend(current.values())
        elif isinstance(current, list):
            stack.extend(current)
