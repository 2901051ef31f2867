"""Evidence of one shard: the candidates of the sample queries at each level of effort.

A shard is immutable, so its evidence is collected once, where the shard is built. Annoy gathers
rows in an order that does not depend on how many are requested: the rows of a lower level are among
those of a higher one. So one list, with the first level of each row, covers all levels. Rows that
are deleted later are left out when recall is measured (`pool3.index.recall.estimate`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pool3.errors import InvalidIndex
from pool3.index.format import tensors as tensor_files
from pool3.index.recall.picker import Keys
from pool3.vectors.distances import FloatArray

#: The largest number of re-ranked rows that is measured, and the most rows of a level in evidence.
MAX_RERANK = 400


@dataclass(frozen=True)
class Evidence:
    """The candidates of each sample in one shard.

    Attributes
    ----------
    samples
        uint64, (s,): `sample_key` of each sample.
    starts
        int64, (s + 1,): where each sample's range of the next four arrays begins.
    rows
        uint32: rows of the shard, nearest in the tree's space first; for each level they include
        the nearest `MAX_RERANK` rows that it gathers.
    reduced
        float32: distances of the rows in the tree's space.
    exact
        float64: exact distances of the rows; infinite for a row that is not among the stored
        neighbours of the sample.
    first
        uint8: the first level that gathers each row.
    seconds
        float64, (levels,): time of one core for the candidates of one query.
    row_seconds
        float64, (1,): time of one core to measure one row exactly.
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
            When it is anything else.
        """
        tensors = tensor_files.parsed(data, "the evidence of a shard")
        try:
            evidence = cls(**tensors)
        except TypeError as error:
            raise InvalidIndex(
                f"expected the evidence of a shard; found another file: {error}"
            ) from error
        lengths = {len(evidence.rows), len(evidence.reduced), len(evidence.exact)}
        lengths |= {len(evidence.first), int(evidence.starts[-1])}
        if len(lengths) != 1 or len(evidence.starts) != len(evidence.samples) + 1:
            raise InvalidIndex(
                "the arrays of a shard's evidence must be of one length; they differ in length: "
                f"found {sorted(lengths)} for {len(evidence.samples)} samples"
            )
        return evidence
