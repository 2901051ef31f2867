"""The plan of a run: inputs joined with the existing rows of the table, each with an action.

The join runs on Spark; only counts by action and by file are collected.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.steps.extract.contents import ROWS_PER_BLOCK
from jobs.steps.tasks import require_unique, shuffle_partitions
from pool3.extract.actions import CHANGED, CHECKED, EXTRACTED, LEFT, META, NEW, RETRIED, SKIPPED
from pool3.extract.layout import Layout
from pool3.features.schema import FAILED, GONE, OK, TRANSIENT_ERRORS

_ROWS_PER_PARTITION = 100_000


@contextmanager
def persisted(inputs: DataFrame) -> Iterator[DataFrame]:
    """Persist the inputs inside the block, and choose the number of shuffle partitions by rows."""
    spark = inputs.sparkSession
    frame = inputs.persist()
    try:
        n_partitions = math.ceil(frame.count() / _ROWS_PER_PARTITION)
        with shuffle_partitions(spark, max(spark.sparkContext.defaultParallelism, n_partitions)):
            yield frame
    finally:
        frame.unpersist()


def unique_inputs(inputs: DataFrame, on_duplicate: str) -> DataFrame:
    """Return the inputs with unique ids.

    Parameters
    ----------
    on_duplicate
        ``last`` selects the last input of an id, ``error`` requires that ids are unique.

    Raises
    ------
    UsageError
        An id is not unique, and `on_duplicate` is ``error``.
    """
    if on_duplicate == "last":
        newest = F.max_by(F.struct(*inputs.columns), "position").alias("input")
        return inputs.groupBy("image_id").agg(newest).select("input.*")
    require_unique(
        inputs,
        "image_id",
        named="image_id",
        where="the inputs",
        remedy="name a column with unique ids with --id-column, or select the last input of each "
        "id with --on-duplicate last",
    )
    return inputs


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How inputs and existing rows are compared.

    Attributes
    ----------
    mode
        One of `jobs.options.extract_features.MODES`.
    prune_scope
        Pictures below this uri that are not among the inputs are gone; None disables pruning.
    suppressed
        Hexadecimal SHA-256 of the ids that are never extracted.
    """

    mode: str
    prune_scope: str | None
    suppressed: Set[str]


def plan_actions(inputs: DataFrame, existing: DataFrame | None, options: PlanOptions) -> DataFrame:
    """Return each input with its ``action``, and the existing rows that are gone.

    The columns are those of `inputs`, and ``action, file, row, existing_ok, existing_sha256``.
    """
    if existing is None:
        action = F.when(_suppressed(options), SKIPPED).otherwise(NEW)
        return inputs.select(
            "*",
            action.alias("action"),
            F.lit(None).cast("int").alias("file"),
            F.lit(None).cast("int").alias("row"),
            F.lit(False).alias("existing_ok"),
            F.lit(None).cast("string").alias("existing_sha256"),
        )
    matches = F.col("input.image_id") == F.col("existing.image_id")
    both = inputs.alias("input").join(existing.alias("existing"), matches, "full_outer")
    action = _action(inputs, existing, options)
    others = [F.col(f"input.{name}").alias(name) for name in inputs.columns if name not in _IDS]
    ids = [F.coalesce(f"input.{name}", f"existing.{name}").alias(name) for name in _IDS]
    return both.select(
        *ids,
        *others,
        action.alias("action"),
        F.col("existing.file").alias("file"),
        F.col("existing.row").alias("row"),
        F.coalesce(F.col("existing.status") == OK, F.lit(False)).alias("existing_ok"),
        F.when(action == CHECKED, F.col("existing.content_sha256")).alias("existing_sha256"),
    ).where("action is not null")


_IDS = ("image_id", "uri")
_DIGEST = "content_sha256"


def _action(inputs: DataFrame, existing: DataFrame, options: PlanOptions) -> Column:
    gone = F.lit(False)
    if options.prune_scope is not None:
        below = F.col("existing.uri").startswith(options.prune_scope.rstrip("/") + "/")
        gone = (F.col("existing.status") != GONE) & below
    again = F.col("existing.error").isin(*sorted(TRANSIENT_ERRORS)) | (
        F.col("existing.status") == GONE
    )
    if options.mode == "retry-failed":
        again |= F.col("existing.status") == FAILED
    action = F.when(F.col("input.image_id").isNull(), F.when(gone, LEFT))
    action = action.when(_suppressed(options, "input."), SKIPPED)
    action = action.when(F.col("existing.image_id").isNull(), NEW)
    if options.mode == "overwrite":
        return action.otherwise(CHANGED)
    action = action.when(F.coalesce(again, F.lit(False)), RETRIED)
    action = action.when(F.coalesce(_differs(inputs), F.lit(False)), CHANGED)
    if _DIGEST not in inputs.columns:
        action = action.when(_must_compare_bytes(), CHECKED)
    if "meta" in inputs.columns and "meta" in existing.columns:
        same = F.to_json("input.meta").eqNullSafe(F.to_json("existing.meta"))
        action = action.when(~same, META)
    return action.otherwise(SKIPPED)


