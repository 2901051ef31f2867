"""Pictures to rows of the feature table, in batches: fetched and decoded ahead of the model.

Knows nothing of Spark: a task calls `extract`, and so may a test or a notebook.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pool3 import storage
from pool3.decode import DecodeLimits, Picture, decode_resized
from pool3.errors import PictureError, StorageError
from pool3.features.schema import FAILED, FEATURE_SCHEMA, OK, TRANSIENT_ERRORS

#: ``uint8 (n, size, size, 3)`` to ``float32 (n, d)``.
Model = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class PictureInput:
    """One input: `known_ok` tells that the table holds features of this id already."""

    image_id: str
    uri: str
    modified_at: datetime | None
    known_ok: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFacts:
    """What is the same in every row of a run."""

    run_id: str
    model_id: str
    engine: str
    precision: str
    dimension: int


@dataclass(slots=True)
class Tally:
    """Counts and seconds of one task."""

    ok: int = 0
    failed: int = 0
    kept: list[str] = field(default_factory=list)  # ids whose ok row a transient failure left
    errors: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))


@dataclass(slots=True, eq=False)
class Prepared:
    """One input after fetching and decoding: a picture, or an error with its code."""

    source: PictureInput
    picture: Picture | None = None
    error: str | None = None
    detail: str | None = None
    sha256: str | None = None
    length: int | None = None


class Decoder(Protocol):
    """Turns the bytes of pictures into pixels; `pool3.decode_pool.DecodePool` is one."""

    seconds: float
    """What decoding took so far, summed over whatever works at it."""

    def decode(
        self, items: Iterable[tuple[Prepared, bytes]]
    ) -> Iterator[tuple[Prepared, Picture | PictureError]]:
        """Yield each item's picture, or what is wrong with it, in the order of the items."""


class InProcessDecoder:
    """Decodes in the calling thread: nothing stands between a hostile picture and the process.

    Parameters
    ----------
    size, resize, limits
        As in `pool3.decode.decode_resized`.
    """

    def __init__(self, size: int, resize: str, limits: DecodeLimits) -> None:
        self._size, self._resize, self._limits = size, resize, limits
        self.seconds = 0.0

    def decode(
        self, items: Iterable[tuple[Prepared, bytes]]
    ) -> Iterator[tuple[Prepared, Picture | PictureError]]:
        """Yield each item's picture, or what is wrong with it, in the order of the items."""
        for prepared, data in items:
            started = time.perf_counter()
            outcome = self._decoded(data)
            self.seconds += time.perf_counter() - started
            yield prepared, outcome

    def _decoded(self, data: bytes) -> Picture | PictureError:
        try:
            return decode_resized(data, size=self._size, resize=self._resize, limits=self._limits)
        except PictureError as error:
            return error


def prepare(
    inputs: Iterable[PictureInput], decoder: Decoder, *, max_bytes: int, seconds: dict[str, float]
) -> Iterator[Prepared]:
    """Fetch and decode inputs; what goes wrong is a row, never an exception.

    Inputs that cannot be fetched never reach the decoder; they come out before the next that can.
    """
    unfetched: deque[Prepared] = deque()

    def fetched() -> Iterator[tuple[Prepared, bytes]]:
        for source in inputs:
            started = time.perf_counter()
            prepared, data = _fetched(source, max_bytes)
            seconds["fetch"] += time.perf_counter() - started
            if data is None:
                unfetched.append(prepared)
            else:
                yield prepared, data
            del data  # else two files are held while the next is fetched

    for prepared, outcome in decoder.decode(fetched()):
        while unfetched:
            yield unfetched.popleft()
        if isinstance(outcome, PictureError):
            prepared.error, prepared.detail = outcome.code, outcome.detail
        else:
            prepared.picture = outcome
        yield prepared
    yield from unfetched


def _fetched(source: PictureInput, max_bytes: int) -> tuple[Prepared, bytes | None]:
    prepared = Prepared(source)
    try:
        data = storage.fetch(source.uri, max_bytes=max_bytes)
    except StorageError as error:
        prepared.error, prepared.detail = error.code, str(error)
        return prepared, None
    prepared.length, prepared.sha256 = len(data), hashlib.sha256(data).hexdigest()
    return prepared, data


def in_batches(prepared: Iterable[Prepared], size: int) -> Iterator[list[Prepared]]:
    """Group inputs so that each group holds at most `size` decoded pictures."""
    batch: list[Prepared] = []
    pictures = 0
    for item in prepared:
        batch.append(item)
        pictures += item.picture is not None
        if pictures == size or len(batch) == 8 * size:
            yield batch
            batch, pictures = [], 0
    if batch:
        yield batch


