"""Which rows of an open index a search may return: live ones that pass ``where`` and ``distinct``.

The masks of the conditions that were used last are cached.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pool3.errors import UsageError
from pool3.filters.columns import column_of
from pool3.filters.condition import Condition
from pool3.index.shards.metadata import unified_schema
from pool3.index.shards.reader import ShardReader

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.int64]

_IMAGE_ID = "image_id"
_CACHE_SIZE = 8


@dataclass(frozen=True)
class Selection:
    """The rows that a search may return.

    Attributes
    ----------
    masks
        For each shard bool, (rows,): the rows that may be returned; None for all its rows.
    counts
        For each shard, how many rows may be returned.
    values
        For each shard int64, (rows,): a number for each value of the ``distinct`` column, of which
        only one hit may be returned, and -1 for null, of which any number may. None without
        ``distinct``.
    narrowed
        Whether a ``where`` was given, so that only some of the live rows may pass.
    """

    masks: tuple[Mask | None, ...]
    counts: tuple[int, ...]
    values: tuple[Values, ...] | None = None
    narrowed: bool = False

    @cached_property
    def rows(self) -> int:
        """How many rows pass, whatever their values."""
        return sum(self.counts)

    @cached_property
    def shards(self) -> list[int]:
        """Numbers of the shards with passing rows."""
        return [number for number, count in enumerate(self.counts) if count]

    @cached_property
    def hits(self) -> int:
        """How many hits a search can have at most."""
        if self.values is None:
            return self.rows
        chosen = np.concatenate(
            [
                values if mask is None else values[mask]
                for values, mask in zip(self.values, self.masks, strict=True)
            ]
            or [np.zeros(0, dtype=np.int64)]
        )
        has_value = chosen >= 0
        n_values = np.count_nonzero(np.bincount(chosen[has_value]))
        return int(n_values + len(chosen) - np.count_nonzero(has_value))

    def without(self, places: Iterable[tuple[int, int]]) -> Selection:
        """Return the selection without some rows, each given as shard and row in it."""
        masks = list(self.masks)
        for number, row in places:
            before = masks[number]
            mask = np.ones(self.counts[number], np.bool_) if before is None else before.copy()
            mask[row] = False
            masks[number] = mask
        counts = tuple(
            count if mask is None else int(np.count_nonzero(mask))
            for count, mask in zip(self.counts, masks, strict=True)
        )
        return Selection(tuple(masks), counts, self.values, self.narrowed)


class Selections:
    """Makes the selections of an open index. Threads may share it.

    Parameters
    ----------
    shards
        All shards with live rows.

    Attributes
    ----------
    declared : pyarrow.Schema
        The columns that a condition may name: ``image_id`` and those of the metadata.
    everything : Selection
        All live rows.
    """

    def __init__(self, shards: Sequence[ShardReader]) -> None:
        self._shards = shards
        self.declared = _declared(shards)
        self.everything = Selection(
            tuple(shard.live for shard in shards), tuple(shard.entry.live for shard in shards)
        )
        self._cache: OrderedDict[tuple[str | None, str | None], Selection] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, where: str | None, distinct: str | None = None) -> Selection:
        """Return the rows that pass `where`, with at most one hit for each value of `distinct`.

        Raises
        ------
        UsageError
            When one of them names an unknown column, or one of a type that it cannot be used with.
        """
        if where is None and distinct is None:
            return self.everything
        if not isinstance(where, str | None):
            raise UsageError(f"where must be a string; found {where!r}")
        if not isinstance(distinct, str | None):
            raise UsageError(f"distinct must be the name of a column; found {distinct!r}")
        with self._lock:
            selection = self._cache.pop((where, distinct), None) or self._select(where, distinct)
            self._cache[where, distinct] = selection
            while len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)
        return selection

    def rows_with_uri(self, uri: str) -> list[tuple[int, int]]:
        """Return the live rows of the picture with a uri: shard, and row in it."""
        if "uri" not in self.declared.names:
            return []
        places = []
        for number, shard in enumerate(self._shards):
            uris = column_of(_rows(shard), self.declared, "uri", argument="exclude_self")
            same = np.asarray(pc.fill_null(pc.equal(uris, uri), False).to_numpy())
            live = same if shard.live is None else same & shard.live
            places += [(number, int(row)) for row in np.flatnonzero(live)]
        return places

    def _select(self, where: str | None, distinct: str | None) -> Selection:
        masks, counts = self.everything.masks, self.everything.counts
        if where is not None:
            condition = Condition(where)
            passing = [self._mask(condition, shard) for shard in self._shards]
            masks = tuple(passing)
            counts = tuple(int(np.count_nonzero(mask)) for mask in passing)
        values = None if distinct is None else self._values(distinct)
        return Selection(masks, counts, values, narrowed=where is not None)

    def _mask(self, condition: Condition, shard: ShardReader) -> Mask:
        mask = condition.mask(_rows(shard), self.declared)
        return mask if shard.live is None else mask & shard.live

    def _values(self, distinct: str) -> tuple[Values, ...]:
        columns = [
            column_of(_rows(shard), self.declared, distinct, argument="distinct")
            for shard in self._shards
        ]
        if not columns:
            return ()
        numbered = _numbered(pa.chunked_array([c for column in columns for c in column.chunks]))
        ends = np.cumsum([shard.entry.rows for shard in self._shards])
        return tuple(np.split(numbered, ends[:-1]))


def _numbered(column: pa.ChunkedArray) -> Values:
    """Return the number of each value of a column, from 0, and -1 for null."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    try:
        encoded = column.combine_chunks().dictionary_encode()
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise UsageError(f"distinct takes a column of plain values; found {kind}") from error
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    return np.asarray(encoded.indices.fill_null(-1), dtype=np.int64)


def _rows(shard: ShardReader) -> pa.Table:
    """Return ids and metadata of all rows of a shard, memory-mapped."""
    rows = pa.table({_IMAGE_ID: shard.ids.table().column(_IMAGE_ID)})
    if shard.metadata is not None:
        metadata = shard.metadata.table()
        for name in metadata.schema.names:
            if name != _IMAGE_ID:
                rows = rows.append_column(name, metadata.column(name))
    return rows


def _declared(shards: Sequence[ShardReader]) -> pa.Schema:
    together = unified_schema(s.metadata.schema for s in shards if s.metadata is not None)
    fields = [field for field in together if field.name != _IMAGE_ID]
    return pa.schema([pa.field(_IMAGE_ID, pa.string()), *fields])
