from __future__ import annotations

import numpy as np
import pytest

from pool3.errors import ModelError
from pool3.models.graph.graphdef import ALLOWED_OPS, GraphDef, GraphWriter, Shape, check_ops


def small_graph(*extra: tuple[str, str]) -> bytes:
    writer = GraphWriter()
    writer.node("Placeholder", "x", dtype=np.dtype(np.uint8), shape=Shape((-1, 2)))
    writer.constant("one", np.array(1, np.float32))
    for op, name in extra:
        writer.node(op, name, "x")
    return writer.serialise()


@pytest.mark.parametrize("op", sorted(ALLOWED_OPS))
def test_allowed_ops_pass(op: str) -> None:
    check_ops(small_graph((op, "n")))


@pytest.mark.parametrize("op", ["ReadFile", "WriteFile", "PyFunc", "VarHandleOp", "While", "f", ""])
def test_any_other_op_is_refused_by_op_and_node(op: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_ops(small_graph(("Identity", "fine"), (op, "the/culprit")))
    assert repr(op) in str(caught.value)
    assert "the/culprit" in str(caught.value)


def test_functions_are_refused() -> None:
    graph = GraphDef.FromString(small_graph())
    # Field 1 of the library, a function: unknown to our description, kept and counted all the same.
    graph.library.MergeFromString(b"\x0a\x02\x0a\x00")
    with pytest.raises(ModelError, match="function library"):
        check_ops(graph.SerializeToString())


@pytest.mark.parametrize("listed", [False, True])
def test_attributes_that_call_are_refused(listed: bool) -> None:
    graph = GraphDef.FromString(small_graph())
    attribute = graph.node[0].attr["f"]
    function = attribute.list.func.add() if listed else attribute.func
    function.name = "evil"
    with pytest.raises(ModelError, match="calls a function"):
        check_ops(graph.SerializeToString())


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"not a graph", small_graph()[:-7]])
def test_what_is_no_graph_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="expected a frozen GraphDef"):
        check_ops(data)


def test_a_graph_is_the_same_bytes_each_time_and_survives_a_round_trip() -> None:
    graph = small_graph(("Identity", "n"))
    assert graph == small_graph(("Identity", "n"))
    parsed = GraphDef.FromString(graph + b"\xaa\x06\x03abc")  # field 101, which nobody describes
    assert parsed.SerializeToString(deterministic=True) == graph + b"\xaa\x06\x03abc"


def test_tensorflow_reads_what_was_written() -> None:
    import tensorflow as tf

    parsed = tf.compat.v1.GraphDef.FromString(small_graph(("Identity", "n")))
    assert [(node.op, node.name) for node in parsed.node][-1] == ("Identity", "n")
    assert parsed.node[0].attr["dtype"].type == tf.uint8.as_datatype_enum
    assert [dim.size for dim in parsed.node[0].attr["shape"].shape.dim] == [-1, 2]
    assert tf.make_ndarray(parsed.node[1].attr["value"].tensor) == 1
