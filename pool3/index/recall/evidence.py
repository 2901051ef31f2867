"""What the trees of one shard find for the sample queries, at each level of effort.

A shard is immutable, so this is collected once, where the shard is built. Annoy gathers rows in an
order that does not depend on how many are asked for: the rows of a lower level are among those of a
higher one, and one list with the level at which each row first appears tells about all levels. Rows
that die later are left out when recall is measured (`pool3.index.recall.estimate`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pool3.errors import InvalidIndex
from pool3.index.format import tensors as tensor_files
from pool3.index.recall.picker import Keys
from pool3.vectors.distances import FloatArray

#: The deepest re-ranking that is measured: so many rows of each shard are kept for each level.
MAX_RERANK = 400


@dataclass(frozen=True)
class Evidence:
    """What one shard finds for each sample.

    Attributes
    ----------
    samples
        uint64, (s,): `sample_key` of each sample.
    starts
        int64, (s + 1,): where each sample's part of the next four begins.
    rows
        uint32: rows of the shard, nearest in the tree's space first; at each level, the nearest
        `MAX_RERANK` of those that it gathers are among them.
    reduced
        float32: their distances in the tree's space.
    exact
        float64: their distances as a person reads them; infinite where a row is not among the
        neighbours that are known of the sample.
    first
        uint8: the first level that gathers them.
    seconds
        float64, (levels,): of one core, for the candidates of one query.
    row_seconds
        float64, (1,): of one core, to measure one row exactly.
    """

    samples: Keys
    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.uint32]
    reduced: npt.NDArray[np.float32]
    exact: FloatArray
    first: npt.NDArray[np.uint8]
    seconds: FloatArray
    row_seconds: FloatArray

    def to_bytes(self) -> bytes:
        """Serialise as safetensors."""
        return tensor_files.serialised(vars(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Evidence:
        """Read what `to_bytes` wrote.

        Raises
        ------
        InvalidIndex
            When it is something else.
        """
        tensors = tensor_files.parsed(data, "this is no evidence of a shard")
        try:
            evidence = cls(**tensors)
        except TypeError as error:
            raise InvalidIndex(f"this is no evidence of a shard: {error}") from error
        lengths = {len(evidence.rows), len(evidence.reduced), len(evidence.exact)}
        lengths |= {len(evidence.first), int(evidence.starts[-1])}
        if len(lengths) != 1 or len(evidence.starts) != len(evidence.samples) + 1:
            raise InvalidIndex(f"the parts of a shard's evidence differ in length: {lengths}")
        return evidence
