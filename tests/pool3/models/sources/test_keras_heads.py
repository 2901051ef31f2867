"""Classifiers on top of Keras' network, and graphs exported from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pool3.engines import load_engine
from pool3.models import ModelDirectory, load_model
from pool3.models.inception import STANDARD
from tests.pool3.models.parity import LIMIT, centred_difference


@pytest.fixture(scope="module")
def classifier(keras_notop: Any) -> Any:
    """Pixels of 0..255 in; a convolution, a batch norm and dense layers on top."""
    import keras

    layers = keras.layers
    pictures = keras.Input((299, 299, 3))
    scaled = layers.Rescaling(1 / 127.5, offset=-1)(pictures)
    mapped = keras.Model(keras_notop.input, keras_notop.layers[-2].output)(scaled)
    mapped = layers.Conv2D(192, 1, padding="same")(mapped)
    mapped = layers.ReLU()(layers.BatchNormalization()(mapped))
    top = layers.Dense(3)(layers.GlobalAveragePooling2D()(mapped))
    return keras.Model(pictures, top)


@pytest.fixture(scope="module")
def flat_classifier(keras_notop: Any) -> Any:
    """The same head in one model with the network, not around it."""
    import keras

    layers = keras.layers
    mapped = layers.Conv2D(192, 1)(keras_notop.layers[-2].output)
    mapped = layers.BatchNormalization()(mapped)
    return keras.Model(keras_notop.input, layers.Dense(3)(mapped))


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5"])
@pytest.mark.parametrize("kind", ["classifier", "flat_classifier"])
def test_a_head_with_layers_of_its_own_is_left_behind(
    request: pytest.FixtureRequest, seeded: ModelDirectory, tmp_path: Path, name: str, kind: str
) -> None:
    model, path = request.getfixturevalue(kind), tmp_path / name
    (model.save_weights if "weights" in name else model.save)(path)
    assert load_model(str(path)).model_id == seeded.model_id
    path.unlink()


def exported(model: Any, path: Path) -> Path:
    """Freeze a Keras model as TensorFlow 2 does."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    function = tf.function(lambda pictures: model(pictures, training=False))
    signature = tf.TensorSpec((None, 299, 299, 3), tf.float32)
    frozen = convert_variables_to_constants_v2(function.get_concrete_function(signature))
    path.write_bytes(frozen.graph.as_graph_def().SerializeToString())
    return path


@pytest.mark.slow
def test_an_exported_graph_is_found_by_structure(
    classifier: Any,
    keras_notop: Any,
    real_or_drawn: npt.NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    model = load_model(str(exported(classifier, tmp_path / "frozen.pb")))
    assert (model.variant, model.input_size) == (STANDARD, 299)
    expected = keras_notop.predict(real_or_drawn / np.float32(127.5) - 1, verbose=0)
    engine = load_engine(model.graph, name="tensorflow", precision="float32", threads=2)
    assert centred_difference(expected, engine(real_or_drawn)).max() <= LIMIT
