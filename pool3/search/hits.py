"""The hits of a search: ids and distances, and on demand their metadata and pictures."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pool3.errors import UsageError
from pool3.filters.columns import column_of, column_path
from pool3.images.contact_sheet import contact_sheet
from pool3.index.shards.arrow_rows import ArrowRows

if TYPE_CHECKING:
    import os

    import pandas as pd
    from PIL import Image

log = logging.getLogger(__name__)

_HIT = pa.schema([("rank", pa.int32()), ("image_id", pa.string()), ("distance", pa.float64())])


class Hit(NamedTuple):
    """One hit: rank from 1, image_id, distance."""

    rank: int
    image_id: str
    distance: float


@dataclass(frozen=True, kw_only=True)
class HitColumns:
    """The columns of the index's metadata that hits show.

    Attributes
    ----------
    declared
        ``image_id`` and the columns of the metadata, of all shards.
    columns
        The columns of `Hits.to_pandas`; all that do not have bytes when None.
    uri_map
        Prefixes of uris, and what `Hits.uris` replaces them with.

    Raises
    ------
    UsageError
        For a column that is not declared, or a map that is not of strings.
    """

    declared: pa.Schema = field(default_factory=lambda: pa.schema([]))
    columns: Sequence[str] | None = None
    uri_map: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.columns is None and self.uri_map is None:
            return
        if isinstance(self.columns, str):
            raise UsageError(f"columns must be a list of names; found the string {self.columns!r}")
        for name in self.columns or ():
            column_path(self.declared, name, argument="columns")
        texts = self.uri_map.items() if isinstance(self.uri_map, Mapping) else [(None,)]
        if self.uri_map is not None and not all(isinstance(t, str) for pair in texts for t in pair):
            raise UsageError(f"uri_map must map strings to strings; found {self.uri_map!r}")

    def names(self) -> list[str]:
        """Return the columns to show."""
        if self.columns is not None:
            return [name for name in self.columns if name != "image_id"]
        return [
            column.name
            for column in self.declared
            if column.name != "image_id" and not _is_bytes(column.type)
        ]

    def moved(self, uri: str) -> str:
        """Return a uri with its longest prefix in `uri_map` replaced."""
        prefixes = [prefix for prefix in self.uri_map or () if uri.startswith(prefix)]
        if self.uri_map is None or not prefixes:
            return uri
        longest = max(prefixes, key=len)
        return self.uri_map[longest] + uri[len(longest) :]


class Hits(Sequence[Hit]):
    """The hits of one query, best first, as `pool3.search.index.Index` returns them.

    Parameters
    ----------
    ids
        n image_ids.
    distances
        float64, (n,), ascending.
    snapshot_id
        The snapshot that was searched.
    places
        For each hit the metadata of its shard (None without any) and its row there.
    query
        A small copy of the query, RGB, if it was a picture.
    recall, vectors
        As below.
    hit_columns
        The columns of the metadata that `to_pandas` has.

    Attributes
    ----------
    ids : list of str
    distances : float64, (n,)
    snapshot_id : int
    query : PIL.Image.Image or None
    recall : float or None
        The lower end of the measured 95 % interval of the recall at the effort of this search; 1.0
        where every row was measured, None where recall was not measured.
    vectors : float32, (n, d), or None
        The stored vectors of the hits, if the search requested them. Under ``angular`` only their
        directions count, and each is scaled by a power of two.
    """

    def __init__(
        self,
        *,
        ids: list[str],
        distances: npt.NDArray[np.float64],
        snapshot_id: int,
        places: Sequence[tuple[ArrowRows | None, int]],
        query: Image.Image | None = None,
        recall: float | None = None,
        vectors: npt.NDArray[np.float32] | None = None,
        hit_columns: HitColumns | None = None,
    ) -> None:
        self.ids = ids
        self.distances = distances
        self.snapshot_id = snapshot_id
        self.query = query
        self.recall = recall
        self.vectors = vectors
        self._places = places
        self._hit_columns = hit_columns or HitColumns()

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
        """Uri of each hit's picture: the column ``uri`` of the metadata, or else its image_id."""
        uris = []
        for image_id, (metadata, row) in zip(self.ids, self._places, strict=True):
            column = -1 if metadata is None else metadata.schema.get_field_index("uri")
            uri = metadata.value(row, column) if metadata is not None and column >= 0 else None
            uris.append(self._hit_columns.moved(str(uri) if uri else image_id))
        return uris

    def to_pandas(self) -> pd.DataFrame:
        """Return a row for each hit: rank, image_id, distance, and the index's metadata.

        Of the metadata, it has the columns that the search requested, or else all columns without
        bytes (thumbnails). A column that is called ``rank`` or ``distance`` becomes ``meta.rank``
        or ``meta.distance``.
        """
        ranks = range(1, len(self) + 1)
        table = pa.Table.from_arrays([ranks, self.ids, self.distances], schema=_HIT)
        metadata = pa.concat_tables(
            [self._metadata(at) for at in range(len(self))] or [pa.table({})]
        )
        for name, values in zip(metadata.column_names, metadata.columns, strict=True):
            table = table.append_column(f"meta.{name}" if name in _HIT.names else name, values)
        frame: pd.DataFrame = table.to_pandas()
        return frame

    def _metadata(self, at: int) -> pa.Table:
        metadata, row = self._places[at]
        # Without metadata, a column of null, so that the table still has a row.
        batch = pa.record_batch({"": [None]}) if metadata is None else metadata.row(row)
        table = pa.Table.from_batches([batch])
        return pa.table(
            {
                name: column_of(table, self._hit_columns.declared, name, argument="columns")
                for name in self._hit_columns.names()
            }
        )

    def sheet(self) -> Image.Image:
        """Draw the contact sheet: the query, then each hit with its rank and distance."""
        return contact_sheet(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the contact sheet to a local file; its extension selects the format."""
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
