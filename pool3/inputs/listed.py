"""A listing of pictures of any length, staged as Parquet files that tasks read.

The driver alone lists, and never holds more than one file's worth of it.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import pyarrow as pa
import pyarrow.parquet as pq

from pool3 import storage
from pool3.errors import UsageError
from pool3.inputs.options import InputOptions
from pool3.inputs.pictures import Aside, nothing_found, pictures
from pool3.inputs.rows import relative_id, row_schema
from pool3.storage import StoredObject

ROWS_A_FILE = 50_000


@dataclass(frozen=True, slots=True)
class StagedListing:
    """What was listed: uris of the files that hold it, and what was set aside, by reason."""

    files: tuple[str, ...]
    set_aside: dict[str, int]


def stage_listing(
    options: InputOptions, staging: str, *, rows_a_file: int = ROWS_A_FILE
) -> StagedListing:
    """List every folder, file and glob of `options` into Parquet files below `staging`.

    Raises
    ------
    UsageError
        An input does not exist, is a table, or holds no picture. Nothing is written then, unless
        more pictures than make one file were listed before.
    """
    aside = Aside()
    listings = [_begun(where, options, aside) for where in options.inputs]
    files: list[str] = []
    pending: pa.RecordBatch | None = None
    for batch in _batches(listings, options, rows_a_file):
        if pending is not None:
            files.append(_put(pending, staging, len(files)))
        pending = batch
    last = None if pending is None else _without_tables(pending, aside)
    counts = Counter(aside.reasons)
    if aside.tables:
        counts["table"] += 0 if last is None or pending is None else len(pending) - len(last)
        counts["table"] += sum(_rewritten(file, aside) for file in files)
    if last is not None and (last.num_rows or files):
        files.append(_put(last, staging, len(files)))
    if not files:
        aside.reasons = counts
        raise nothing_found(" ".join(options.inputs), aside)
    return StagedListing(tuple(files), {reason: count for reason, count in counts.items() if count})


def _begun(where: str, options: InputOptions, aside: Aside) -> Iterator[StoredObject]:
    """Return a listing of which the first picture is there, else raise before anything is done."""
    own = Aside()
    listing = pictures(where, glob=options.glob, aside=own)
    first = next(listing, None)
    if first is None:
        raise nothing_found(where, own)
    if first.uri == storage.canonical_uri(where):
        _require_picture(first.uri)

    def whole() -> Iterator[StoredObject]:
        yield first
        yield from listing
        aside.reasons.update(own.reasons)
        aside.tables.update(own.tables)

    return whole()


def _require_picture(uri: str) -> None:
    if uri.lower().endswith((".parquet", ".pq", ".csv", ".jsonl", ".ndjson")):
        raise UsageError(
            f"expected a picture or a folder of pictures, found {uri}; name --uri-column or "
            "--content-column to read it as a table of inputs"
        )


def _batches(
    listings: Iterable[Iterator[StoredObject]], options: InputOptions, rows_a_file: int
) -> Iterator[pa.RecordBatch]:
    """Yield rows of work, sorted by uri within each input's share of a batch."""
    position = 0
    numbered = chain.from_iterable(
        ((number, found) for found in listing) for number, listing in enumerate(listings)
    )
    while chunk := list(islice(numbered, rows_a_file)):
        chunk.sort(key=lambda pair: (pair[0], pair[1].uri))
        yield _batch([found for _, found in chunk], options.base, position)
        position += len(chunk)


def _batch(found: list[StoredObject], base: str | None, position: int) -> pa.RecordBatch:
    uris = [one.uri for one in found]
    columns = {
        "image_id": uris if base is None else [relative_id(uri, base) for uri in uris],
        "uri": uris,
        "size": [one.size for one in found],
        "etag": [one.etag for one in found],
        "modified_at": [one.modified_at for one in found],
        "refused": [None] * len(found),
        "position": range(position, position + len(found)),
    }
    schema = row_schema()
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _put(batch: pa.RecordBatch, staging: str, number: int) -> str:
    return _stored(batch, storage.join(staging, f"inputs-{number:06d}.parquet"))


def _stored(batch: pa.RecordBatch, uri: str) -> str:
    data = io.BytesIO()
    pq.write_table(pa.Table.from_batches([batch]), data, compression="zstd")
    storage.put(uri, data.getvalue())
    return uri


def _without_tables(batch: pa.RecordBatch, aside: Aside) -> pa.RecordBatch:
    """Leave out what lies in tables that the listing met below a folder of pictures."""
    if not aside.tables:
        return batch
    return batch.filter(
        pa.array([not aside.of_a_table(uri) for uri in batch.column("uri").to_pylist()])
    )


def _rewritten(file: str, aside: Aside) -> int:
    """Store one file again without what lies in tables; returns how many rows that were."""
    before = pa.concat_batches(list(read_listing(file)))
    after = _without_tables(before, aside)
    if len(after) < len(before):
        _stored(after, file)
    return len(before) - len(after)


def read_listing(file: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows of work of one staged file."""
    schema = row_schema()
    with storage.open_input(file) as source:
        for batch in pq.ParquetFile(source).iter_batches(batch_size=10_000):
            arrays = [batch.column(field.name).cast(field.type) for field in schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
