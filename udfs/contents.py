"""Bytes that stand in the input itself, fetched for the rows that need them and for no others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pool3.inputs.contents import Contents
from udfs.tasks import Batches, TaskFunction

CONTENT = "content"


def with_bytes(contents: Contents) -> TaskFunction:
    """Return the function that adds the column ``content`` to rows with a ``position``."""

    def run(batches: Batches) -> Batches:
        held = list(batches)
        if not held:
            return
        rows = pa.Table.from_batches(held).sort_by("position")
        positions = np.asarray(rows.column("position"), np.int64)
        for within, values in contents.read(positions):
            found = rows.take(pa.array(within)).append_column(CONTENT, values)
            yield from found.combine_chunks().to_batches()

    return run
