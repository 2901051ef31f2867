"""The graph of 2015 with its original names and ops: the import computes what TensorFlow does."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pool3.engines import load_engine
from pool3.errors import ModelError
from pool3.gallery.scenes import draw_scene
from pool3.images.decode import resized
from pool3.models import ModelDirectory, inception, load_model
from pool3.models.directory import model_from_tensors
from pool3.models.graph.graphdef import ALLOWED_OPS, GraphDef
from tests.pool3.models.graph_of_2015 import graph_of_2015
from tests.pool3.models.parity import LIMIT, centred_difference

Tensors = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def scaled(tensors: Tensors) -> Tensors:
    """The seeded tensors with a gamma, which the 2015 graph has."""
    generator = np.random.default_rng(15)
    return {
        name: generator.uniform(0.9, 1.1, value.shape).astype(np.float32)
        if name.endswith("/gamma")
        else value
        for name, value in sorted(tensors.items())
    }


@pytest.fixture(scope="module")
def graph_file(scaled: Tensors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("2015") / "classify_image_graph_def.pb"
    path.write_bytes(graph_of_2015(scaled))
    return path


@pytest.fixture(scope="module")
def imported(graph_file: Path) -> ModelDirectory:
    return load_model(str(graph_file))


@pytest.fixture(scope="module")
def session(graph_file: Path) -> Any:
    """TensorFlow on the source graph as it is."""
    import tensorflow as tf

    graph = tf.Graph()
    definition = tf.compat.v1.GraphDef.FromString(graph_file.read_bytes())
    assert definition.versions.producer == 8
    with graph.as_default():
        tf.import_graph_def(definition, name="")
    return tf.compat.v1.Session(graph=graph)


def test_its_tensors_variant_and_resize_are_read(imported: Any, scaled: Tensors) -> None:
    tensors = imported.tensors()
    assert tensors.keys() == scaled.keys()
    assert all(np.array_equal(tensors[name], value) for name, value in scaled.items())
    assert imported.resize == "tf1-bilinear"
    assert imported.variant == inception.Variant(last_pool="max_pool", divisor=(128.0,))


def test_its_graph_has_only_allowed_ops(imported: Any) -> None:
    assert {node.op for node in GraphDef.FromString(imported.graph).node} <= ALLOWED_OPS


@pytest.mark.slow
def test_pictures_give_its_features(
    imported: Any, session: Any, real_or_drawn: npt.NDArray[np.uint8]
) -> None:
    pixels = real_or_drawn
    expected = np.concatenate(
        [
            session.run("pool_3:0", {"ResizeBilinear:0": picture[None]})[:, 0, 0]
            for picture in pixels
        ]
    )
    engine = load_engine(imported.graph, name="tensorflow", precision="float32", threads=2)
    assert centred_difference(expected, engine(pixels)).max() <= LIMIT
    standard = model_from_tensors(imported.tensors(), source="an average pool last")
    other = load_engine(standard.graph, name="tensorflow", precision="float32", threads=2)
    assert centred_difference(expected, other(pixels)).min() > LIMIT


def test_its_own_resize_is_the_one_named(imported: Any, session: Any) -> None:
    scene = draw_scene(4, size=(640, 480))
    file = io.BytesIO()
    scene.save(file, "JPEG", quality=95)
    decoded = session.run("DecodeJpeg:0", {"DecodeJpeg/contents:0": file.getvalue()})
    expected = session.run("ResizeBilinear:0", {"DecodeJpeg:0": decoded})[0]
    actual = resized(Image.fromarray(decoded), 299, imported.resize)
    assert np.abs(actual - expected).max() <= 0.5001


def test_the_archive_is_the_same_model(graph_file: Path, imported: Any, tmp_path: Path) -> None:
    path = tmp_path / "inception-2015-12-05.tgz"
    with tarfile.open(path, "w:gz", compresslevel=0) as archive:
        archive.add(graph_file, graph_file.name)
        for name in ("LICENSE", "cropped_panda.jpg", "imagenet_synset_to_human_label_map.txt"):
            archive.addfile(tarfile.TarInfo(name))
    model = load_model(str(path))
    assert model.model_id == imported.model_id
    assert model.source == f"{path}/classify_image_graph_def.pb"


def test_tensors_may_be_named(graph_file: Path, imported: Any) -> None:
    named = load_model(str(graph_file), input_tensor="DecodeJpeg:0", output_tensor="pool_3:0")
    assert named.model_id == imported.model_id
    prepared = load_model(str(graph_file), input_tensor="Mul:0", output_tensor="mixed_10/join:0")
    assert prepared.variant.divisor == inception.STANDARD.divisor
    assert prepared.resize == "pil-bilinear"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_tensor": "mixed_9/join:0"}, "Mixed_7c"),
        ({"output_tensor": "nowhere:0"}, "expected a node 'nowhere'"),
        ({"input_tensor": "conv_1"}, "'conv_1' is not there"),
    ],
)
def test_wrong_tensors_are_reported(
    graph_file: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_model(str(graph_file), **options)
    assert str(graph_file) in str(caught.value)


def changed(graph_file: Path, change: Any) -> bytes:
    graph = GraphDef.FromString(graph_file.read_bytes())
    change({node.name: node for node in graph.node}, graph)
    return bytes(graph.SerializeToString())


def smuggle(nodes: Any, graph: Any) -> None:
    graph.node.add(name="evil", op="WriteFile")
    nodes["softmax"].input.append("evil")


def swap(nodes: Any, graph: Any) -> None:
    first, second = nodes["mixed_9/join"].input[2:4]
    nodes["mixed_9/join"].input[2], nodes["mixed_9/join"].input[3] = second, first


def replace_op(name: str, op: str) -> Any:
    def change(nodes: Any, graph: Any) -> None:
        nodes[name].op = op

    return change


def test_nodes_that_the_features_do_not_need_are_ignored(
    graph_file: Path, imported: Any, tmp_path: Path
) -> None:
    path = tmp_path / "m.pb"
    path.write_bytes(changed(graph_file, smuggle))
    assert load_model(str(path)).model_id == imported.model_id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap, r"Mixed_7b/Branch_1/Conv2d_0b_3x1.*expected a kernel \(3, 1, 384, 384\)"),
        (replace_op("mixed_4/tower/conv", "Elu"), "ReLU of a convolution at node 'mixed_4/tower"),
        (replace_op("Mul", "PyFunc"), "op 'PyFunc' of node 'Mul'"),
        (replace_op("conv_1/batchnorm", "ReadFile"), "op 'ReadFile' of node 'conv_1/batchnorm'"),
    ],
)
def test_another_graph_is_refused_with_the_name_of_its_node(
    graph_file: Path, tmp_path: Path, change: Any, message: str
) -> None:
    path = tmp_path / "m.pb"
    path.write_bytes(changed(graph_file, change))
    with pytest.raises(ModelError, match=message):
        load_model(str(path))


def test_a_graph_cut_short_is_reported(graph_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.pb"
    path.write_bytes(graph_file.read_bytes()[:-5_000_000])
    with pytest.raises(ModelError, match="damaged or cut short"):
        load_model(str(path))
