"""A small model that is true in every part but its size: a graph that averages colours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from pool3.models.graph.graphdef import GraphWriter, Shape
from pool3.models.identity import model_id_of

SIDE = 8
_FLOAT = np.dtype(np.float32)


def colour_graph(*, also: str | None = None) -> bytes:
    """uint8 (n, 8, 8, 3) to the three mean colours; `also` adds a node of another op."""
    writer = GraphWriter()
    pixel = np.dtype(np.uint8)
    shape = Shape((-1, SIDE, SIDE, 3))
    pictures = writer.node("Placeholder", "pictures", dtype=pixel, shape=shape)
    floats = writer.node("Cast", "float", pictures, SrcT=pixel, DstT=_FLOAT)
    axes = writer.constant("axes", np.array([1, 2], np.int32))
    writer.node("Mean", "features", floats, axes, T=_FLOAT, Tidx=np.dtype("int32"), keep_dims=False)
    if also is not None:
        writer.node(also, "smuggled", "axes")
    return writer.serialise()


def weights_of(name: str) -> dict[str, np.ndarray]:
    """Weights that nothing computes with; they give each name an id of its own."""
    return {name: np.ones(1, np.float32)}


def colour_model_id(name: str) -> str:
    """The id of the model that `write_model` writes."""
    return model_id_of(
        weights_of(name), feature_node="features", resize="pil-bilinear", input_size=SIDE
    )


def write_model(folder: Path, graph: bytes, name: str) -> Path:
    """Write a model directory around a graph."""
    folder.mkdir(parents=True)
    contents = {"graph.pb": graph, "weights.safetensors": save(weights_of(name))}
    facts = {
        "format_version": 1,
        "model_id": colour_model_id(name),
        "feature_dimension": 3,
        "feature_node": "features",
        "input_size": SIDE,
        "resize": "pil-bilinear",
        "source": name,
        "notes": [],
        "files": {
            file: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for file, data in contents.items()
        },
    }
    for file, data in contents.items():
        (folder / file).write_bytes(data)
    (folder / "model.json").write_text(json.dumps(facts))
    return folder
