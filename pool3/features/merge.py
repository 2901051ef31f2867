"""Merges files of a feature table: chooses which files go together, and copies their rows.

A file is rewritten because it is small, or because it has rows to erase. Every merge counts and
sums the ids that it read and, read back from storage, those that it wrote.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pool3.errors import Pool3Error
from pool3.features.parts import PartWriter, conformed
from pool3.features.table import FeatureTable
from pool3.storage.names import part_name
from pool3.storage.tables import TableFile

_ROWS_AT_ONCE = 1024
_SUM_BITS = 64


def merge_groups(
    files: Sequence[TableFile], *, target_bytes: int, forced: Set[str] = frozenset()
) -> list[tuple[TableFile, ...]]:
    """Return the groups of files, each to be merged into one file.

    Parameters
    ----------
    files
        Files of one version of the table.
    target_bytes
        Most bytes of a group of several files. Files under half of it are merged; a single small
        file stays as it is.
    forced
        Paths of files to rewrite whatever their size.

    Returns
    -------
    list of tuple of TableFile
        Files are grouped in the order of `smallest`, so that the id ranges of the new files are
        narrow.
    """
    chosen = [file for file in files if 2 * file.size < target_bytes or file.path in forced]
    chosen.sort(key=lambda file: (file.smallest or "", file.path))
    groups: list[list[TableFile]] = []
    room = 0
    for file in chosen:
        if not groups or file.size > room:
            groups.append([])
            room = target_bytes
        groups[-1].append(file)
        room -= file.size
    return [tuple(group) for group in groups if len(group) > 1 or group[0].path in forced]


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """What one merge did.

    Attributes
    ----------
    file
        The stored file, None when no row is left.
    read, erased, written
        Rows of the old files, rows left out, and rows in the stored file.
    expected_sum, written_sum
        Sums of the ids that should be and that are in the stored file; see `sum_of_ids`.
    """

    file: TableFile | None
    read: int
    erased: int
    written: int
    expected_sum: int
    written_sum: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Merged:
        """Return what `as_dict` described."""
        file = fields["file"]
        return cls(**{**fields, "file": None if file is None else TableFile.from_dict(file)})


def require_same_rows(merges: Sequence[Merged], rows_before: int) -> None:
    """Raise `Pool3Error` unless the new files have exactly the rows of the old ones not erased.

    Parameters
    ----------
    rows_before
        Rows of the old files according to the table's log.
    """
    read = sum(merge.read for merge in merges)
    expected = read - sum(merge.erased for merge in merges)
    written = sum(merge.written for merge in merges)
    same_ids = all(merge.expected_sum == merge.written_sum for merge in merges)
    if read != rows_before or written != expected or not same_ids:
        raise Pool3Error(
            f"expected {rows_before} rows in the old files and {expected} with the same ids in the "
            f"new ones, found {read} and {written}{'' if same_ids else ' with other ids'}; nothing "
            "was committed, run the job again"
        )


def sum_of_ids(ids: Iterable[str]) -> int:
    """Return a 64-bit sum of hashes, which does not depend on the order of the ids."""
    total = 0
    for image_id in ids:
        digest = hashlib.blake2b(image_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        total += int.from_bytes(digest, "little")
    return total % (1 << _SUM_BITS)


def merge_files(
    table: FeatureTable,
    files: Sequence[TableFile],
    *,
    without: Set[str],
    schema: pa.Schema,
    run_id: str,
    number: int,
) -> Merged:
    """Store the rows of some files as one file, sorted by id.

    Rows pass through a local file, so that at most a batch of them is in memory.

    Parameters
    ----------
    without
        Ids of the rows to leave out.
    schema
        Columns of the table; a column that an older file lacks is null.
    run_id, number
        Parts of the new file's name.

    Raises
    ------
    Pool3Error
        An id occurs twice in these files.
    """
    with tempfile.TemporaryDirectory(prefix="pool3-merge-") as folder:
        spill = Path(folder) / "rows.arrow"
        read, staying, expected_sum = _spill(table, files, without, schema, spill)
        with pa.memory_map(str(spill)) as source:
            rows = pa.ipc.open_file(source).read_all()
            order = _order(rows, table.uri)
            name = part_name(run_id, number)
            with PartWriter(table.uri, name, _dimension(rows), schema) as writer:
                for batch in _in_order(rows, order):
                    writer.append(batch)
                file = writer.finish()
    written, written_sum = _stored_ids(table, file)
    return Merged(
        file=file,
        read=read,
        erased=read - staying,
        written=written,
        expected_sum=expected_sum,
        written_sum=written_sum,
    )


def _spill(
    table: FeatureTable,
    files: Sequence[TableFile],
    without: Set[str],
    schema: pa.Schema,
    spill: Path,
) -> tuple[int, int, int]:
    """Write the rows that stay to a local file; returns rows read and written, and sum of ids."""
    read = written = total = 0
    skipped_rows = pa.array(sorted(without), pa.string())
    with pa.ipc.new_file(spill, schema) as writer:
        for file in files:
            for batch in table.read(file, columns=None):
                ids = batch.column("image_id").to_pylist()
                staying = [image_id for image_id in ids if image_id not in without]
                read, written = read + len(ids), written + len(staying)
                total += sum_of_ids(staying)
                rows = conformed(batch, schema)
                mask = pc.invert(pc.is_in(rows.column("image_id"), skipped_rows))
                writer.write_batch(rows.filter(mask))
    return read, written, total % (1 << _SUM_BITS)


def _order(rows: pa.Table, table_uri: str) -> npt.NDArray[np.int64]:
    """Return the row numbers sorted by id; raise `Pool3Error` for two rows of one id."""
    ids = rows.column("image_id").combine_chunks()
    order = pc.sort_indices(ids)
    in_order = ids.take(order)
    same = pc.equal(in_order.slice(1), in_order.slice(0, max(0, len(in_order) - 1)))
    twice = in_order.slice(1).filter(same)
    if len(twice):
        raise Pool3Error(
            f"expected each image_id once in {table_uri}, found {twice[0].as_py()!r} more than "
            "once; another writer has changed the table: restore an older version of it"
        )
    return np.asarray(order.to_numpy(), np.int64)


def _dimension(rows: pa.Table) -> int:
    lengths = pc.list_value_length(rows.column("features"))
    return int(pc.max(lengths).as_py() or 1)


def _in_order(rows: pa.Table, order: npt.NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """Yield the rows in the given order, a batch at a time, without concatenating all of them."""
    batches = rows.to_batches()
    starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
    for begin in range(0, len(order), _ROWS_AT_ONCE):
        wanted = order[begin : begin + _ROWS_AT_ONCE]
        source = np.searchsorted(starts, wanted, side="right") - 1
        pieces = [
            batches[number].take(pa.array(wanted[source == number] - starts[number]))
            for number in np.unique(source)
        ]
        by_source = np.argsort(source, kind="stable")
        places = np.argsort(by_source, kind="stable")
        joined = pa.Table.from_batches(pieces, rows.schema).combine_chunks()
        yield from joined.take(pa.array(places)).combine_chunks().to_batches()


def _stored_ids(table: FeatureTable, file: TableFile | None) -> tuple[int, int]:
    """Return count and sum of the ids in a stored file, read back from storage."""
    if file is None:
        return 0, 0
    count = total = 0
    for batch in table.read(file, ["image_id"]):
        count += batch.num_rows
        total += sum_of_ids(batch.column(0).to_pylist())
    return count, total % (1 << _SUM_BITS)
