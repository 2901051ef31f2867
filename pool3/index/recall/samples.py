"""Sample queries of an index, and what is known of their true neighbours.

Each shard tells the exact neighbours of every sample among its own rows (`exact_neighbours`); merged,
these are the neighbours in the whole index (`merge_neighbours`). When rows are added and others die,
only what changed is looked at (`update_samples`): the lists stay exact as far as they reach.

Deliberately not here: what a search finds of them (`evidence`, `estimate`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from pool3.errors import InvalidIndex
from pool3.index.format import tensors as tensor_files
from pool3.index.recall.picker import Keys, sample_keys, text_tensors, texts_of
from pool3.index.shards.reader import ShardReader
from pool3.vectors.distances import FloatArray
from pool3.vectors.exact import exact_nearest

#: How many neighbours of each sample are kept: so many that, when half of them have died,
#: recall@100 can still be measured.
MAX_NEIGHBOURS = 200

Queries = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of each sample, its own row left out.

    Attributes
    ----------
    keys
        uint64, (s, MAX_NEIGHBOURS): `sample_key` of their ids, nearest first, 0 where there is none. Two of
        a million ids have one key with a probability of 3 in 10^8; a row is then taken for dead
        that is not.
    distances
        float64, (s, MAX_NEIGHBOURS): as a person reads them, ascending, infinite where there is none.
    radius
        float64, (s,): each row that is nearer than this is known. Infinite where all rows are.
    """

    keys: Keys
    distances: FloatArray
    radius: FloatArray

    @property
    def known(self) -> npt.NDArray[np.int64]:
        """How many neighbours of each sample are known, int64, (s,)."""
        return np.asarray(np.isfinite(self.distances).sum(axis=1))

    def without(self, image_ids: Collection[str]) -> Neighbours:
        """Leave some rows out; no other row takes their places."""
        dead = np.isin(self.keys, sample_keys(list(image_ids)))
        return _sorted(self.keys, np.where(dead, np.inf, self.distances), self.radius)

    def to_bytes(self) -> bytes:
        """Serialise, to pass through a binary column; `from_bytes` reads it."""
        return bytes(save_tensors(self.tensors()))

    @classmethod
    def from_bytes(cls, data: bytes) -> Neighbours:
        """Read what `to_bytes` wrote."""
        tensors = load_tensors(data)
        return cls(tensors["keys"], tensors["distances"], tensors["radius"])

    def tensors(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the arrays by name."""
        return {"keys": self.keys, "distances": self.distances, "radius": self.radius}


def exact_neighbours(
    reader: ShardReader,
    ids: Sequence[str],
    queries: Queries,
    metric: str,
    *,
    within: FloatArray | None = None,
) -> Neighbours:
    """Find the exact neighbours of each sample among the live rows of one shard.

    Parameters
    ----------
    reader
        The shard, its vectors in a local file.
    ids, queries
        s ids of the samples, and float32, (s, d).
    metric
        The index's.
    within
        float64, (s,): beyond this no row is of interest; None for no limit.
    """
    own = [reader.find(image_id) for image_id in ids]
    found = exact_nearest(
        queries,
        reader.vectors,
        metric,
        most=MAX_NEIGHBOURS,
        own_rows=np.array([-1 if row is None else row for row in own], dtype=np.int64),
        live=reader.live,
        within=within,
    )
    keys = np.zeros(found.rows.shape, dtype=np.uint64)
    present = found.rows >= 0
    rows, places = np.unique(found.rows[present], return_inverse=True)
    keys[present] = sample_keys([reader.ids.image_id(int(row)) for row in rows])[places]
    return Neighbours(keys, found.distances, found.radius)


def merge_neighbours(parts: Sequence[Neighbours]) -> Neighbours:
    """Merge what is known of different rows of one index; at least one part."""
    together = _sorted(
        np.concatenate([part.keys for part in parts], axis=1),
        np.concatenate([part.distances for part in parts], axis=1),
        np.min([part.radius for part in parts], axis=0),
    )
    more = np.isfinite(together.distances[:, MAX_NEIGHBOURS:]).any(axis=1)
    last = together.distances[:, MAX_NEIGHBOURS - 1]
    return Neighbours(
        np.ascontiguousarray(together.keys[:, :MAX_NEIGHBOURS]),
        np.ascontiguousarray(together.distances[:, :MAX_NEIGHBOURS]),
        np.where(more, np.minimum(together.radius, last), together.radius),
    )


def _sorted(keys: Keys, distances: FloatArray, radius: FloatArray) -> Neighbours:
    """Sort by distance, and forget what lies beyond the radius."""
    near = np.where(distances <= radius[:, None], distances, np.inf)
    order = np.argsort(near, axis=1, kind="stable")
    near = np.take_along_axis(near, order, axis=1)
    kept = np.where(np.isfinite(near), np.take_along_axis(keys, order, axis=1), np.uint64(0))
    return Neighbours(kept, near, radius)


@dataclass(frozen=True)
class SampleQueries:
    """Sample queries with their true neighbours.

    Attributes
    ----------
    ids
        The image_id of each; its own row never counts as a neighbour.
    queries
        float32, (s, d): vectors as the feature table had them. A sample whose row has died since
        stays a query.
    neighbours
        See `Neighbours`.
    """

    ids: tuple[str, ...]
    queries: Queries
    neighbours: Neighbours

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def keys(self) -> Keys:
        """`sample_key` of each id, uint64, (s,)."""
        return sample_keys(self.ids)

    def knowing(self, k: int) -> npt.NDArray[np.bool_]:
        """Return which samples know their k nearest rows, or all rows there are; bool, (s,)."""
        everything = np.isinf(self.neighbours.radius)
        return (self.neighbours.known >= k) | (everything & (self.neighbours.known > 0))

    def without(self, image_ids: Collection[str]) -> SampleQueries:
        """Leave pictures out that are to be forgotten, as samples and as neighbours."""
        kept = [at for at, image_id in enumerate(self.ids) if image_id not in image_ids]
        near = self.neighbours.without(image_ids)
        return SampleQueries(
            tuple(self.ids[at] for at in kept),
            self.queries[kept],
            Neighbours(near.keys[kept], near.distances[kept], near.radius[kept]),
        )

    def to_bytes(self) -> bytes:
        """Serialise as safetensors."""
        tensors = {
            "queries": self.queries,
            **text_tensors("ids", self.ids),
            **self.neighbours.tensors(),
        }
        return tensor_files.serialised(tensors)

    @classmethod
    def from_bytes(cls, data: bytes) -> SampleQueries:
        """Read what `to_bytes` wrote.

        Raises
        ------
        InvalidIndex
            When it is something else.
        """
        tensors = tensor_files.parsed(data, "these are no sample queries")
        try:
            ids, queries = tuple(texts_of("ids", tensors)), tensors["queries"]
            near = Neighbours(tensors["keys"], tensors["distances"], tensors["radius"])
        except (KeyError, ValueError) as error:
            raise InvalidIndex(f"these are no sample queries: {error}") from error
        shape = (len(ids), MAX_NEIGHBOURS)
        if near.keys.shape != shape or near.distances.shape != shape or len(queries) != len(ids):
            raise InvalidIndex(
                f"{len(ids)} sample queries must have neighbours of shape {shape}; found "
                f"{near.keys.shape}, {near.distances.shape} and queries {queries.shape}"
            )
        return cls(ids, queries, near)


def update_samples(
    samples: SampleQueries, added: Sequence[Neighbours], dead_ids: Collection[str]
) -> SampleQueries:
    """Bring samples up to date with an index that changed.

    Parameters
    ----------
    samples
        As the base snapshot has them.
    added
        What `exact_neighbours` found in each shard that was added since.
    dead_ids
        Ids of the rows of the base's shards that died since; one whose vector changed is among
        them, and comes back with the shard that was added.
    """
    kept = samples.neighbours.without(dead_ids)
    return replace(samples, neighbours=merge_neighbours([kept, *added]))
