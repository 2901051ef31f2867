"""What a run of build-index is going to do, known before it does anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.options.build_index import BuildConfig
from pool3.errors import Pool3Error, UsageError
from pool3.features.columns import (
    CarriedColumns,
    carried_columns,
    metadata_columns,
    require_named,
)
from pool3.features.table import FeatureTable, open_features, open_rows, require_columns
from pool3.features.vectors import vector_dimension
from pool3.index.changes import why_full_build
from pool3.index.format.manifest import Manifest
from pool3.index.snapshots.next import NextSnapshot


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """What a run reads, and the snapshot that it makes of it.

    Attributes
    ----------
    table
        The feature table, at the version that is read.
    columns
        The columns of the table that the index stores.
    metadata
        The table of metadata that ``--metadata`` names, or named in an earlier run; None without.
    metadata_columns
        Its columns that the index stores; None without.
    dimension
        Length of a vector.
    model_id
        The model that made the table's vectors; None where it states none.
    next
        The snapshot-to-be.
    warnings
        What a person should know before anything is done.
    """

    config: BuildConfig
    table: FeatureTable
    columns: CarriedColumns
    metadata: FeatureTable | None
    metadata_columns: CarriedColumns | None
    dimension: int
    model_id: str | None
    next: NextSnapshot
    warnings: Sequence[str]

    @property
    def base(self) -> Manifest | None:
        """The published snapshot, None when there is none."""
        return self.next.base

    @property
    def index(self) -> str:
        """Canonical uri of the index's root."""
        return self.next.index

    def why_full_build(self) -> str | None:
        """Return why the index is built from the whole table; None where changes suffice."""
        config = self.config
        if config.refit_pca:
            return "--refit-pca was asked for"
        return why_full_build(
            self.base,
            self.table,
            metric=config.metric,
            n_trees=config.n_trees,
            seed=config.seed,
            vectors_dtype=config.vectors_dtype,
            dimension=self.dimension,
            model_id=self.model_id,
        )


def plan_build(config: BuildConfig, run_id: str) -> BuildPlan:
    """Open what a run reads.

    Raises
    ------
    UsageError
        When there is no feature table, or no table of metadata where ``--metadata`` names one; when
        ``--columns`` or ``--leave-out`` names no column of either.
    """
    upcoming = NextSnapshot.begin(config.output_uri, run_id)
    table = open_features(config.features)
    metadata, warnings = _metadata_table(config, upcoming.base)
    choice = config.column_choice()
    columns = carried_columns(table, choice)
    others = None if metadata is None else metadata_columns(metadata, choice)
    require_named(choice, [columns] if others is None else [columns, others])
    return BuildPlan(
        config=config,
        table=table,
        columns=columns,
        metadata=metadata,
        metadata_columns=others,
        dimension=_dimension(table, upcoming.base),
        model_id=table.model_id(),
        next=upcoming,
        warnings=warnings,
    )


def _dimension(table: FeatureTable, base: Manifest | None) -> int:
    """Return the length of the table's vectors; of one that lost them all, what it was."""
    try:
        return vector_dimension(table)
    except UsageError:
        if base is None or base.table.uri != table.uri or not base.rows:
            raise
        return base.dimension


def _metadata_table(
    config: BuildConfig, base: Manifest | None
) -> tuple[FeatureTable | None, list[str]]:
    """Open the table of ``--metadata``, or that of an earlier run, which may have gone."""
    if config.metadata is not None:
        return open_metadata(config.metadata), []
    if base is None or base.metadata is None:
        return None, []
    try:
        return open_metadata(base.metadata.uri), []
    except Pool3Error as error:
        return None, [f"new rows have no metadata of {base.metadata.uri}: {error}"]


def open_metadata(where: str) -> FeatureTable:
    """Open a table with image_id and other columns.

    Raises
    ------
    UsageError
        There is none, or it has no image_id.
    """
    table = open_rows(where, what="a table of metadata", option="--metadata")
    require_columns(table, ["image_id"], "--metadata")
    return table
