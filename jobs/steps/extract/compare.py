"""Inputs and table, compared: what a run has to do, and what it knows before it does anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.options.extract_features import ExtractConfig
from jobs.steps.extract.contents import InputContents
from jobs.steps.extract.inputs import Inventory
from jobs.steps.extract.known import known_rows
from jobs.steps.extract.plan import Counted, PlanOptions, counted, planned
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
    """What a run has to do: the plan, and its counts by action.

    Attributes
    ----------
    table
        The version that was compared, None when there is none.
    known
        Its rows, None where it holds none.
    contents
        What gives rows of the plan their bytes, None where they are fetched.
    n_known
        How many rows the table holds.
    """

    table: FeatureTable | None
    model: ModelDirectory
    schema: pa.Schema
    known: DataFrame | None
    plan: DataFrame
    contents: InputContents | None
    counts: Mapping[str, Counted]
    n_known: int

    def forget(self) -> None:
        """Give back what Spark keeps of the comparison."""
        self.plan.unpersist()
        if self.known is not None:
            self.known.unpersist()
        if self.contents is not None:
            self.contents.forget()

    @property
    def inputs(self) -> int:
        """How many inputs there are."""
        return sum(found.pictures for action, found in self.counts.items() if action != LEFT)

    @property
    def to_extract(self) -> Counted:
        """What has to be fetched."""
        found = [self.counts[action] for action in EXTRACTED if action in self.counts]
        return Counted(sum(one.pictures for one in found), sum(one.total_bytes for one in found))

    def pictures(self, action: str) -> int:
        """How many pictures an action has."""
        return self.counts.get(action, Counted()).pictures


def compare(
    spark: SparkSession,
    config: ExtractConfig,
    model: ModelDirectory,
    found: Inventory,
    frame: DataFrame,
) -> Work:
    """Compare inputs with the table as it is now.

    Parameters
    ----------
    frame
        Rows of `found`, each id once.

    Raises
    ------
    UsageError
        There is no input, or it carries other columns than the table.
    """
    table = own_table(config.output_uri)
    schema = _schema(table, found, config.output_uri)
    known = None
    if table is not None and table.files:
        meta = None
        if found.meta is not None:
            meta = schema.field("meta").type
            frame = _in_order_of(frame, meta)
        known = known_rows(spark, table, meta).persist()
    scope = config.prune_scope
    options = PlanOptions(
        mode=config.mode,
        prune_scope=None if scope is None else storage.canonical_uri(scope),
        suppressed=read_suppressed(config.output_uri),
    )
    plan = planned(frame, known, options).persist()
    work = Work(
        table=table,
        model=model,
        schema=schema,
        known=known,
        plan=plan,
        contents=found.contents,
        counts=counted(plan),
        n_known=0 if table is None else sum(file.rows for file in table.files),
    )
    if work.inputs == 0:
        raise UsageError(
            "expected at least one input, found none after --input-where, --sample and --limit; "
            "widen them"
        )
    return work


def narrowed(frame: DataFrame, config: ExtractConfig) -> DataFrame:
    """Return the inputs that ``--sample`` and ``--limit`` leave."""
    if config.sample is not None:
        drawn = F.pmod(F.xxhash64("image_id", F.lit(config.seed)), F.lit(_SHARES))
        frame = frame.where(drawn < round(config.sample * _SHARES))
    return frame if config.limit is None else frame.orderBy("position").limit(config.limit)


def _schema(table: FeatureTable | None, found: Inventory, output: str) -> pa.Schema:
    """Return the columns of the table; those of the first run stay."""
    if table is None or not table.files:
        return feature_schema(found.meta)
    held = table.schema()
    has = held.field("meta").type if "meta" in held.names else None
    if found.meta is not None and (has is None or set(found.meta) != set(has)):
        raise UsageError(
            f"expected the columns that the table {output} carries ({has}), found {found.meta}; "
            "name those columns, or another --output"
        )
    return feature_schema(has)


def _in_order_of(frame: DataFrame, meta: pa.StructType) -> DataFrame:
    """Give the carried columns the order of the table's: that of JSON lines is the first one's."""
    columns = [F.col("meta").getField(field.name).alias(field.name) for field in meta]
    return frame.withColumn("meta", F.struct(*columns))
