"""Reuse of features: the same bytes were extracted before, in the table or in this task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pool3 import storage
from pool3.errors import PictureError
from pool3.features.table import FeatureTable

_COLUMNS = (
    "features", "width", "height", "format", "thumbnail", "error_detail", "engine", "precision",
)  # fmt: skip
_PREFIX = "S32"
"""The first 32 hexadecimal digits of a digest: 128 bits make collisions infeasible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """The result of one picture: features, float32 ``(d,)``, and the columns beside them."""

    features: npt.NDArray[np.float32]
    width: int
    height: int
    format: str
    thumbnail: bytes | None
    engine: str
    precision: str
    error_detail: str | None = None


@dataclass(frozen=True)
class ExistingContent:
    """Where a table stores features, by the digest of the bytes that they were computed from.

    Attributes
    ----------
    digests
        The first half of each SHA-256, sorted.
    files, rows
        int32, of the same length: index into the table's files, and row in that file.
    """

    digests: npt.NDArray[np.bytes_]
    files: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]

    @classmethod
    def of(
        cls, digests: Sequence[str], files: Sequence[int], rows: Sequence[int]
    ) -> ExistingContent:
        """Sort the places of some rows by digest."""
        keys = np.asarray(digests).astype(_PREFIX)
        order = np.argsort(keys, kind="stable")
        places = (np.asarray(numbers, np.int32)[order] for numbers in (files, rows))
        return cls(keys[order], *places)

    def find(self, sha256: str) -> tuple[int, int] | None:
        """Return file and row of a digest, None where the table does not have it."""
        key = np.asarray(sha256).astype(_PREFIX)
        at = int(np.searchsorted(self.digests, key))
        if at == len(self.digests) or self.digests[at] != key:
            return None
        return int(self.files[at]), int(self.rows[at])


class ContentReuse:
    """Records which bytes were extracted before, and their results.

    Parameters
    ----------
    table
        The version that the run began from, None when there is none.
    existing
        Where that version stores features; None disables the lookup.
    """

    def __init__(self, table: FeatureTable | None, existing: ExistingContent | None) -> None:
        self._table, self._existing = table, existing
        self._begun: set[str] = set()
        self._outcomes: dict[str, Extracted | PictureError] = {}

    def begin(self, sha256: str) -> bool:
        """Mark bytes as begun; return whether they were begun or extracted before."""
        begun = sha256 in self._begun or self._place(sha256) is not None
        self._begun.add(sha256)
        return begun

    def add(self, sha256: str, outcome: Extracted | PictureError) -> None:
        """Record the result of some bytes."""
        self._outcomes[sha256] = outcome

    def outcomes(self, digests: Iterable[str]) -> Mapping[str, Extracted | PictureError]:
        """Return the results of bytes that were begun before; each file is read once."""
        missing = {sha256 for sha256 in digests if sha256 not in self._outcomes}
        by_file: dict[int, dict[int, str]] = defaultdict(dict)
        for sha256 in missing:
            place = self._place(sha256)
            if place is not None:
                by_file[place[0]][place[1]] = sha256
        for file, rows in by_file.items():
            self._read(file, rows)
        return self._outcomes

    def _place(self, sha256: str) -> tuple[int, int] | None:
        return None if self._existing is None else self._existing.find(sha256)

    def _read(self, file: int, wanted: Mapping[int, str]) -> None:
        if self._table is None:
            return
        with storage.open_input(self._table.file_uri(self._table.files[file])) as source:
            parquet = pq.ParquetFile(source)
            columns = [name for name in _COLUMNS if name in parquet.schema_arrow.names]
            first = 0
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                inside = sorted(row for row in wanted if first <= row < first + rows)
                if inside:
                    table = parquet.read_row_group(group, columns=columns)
                    rows_inside = table.take([row - first for row in inside]).to_pylist()
                    for row, values in zip(inside, rows_inside, strict=True):
                        features = np.asarray(values.pop("features"), np.float32)
                        columns_beside = {"thumbnail": None, **values}
                        self._outcomes[wanted[row]] = Extracted(features=features, **columns_beside)
                first += rows
