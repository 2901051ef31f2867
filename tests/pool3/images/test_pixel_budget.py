from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool3.images.pixel_budget import PixelBudget


@given(st.lists(st.integers(1, 200), max_size=60))
@settings(max_examples=30)
def test_no_more_is_out_than_allowed_unless_one_has_it_alone(requests: list[int]) -> None:
    budget = PixelBudget(100)
    acquired: list[int] = []
    seen: list[list[int]] = []
    lock = threading.Lock()

    def use(pixels: int) -> None:
        budget.acquire(pixels)
        with lock:
            acquired.append(pixels)
            seen.append(list(acquired))
        with lock:
            acquired.remove(pixels)
        budget.release(pixels)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, requests))
    assert len(seen) == len(requests)
    assert all(sum(acquired) <= 100 or len(acquired) == 1 for acquired in seen)


@pytest.mark.parametrize("large", [60, 100, 300])
def test_a_large_request_is_not_starved_by_small_ones(large: int) -> None:
    budget = PixelBudget(100)
    order: list[str] = []
    budget.acquire(50)

    def ask(name: str, pixels: int) -> None:
        budget.acquire(pixels)
        order.append(name)
        budget.release(pixels)

    first = threading.Thread(target=ask, args=("large", large))
    first.start()
    while not budget._queue:
        pass
    second = threading.Thread(target=ask, args=("small", 10))
    second.start()
    second.join(0.1)
    assert order == []
    budget.release(50)
    first.join(10)
    second.join(10)
    assert order == ["large", "small"]
