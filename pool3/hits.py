"""What a search found: ids and distances, and on demand their metadata and pictures."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pool3.contact_sheet import contact_sheet
from pool3.index.shard_reader import ArrowRows

if TYPE_CHECKING:
    import os

    import pandas as pd
    from PIL import Image

log = logging.getLogger(__name__)

_HIT = pa.schema([("rank", pa.int32()), ("image_id", pa.string()), ("distance", pa.float64())])
_NO_ROWS = _HIT.empty_table()


class Hit(NamedTuple):
    """One hit: rank from 1, image_id, distance."""

    rank: int
    image_id: str
    distance: float


class Hits(Sequence[Hit]):
    """The hits of one query, best first. `pool3.search.Index` makes it.

    Parameters
    ----------
    ids
        n image_ids.
    distances
        float64, (n,), ascending.
    snapshot_id
        The snapshot that they come from.
    places
        For each hit the metadata of its shard (None without any) and its row there.
    query
        The query's picture, when it was one: RGB, small.

    Attributes
    ----------
    ids : list of str
    distances : float64, (n,)
    snapshot_id : int
    query : PIL.Image.Image or None
    """

    def __init__(
        self,
        *,
        ids: list[str],
        distances: npt.NDArray[np.float64],
        snapshot_id: int,
        places: Sequence[tuple[ArrowRows | None, int]],
        query: Image.Image | None = None,
    ) -> None:
        self.ids = ids
        self.distances = distances
        self.snapshot_id = snapshot_id
        self.query = query
        self._places = places

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: Any) -> Any:
        if isinstance(position, slice):
            return [self[at] for at in range(*position.indices(len(self)))]
        at = range(len(self))[position]
        return Hit(at + 1, self.ids[at], float(self.distances[at]))

    def __iter__(self) -> Iterator[Hit]:
        return (self[at] for at in range(len(self)))

    def __repr__(self) -> str:
        nearest = f", nearest {self.ids[0]!r} at {self.distances[0]:.4g}" if self.ids else ""
        return f"<pool3.Hits of snapshot {self.snapshot_id}: {len(self)}{nearest}>"

    @property
    def uris(self) -> list[str]:
        """Where each hit's picture is: the metadata's ``uri``, or else its image_id."""
        uris = []
        for image_id, (metadata, row) in zip(self.ids, self._places, strict=True):
            column = -1 if metadata is None else metadata.schema.get_field_index("uri")
            found = metadata.value(row, column) if metadata is not None and column >= 0 else None
            uris.append(str(found) if found else image_id)
        return uris

    def to_pandas(self) -> pd.DataFrame:
        """Return a row for each hit: rank, image_id, distance, and the index's metadata.

        Columns of bytes (thumbnails) are left out. A metadata column that is called ``rank`` or
        ``distance`` becomes ``meta.rank`` or ``meta.distance``.
        """
        rows = [self._row(at) for at in range(len(self))] or [_NO_ROWS]
        # Shards of one index carry the same columns; one may lack what another has.
        frame: pd.DataFrame = pa.concat_tables(rows, promote_options="permissive").to_pandas()
        return frame

    def _row(self, at: int) -> pa.Table:
        metadata, row = self._places[at]
        hit = pa.Table.from_arrays([[at + 1], [self.ids[at]], [self.distances[at]]], schema=_HIT)
        if metadata is None:
            return hit
        batch = metadata.row(row)
        for field, column in zip(batch.schema, batch.columns, strict=True):
            if field.name != "image_id" and not _is_bytes(field.type):
                name = f"meta.{field.name}" if field.name in _HIT.names else field.name
                hit = hit.append_column(name, column)
        return hit

    def sheet(self) -> Image.Image:
        """Draw the contact sheet: the query's picture first, then each hit, rank and distance."""
        return contact_sheet(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the contact sheet to a local file; its ending says in which format."""
        self.sheet().save(Path(path))

    def show(self) -> None:
        """Show the contact sheet: in the notebook, or else in the system's picture viewer."""
        picture = self.sheet()
        if _in_notebook():
            from IPython.display import display  # noqa: PLC0415

            display(picture)  # type: ignore[no-untyped-call, unused-ignore]
        else:
            picture.show()


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _in_notebook() -> bool:
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython  # noqa: PLC0415

    shell = get_ipython()  # type: ignore[no-untyped-call, unused-ignore]
    return shell is not None and hasattr(shell, "kernel")
