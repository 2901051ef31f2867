"""Slim's checkpoint and frozen graph, and Keras' SavedModels: read as tensors, never run."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pool3.engines import load_engine
from pool3.errors import ModelError
from pool3.models import ModelDirectory, load_model
from tests.pool3.models.parity import LIMIT, centred_difference
from tests.pool3.models.slim_network import build_slim, freeze, save_checkpoint

# The whole network in TensorFlow's own sessions.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slim(tensors: Any) -> Any:
    return build_slim(tensors)


@pytest.fixture(scope="module")
def folder(slim: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """inception_v3.ckpt of version 1, v2/model.ckpt of version 2, and the frozen graph."""
    folder = tmp_path_factory.mktemp("slim")
    save_checkpoint(slim, folder / "inception_v3.ckpt", 1)
    (folder / "v2").mkdir()
    save_checkpoint(slim, folder / "v2" / "model.ckpt", 2)
    (folder / "frozen.pb").write_bytes(freeze(slim))
    return folder


def tar(path: Path, *members: Path) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=0) as archive:
        for member in members:
            archive.add(member, f"./{member.name}")
    return path


@pytest.mark.parametrize("name", ["inception_v3.ckpt", "v2/model.ckpt", "v2/model.ckpt.index"])
def test_a_checkpoint_is_the_same_model(folder: Path, seeded: ModelDirectory, name: str) -> None:
    model = load_model(str(folder / name))
    assert model.model_id == seeded.model_id
    assert model.resize == "pil-bilinear"


def test_its_archives_are_too(folder: Path, seeded: ModelDirectory, tmp_path: Path) -> None:
    single = tar(tmp_path / "inception_v3_2016_08_28.tar.gz", folder / "inception_v3.ckpt")
    several = tar(tmp_path / "several.tgz", *sorted((folder / "v2").iterdir()))
    for path in (single, several):
        assert load_model(str(path)).model_id == seeded.model_id


@pytest.mark.slow
def test_its_frozen_graph_gives_its_features(
    slim: Any, folder: Path, real_or_drawn: npt.NDArray[np.uint8]
) -> None:
    prepared = real_or_drawn.astype(np.float32) / 255 * 2 - 1
    tensor = "InceptionV3/Logits/AvgPool_1a_8x8/AvgPool:0"
    expected = slim.run(tensor, {"input:0": prepared})[:, 0, 0]
    model = load_model(str(folder / "frozen.pb"))
    engine = load_engine(model.graph, name="tensorflow", precision="float32", threads=2)
    assert centred_difference(expected, engine(real_or_drawn)).max() <= LIMIT


@pytest.mark.parametrize("name", ["inception_v3.ckpt", "v2/model.ckpt.data-00000-of-00001"])
def test_a_damaged_checkpoint_is_reported(folder: Path, tmp_path: Path, name: str) -> None:
    for path in [folder / name, (folder / name).with_name("model.ckpt.index")]:
        if path.exists():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / Path(name).name
    data = damaged.read_bytes()
    end = data[-48:] if "data" not in name else b""
    damaged.write_bytes(data[: len(data) // 2] + end)
    source = tmp_path / ("model.ckpt" if "data" in name else name)
    with pytest.raises(ModelError, match="damaged or cut short"):
        load_model(str(source))


def test_another_network_is_reported(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        made = v1.Variable(np.zeros(3, "f4"), name="resnet_v1_50/conv1/weights", use_resource=False)
        session.run(made.initializer)
        save_checkpoint(session, tmp_path / "resnet.ckpt", 1)
    with pytest.raises(ModelError, match=r"expected slim's variables .* found .* resnet_v1_50"):
        load_model(str(tmp_path / "resnet.ckpt"))


def test_a_checkpoint_without_its_data_is_reported(folder: Path, tmp_path: Path) -> None:
    index = (folder / "v2" / "model.ckpt.index").read_bytes()
    (tmp_path / "m.index").write_bytes(index)
    with pytest.raises(ModelError, match=r"expected m\.data-"):
        load_model(str(tmp_path / "m"))


@pytest.mark.slow
def test_a_saved_model_of_a_classifier_is_the_same_model(
    keras_notop: Any, seeded: ModelDirectory, tmp_path: Path
) -> None:
    import keras
    import tensorflow as tf

    mapped = keras.layers.Conv2D(8, 1, name="head")(keras_notop.layers[-2].output)
    normal = keras.layers.BatchNormalization()(mapped)
    top = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(normal))
    tf.saved_model.save(keras.Model(keras_notop.input, top), str(tmp_path / "saved"))
    assert load_model(str(tmp_path / "saved")).model_id == seeded.model_id
    with pytest.raises(ModelError, match="SavedModel"):
        load_model(str(tmp_path / "saved" / "saved_model.pb"))
