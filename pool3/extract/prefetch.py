"""Fetching ahead of a consumer: many requests at a time, results in order, bounded memory.

Independent of pictures and of storage: the caller decides what is fetched and what a failure
becomes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TypeVar

from pool3.errors import UsageError

T = TypeVar("T")
R = TypeVar("R")

_WAITING_PER_THREAD = 4


def prefetched(
    items: Iterable[T],
    fetch: Callable[[T], R],
    *,
    threads: int = 8,
    max_waiting_bytes: int = 64 << 20,
    size_of: Callable[[T, R], int],
    expected_size: Callable[[T], int | None] | None = None,
) -> Iterator[tuple[T, R]]:
    """Yield each item with the result of `fetch`, in the order of the items.

    Parameters
    ----------
    items
        Read in the consumer's thread, at most four per fetching thread ahead of the consumer.
    fetch
        Called in the threads, once for each item. It should return failures as results: an
        exception that it raises ends the iteration when the turn of that item comes.
    threads
        How many fetches run at one time.
    max_waiting_bytes
        Most bytes of results that are being fetched, wait for the consumer or are in use by it. A
        fetch that would exceed this starts later; only the next item in order always starts.
    size_of
        Size of a result in bytes.
    expected_size
        Expected size of the result of an item in bytes, or None where it is unknown: then the
        largest of the last `threads` results is assumed. So with unknown sizes, at most `threads`
        unexpectedly large results are in memory beyond the limit.

    Raises
    ------
    UsageError
        On the first `next`, if a limit is not positive.

    Notes
    -----
    Closing the iterator, or an exception that ends it, cancels the fetches that have not started
    and waits for those that run, so no fetch runs after that.

    Examples
    --------
    >>> list(prefetched([3, 1, 2], lambda n: b"x" * n, size_of=lambda n, data: len(data)))
    [(3, b'xxx'), (1, b'x'), (2, b'xx')]
    """
    if min(threads, max_waiting_bytes) < 1:
        raise UsageError(
            "expected 1 thread or more and 1 byte or more to wait, found "
            f"{threads} and {max_waiting_bytes}"
        )
    gate = _Gate(max_waiting_bytes, threads)
    pending: deque[tuple[T, Future[tuple[R, int]]]] = deque()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="pool3-prefetch")

    def fetched(number: int, item: T) -> tuple[R, int]:
        reserved = gate.enter(number, None if expected_size is None else expected_size(item))
        size = 0
        try:
            result = fetch(item)
            size = size_of(item, result)
            return result, size
        finally:
            gate.settle(reserved, size)

    sizes: list[int] = []

    def next_result() -> tuple[T, R]:
        # Not earlier: while the consumer uses the previous result, its bytes must count.
        while sizes:
            gate.release(sizes.pop())
        item, future = pending.popleft()
        result, size = future.result()
        sizes.append(size)
        return item, result

    try:
        for number, item in enumerate(items):
            pending.append((item, executor.submit(fetched, number, item)))
            if len(pending) == _WAITING_PER_THREAD * threads:
                yield next_result()
        while pending:
            yield next_result()
    finally:
        gate.close()
        executor.shutdown(wait=True, cancel_futures=True)


class _Gate:
    """Decides when each fetch may start, so that results do not pile up in memory.

    Fetches are numbered in the order of the items, and enter in about that order.
    """

    def __init__(self, max_bytes: int, recent: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0  # of results that are being fetched or are not released yet
        self._turn = 0
        self._recent: deque[int] = deque(maxlen=recent)
        self._closed = False
        self._changed = threading.Condition()

    def enter(self, number: int, expected: int | None) -> int:
        """Wait until fetch `number` may start; return the bytes that are reserved for it."""

        def reserved() -> int:
            return max(self._recent, default=0) if expected is None else expected

        def may_start() -> bool:
            room = self._bytes + reserved() <= self._max_bytes
            return self._closed or number == self._turn or room

        with self._changed:
            self._changed.wait_for(may_start)
            if self._closed:
                raise CancelledError
            size = reserved()
            self._bytes += size
            return size

    def settle(self, reserved: int, size: int) -> None:
        """Replace the bytes that were reserved by the size of the result."""
        with self._changed:
            self._bytes += size - reserved
            self._recent.append(size)
            self._changed.notify_all()

    def release(self, size: int) -> None:
        """Count a result that the consumer no longer uses; the next item is now first in order."""
        with self._changed:
            self._bytes -= size
            self._turn += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Start no further fetch."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
