"""Lists pictures into staged Parquet files of input rows, which tasks read.

The driver lists alone and has at most the rows of one staged file in memory.
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
from pool3.inputs.pictures import SetAside, no_pictures, pictures
from pool3.inputs.rows import relative_id, row_schema
from pool3.storage import StoredObject
from pool3.storage.uris import unreachable

ROWS_PER_FILE = 50_000


@dataclass(frozen=True, slots=True)
class StagedListing:
    """Uris of the staged files, and counts of the objects that were set aside, by reason."""

    files: tuple[str, ...]
    set_aside: dict[str, int]


def stage_listing(
    options: InputOptions, staging: str, *, rows_per_file: int = ROWS_PER_FILE
) -> StagedListing:
    """List every folder, file and glob of `options` into Parquet files below `staging`.

    Raises
    ------
    UsageError
        An input does not exist, is a table, or contains no picture. Nothing is written in that
        case, unless more pictures than fit into one file were listed before.
    """
    aside = SetAside()
    listings = [_started(where, options, aside) for where in options.inputs]
    files: list[str] = []
    pending: pa.RecordBatch | None = None
    for batch in _batches(listings, options, rows_per_file):
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
        raise no_pictures(" ".join(options.inputs), aside)
    return StagedListing(tuple(files), {reason: count for reason, count in counts.items() if count})


def _started(where: str, options: InputOptions, aside: SetAside) -> Iterator[StoredObject]:
    """Return a listing whose first picture was seen, so that errors are raised before any work."""
    own = SetAside()
    listing = pictures(where, glob=options.glob, aside=own)
    first = next(listing, None)
    if first is None:
        raise no_pictures(where, own)
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
    listings: Iterable[Iterator[StoredObject]], options: InputOptions, rows_per_file: int
) -> Iterator[pa.RecordBatch]:
    """Yield input rows, sorted by uri within each batch and input."""
    position = 0
    numbered = chain.from_iterable(
        ((number, picture) for picture in listing) for number, listing in enumerate(listings)
    )
    while chunk := list(islice(numbered, rows_per_file)):
        chunk.sort(key=lambda pair: (pair[0], pair[1].uri))
        yield _batch([picture for _, picture in chunk], options.base, position)
        position += len(chunk)


def _batch(listed: list[StoredObject], base: str | None, position: int) -> pa.RecordBatch:
    uris = [picture.uri for picture in listed]
    columns = {
        "image_id": uris if base is None else [relative_id(uri, base) for uri in uris],
        "uri": uris,
        "size": [picture.size for picture in listed],
        "etag": [picture.etag for picture in listed],
        "modified_at": [picture.modified_at for picture in listed],
        "refused": [unreachable(uri) for uri in uris],
        "position": range(position, position + len(listed)),
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


def _without_tables(batch: pa.RecordBatch, aside: SetAside) -> pa.RecordBatch:
    """Drop objects that belong to tables below a folder of pictures."""
    if not aside.tables:
        return batch
    return batch.filter(
        pa.array([not aside.is_in_table(uri) for uri in batch.column("uri").to_pylist()])
    )


def _rewritten(file: str, aside: SetAside) -> int:
    """Drop the objects of tables from a staged file; returns how many rows were dropped."""
    before = pa.concat_batches(list(read_listing(file)))
    after = _without_tables(before, aside)
    if len(after) < len(before):
        _stored(after, file)
    return len(before) - len(after)


def read_listing(file: str) -> Iterator[pa.RecordBatch]:
    """Yield the input rows of one staged file."""
    schema = row_schema()
    with storage.open_input(file) as source:
        for batch in pq.ParquetFile(source).iter_batches(batch_size=10_000):
            arrays = [batch.column(field.name).cast(field.type) for field in schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
