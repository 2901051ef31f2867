"""The task of extract-features that rewrites files without the rows that a run has replaced."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pool3.features.parts import PartWriter, part_name
from pool3.features.table import FeatureTable
from pool3.storage.tables import TableFile
from udfs.files import files_of
from udfs.spread import Batches, TaskFunction, summary


def rewrite_without(table: FeatureTable, ids: Any, run_id: str, dimension: int) -> TaskFunction:
    """Return the function for ``DataFrame.mapInArrow`` over rows of `udfs.files.FILE_SCHEMA`.

    Parameters
    ----------
    table
        The version that the run began from.
    ids
        Spark broadcast of the set of replaced ids.
    run_id, dimension
        For the names and row groups of the new parts.
    """

    def run(batches: Batches) -> Batches:
        for file in files_of(batches):
            rest = _rest(table, file, ids.value, run_id, dimension)
            yield summary({"file": rest.as_dict() if rest else None})

    return run


def _rest(
    table: FeatureTable, file: TableFile, ids: set[str], run_id: str, dimension: int
) -> TableFile | None:
    replaced = pa.array(sorted(ids), pa.string())
    with PartWriter(table.uri, part_name(run_id, 0), dimension) as part:
        for batch in table.read(file, columns=None):
            part.append(batch.filter(pc.invert(pc.is_in(batch.column("image_id"), replaced))))
        return part.finish()
