"""Prefetching keeps the order and its bounds, whatever the sizes and speeds."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool3.errors import UsageError
from pool3.extract.prefetch import prefetched


class Meter:
    """Counts what is being fetched or waits to be taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running = self.most_running = self.bytes = self.most_bytes = self.calls = 0

    def add(self, size: int) -> None:
        with self._lock:
            self.calls += 1
            self.running += 1
            self.bytes += size
            self.most_running = max(self.most_running, self.running)
            self.most_bytes = max(self.most_bytes, self.bytes)

    def fetched(self) -> None:
        with self._lock:
            self.running -= 1

    def take(self, size: int) -> None:
        with self._lock:
            self.bytes -= size


def prefetch_threads() -> list[threading.Thread]:
    """Return the threads of `prefetched` alone: other pools of this process may be alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("pool3-prefetch")]


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 50), max_size=60),
    threads=st.integers(1, 6),
    limit=st.integers(1, 120),
    known=st.booleans(),
)
def test_every_item_comes_once_in_order_within_the_bounds(
    sizes: list[int], threads: int, limit: int, known: bool
) -> None:
    meter = Meter()
    taken_ahead = [0]

    def items() -> Iterator[tuple[int, int]]:
        for item in enumerate(sizes):
            taken_ahead[0] += 1
            yield item

    def fetch(item: tuple[int, int]) -> bytes:
        meter.add(item[1])
        time.sleep(item[0] % 3 * 0.0005)
        meter.fetched()
        return bytes(item[1])

    got = []
    for item, data in prefetched(
        items(),
        fetch,
        threads=threads,
        max_waiting_bytes=limit,
        size_of=lambda item, data: len(data),
        expected_size=(lambda item: item[1]) if known else None,
    ):
        meter.take(len(data))
        assert taken_ahead[0] - len(got) <= 4 * threads
        got.append((item, len(data)))
    assert got == [(item, item[1]) for item in enumerate(sizes)]
    assert meter.calls == len(sizes)
    assert meter.most_running <= threads
    largest = max(sizes, default=0)
    # The one whose turn it is comes on top of the limit, and so does the one just handed over,
    # which the consumer counts a moment later than the gate.
    assert meter.most_bytes <= limit + (2 if known else threads + 1) * largest
    assert not prefetch_threads()


def test_fetches_run_beside_each_other() -> None:
    together = threading.Barrier(8, timeout=5)

    def fetch(item: int) -> int:
        together.wait()
        return item

    pairs = list(prefetched(range(16), fetch, threads=8, size_of=lambda item, result: 1))
    assert pairs == [(n, n) for n in range(16)]


def test_results_wait_while_the_consumer_is_busy() -> None:
    fetched = threading.Semaphore(0)

    def fetch(item: int) -> int:
        fetched.release()
        return item

    results = prefetched(range(100), fetch, threads=2, size_of=lambda item, result: 1)
    next(results)
    for _ in range(8):
        assert fetched.acquire(timeout=5)
    assert not fetched.acquire(timeout=0.05)
    results.close()


def test_one_item_over_the_limit_still_comes_and_comes_alone() -> None:
    meter = Meter()

    def fetch(item: int) -> bytes:
        meter.add(item)
        time.sleep(0.002)
        meter.fetched()
        return bytes(item)

    sizes = [100] * 12
    results = prefetched(
        sizes,
        fetch,
        threads=4,
        max_waiting_bytes=10,
        size_of=lambda item, data: len(data),
        expected_size=lambda item: item,
    )
    for item, data in results:
        assert len(data) == item
    assert meter.most_running == 1


def test_after_large_results_unknown_ones_are_reckoned_large() -> None:
    meter = Meter()

    def fetch(item: int) -> bytes:
        meter.add(100)
        time.sleep(0.002)
        meter.fetched()
        return bytes(100)

    results = prefetched(
        range(40), fetch, threads=4, max_waiting_bytes=150, size_of=lambda item, data: len(data)
    )
    for number, (_, data) in enumerate(results):
        meter.take(len(data))
        if number == 8:
            meter.most_bytes = 0
    # One waits, the next is let in as its turn comes, one was just handed over.
    assert meter.most_bytes <= 300


def test_room_that_was_taken_is_given_back() -> None:
    together = threading.Barrier(4, timeout=5)

    def fetch(item: int) -> int:
        if item >= 96:
            together.wait()
        return item

    results = prefetched(
        range(100), fetch, threads=4, max_waiting_bytes=100, size_of=lambda item, result: 10
    )
    assert [item for item, _ in results] == list(range(100))


def test_a_result_that_was_handed_over_is_not_kept() -> None:
    class Result:
        pass

    results = prefetched(range(3), lambda item: Result(), threads=1, size_of=lambda item, result: 1)
    reference = weakref.ref(next(results)[1])
    next(results)
    gc.collect()
    assert reference() is None
    results.close()


def test_what_fetch_raises_comes_in_its_turn_and_ends_everything() -> None:
    def fetch(item: int) -> int:
        if item == 3:
            raise ZeroDivisionError
        return item

    results = prefetched(range(100), fetch, size_of=lambda item, result: 1)
    assert [next(results)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []
    assert not prefetch_threads()


def test_closing_drops_what_has_not_begun_and_waits_for_what_runs() -> None:
    begun, release = threading.Semaphore(0), threading.Event()
    finished = []

    def fetch(item: int) -> int:
        if item > 0:
            begun.release()
            release.wait(5)
        finished.append(item)
        return item

    results = prefetched(range(100), fetch, threads=2, size_of=lambda item, result: 1)
    next(results)
    assert begun.acquire(timeout=5)
    assert begun.acquire(timeout=5)
    threading.Timer(0.05, release.set).start()
    results.close()
    assert sorted(finished) == [0, 1, 2]
    assert not prefetch_threads()


def test_a_fetch_that_waits_for_room_does_not_hold_up_the_close() -> None:
    results = prefetched(
        range(100), bytes, threads=4, max_waiting_bytes=1, size_of=lambda item, result: 50
    )
    next(results)
    started = time.perf_counter()
    results.close()
    assert time.perf_counter() - started < 1
    assert not prefetch_threads()


def test_an_unusable_limit_is_refused() -> None:
    with pytest.raises(UsageError, match="found 0"):
        next(prefetched([1], str, threads=0, size_of=lambda item, result: 1))
