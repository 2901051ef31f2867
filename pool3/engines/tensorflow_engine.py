"""The TensorFlow engine: one session for the frozen graph, on CPU or GPU."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from pool3.engines.pictures import require_pictures
from pool3.errors import EngineMissing, ModelError, install_remedy
from pool3.models.tensorflow import import_tensorflow

log = logging.getLogger(__name__)


class TensorFlowEngine:
    """Runs a frozen graph in a TensorFlow session, on a GPU if TensorFlow sees one.

    Parameters
    ----------
    graph
        A serialised GraphDef with the nodes ``pictures`` and ``features``.
    threads
        Threads that one operation may use.
    precision
        ``float32``; ``bfloat16`` on a CPU; ``float16`` on a GPU. The caller checks that the
        hardware computes in it natively.
    """

    name = "tensorflow"

    def __init__(self, graph: bytes, *, threads: int, precision: str) -> None:
        tf = import_tensorflow()
        definition = tf.compat.v1.GraphDef.FromString(graph)
        imported = tf.Graph()
        try:
            with imported.as_default():
                tf.import_graph_def(definition, name="")
            self._pictures = imported.get_tensor_by_name("pictures:0")
            self._features = imported.get_tensor_by_name("features:0")
        except (ValueError, KeyError) as error:
            raise ModelError(
                "expected a graph from 'pictures' to 'features' that TensorFlow "
                f"{tf.__version__} can import, found one that it refuses: {error}"
            ) from error
        if precision == "float16" and not tf.config.list_physical_devices("GPU"):
            raise EngineMissing(
                "expected TensorFlow to see the GPU of this machine, found that it cannot use it; "
                f"{install_remedy('gpu')}, or choose float32"
            )
        self.precision = precision
        self.picture_shape: tuple[int, int] = tuple(self._pictures.shape[1:3].as_list())
        options = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=threads,
            inter_op_parallelism_threads=1,
            gpu_options=tf.compat.v1.GPUOptions(allow_growth=True),
        )
        # TensorFlow rewrites the graph for another precision; a graph written in bfloat16 gave the
        # same numbers at the same speed.
        rewrites = options.graph_options.rewrite_options
        # Each pass over the graph copies its weights. The second round and the MLIR passes change
        # nothing in a frozen graph, but cost 140 MB of peak memory and half of the loading time.
        rewrites.meta_optimizer_iterations = rewrites.ONE
        rewrites.disable_tfg_optimizer = True
        if precision == "bfloat16":
            rewrites.auto_mixed_precision_onednn_bfloat16 = rewrites.ON
        elif precision == "float16":
            rewrites.auto_mixed_precision = rewrites.ON
        self._session = tf.compat.v1.Session(graph=imported, config=options)

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
            return np.zeros((0, self._features.shape[1]), np.float32)
        features: npt.NDArray[np.float32] = self._session.run(
            self._features, {self._pictures: pictures}
        )
        return features
