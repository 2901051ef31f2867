"""The usable vectors of a feature table, from which an index is built, and the skipped rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pool3.errors import UsageError
from pool3.features.column_types import id_texts
from pool3.features.column_values import carried_rows, columns_to_read
from pool3.features.schema import OK
from pool3.features.table import FeatureTable
from pool3.storage.tables import TableFile
from pool3.vectors.usable import check_vectors, common_length

NULL_ID, EMPTY_ID = "null_id", "empty_id"
MOST_NAMED = 20


@dataclass(slots=True)
class SkippedRows:
    """Rows that are not indexed.

    Attributes
    ----------
    skipped
        Rows that are not ok.
    errors
        Ok rows that cannot be used, counted by reason.
    named
        The first ids of each reason.
    """

    skipped: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {"skipped": self.skipped, "errors": dict(self.errors), "named": self.named}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SkippedRows:
        """Return what `as_dict` described."""
        return cls(fields["skipped"], Counter(fields["errors"]), dict(fields["named"]))

    def add(self, reason: str, ids: list[str | None]) -> None:
        """Count some rows under one reason."""
        self.errors[reason] += len(ids)
        names = self.named.setdefault(reason, [])
        names.extend(str(image_id) for image_id in ids[: MOST_NAMED - len(names)])

    def merge(self, other: SkippedRows) -> None:
        """Add the rows that another task skipped."""
        self.skipped += other.skipped
        self.errors.update(other.errors)
        for reason, names in other.named.items():
            mine = self.named.setdefault(reason, [])
            mine.extend(names[: MOST_NAMED - len(mine)])


@dataclass(frozen=True, slots=True)
class UsableRows:
    """Some rows that can be indexed: ids, ``float32 (n, d)`` vectors, carried columns."""

    ids: pa.Array
    vectors: npt.NDArray[np.float32]
    metadata: pa.RecordBatch


def vector_dimension(table: FeatureTable) -> int:
    """Return the length of the table's vectors: the most common one in the first non-empty batch.

    Raises
    ------
    UsageError
        No row has a vector.
    """
    for file in table.files:
        for batch in table.read(file, ["features"]):
            length = common_length(_features(batch))
            if length:
                return length
    raise UsageError(f"expected vectors in {table.uri}, found none; extract features first")


def usable_rows(
    table: FeatureTable,
    file: TableFile,
    *,
    dimension: int,
    metric: str,
    skipped_rows: SkippedRows,
    carried: pa.Schema | None = None,
) -> Iterator[UsableRows]:
    """Yield the rows of one file that can be indexed, with the columns of `carried`.

    The other rows are counted in `skipped_rows`.
    """
    carried = pa.schema([]) if carried is None else carried
    columns = ["image_id", "features", *columns_to_read(carried, foreign=table.foreign)]
    if not table.foreign:
        columns.append("status")
    for whole in table.read(file, columns):
        batch = _ok_rows(whole, table.foreign, skipped_rows)
        checked = check_vectors(_features(batch), dimension=dimension, metric=metric)
        ids = ids_of(batch)
        for reason, rows in checked.rejected.items():
            skipped_rows.add(reason, ids.take(pa.array(rows)).to_pylist())
        named = np.ones(len(checked.rows), dtype=np.bool_)
        checked_ids = ids.take(pa.array(checked.rows))
        for reason, missing in missing_ids(checked_ids).items():
            skipped_rows.add(reason, checked_ids.filter(pa.array(missing)).to_pylist())
            named &= ~missing
        usable = pa.array(checked.rows[named])
        metadata = carried_rows(batch.take(usable), carried)
        yield UsableRows(ids.take(usable), checked.vectors[named], metadata)


def ids_of(batch: pa.RecordBatch, column: str = "image_id") -> pa.Array:
    """Return the ids of rows as strings, null where the file has no such column."""
    if column not in batch.schema.names:
        return pa.nulls(batch.num_rows, pa.string())
    return id_texts(batch.column(column))


def _features(batch: pa.RecordBatch) -> pa.Array:
    if "features" not in batch.schema.names:
        return pa.nulls(batch.num_rows, pa.list_(pa.float32()))
    return batch.column("features")


def missing_ids(ids: pa.Array) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which rows have no id, bool (n,), by the reason for which they are skipped."""
    masks = {
        NULL_ID: pc.is_null(ids).to_numpy(zero_copy_only=False),
        EMPTY_ID: pc.fill_null(pc.equal(ids, ""), False).to_numpy(zero_copy_only=False),
    }
    return {reason: mask for reason, mask in masks.items() if mask.any()}


def _ok_rows(batch: pa.RecordBatch, foreign: bool, skipped_rows: SkippedRows) -> pa.RecordBatch:
    if foreign:
        return batch
    ok_rows = batch.filter(pc.equal(batch.column("status"), OK))
    skipped_rows.skipped += batch.num_rows - ok_rows.num_rows
    return ok_rows
