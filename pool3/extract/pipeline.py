"""Pictures to rows of the feature table, in batches: fetched and decoded ahead of the model.

Knows nothing of Spark: a task calls `extract`, and so may a test or a notebook.
"""

from __future__ import annotations

import hashlib
import heapq
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pool3 import storage
from pool3.errors import PictureError, StorageError
from pool3.extract.prefetch import prefetched
from pool3.extract.reuse import ContentReuse, Extracted
from pool3.extract.rows import PictureInput, Prepared, RowContext, record_batch
from pool3.features.schema import TRANSIENT_ERRORS
from pool3.images.decode import DecodeLimits, Picture, decode_resized

MOST_NAMED = 5
FETCH_DEADLINE_S = 120.0

#: ``uint8 (n, size, size, 3)`` to ``float32 (n, d)``.
Model = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


@dataclass(slots=True)
class Tally:
    """Counts and seconds of one task.

    `ok` counts rows with features, `copied` those among them that cost no inference. `unchanged`
    inputs stay the row that they were, as do the ids in `kept`, whose ok row a transient failure
    left alone.
    """

    ok: int = 0
    failed: int = 0
    copied: int = 0
    unchanged: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    slowest: Largest = field(default_factory=lambda: Largest(MOST_NAMED))
    largest: Largest = field(default_factory=lambda: Largest(MOST_NAMED))


