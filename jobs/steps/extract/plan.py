"""What a run has to do: its inputs beside the rows of the table, compared on Spark.

Only counts come to the driver, by action and by file of the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.steps.extract.contents import ROWS_A_BLOCK
from pool3.errors import UsageError
from pool3.extract.actions import CHANGED, CHECKED, EXTRACTED, LEFT, META, NEW, RETRIED, SKIPPED
from pool3.extract.layout import Layout
from pool3.features.schema import FAILED, GONE, OK, TRANSIENT_ERRORS

_NAMED = 10
_ROWS_A_PARTITION = 100_000
_PARTITIONS = "spark.sql.shuffle.partitions"


@contextmanager
def read_once(inputs: DataFrame) -> Iterator[DataFrame]:
    """Keep the inputs inside the block, and make as many partitions in shuffles as they are worth.

    Spark's default is 200 partitions however few the rows, and 200 tasks for each question asked.
    """
    spark = inputs.sparkSession
    cores = spark.sparkContext.defaultParallelism
    before = str(spark.conf.get(_PARTITIONS))
    held = inputs.persist()
    try:
        spark.conf.set(_PARTITIONS, str(max(cores, math.ceil(held.count() / _ROWS_A_PARTITION))))
        yield held
    finally:
        spark.conf.set(_PARTITIONS, before)
        held.unpersist()


def one_of_each(inputs: DataFrame, on_duplicate: str) -> DataFrame:
    """Return the inputs with each id once.

    Raises
    ------
    UsageError
        When an id comes twice and nobody said which counts.
    """
    if on_duplicate == "last":
        newest = F.max_by(F.struct(*inputs.columns), "position").alias("input")
        return inputs.groupBy("image_id").agg(newest).select("input.*")
    repeated = inputs.groupBy("image_id").count().where("count > 1").orderBy("image_id")
    found = [row.image_id for row in repeated.limit(_NAMED).collect()]
    if found:
        raise UsageError(
            f"expected each image_id once among the inputs, found several of "
            f"{', '.join(map(repr, found))}; name a column with unique ids by --id-column, or take "
            "the last of each with --on-duplicate last"
        )
    return inputs


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How inputs and table are compared.

    Attributes
    ----------
    mode
        One of `jobs.options.extract_features.MODES`.
    prune_scope
        Pictures below this uri that are not among the inputs are gone; None for no pruning.
    suppressed
        Hexadecimal SHA-256 of ids that are never extracted again.
    """

    mode: str
    prune_scope: str | None
    suppressed: Set[str]


def planned(inputs: DataFrame, known: DataFrame | None, options: PlanOptions) -> DataFrame:
    """Return each input with its `action`, and the rows that are gone.

    The columns are those of `inputs`, and ``action, file, row, known_ok, known_sha256``.
    """
    if known is None:
        action = F.when(_suppressed(options), SKIPPED).otherwise(NEW)
        return inputs.select(
            "*",
            action.alias("action"),
            F.lit(None).cast("int").alias("file"),
            F.lit(None).cast("int").alias("row"),
            F.lit(False).alias("known_ok"),
            F.lit(None).cast("string").alias("known_sha256"),
        )
    ours, theirs = inputs.alias("i"), known.alias("k")
    both = ours.join(theirs, F.col("i.image_id") == F.col("k.image_id"), "full_outer")
    action = _action(inputs, known, options)
    kept = [F.col(f"i.{name}").alias(name) for name in inputs.columns if name not in _IDS]
    ids = [F.coalesce(f"i.{name}", f"k.{name}").alias(name) for name in _IDS]
    return both.select(
        *ids,
        *kept,
        action.alias("action"),
        F.col("k.file").alias("file"),
        F.col("k.row").alias("row"),
        F.coalesce(F.col("k.status") == OK, F.lit(False)).alias("known_ok"),
        F.when(action == CHECKED, F.col("k.content_sha256")).alias("known_sha256"),
    ).where("action is not null")


_IDS = ("image_id", "uri")
_DIGEST = "content_sha256"


def _action(inputs: DataFrame, known: DataFrame, options: PlanOptions) -> Column:
    gone = F.lit(False)
    if options.prune_scope is not None:
        below = F.col("k.uri").startswith(options.prune_scope.rstrip("/") + "/")
        gone = (F.col("k.status") != GONE) & below
    again = F.col("k.error").isin(*sorted(TRANSIENT_ERRORS)) | (F.col("k.status") == GONE)
    if options.mode == "retry-failed":
        again |= F.col("k.status") == FAILED
    action = F.when(F.col("i.image_id").isNull(), F.when(gone, LEFT))
    action = action.when(_suppressed(options, "i."), SKIPPED)
    action = action.when(F.col("k.image_id").isNull(), NEW)
    if options.mode == "overwrite":
        return action.otherwise(CHANGED)
    action = action.when(F.coalesce(again, F.lit(False)), RETRIED)
    action = action.when(F.coalesce(_differs(inputs), F.lit(False)), CHANGED)
    if _DIGEST not in inputs.columns:
        action = action.when(_unknown(), CHECKED)
    if "meta" in inputs.columns and "meta" in known.columns:
        same = F.to_json("i.meta").eqNullSafe(F.to_json("k.meta"))
        action = action.when(~same, META)
    return action.otherwise(SKIPPED)


