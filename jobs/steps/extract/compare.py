"""Compares the inputs with the table: the plan of a run, and its counts by action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.options.extract_features import ExtractConfig
from jobs.steps.extract.contents import InputContents
from jobs.steps.extract.existing import existing_rows
from jobs.steps.extract.inputs import Inventory
from jobs.steps.extract.plan import Count, PlanOptions, count_actions, plan_actions
from pool3 import storage
from pool3.errors import UsageError
from pool3.extract.actions import EXTRACTED, LEFT
from pool3.features.schema import feature_schema
from pool3.features.suppression import read_suppressed
from pool3.features.table import FeatureTable, own_table
from pool3.models import ModelDirectory

_SHARES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Work:
    """The plan of a run, and its counts by action.

    Attributes
    ----------
    table
        The version that the inputs were compared with, None when there is none.
    existing
        Its rows, None where there are none.
    contents
        Adds the bytes to rows whose input contains them, None where pictures are fetched.
    n_existing
        Number of rows in the table.
    """

    table: FeatureTable | None
    model: ModelDirectory
    schema: pa.Schema
    existing: DataFrame | None
    plan: DataFrame
    contents: InputContents | None
    counts: Mapping[str, Count]
    n_existing: int

    def unpersist(self) -> None:
        """Release what Spark persists of the comparison."""
        self.plan.unpersist()
        if self.existing is not None:
            self.existing.unpersist()
        if self.contents is not None:
            self.contents.unpersist()

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return sum(count.pictures for action, count in self.counts.items() if action != LEFT)

    @property
    def to_extract(self) -> Count:
        """Pictures and bytes to fetch."""
        counts = [self.counts[action] for action in EXTRACTED if action in self.counts]
        return Count(
            sum(count.pictures for count in counts), sum(count.total_bytes for count in counts)
        )

    def pictures(self, action: str) -> int:
        """Return the number of pictures of an action."""
        return self.counts.get(action, Count()).pictures


def compare(
    spark: SparkSession,
    config: ExtractConfig,
    model: ModelDirectory,
    inventory: Inventory,
    frame: DataFrame,
) -> Work:
    """Compare the inputs with the newest version of the table.

    Parameters
    ----------
    frame
        Rows of `inventory`, each id once.

    Raises
    ------
    UsageError
        There is no input, or its carried columns are not those of the table.
    """
    table = own_table(config.output_uri)
    schema = _schema(table, inventory, config.output_uri)
    existing = None
    if table is not None and table.files:
        meta = None
        if inventory.meta is not None:
            meta = schema.field("meta").type
            frame = _in_order_of(frame, meta)
        existing = existing_rows(spark, table, meta).persist()
    scope = config.prune_scope
    options = PlanOptions(
        mode=config.mode,
        prune_scope=None if scope is None else storage.canonical_uri(scope),
        suppressed=read_suppressed(config.output_uri),
    )
    plan = plan_actions(frame, existing, options).persist()
    work = Work(
        table=table,
        model=model,
        schema=schema,
        existing=existing,
        plan=plan,
        contents=inventory.contents,
        counts=count_actions(plan),
        n_existing=0 if table is None else sum(file.rows for file in table.files),
    )
    if work.inputs == 0:
        raise UsageError(
            "expected at least one input, found none after --input-where, --sample and --limit; "
            "relax these options"
        )
    return work


def selected_inputs(frame: DataFrame, config: ExtractConfig) -> DataFrame:
    """Return the inputs that ``--sample`` and ``--limit`` select."""
    if config.sample is not None:
        drawn = F.pmod(F.xxhash64("image_id", F.lit(config.seed)), F.lit(_SHARES))
        frame = frame.where(drawn < round(config.sample * _SHARES))
    return frame if config.limit is None else frame.orderBy("position").limit(config.limit)


def _schema(table: FeatureTable | None, inventory: Inventory, output: str) -> pa.Schema:
    """Return the columns of the table; the first run defines them."""
    if table is None or not table.files:
        return feature_schema(inventory.meta)
    schema = table.schema()
    meta = schema.field("meta").type if "meta" in schema.names else None
    if inventory.meta is not None and (meta is None or set(inventory.meta) != set(meta)):
        raise UsageError(
            f"expected the columns that the table {output} carries ({meta}), found "
            f"{inventory.meta}; name those columns, or another --output"
        )
    return feature_schema(meta)


def _in_order_of(frame: DataFrame, meta: pa.StructType) -> DataFrame:
    """Reorder the carried columns as in the table; JSON lines have the order of the first line."""
    columns = [F.col("meta").getField(field.name).alias(field.name) for field in meta]
    return frame.withColumn("meta", F.struct(*columns))
