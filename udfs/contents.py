"""Adds the bytes of pictures to rows of a plan, where the input itself contains the bytes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pool3.inputs.contents import Contents
from udfs.tasks import Batches, TaskFunction

CONTENT = "content"


def add_content(contents: Contents) -> TaskFunction:
    """Return the function for ``DataFrame.mapInArrow`` that adds the column ``content``.

    Parameters
    ----------
    contents
        Where the bytes are; rows need a column ``position``.
    """

    def run(batches: Batches) -> Batches:
        return rows_with_content(batches, contents)

    return run


def rows_with_content(batches: Batches, contents: Contents) -> Batches:
    """Yield rows, ordered by position, with their bytes as one more column."""
    all_batches = list(batches)
    if not all_batches:
        return
    rows = pa.Table.from_batches(all_batches).sort_by("position")
    positions = np.asarray(rows.column("position"), np.int64)
    for indices, values in contents.read(positions):
        with_content = rows.take(pa.array(indices)).append_column(CONTENT, values)
        yield from with_content.combine_chunks().to_batches()