def _differs(inputs: DataFrame) -> Column:
    """Say whether a picture changed: by etag, else by length and time, else by its bytes."""
    etags = F.col("i.etag").isNotNull() & F.col("k.etag").isNotNull()
    other = (F.col("i.size") != F.col("k.content_length")) | (
        F.col("i.modified_at") != F.col("k.modified_at")
    )
    differs = F.when(etags, F.col("i.etag") != F.col("k.etag"))
    if _DIGEST in inputs.columns:
        return differs.otherwise(F.col(f"i.{_DIGEST}") != F.col(f"k.{_DIGEST}"))
    # Where one fact is unknown the other decides: null or true is true.
    return differs.otherwise(other)


def _unknown() -> Column:
    """Say that nothing tells whether a picture changed: its bytes have to be looked at."""
    etags = F.col("i.etag").isNotNull() & F.col("k.etag").isNotNull()
    times = F.col("i.modified_at").isNotNull() & F.col("k.modified_at").isNotNull()
    return ~etags & ~times


def _suppressed(options: PlanOptions, prefix: str = "") -> Column:
    if not options.suppressed:
        return F.lit(False)
    return F.sha2(F.col(f"{prefix}image_id"), 256).isin(*sorted(options.suppressed))


@dataclass(frozen=True, slots=True)
class Counted:
    """Pictures and bytes of one action."""

    pictures: int = 0
    total_bytes: int = 0


def _totals() -> tuple[Column, Column]:
    size = F.coalesce(F.sum("size"), F.lit(0))
    return F.count("*").alias("pictures"), size.alias("bytes")


def counted(plan: DataFrame) -> dict[str, Counted]:
    """Count a plan by action."""
    rows = plan.groupBy("action").agg(*_totals())
    return {row.action: Counted(row.pictures, row.bytes) for row in rows.collect()}


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
    """Return block of the input, pictures and bytes of the rows that the table does not hold."""
    rows = plan.where(F.col("action") == NEW).groupBy(_block().alias("block")).agg(*_totals())
    return [(row.block, row.pictures, row.bytes) for row in rows.orderBy("block").collect()]


def _block() -> Column:
    return F.floor(F.col("position") / ROWS_A_BLOCK)


def edited_files(plan: DataFrame) -> list[int]:
    """Return the files with rows that change without being extracted."""
    rows = plan.where(F.col("action").isin(META, LEFT)).select("file").distinct()
    return sorted(row.file for row in rows.collect())


def with_tasks(plan: DataFrame, layout: Layout) -> DataFrame:
    """Return the rows to extract, each with the number of its `task`."""
    todo = plan.where(F.col("action").isin(*EXTRACTED))
    turn = F.xxhash64("image_id")
    new = F.lit(layout.first_new_task) + F.pmod(turn, F.lit(max(1, layout.n_new_tasks)))
    if layout.blocks:
        shares = [(share.block, share.first_task, share.n_tasks) for share in layout.blocks]
        todo = _with_shares(todo.withColumn("block", _block()), shares, "block", "block_")
        new = F.col("block_first") + F.pmod(turn, F.col("block_tasks"))
    if not layout.shares:
        return todo.withColumn("task", new.cast("int")).drop(*_OF_SHARES)
    shares = [(share.file, share.first_task, share.n_tasks) for share in layout.shares]
    todo = _with_shares(todo, shares, "file", "file_")
    bound = F.col("file_first") + F.pmod(turn, F.col("file_tasks"))
    task = F.when(F.col("file").isNull(), new).otherwise(bound).cast("int")
    return todo.withColumn("task", task).drop(*_OF_SHARES)


_OF_SHARES = ("block", "block_first", "block_tasks", "file_first", "file_tasks")


def _with_shares(
    todo: DataFrame, shares: list[tuple[int, int, int]], key: str, prefix: str
) -> DataFrame:
    """Give each row the tasks of its file or block: the first, and how many."""
    columns = f"{key} long, {prefix}first int, {prefix}tasks int"
    return todo.join(F.broadcast(todo.sparkSession.createDataFrame(shares, columns)), key, "left")
