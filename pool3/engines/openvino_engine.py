"""The OpenVINO engine: the frozen graph, compiled for this CPU."""

from __future__ import annotations

import tempfile
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.engines.pictures import require_pictures
from pool3.errors import EngineMissing, ModelError, install_remedy
from pool3.models.graph.graphdef import GraphDef

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


def _import_openvino() -> Any:
    try:
        import openvino  # noqa: PLC0415
    except ImportError as error:
        raise EngineMissing(
            f"this engine needs OpenVINO, which cannot be imported ({error}); "
            f"{install_remedy('openvino')}"
        ) from error
    return openvino


def _with_scalar_shapes(graph: bytes) -> bytes:
    """Return the graph with an explicit empty shape for scalar constants.

    TensorFlow treats a tensor without a shape as a scalar. OpenVINO reads no value from it, and so
    would concatenate channels along axis 0.
    """
    parsed = GraphDef.FromString(graph)
    for node in parsed.node:
        if node.op == "Const":
            node.attr["value"].tensor.tensor_shape.SetInParent()
    return bytes(parsed.SerializeToString())


def _read_model(core: Any, graph: bytes) -> Any:
    # OpenVINO reads TensorFlow graphs only from files. openvino.convert_model also takes them from
    # memory, but it brings a telemetry package with it.
    with tempfile.NamedTemporaryFile(prefix="pool3-", suffix=".pb") as file:
        file.write(_with_scalar_shapes(graph))
        file.flush()
        return core.read_model(file.name)


class OpenVINOEngine:
    """Runs a frozen graph on the CPU.

    The batch size is dynamic: each new size is compiled once, and a fixed size was not measurably
    faster.

    Parameters
    ----------
    graph
        A serialised GraphDef with the nodes ``pictures`` and ``features``.
    threads
        Threads that one call may use.
    precision
        ``float32`` or ``bfloat16``; the caller checks that the CPU computes in it natively.
    """

    name = "openvino"

    def __init__(self, graph: bytes, *, threads: int, precision: str) -> None:
        ov = _import_openvino()
        core = ov.Core()
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Pinning would put all tasks of a machine on the same first cores.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            model = _read_model(core, graph)
            shape = model.input("pictures:0").partial_shape
            self._width = model.output("features:0").partial_shape[1].get_length()
            self._request = core.compile_model(model, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise ModelError(
                "expected a graph from 'pictures' to 'features' that OpenVINO "
                f"{ov.get_version()} can read, found one that it refuses: {error}"
            ) from error
        self.precision = precision
        self.picture_shape = (shape[1].get_length(), shape[2].get_length())
        self._lock = threading.Lock()

    def __call__(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the features of a batch of pictures.

        Parameters
        ----------
        pictures
            uint8 ``(n, h, w, 3)``, RGB, of the model's input size; n may be 0.

        Returns
        -------
        numpy.ndarray
            float32 ``(n, d)``.

        Raises
        ------
        UsageError
            If `pictures` has another dtype or shape.
        """
        require_pictures(pictures, self.picture_shape)
        if not len(pictures):
            return np.zeros((0, self._width), np.float32)
        with self._lock:  # the request has one set of buffers
            features: npt.NDArray[np.float32] = self._request.infer(
                {"pictures:0": np.ascontiguousarray(pictures)}
            )["features:0"]
        return features
