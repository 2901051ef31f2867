from __future__ import annotations

import math
from typing import Any

from pool3.models import inception


def test_there_are_94_convolutions_and_kerass_number_of_parameters() -> None:
    shapes = inception.tensor_shapes()
    without_gamma = (shape for name, shape in shapes.items() if not name.endswith("/gamma"))
    assert len(inception.CONVOLUTIONS) == 94
    assert sum(math.prod(shape) for shape in without_gamma) == 21_802_784
    assert inception.LAYERS[-1].channels == inception.FEATURE_DIMENSION


def test_each_layer_reads_only_layers_before_it() -> None:
    known = {inception.INPUT}
    for layer in inception.LAYERS:
        assert set(layer.inputs) <= known
        assert layer.name not in known
        known.add(layer.name)


def test_the_order_by_depth_is_that_of_a_keras_models_layers(keras_notop: Any) -> None:
    ours = [layer.kernel_shape for layer in inception.convolutions_by_depth()]
    kernels = [layer for layer in keras_notop.layers if type(layer).__name__ == "Conv2D"]
    assert ours == [tuple(layer.kernel.shape) for layer in kernels]
    created = sorted(kernels, key=lambda layer: (len(layer.name), layer.name))
    assert [inception.CONVOLUTIONS.index(x) for x in inception.convolutions_by_depth()] == [
        created.index(layer) for layer in kernels
    ]
