"""Checks the options, the effort and the query vectors of a search."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, get_type_hints

import numpy as np
import numpy.typing as npt

from pool3.errors import UsageError
from pool3.index.recall.effort import DEFAULT_RECALL, Effort, choose_effort
from pool3.index.shards.selection import Selection, Selections
from pool3.index.snapshots.snapshot import Snapshot
from pool3.search.hits import HitColumns
from pool3.vectors.distances import squared_norms

Function = TypeVar("Function", bound=Callable[..., Any])


class BatchOptions(TypedDict, total=False):
    """Options of all searches; `pool3.search.index.Index.search` describes them."""

    recall: float | None
    search_k: int | None
    rerank: int | None
    where: str | None


class SearchOptions(BatchOptions, total=False):
    """Options of searches that return `pool3.search.hits.Hits`."""

    distinct: str | None
    exclude_self: bool
    columns: Sequence[str] | None
    vectors: bool
    uri_map: Mapping[str, str] | None


def takes(options: type) -> Callable[[Function], Function]:
    """Show the keys of a TypedDict as keywords of a function that takes them as ``**options``.

    Type checkers know them from `typing.Unpack`; this is for `help`, notebooks and `inspect`.
    """
    keywords = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if hint is bool else None,
            annotation=hint,
        )
        for name, hint in get_type_hints(options).items()
    ]

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *keywords]
        )
        return function

    return decorate


def require_keywords(function: str, options: Mapping[str, object], allowed: type) -> None:
    """Raise `TypeError` for an option that is no key of a TypedDict, as Python does for keywords.

    Parameters
    ----------
    function
        Its name, for the error.
    """
    unknown = options.keys() - allowed.__annotations__
    if unknown:
        raise TypeError(f"{function} got an unexpected keyword argument {min(unknown)!r}")


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """The checked options of one search; `SearchRequests.make` makes it."""

    effort: Effort
    selection: Selection
    hit_columns: HitColumns
    exclude_self: bool
    vectors: bool


class SearchRequests:
    """Checks the options of searches of one snapshot. Threads may share it.

    Parameters
    ----------
    snapshot
        The open snapshot.
    selections
        The rows that a search may return.
    """

    def __init__(self, snapshot: Snapshot, selections: Selections) -> None:
        self._snapshot = snapshot
        self._selections = selections
        self._warned: set[tuple[int, float]] = set()

    def make(self, k: int, options: SearchOptions) -> SearchRequest:
        """Check the options of a search.

        Raises
        ------
        UsageError
            For an invalid value.
        TypeError
            For an unknown keyword.
        """
        require_keywords("search", options, SearchOptions)
        return SearchRequest(
            effort=self._effort(k, options),
            selection=self._selections.of(options.get("where"), options.get("distinct")),
            hit_columns=HitColumns(
                declared=self._selections.declared,
                columns=options.get("columns"),
                uri_map=options.get("uri_map"),
            ),
            exclude_self=options.get("exclude_self", False),
            vectors=options.get("vectors", False),
        )

    def _effort(self, k: int, options: BatchOptions) -> Effort:
        recall, rerank = options.get("recall"), options.get("rerank")
        search_k = options.get("search_k")
        effort = choose_effort(
            self._snapshot.manifest, k, recall=recall, rerank=rerank, search_k=search_k
        )
        if rerank is None and search_k is None:
            self._warn_of_low_recall(effort, recall)
        return effort

    def _warn_of_low_recall(self, effort: Effort, recall: float | None) -> None:
        """Warn once for each k and recall that the recall may not be reached."""
        wanted = recall or DEFAULT_RECALL
        if (effort.recall or 0.0) >= wanted or (effort.k, wanted) in self._warned:
            return
        uri, curve = self._snapshot.uri, self._snapshot.manifest.recall
        if curve is None:
            if recall is None:
                return
            warning = f"the recall of {uri} was never measured, so that {wanted} may be missed"
        elif effort.recall is None:
            warning = f"the recall of {uri} was not measured for {effort.k} hits"
        else:
            warning = (
                f"no measured effort surely finds {wanted} of the {effort.k} nearest in "
                f"{uri}; the best, which finds {effort.recall:.4g}, is used"
            )
        self._warned.add((effort.k, wanted))
        warnings.warn(warning, stacklevel=5)


def checked_query(vector: npt.NDArray[Any], snapshot: Snapshot) -> npt.NDArray[np.float32]:
    """Return a query vector, any real dtype (d,), as float32.

    Raises
    ------
    UsageError
        When its length is not that of the vectors of the index, when it is not finite, or when it
        is zero under ``angular``.
    """
    if vector.ndim != 1:
        raise UsageError(
            "a query vector must be a one-dimensional array of real numbers; "
            f"found {vector.dtype} of shape {vector.shape}"
        )
    return np.asarray(checked_queries(vector[None, :], snapshot)[0])


def checked_queries(vectors: npt.NDArray[Any], snapshot: Snapshot) -> npt.NDArray[np.float32]:
    """Return query vectors, any real dtype (n, d), as float32; raises as `checked_query` does."""
    manifest = snapshot.manifest
    if vectors.dtype.kind not in "fiu":
        raise UsageError(
            f"a query vector must be a one-dimensional array of real numbers; found {vectors.dtype}"
        )
    if vectors.shape[1] != manifest.dimension:
        raise UsageError(
            f"a query vector must have {manifest.dimension} numbers, as those of {snapshot.uri}; "
            f"found {vectors.shape[1]}"
        )
    queries = np.ascontiguousarray(vectors)
    if queries.dtype != np.float32:
        with np.errstate(over="ignore"):
            queries = queries.astype(np.float32)
    # In float64 the square of no float32 overflows or becomes zero.
    lengths = squared_norms(queries)
    if not np.isfinite(lengths).all():
        raise UsageError("a query vector must be finite as float32; found NaN or infinity")
    if manifest.metric == "angular" and not lengths.all():
        raise UsageError("a query vector must not be zero under angular: it has no direction")
    return queries
