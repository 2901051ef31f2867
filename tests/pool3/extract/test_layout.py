"""Every picture is in one task, every file in one chunk, and chunks take a few minutes."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pool3.extract.layout import CHUNK_S, MOST_BYTES, MOST_PICTURES, Pace, Unit, lay_out, n_tasks

FILES = st.lists(st.tuples(st.integers(1, 3 * MOST_PICTURES), st.integers(0, 3 * MOST_BYTES)))


@given(FILES, st.integers(0, 100_000), st.integers(1, 64))
def test_tasks_are_numbered_without_gaps_and_stay_small(
    sizes: list[tuple[int, int]], new: int, cores: int
) -> None:
    replaced = [(number, *size) for number, size in enumerate(sizes)]
    layout = lay_out(replaced, (new, 0), cores=cores)
    task = 0
    for unit in layout.units:
        assert unit.first_task == task
        task += unit.n_tasks
    assert task == layout.first_new_task + layout.n_new_tasks
    assert sorted(file for unit in layout.units for file in unit.files) == list(range(len(sizes)))
    shares = {share.file: share for share in layout.shares}
    for unit in layout.units:
        pictures = sum(sizes[file][0] for file in unit.files)
        total = sum(sizes[file][1] for file in unit.files)
        assert pictures <= MOST_PICTURES * unit.n_tasks
        assert total <= MOST_BYTES * unit.n_tasks
        for file in unit.files:
            assert (shares[file].first_task, shares[file].n_tasks) == (
                unit.first_task,
                unit.n_tasks,
            )


@given(FILES.filter(bool), st.integers(1, 64))
def test_blocks_of_the_input_get_consecutive_tasks_in_order(
    sizes: list[tuple[int, int]], cores: int
) -> None:
    blocks = [(7 * number, *size) for number, size in enumerate(sizes)]
    new = sum(pictures for pictures, _ in sizes), sum(size for _, size in sizes)
    layout = lay_out([(0, 10, 10)], new, blocks, cores=cores)
    assert [share.block for share in layout.blocks] == [block for block, *_ in blocks]
    reached = layout.first_new_task
    for share in layout.blocks:
        # It begins in the task in which the one before it ended, or in the next.
        assert share.n_tasks >= 1
        assert reached - 1 <= share.first_task <= reached
        reached = share.first_task + share.n_tasks
    assert reached == layout.first_new_task + layout.n_new_tasks
    assert layout.blocks[0].first_task == layout.first_new_task


@given(st.integers(1, 10**7), st.integers(0, 10**13), st.integers(1, 100))
def test_new_pictures_fill_the_cores_evenly(pictures: int, size: int, cores: int) -> None:
    tasks = n_tasks(pictures, size, cores=cores)
    assert 1 <= tasks <= pictures
    assert tasks % cores == 0 or tasks == pictures
    if tasks < pictures:
        assert math.ceil(pictures / tasks) <= MOST_PICTURES
        assert size / tasks <= MOST_BYTES


def test_a_chunk_takes_a_few_minutes() -> None:
    units = [Unit(first_task=number, n_tasks=1) for number in range(1000)]
    pace = Pace(cores=2)
    sizes = []
    for chunk in pace.chunks(units):
        sizes.append(len(chunk))
        pace.measured(len(chunk), 10.0 * len(chunk))  # ten seconds a task
    assert sum(sizes) == 1000
    assert sizes[0] == 8
    assert all(10 * size <= CHUNK_S + 20 for size in sizes)
    assert sizes[5] == round(CHUNK_S / 10 / 2) * 2


def test_a_unit_is_never_split() -> None:
    units = [Unit(first_task=0, n_tasks=50, files=(3,)), Unit(first_task=50, n_tasks=1)]
    assert [len(chunk) for chunk in Pace(cores=1).chunks(units)] == [1, 1]
