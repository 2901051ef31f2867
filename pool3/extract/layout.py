"""How a run is divided: inputs into tasks, tasks into chunks that are committed one by one.

An existing row is replaced by rewriting its file. So all rows of one file belong to one chunk, and
each file is rewritten at most once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOST_PICTURES, MOST_BYTES = 500, 1 << 30
FEWEST_PICTURES = 64
CHUNK_S = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileShare:
    """The tasks that extract rows of one file again: `n_tasks` tasks from `first_task` on."""

    file: int
    first_task: int
    n_tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Consecutive tasks that belong to one commit, with the files that the commit rewrites."""

    first_task: int
    n_tasks: int
    files: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockShare:
    """The tasks that extract new pictures of one block: `n_tasks` tasks from `first_task` on."""

    block: int
    first_task: int
    n_tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All tasks of a run: first those that replace rows of files, then those of new pictures.

    Without `blocks`, a new picture may be in any of the latter.
    """

    shares: tuple[FileShare, ...]
    units: tuple[Unit, ...]
    first_new_task: int
    n_new_tasks: int
    blocks: tuple[BlockShare, ...] = ()


def n_tasks(pictures: int, total_bytes: int, *, cores: int) -> int:
    """Return the number of tasks for some pictures: a multiple of `cores`, a few tasks per core.

    A task has at most 500 pictures and 1 GiB of files, as far as sizes are known and pictures are
    distributed evenly.
    """
    if pictures == 0:
        return 0
    needed = max(pictures / MOST_PICTURES, total_bytes / MOST_BYTES)
    few = min(4 * cores, pictures // FEWEST_PICTURES)
    rounds = math.ceil(max(few, needed) / cores)
    return min(pictures, cores * max(1, rounds))


def lay_out(
    replaced: Sequence[tuple[int, int, int]],
    new: tuple[int, int],
    blocks: Sequence[tuple[int, int, int]] = (),
    *,
    cores: int,
) -> Layout:
    """Divide a run into tasks.

    Parameters
    ----------
    replaced
        File, pictures and bytes of the rows that are extracted again.
    new
        Pictures and bytes that are not in the table.
    blocks
        Number, pictures and bytes of each block of the input that has new pictures, in order. Given
        where rows of neighbouring positions should be read together.
    cores
        Tasks that run at the same time.
    """
    shares: list[FileShare] = []
    units: list[Unit] = []
    task = 0
    packed: list[int] = []
    pictures = size = 0
    for file, more_pictures, more_bytes in replaced:
        if packed and (pictures + more_pictures > MOST_PICTURES or size + more_bytes > MOST_BYTES):
            units.append(Unit(first_task=task, n_tasks=1, files=tuple(packed)))
            task, packed, pictures, size = task + 1, [], 0, 0
        needed = math.ceil(max(more_pictures / MOST_PICTURES, more_bytes / MOST_BYTES))
        shares.append(FileShare(file=file, first_task=task, n_tasks=max(1, needed)))
        if needed > 1:
            units.append(Unit(first_task=task, n_tasks=needed, files=(file,)))
            task += needed
            continue
        packed.append(file)
        pictures, size = pictures + more_pictures, size + more_bytes
    if packed:
        units.append(Unit(first_task=task, n_tasks=1, files=tuple(packed)))
        task += 1
    n_new = n_tasks(*new, cores=cores)
    units += [Unit(first_task=task + number, n_tasks=1) for number in range(n_new)]
    return Layout(
        shares=tuple(shares),
        units=tuple(units),
        first_new_task=task,
        n_new_tasks=n_new,
        blocks=tuple(_block_shares(blocks, task, n_new)),
    )


def _block_shares(
    blocks: Sequence[tuple[int, int, int]], first: int, n_tasks: int
) -> Iterator[BlockShare]:
    """Give each block consecutive tasks in proportion to its pictures and bytes."""
    weights = [max(pictures / MOST_PICTURES, size / MOST_BYTES) for _, pictures, size in blocks]
    scale = n_tasks / sum(weights) if blocks else 0.0
    begin = 0.0
    for (block, _, _), weight in zip(blocks, weights, strict=True):
        end = begin + weight * scale
        task = min(int(begin), n_tasks - 1)
        last = min(max(task, math.ceil(end) - 1), n_tasks - 1)
        yield BlockShare(block=block, first_task=first + task, n_tasks=last - task + 1)
        begin = end


class Pace:
    """Chooses how many tasks the next chunk has, so that a chunk takes a few minutes."""

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._tasks = 4 * cores

    def measured(self, tasks: int, seconds: float) -> None:
        """Adapt to the duration of a finished chunk."""
        aimed = tasks * CHUNK_S / max(seconds, 1e-3)
        # At most fourfold, since the first tasks may have been unusually light.
        aimed = min(aimed, 4 * self._tasks)
        self._tasks = self._cores * max(1, round(aimed / self._cores))

    def chunks(self, units: Sequence[Unit]) -> Iterator[list[Unit]]:
        """Yield units chunk by chunk; a call of `measured` changes the size of the next one."""
        at = 0
        while at < len(units):
            chunk = [units[at]]
            tasks = units[at].n_tasks
            at += 1
            while at < len(units) and tasks + units[at].n_tasks <= self._tasks:
                chunk.append(units[at])
                tasks += units[at].n_tasks
                at += 1
            yield chunk