def _differs(inputs: DataFrame) -> Column:
    """Whether a picture changed: by etag, otherwise by digest, otherwise by length and time."""
    etags = F.col("input.etag").isNotNull() & F.col("existing.etag").isNotNull()
    by_attributes = (F.col("input.size") != F.col("existing.content_length")) | (
        F.col("input.modified_at") != F.col("existing.modified_at")
    )
    differs = F.when(etags, F.col("input.etag") != F.col("existing.etag"))
    if _DIGEST in inputs.columns:
        return differs.otherwise(F.col(f"input.{_DIGEST}") != F.col(f"existing.{_DIGEST}"))
    # If length or time is null, the other decides: null or true is true.
    return differs.otherwise(by_attributes)


def _must_compare_bytes() -> Column:
    """Whether neither etags nor times exist, so that the bytes must be compared."""
    etags = F.col("input.etag").isNotNull() & F.col("existing.etag").isNotNull()
    times = F.col("input.modified_at").isNotNull() & F.col("existing.modified_at").isNotNull()
    return ~etags & ~times


def _suppressed(options: PlanOptions, prefix: str = "") -> Column:
    if not options.suppressed:
        return F.lit(False)
    return F.sha2(F.col(f"{prefix}image_id"), 256).isin(*sorted(options.suppressed))


@dataclass(frozen=True, slots=True)
class Count:
    """Pictures and bytes of one action."""

    pictures: int = 0
    total_bytes: int = 0


def _totals() -> tuple[Column, Column]:
    size = F.coalesce(F.sum("size"), F.lit(0))
    return F.count("*").alias("pictures"), size.alias("bytes")


def count_actions(plan: DataFrame) -> dict[str, Count]:
    """Return pictures and bytes of a plan by action."""
    rows = plan.groupBy("action").agg(*_totals())
    return {row.action: Count(row.pictures, row.bytes) for row in rows.collect()}


def replaced_files(plan: DataFrame) -> list[tuple[int, int, int]]:
    """Return file, pictures and bytes of the rows that are extracted again."""
    rows = (
        plan.where(F.col("action").isin(*EXTRACTED) & F.col("file").isNotNull())
        .groupBy("file")
        .agg(*_totals())
        .orderBy("file")
    )
    return [(row.file, row.pictures, row.bytes) for row in rows.collect()]


def new_blocks(plan: DataFrame) -> list[tuple[int, int, int]]:
    """Return block, pictures and bytes of the inputs that are not in the table."""
    rows = plan.where(F.col("action") == NEW).groupBy(_block().alias("block")).agg(*_totals())
    return [(row.block, row.pictures, row.bytes) for row in rows.orderBy("block").collect()]


def _block() -> Column:
    return F.floor(F.col("position") / ROWS_PER_BLOCK)


def edited_files(plan: DataFrame) -> list[int]:
    """Return the files with rows that change without extraction."""
    rows = plan.where(F.col("action").isin(META, LEFT)).select("file").distinct()
    return sorted(row.file for row in rows.collect())


def with_tasks(plan: DataFrame, layout: Layout) -> DataFrame:
    """Return the rows to extract, each with the number of its ``task``."""
    todo = plan.where(F.col("action").isin(*EXTRACTED))
    hashed = F.xxhash64("image_id")
    new = F.lit(layout.first_new_task) + F.pmod(hashed, F.lit(max(1, layout.n_new_tasks)))
    if layout.blocks:
        shares = [(share.block, share.first_task, share.n_tasks) for share in layout.blocks]
        todo = _with_shares(todo.withColumn("block", _block()), shares, "block", "block_")
        new = F.col("block_first") + F.pmod(hashed, F.col("block_tasks"))
    if not layout.shares:
        return todo.withColumn("task", new.cast("int")).drop(*_SHARE_COLUMNS)
    shares = [(share.file, share.first_task, share.n_tasks) for share in layout.shares]
    todo = _with_shares(todo, shares, "file", "file_")
    bound = F.col("file_first") + F.pmod(hashed, F.col("file_tasks"))
    task = F.when(F.col("file").isNull(), new).otherwise(bound).cast("int")
    return todo.withColumn("task", task).drop(*_SHARE_COLUMNS)


_SHARE_COLUMNS = ("block", "block_first", "block_tasks", "file_first", "file_tasks")


def _with_shares(
    todo: DataFrame, shares: list[tuple[int, int, int]], key: str, prefix: str
) -> DataFrame:
    """Add the tasks of its file or block to each row: the first one, and their number."""
    columns = f"{key} long, {prefix}first int, {prefix}tasks int"
    return todo.join(F.broadcast(todo.sparkSession.createDataFrame(shares, columns)), key, "left")
