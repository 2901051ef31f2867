"""What is asked of a search, checked: the effort, the selection, the columns, the query vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pool3.errors import UsageError
from pool3.index.format.manifest import Manifest
from pool3.index.recall.effort import Effort
from pool3.index.shards.selection import Selection
from pool3.search.hits import HitColumns
from pool3.vectors.distances import squared_norms


def checked_query(
    vector: npt.NDArray[Any], manifest: Manifest, uri: str
) -> npt.NDArray[np.float32]:
    """Return a query vector, any real dtype (d,), as float32.

    Raises
    ------
    UsageError
        When it is not of the length of the vectors of the index at `uri`, not finite, or, under
        ``angular``, zero.
    """
    if vector.ndim != 1:
        raise UsageError(
            "a query vector must be a one-dimensional array of real numbers; "
            f"found {vector.dtype} of shape {vector.shape}"
        )
    return np.asarray(checked_queries(vector[None, :], manifest, uri)[0])


def checked_queries(
    vectors: npt.NDArray[Any], manifest: Manifest, uri: str
) -> npt.NDArray[np.float32]:
    """Return query vectors, any real dtype (n, d), as float32; raises as `checked_query` does."""
    if vectors.dtype.kind not in "fiu":
        raise UsageError(
            f"a query vector must be a one-dimensional array of real numbers; found {vectors.dtype}"
        )
    if vectors.shape[1] != manifest.dimension:
        raise UsageError(
            f"a query vector must have {manifest.dimension} numbers, as those of {uri}; "
            f"found {vectors.shape[1]}"
        )
    queries = np.ascontiguousarray(vectors)
    if queries.dtype != np.float32:
        with np.errstate(over="ignore"):
            queries = queries.astype(np.float32)
    # No float32 is so long that its square overflows float64, or so short that it is lost.
    lengths = squared_norms(queries)
    if not np.isfinite(lengths).all():
        raise UsageError("a query vector must be finite as float32; found NaN or infinity")
    if manifest.metric == "angular" and not lengths.all():
        raise UsageError("a query vector must not be zero under angular: it has no direction")
    return queries


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What is asked of a search besides the query; `Searcher.asked` checks it."""

    effort: Effort
    selection: Selection
    shown: HitColumns
    exclude_self: bool
    vectors: bool
