"""Sample queries of an index, with their true neighbours.

Each shard gives the exact neighbours of all samples among its rows (`exact_neighbours`); merged,
these are the neighbours in the whole index (`merge_neighbours`). When rows are added and deleted,
only the changes are measured (`update_samples`), and the lists stay exact as far as they reach.

Deliberately not here: which of the neighbours a search returns (`evidence`, `estimate`).
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

#: How many neighbours of each sample are stored: enough that recall@100 can still be measured when
#: half of them were deleted.
MAX_NEIGHBOURS = 200

Queries = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of each sample, without its own row.

    Attributes
    ----------
    keys
        uint64, (s, MAX_NEIGHBOURS): `sample_key` of their ids, nearest first, 0 where there is
        none. Two of a million ids share a key with a probability of 3 in 10^8; deleting one of two
        such rows removes both from the list.
    distances
        float64, (s, MAX_NEIGHBOURS): exact distances, ascending, infinite where there is none.
    radius
        float64, (s,): all rows nearer than this are in the list. Infinite where it has all rows.
    """

    keys: Keys
    distances: FloatArray
    radius: FloatArray

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many neighbours each sample has in the list, int64, (s,)."""
        return np.asarray(np.isfinite(self.distances).sum(axis=1))

    def without(self, image_ids: Collection[str]) -> Neighbours:
        """Leave some rows out; no other rows take their places."""
        removed = np.isin(self.keys, sample_keys(list(image_ids)))
        return _sorted(self.keys, np.where(removed, np.inf, self.distances), self.radius)

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
    """Return the exact neighbours of each sample among the live rows of one shard.

    Parameters
    ----------
    reader
        The shard, its vectors in a local file.
    ids, queries
        s ids of the samples, and float32, (s, d).
    metric
        The index's.
    within
        float64, (s,): rows farther than this are left out; None for no limit.
    """
    own = [reader.find(image_id) for image_id in ids]
    nearest = exact_nearest(
        queries,
        reader.vectors,
        metric,
        most=MAX_NEIGHBOURS,
        own_rows=np.array([-1 if row is None else row for row in own], dtype=np.int64),
        live=reader.live,
        within=within,
    )
    keys = np.zeros(nearest.rows.shape, dtype=np.uint64)
    present = nearest.rows >= 0
    rows, places = np.unique(nearest.rows[present], return_inverse=True)
    keys[present] = sample_keys([reader.ids.image_id(int(row)) for row in rows])[places]
    return Neighbours(keys, nearest.distances, nearest.radius)


def merge_neighbours(by_shard: Sequence[Neighbours]) -> Neighbours:
    """Merge the neighbours among the rows of several shards, at least one, of an index."""
    together = _sorted(
        np.concatenate([neighbours.keys for neighbours in by_shard], axis=1),
        np.concatenate([neighbours.distances for neighbours in by_shard], axis=1),
        np.min([neighbours.radius for neighbours in by_shard], axis=0),
    )
    more = np.isfinite(together.distances[:, MAX_NEIGHBOURS:]).any(axis=1)
    last = together.distances[:, MAX_NEIGHBOURS - 1]
    return Neighbours(
        np.ascontiguousarray(together.keys[:, :MAX_NEIGHBOURS]),
        np.ascontiguousarray(together.distances[:, :MAX_NEIGHBOURS]),
        np.where(more, np.minimum(together.radius, last), together.radius),
    )


def _sorted(keys: Keys, distances: FloatArray, radius: FloatArray) -> Neighbours:
    """Sort by distance, and drop neighbours beyond the radius."""
    distances = np.where(distances <= radius[:, None], distances, np.inf)
    order = np.argsort(distances, axis=1, kind="stable")
    distances = np.take_along_axis(distances, order, axis=1)
    keys = np.take_along_axis(keys, order, axis=1)
    return Neighbours(np.where(np.isfinite(distances), keys, np.uint64(0)), distances, radius)


@dataclass(frozen=True)
class SampleQueries:
    """Sample queries with their true neighbours.

    Attributes
    ----------
    ids
        The image_id of each sample; its own row never counts as a neighbour.
    queries
        float32, (s, d): vectors as the feature table had them. A sample remains a query when its
        row is deleted.
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

    def complete_for(self, k: int) -> npt.NDArray[np.bool_]:
        """Return which samples have their k nearest rows in the list, or all rows; bool, (s,)."""
        counts, has_all_rows = self.neighbours.counts, np.isinf(self.neighbours.radius)
        return (counts >= k) | (has_all_rows & (counts > 0))

    def without(self, image_ids: Collection[str]) -> SampleQueries:
        """Leave out pictures that are to be forgotten, as samples and as neighbours."""
        remaining = [at for at, image_id in enumerate(self.ids) if image_id not in image_ids]
        neighbours = self.neighbours.without(image_ids)
        return SampleQueries(
            tuple(self.ids[at] for at in remaining),
            self.queries[remaining],
            Neighbours(
                neighbours.keys[remaining],
                neighbours.distances[remaining],
                neighbours.radius[remaining],
            ),
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
            When it is anything else.
        """
        tensors = tensor_files.parsed(data, "sample queries")
        try:
            ids, queries = tuple(texts_of("ids", tensors)), tensors["queries"]
            neighbours = Neighbours(tensors["keys"], tensors["distances"], tensors["radius"])
        except (KeyError, ValueError) as error:
            raise InvalidIndex(f"expected sample queries; found another file: {error}") from error
        shape = (len(ids), MAX_NEIGHBOURS)
        shapes = neighbours.keys.shape, neighbours.distances.shape
        if shapes != (shape, shape) or len(queries) != len(ids):
            raise InvalidIndex(
                f"{len(ids)} sample queries must have neighbours of shape {shape}; found "
                f"{shapes[0]}, {shapes[1]} and queries {queries.shape}"
            )
        return cls(ids, queries, neighbours)


def update_samples(
    samples: SampleQueries, added: Sequence[Neighbours], deleted_ids: Collection[str]
) -> SampleQueries:
    """Return samples with the true neighbours of an index after changes.

    Parameters
    ----------
    samples
        Those of the base snapshot.
    added
        `exact_neighbours` of each shard that was added since.
    deleted_ids
        Ids of the rows of the base that were deleted since. The id of a row whose vector changed is
        among them; its new row is in a shard that was added.
    """
    remaining = samples.neighbours.without(deleted_ids)
    return replace(samples, neighbours=merge_neighbours([remaining, *added]))