def ahead(batches: Iterable[list[Prepared]], seconds: dict[str, float]) -> Iterator[list[Prepared]]:
    """Yield batches while a thread prepares the one that comes next.

    What the consumer spends waiting for a batch is added to ``seconds["wait"]``.
    """
    iterator = iter(batches)
    end: list[Prepared] = []
    with ThreadPoolExecutor(1, thread_name_prefix="pool3-decode") as thread:
        coming = thread.submit(next, iterator, end)
        while True:
            started = time.perf_counter()
            batch = coming.result()
            seconds["wait"] += time.perf_counter() - started
            if batch is end:
                return
            coming = thread.submit(next, iterator, end)
            yield batch


def extract(
    inputs: Iterable[PictureInput],
    *,
    model: Model,
    append: Callable[[pa.RecordBatch], None],
    facts: RowFacts,
    decoder: Decoder,
    batch_size: int,
    max_bytes: int,
) -> Tally:
    """Run every input through decoding and the model, and hand its rows to `append`.

    Parameters
    ----------
    inputs
        Read lazily, one batch ahead.
    model
        ``uint8 (n, size, size, 3)`` to ``float32 (n, facts.dimension)``, called once a batch.
    append
        Receives record batches of `FEATURE_SCHEMA`, in the order of the inputs.
    decoder
        Makes pictures of the size that the model takes.
    batch_size
        Most pictures in one call of `model`.
    max_bytes
        Files of more bytes are not fetched.

    Returns
    -------
    Tally
        ``ok + failed`` is the number of inputs.
    """
    tally = Tally()
    decoding_before = decoder.seconds
    prepared = prepare(inputs, decoder, max_bytes=max_bytes, seconds=tally.seconds)
    for batch in ahead(in_batches(prepared, batch_size), tally.seconds):
        started = time.perf_counter()
        features = _features(batch, model)
        tally.seconds["inference"] += time.perf_counter() - started
        started = time.perf_counter()
        rows = [row for row in batch if _counted(row, tally)]
        append(_record_batch(rows, features, facts))
        tally.seconds["write"] += time.perf_counter() - started
    tally.seconds["decode"] = decoder.seconds - decoding_before
    return tally


def _features(batch: list[Prepared], model: Model) -> npt.NDArray[np.float32]:
    pixels = [row.picture.rgb for row in batch if row.picture is not None]
    if not pixels:
        return np.empty((0, 0), np.float32)
    return model(np.stack(pixels))


def _counted(row: Prepared, tally: Tally) -> bool:
    """Count one input; tell whether it becomes a row of the table."""
    if row.error is None:
        tally.ok += 1
        return True
    tally.failed += 1
    tally.errors[row.error] += 1
    if row.source.known_ok and row.error in TRANSIENT_ERRORS:
        tally.kept.append(row.source.image_id)
        return False
    return True


def _record_batch(
    rows: list[Prepared], features: npt.NDArray[np.float32], facts: RowFacts
) -> pa.RecordBatch:
    pictures = [row.picture for row in rows]
    count = len(rows)
    columns: dict[str, pa.Array | list[object]] = {
        "image_id": [row.source.image_id for row in rows],
        "uri": [row.source.uri for row in rows],
        "status": [OK if row.error is None else FAILED for row in rows],
        "error": [row.error for row in rows],
        "error_detail": [row.detail for row in rows],
        "features": _feature_column(np.array([row.error is None for row in rows]), features),
        "width": [None if picture is None else picture.width for picture in pictures],
        "height": [None if picture is None else picture.height for picture in pictures],
        "format": [None if picture is None else picture.format for picture in pictures],
        "content_sha256": [row.sha256 for row in rows],
        "content_length": [row.length for row in rows],
        "modified_at": [row.source.modified_at for row in rows],
        "model_id": [facts.model_id] * count,
        "engine": [facts.engine] * count,
        "precision": [facts.precision] * count,
        "run_id": [facts.run_id] * count,
        "extracted_at": [datetime.now(UTC)] * count,
    }
    arrays = [pa.array(columns[column.name], column.type) for column in FEATURE_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=FEATURE_SCHEMA)


def _feature_column(ok: npt.NDArray[np.bool_], features: npt.NDArray[np.float32]) -> pa.Array:
    """Lay ``float32 (n_ok, d)`` out as one list per row, null where a row is not ok."""
    dimension = features.shape[1]
    offsets = np.concatenate([[0], np.cumsum(ok * dimension)]).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets),
        pa.array(features.reshape(-1)),
        type=FEATURE_SCHEMA.field("features").type,
        mask=pa.array(~ok),
    )
