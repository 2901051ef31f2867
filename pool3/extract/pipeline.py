"""Turns pictures into rows of the feature table; fetching and decoding run ahead of the model.

Independent of Spark: a task calls `extract`, and so can a test or a notebook.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pool3 import storage
from pool3.errors import PictureError, StorageError
from pool3.extract.prefetch import prefetched
from pool3.extract.reuse import ContentReuse, Extracted
from pool3.extract.rows import PictureInput, Prepared, RowContext, record_batch
from pool3.extract.tally import Tally
from pool3.features.schema import TRANSIENT_ERRORS
from pool3.images.decode import DecodeLimits, Picture, decode_resized
from pool3.images.profiles import SRGB

FETCH_DEADLINE_S = 120.0

#: Maps ``uint8 (n, size, size, 3)`` to ``float32 (n, d)``.
Model = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


class Decoder(Protocol):
    """Decodes pictures; `pool3.images.pool.DecodePool` is an implementation."""

    seconds: float
    """Decoding time so far, summed over all processes or threads."""

    def decode(
        self, items: Iterable[tuple[Prepared, bytes]]
    ) -> Iterator[tuple[Prepared, Picture | PictureError]]:
        """Yield the picture or the error of each item, in the order of the items."""


class InProcessDecoder:
    """Decodes in the calling thread; a hostile picture can crash or block the process.

    Parameters
    ----------
    size, resize, limits, colour
        As in `pool3.images.decode.decode_resized`.
    """

    def __init__(self, size: int, resize: str, limits: DecodeLimits, *, colour: str = SRGB) -> None:
        self._decode = partial(
            decode_resized, size=size, resize=resize, limits=limits, colour=colour
        )
        self.seconds = 0.0

    def decode(
        self, items: Iterable[tuple[Prepared, bytes]]
    ) -> Iterator[tuple[Prepared, Picture | PictureError]]:
        """Yield the picture or the error of each item, in the order of the items."""
        for prepared, data in items:
            started = time.perf_counter()
            outcome = self._decoded(data)
            self.seconds += time.perf_counter() - started
            yield prepared, outcome

    def _decoded(self, data: bytes) -> Picture | PictureError:
        try:
            return self._decode(data)
        except PictureError as error:
            return error


def prepare(
    inputs: Iterable[PictureInput],
    decoder: Decoder,
    reuse: ContentReuse,
    *,
    max_bytes: int,
    seconds: dict[str, float],
) -> Iterator[Prepared]:
    """Fetch and decode inputs; a failure becomes a row with an error, never an exception.

    Inputs that need no decoding are yielded before the next decoded one.
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
            if data is None or _is_settled(prepared, reuse):
                settled.append(prepared)
            else:
                yield prepared, data
            del data  # otherwise two files are in memory while the next is fetched

    for prepared, outcome in decoder.decode(fetched()):
        while settled:
            yield settled.popleft()
        prepared.decode_s = outcome.seconds
        if isinstance(outcome, PictureError):
            prepared.error, prepared.detail = outcome.code, outcome.detail
        else:
            prepared.picture = outcome
            prepared.detail = "; ".join(outcome.notes) or None
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


def _is_settled(prepared: Prepared, reuse: ContentReuse) -> bool:
    """Mark a fetched input as unchanged or reused; return whether it needs no decoding."""
    sha256 = prepared.sha256 or ""
    prepared.unchanged = sha256 == prepared.source.existing_sha256
    prepared.reused = not prepared.unchanged and reuse.begin(sha256)
    return prepared.unchanged or prepared.reused


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
    """Yield batches while a thread prepares the next one.

    The time that the consumer waits for a batch is added to ``seconds["wait"]``.
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
    context: RowContext,
    decoder: Decoder,
    reuse: ContentReuse,
    batch_size: int,
    max_bytes: int,
) -> Tally:
    """Run every input through decoding and the model, and pass its rows to `append`.

    Parameters
    ----------
    inputs
        Read lazily, a few inputs ahead.
    model
        ``uint8 (n, size, size, 3)`` to ``float32 (n, context.dimension)``, called once per batch.
    append
        Receives record batches of ``context.schema``.
    context
        Values that are the same in every row.
    decoder
        Yields pictures of the input size of the model.
    reuse
        Features of earlier pictures; those with the same bytes are copied.
    batch_size
        Most pictures in one call of `model`.
    max_bytes
        Files of more bytes are not fetched.

    Returns
    -------
    Tally
        ``ok + failed + len(unchanged)`` is the number of inputs.
    """
    tally = Tally()
    decoding_before = decoder.seconds
    reused: list[Prepared] = []
    prepared = prepare(inputs, decoder, reuse, max_bytes=max_bytes, seconds=tally.seconds)
    for batch in ahead(in_batches(prepared, batch_size), tally.seconds):
        started = time.perf_counter()
        results = _extracted(batch, model, context)
        tally.seconds["inference"] += time.perf_counter() - started
        started = time.perf_counter()
        tally.unchanged += [row.source.image_id for row in batch if row.unchanged]
        reused += [row for row in batch if row.reused]
        fresh = [row for row in batch if not (row.unchanged or row.reused)]
        for row in fresh:
            if row.sha256 is not None:
                reuse.add(row.sha256, results.get(row) or PictureError(*_error(row)))
        _append(fresh, results, append, context, tally)
        tally.seconds["write"] += time.perf_counter() - started
    copies = _copied(reused, reuse)
    tally.copied = len(copies)
    _append(reused, copies, append, context, tally)
    tally.seconds["decode"] = decoder.seconds - decoding_before
    return tally


def _extracted(
    batch: list[Prepared], model: Model, context: RowContext
) -> dict[Prepared, Extracted]:
    """Run the model on the decoded pictures of a batch."""
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
            error_detail=row.detail,
            engine=context.engine,
            precision=context.precision,
        )
        for (row, picture), vector in zip(rows, features, strict=True)
    }


def _error(row: Prepared) -> tuple[str, str]:
    return row.error or "corrupt", row.detail or ""


def _copied(rows: list[Prepared], reuse: ContentReuse) -> dict[Prepared, Extracted]:
    """Return the result of the same bytes for each row; an error is copied into the row."""
    outcomes = reuse.outcomes(row.sha256 or "" for row in rows)
    copies = {}
    for row in rows:
        outcome = outcomes[row.sha256 or ""]
        if isinstance(outcome, PictureError):
            row.error, row.detail = outcome.code, outcome.detail
        else:
            row.detail = outcome.error_detail
            copies[row] = outcome
    return copies


def _append(
    rows: list[Prepared],
    results: Mapping[Prepared, Extracted],
    append: Callable[[pa.RecordBatch], None],
    context: RowContext,
    tally: Tally,
) -> None:
    stored = [row for row in rows if _count(row, tally)]
    if stored:
        append(record_batch(stored, [results.get(row) for row in stored], context))


def _count(row: Prepared, tally: Tally) -> bool:
    """Count one input; return whether it becomes a row of the table."""
    tally.slowest.add(round(row.fetch_s + row.decode_s, 4), row.source.uri)
    if row.length is not None:
        tally.largest.add(row.length, row.source.uri)
    if row.error is None:
        tally.ok += 1
        return True
    tally.failed += 1
    tally.errors[row.error] += 1
    if row.source.existing_ok and row.error in TRANSIENT_ERRORS:
        tally.retained.append(row.source.image_id)
        return False
    return True
