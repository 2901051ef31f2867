"""Features that need no inference: the same bytes were done before, in the table or the task."""

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

_COLUMNS = ("features", "width", "height", "format", "thumbnail", "engine", "precision")
_PREFIX = "S32"
"""Hexadecimal digits of a digest that are kept: 128 bits, which nobody can make collide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What a picture came to: its features, float32 ``(d,)``, and what stands beside them."""

    features: npt.NDArray[np.float32]
    width: int
    height: int
    format: str
    thumbnail: bytes | None
    engine: str
    precision: str


@dataclass(frozen=True)
class KnownContent:
    """Where a table holds features, by the digest of the bytes that they were made from.

    Attributes
    ----------
    digests
        First half of each SHA-256, sorted.
    files, rows
        int32, same length: index into the table's files, and the row in that file.
    """

    digests: npt.NDArray[np.bytes_]
    files: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]

    @classmethod
    def of(cls, digests: Sequence[str], files: Sequence[int], rows: Sequence[int]) -> KnownContent:
        """Sort and keep what is known of some rows."""
        keys = np.asarray(digests).astype(_PREFIX)
        order = np.argsort(keys, kind="stable")
        places = (np.asarray(found, np.int32)[order] for found in (files, rows))
        return cls(keys[order], *places)

    def find(self, sha256: str) -> tuple[int, int] | None:
        """Return file and row of a digest, None where it is not known."""
        key = np.asarray(sha256).astype(_PREFIX)
        at = int(np.searchsorted(self.digests, key))
        if at == len(self.digests) or self.digests[at] != key:
            return None
        return int(self.files[at]), int(self.rows[at])


class ContentReuse:
    """Knows which bytes were done before, and what they came to.

    Parameters
    ----------
    table
        The version that the run began from, None when there is none.
    known
        Where that version holds features, None when nobody looked.
    """

    def __init__(self, table: FeatureTable | None, known: KnownContent | None) -> None:
        self._table, self._known = table, known
        self._begun: set[str] = set()
        self._outcomes: dict[str, Extracted | PictureError] = {}

    def begun(self, sha256: str) -> bool:
        """Tell whether these bytes were done or begun before; from now on they are."""
        before = sha256 in self._begun or self._place(sha256) is not None
        self._begun.add(sha256)
        return before

    def remember(self, sha256: str, outcome: Extracted | PictureError) -> None:
        """Keep what some bytes came to."""
        self._outcomes[sha256] = outcome

    def outcomes(self, digests: Iterable[str]) -> Mapping[str, Extracted | PictureError]:
        """Return what some bytes, `begun` before, came to; each file is read once."""
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
        return None if self._known is None else self._known.find(sha256)

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
                    found = parquet.read_row_group(group, columns=columns)
                    taken = found.take([row - first for row in inside]).to_pylist()
                    for row, values in zip(inside, taken, strict=True):
                        features = np.asarray(values.pop("features"), np.float32)
                        facts = {"thumbnail": None, **values}
                        self._outcomes[wanted[row]] = Extracted(features=features, **facts)
                first += rows
