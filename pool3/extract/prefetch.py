"""Fetching ahead of a consumer: many requests at a time, results in order, memory bounded.

Knows nothing of pictures or of storage; what is fetched, and what a failure becomes, is the
caller's.
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
    """Yield each item with what `fetch` made of it, in the order of the items.

    Parameters
    ----------
    items
        Taken in the consumer's thread, at most four for each of the threads ahead of it.
    fetch
        Called in the threads, once for each item. It returns failures as results: what it raises
        ends the iteration when that item's turn comes.
    threads
        How many fetches run at one time.
    max_waiting_bytes
        Most bytes that may wait for the consumer, be with it or be on their way. A fetch that would
        bring more begins later; only the one that the consumer asks for always begins.
    size_of
        Bytes that a result holds.
    expected_size
        Bytes that an item's result will hold, None where that is not known: then as many are
        reckoned as the largest of the last `threads` results had. So where sizes are not known,
        at worst `threads` unexpectedly large results are held at one time.

    Raises
    ------
    UsageError
        At the first step, when a limit is not positive.

    Notes
    -----
    Closing the iterator, or leaving it on an error, drops what has not begun and waits for the
    fetches that run, so that nothing runs on behind the caller's back.

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
    coming: deque[tuple[T, Future[tuple[R, int]]]] = deque()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="pool3-fetch")

    def fetched(number: int, item: T) -> tuple[R, int]:
        reserved = gate.enter(number, None if expected_size is None else expected_size(item))
        size = 0
        try:
            result = fetch(item)
            size = size_of(item, result)
            return result, size
        finally:
            gate.fetched(reserved, size)

    sizes: list[int] = []

    def first() -> tuple[T, R]:
        # Only now has the consumer done with the one before: two large ones are not held at once.
        while sizes:
            gate.taken(sizes.pop())
        item, future = coming.popleft()
        result, size = future.result()
        sizes.append(size)
        return item, result

    try:
        for number, item in enumerate(items):
            coming.append((item, executor.submit(fetched, number, item)))
            if len(coming) == _WAITING_PER_THREAD * threads:
                yield first()
        while coming:
            yield first()
    finally:
        gate.close()
        executor.shutdown(wait=True, cancel_futures=True)


class _Gate:
    """Decides when each fetch may begin, so that results do not pile up in memory.

    Fetches are numbered in the order of their turns, and enter in about that order.
    """

    def __init__(self, max_bytes: int, recent: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0  # fetched and not taken, or on its way
        self._turn = 0
        self._recent: deque[int] = deque(maxlen=recent)
        self._closed = False
        self._changed = threading.Condition()

    def enter(self, number: int, known: int | None) -> int:
        """Wait until fetch `number` may begin; returns the bytes that are reserved for it."""

        def reserved() -> int:
            return max(self._recent, default=0) if known is None else known

        def may_begin() -> bool:
            room = self._held + reserved() <= self._max_bytes
            return self._closed or number == self._turn or room

        with self._changed:
            self._changed.wait_for(may_begin)
            if self._closed:
                raise CancelledError
            size = reserved()
            self._held += size
            return size

    def fetched(self, reserved: int, size: int) -> None:
        """Put the bytes that came in the place of those that were expected."""
        with self._changed:
            self._held += size - reserved
            self._recent.append(size)
            self._changed.notify_all()

    def taken(self, size: int) -> None:
        """Let go of a result that the consumer has done with; the next one's turn comes."""
        with self._changed:
            self._held -= size
            self._turn += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let nothing more begin."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
