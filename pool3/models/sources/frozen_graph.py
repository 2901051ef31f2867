"""Reads Inception-v3 from a frozen graph: that of 2015, slim's, or one exported from Keras.

The graph is not run. The weights are read where the architecture matches, the preprocessing from
the nodes before it, and a new graph is made from both. Other nodes, such as the head of a
classifier, are ignored.
"""

from __future__ import annotations

import logging

from pool3.errors import ModelError
from pool3.models import inception
from pool3.models.directory import ModelDirectory
from pool3.models.graph.match import Match, Mismatch, concatenated, match
from pool3.models.graph.preprocessing import InputReader
from pool3.models.graph.reader import PASS_THROUGH, Graph
from pool3.models.pixels import Pixels
from pool3.models.preparation import prepared_model
from pool3.models.sources.describe import network_hint

log = logging.getLogger(__name__)

_JOINS = ("Concat", "ConcatV2")
_HEADS = PASS_THROUGH | {"AvgPool", "Mean", "Reshape", "Squeeze"}


def frozen_file_model(
    data: bytes,
    *,
    source: str,
    input_tensor: str | None = None,
    output_tensor: str | None = None,
) -> ModelDirectory:
    """Make a model from a frozen GraphDef that contains Inception-v3.

    Parameters
    ----------
    data
        The whole file.
    source
        Its name, for messages and for ``model.json``.
    input_tensor, output_tensor
        The tensor of the pictures, before the preprocessing of the graph, and the tensor of the
        features (or the last concatenation before them); by default recognised by structure.

    Raises
    ------
    ModelError
        If the graph does not match; the message describes the graph, or names the first
        difference.
    """
    try:
        graph = Graph(data)
        network = _match_network(graph, output_tensor)
        pixels = _read_input(graph, network.nodes[inception.INPUT], input_tensor)
        return prepared_model(
            network.tensors,
            pixels,
            source=source,
            last_pool=network.last_pool,
            remedy="; name the input by --input-tensor",
        )
    except ModelError as error:
        raise ModelError(f"{source} cannot be used: {error}") from error


def _match_network(graph: Graph, output_tensor: str | None) -> Match:
    if output_tensor is not None:
        return match(graph, graph.skip_back(output_tensor, _HEADS))
    matches, closest = [], Mismatch("found no concatenation of four or more tensors", 0)
    for name in [name for name, node in graph.nodes.items() if node.op in _JOINS]:
        try:
            concatenated(graph, name)
            matches.append(match(graph, name))
        except Mismatch as mismatch:
            closest = max(closest, mismatch, key=lambda error: error.matched)
        except ModelError:
            continue
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = ", ".join(network.nodes[inception.LAYERS[-1].name] for network in matches)
        raise ModelError(f"expected one Inception-v3, found several ({names}): --output-tensor")
    raise _no_match(graph, closest)


def _no_match(graph: Graph, closest: Mismatch) -> ModelError:
    convolutions = sum(node.op == "Conv2D" for node in graph.nodes.values())
    if closest.matched:
        detail = f"after {closest.matched} of its convolutions, counted from the end, {closest}"
    else:
        detail = f"found {convolutions} convolutions in other places{network_hint(convolutions)}"
    return ModelError(
        f"expected Inception-v3 in the graph, {detail}; if it contains it anyway, name "
        "the tensor of its features by --output-tensor"
    )


def _read_input(graph: Graph, tensor: str, input_tensor: str | None) -> Pixels:
    """Read the preprocessing, from the first convolution back to the input of the graph."""
    start = None if input_tensor is None else str(graph.node(input_tensor).name)
    remedy = "; name it by --input-tensor" if start is None else f"; {start!r} is not there"
    reader = InputReader(graph, start, remedy)
    pixels = reader.read(tensor)
    log.info("found Inception-v3 behind %s", reader.start.name)
    return pixels