class Largest:
    """The inputs with the largest figures, at most so many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.found: list[tuple[float, str]] = []

    def add(self, figure: float, uri: str) -> None:
        """Take an input in if it is among the largest."""
        if len(self.found) < self._most:
            heapq.heappush(self.found, (figure, uri))
        else:
            heapq.heappushpop(self.found, (figure, uri))


class Decoder(Protocol):
    """Turns the bytes of pictures into pixels; `pool3.images.pool.DecodePool` is one."""

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
        As in `pool3.images.decode.decode_resized`.
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
    inputs: Iterable[PictureInput],
    decoder: Decoder,
    twins: ContentReuse,
    *,
    max_bytes: int,
    seconds: dict[str, float],
) -> Iterator[Prepared]:
    """Fetch and decode inputs; what goes wrong is a row, never an exception.

    Inputs that are not decoded come out before the next that is.
    """
    settled: deque[Prepared] = deque()

    def fetched() -> Iterator[tuple[Prepared, bytes]]:
        arrivals = prefetched(
            inputs,
            lambda source: _fetched(source, max_bytes),
            size_of=lambda _, arrival: len(arrival[1] or b""),
            expected_size=lambda source: source.size,
        )
        for _, (prepared, data) in arrivals:
            seconds["fetch"] += prepared.fetch_s
            if data is None or _is_settled(prepared, twins):
                settled.append(prepared)
            else:
                yield prepared, data
            del data  # else two files are held while the next is fetched

    for prepared, outcome in decoder.decode(fetched()):
        while settled:
            yield settled.popleft()
        prepared.decode_s = outcome.seconds
        if isinstance(outcome, PictureError):
            prepared.error, prepared.detail = outcome.code, outcome.detail
        else:
            prepared.picture = outcome
        yield prepared
    yield from settled


def _fetched(source: PictureInput, max_bytes: int) -> tuple[Prepared, bytes | None]:
    prepared = Prepared(source)
    started = time.perf_counter()
    try:
        data = _content(source, max_bytes)
    except StorageError as error:
        prepared.error, prepared.detail = error.code, str(error)
        return prepared, None
    finally:
        prepared.fetch_s = time.perf_counter() - started
    prepared.length, prepared.sha256 = len(data), hashlib.sha256(data).hexdigest()
    return prepared, data


def _content(source: PictureInput, max_bytes: int) -> bytes:
    if source.refused is not None:
        raise StorageError("denied", source.refused)
    if source.content is None:
        return storage.fetch(source.uri, max_bytes=max_bytes, deadline_s=FETCH_DEADLINE_S)
    if len(source.content) > max_bytes:
        raise StorageError(
            "too_large", f"{len(source.content)} bytes, more than the limit of {max_bytes}"
        )
    return source.content


def _is_settled(prepared: Prepared, twins: ContentReuse) -> bool:
    """Tell whether a fetched input needs no decoding, and mark why."""
    sha256 = prepared.sha256 or ""
    prepared.unchanged = sha256 == prepared.source.known_sha256
    prepared.twin = not prepared.unchanged and twins.begun(sha256)
    return prepared.unchanged or prepared.twin


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
    facts: RowContext,
    decoder: Decoder,
    twins: ContentReuse,
    batch_size: int,
    max_bytes: int,
) -> Tally:
    """Run every input through decoding and the model, and hand its rows to `append`.

    Parameters
    ----------
    inputs
        Read lazily, a little ahead.
    model
        ``uint8 (n, size, size, 3)`` to ``float32 (n, facts.dimension)``, called once a batch.
    append
        Receives record batches of ``facts.schema``.
    decoder
        Makes pictures of the size that the model takes.
    twins
        What was done before; pictures with the same bytes are copied from there.
    batch_size
        Most pictures in one call of `model`.
    max_bytes
        Files of more bytes are not fetched.

    Returns
    -------
    Tally
        ``ok + failed`` and the unchanged are together the number of inputs.
    """
    tally = Tally()
    decoding_before = decoder.seconds
    later: list[Prepared] = []
    prepared = prepare(inputs, decoder, twins, max_bytes=max_bytes, seconds=tally.seconds)
    for batch in ahead(in_batches(prepared, batch_size), tally.seconds):
        started = time.perf_counter()
        done = _done(batch, model, facts)
        tally.seconds["inference"] += time.perf_counter() - started
        started = time.perf_counter()
        tally.unchanged += [row.source.image_id for row in batch if row.unchanged]
        later += [row for row in batch if row.twin]
        fresh = [row for row in batch if not (row.unchanged or row.twin)]
        for row in fresh:
            if row.sha256 is not None:
                twins.remember(row.sha256, done.get(row) or PictureError(*_error(row)))
        _append(fresh, done, append, facts, tally)
        tally.seconds["write"] += time.perf_counter() - started
    with_twins = _twins_done(later, twins)
    tally.copied = len(with_twins)
    _append(later, with_twins, append, facts, tally)
    tally.seconds["decode"] = decoder.seconds - decoding_before
    return tally


def _done(batch: list[Prepared], model: Model, facts: RowContext) -> dict[Prepared, Extracted]:
    """Run the model on what was decoded."""
    rows = [(row, row.picture) for row in batch if row.picture is not None]
    if not rows:
        return {}
    features = model(np.stack([picture.rgb for _, picture in rows]))
    return {
        row: Extracted(
            features=vector,
            width=picture.width,
            height=picture.height,
            format=picture.format,
            thumbnail=picture.thumbnail,
            engine=facts.engine,
            precision=facts.precision,
        )
        for (row, picture), vector in zip(rows, features, strict=True)
    }


def _error(row: Prepared) -> tuple[str, str]:
    return row.error or "corrupt", row.detail or ""


def _twins_done(rows: list[Prepared], twins: ContentReuse) -> dict[Prepared, Extracted]:
    """Give each twin what its bytes came to, an error too."""
    outcomes = twins.outcomes(row.sha256 or "" for row in rows)
    done = {}
    for row in rows:
        outcome = outcomes[row.sha256 or ""]
        if isinstance(outcome, PictureError):
            row.error, row.detail = outcome.code, outcome.detail
        else:
            done[row] = outcome
    return done


def _append(
    rows: list[Prepared],
    done: Mapping[Prepared, Extracted],
    append: Callable[[pa.RecordBatch], None],
    facts: RowContext,
    tally: Tally,
) -> None:
    kept = [row for row in rows if _counted(row, tally)]
    if kept:
        append(record_batch(kept, [done.get(row) for row in kept], facts))


def _counted(row: Prepared, tally: Tally) -> bool:
    """Count one input; tell whether it becomes a row of the table."""
    tally.slowest.add(round(row.fetch_s + row.decode_s, 4), row.source.uri)
    if row.length is not None:
        tally.largest.add(row.length, row.source.uri)
    if row.error is None:
        tally.ok += 1
        return True
    tally.failed += 1
    tally.errors[row.error] += 1
    if row.source.known_ok and row.error in TRANSIENT_ERRORS:
        tally.kept.append(row.source.image_id)
        return False
    return True
