"""A small graph that engines run in tests."""

from __future__ import annotations

import numpy as np

from pool3.models.graph.graphdef import GraphWriter, Shape


def mean_colour_graph(*, offender: str | None = None, axes: str = "axes") -> bytes:
    """Return a graph whose features are the mean colour of a picture.

    Another name of a constant, `axes`, makes another graph.
    """
    floats, pixel, index = np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.int32)
    writer = GraphWriter()
    writer.node("Placeholder", "pictures", dtype=pixel, shape=Shape((-1, 4, 4, 3)))
    writer.node("Cast", "floats", "pictures", SrcT=pixel, DstT=floats)
    writer.constant(axes, np.array([1, 2], np.int32))
    writer.node("Mean", "features", "floats", axes, T=floats, Tidx=index, keep_dims=False)
    if offender:
        writer.node(offender, "secret", axes)
    return writer.serialise()
