"""What a run has to do: its inputs beside the rows of the table, compared on Spark.

Only counts come to the driver, by action and by file of the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_type

from pool3.errors import UsageError
from pool3.features.chunks import Layout
from pool3.features.schema import FAILED, GONE, OK, TRANSIENT_ERRORS
from pool3.features.table import FeatureTable
from pool3.features.twins import KnownContent
from udfs.files import FILE_SCHEMA, file_rows, files_of
from udfs.spread import Batches, TaskFunction, spread

NEW, CHANGED, RETRIED, CHECKED = "new", "changed", "retried", "checked"
META, SKIPPED, LEFT = "meta", "skipped", "gone"
EXTRACTED = (NEW, CHANGED, RETRIED, CHECKED)
REPLACED = (CHANGED, RETRIED, CHECKED, META, LEFT)
MODES = ("incremental", "overwrite", "retry-failed")
MOST_KNOWN_CONTENT = 10_000_000
_NAMED = 10
_ROWS_A_PARTITION = 100_000
_PARTITIONS = "spark.sql.shuffle.partitions"

_KNOWN = T.StructType(
    [
        T.StructField("file", T.IntegerType(), nullable=False),
        T.StructField("row", T.IntegerType(), nullable=False),
        T.StructField("image_id", T.StringType(), nullable=False),
        T.StructField("uri", T.StringType()),
        T.StructField("status", T.StringType()),
        T.StructField("error", T.StringType()),
        T.StructField("content_sha256", T.StringType()),
        T.StructField("content_length", T.LongType()),
        T.StructField("etag", T.StringType()),
        T.StructField("modified_at", T.TimestampType()),
    ]
)


def known_rows(spark: SparkSession, table: FeatureTable, meta: pa.DataType | None) -> DataFrame:
    """Return what the table holds, without features: rows of id, state and where they stand."""
    schema = _KNOWN
    if meta is not None:
        schema = T.StructType([*_KNOWN.fields, T.StructField("meta", from_arrow_type(meta))])
    files = spread(spark, file_rows(table.files), FILE_SCHEMA, len(table.files))
    return files.mapInArrow(_read_known(table, schema.names), schema)


def _read_known(table: FeatureTable, names: list[str]) -> TaskFunction:
    numbers = {file.path: number for number, file in enumerate(table.files)}

    def run(batches: Batches) -> Batches:
        for file in files_of(batches):
            held = set(table.file_schema(file).names)
            first = 0
            for batch in table.read(file, [name for name in names if name in held]):
                yield _with_places(batch, names, numbers[file.path], first)
                first += batch.num_rows

    return run


def _with_places(
    batch: pa.RecordBatch, names: list[str], number: int, first: int
) -> pa.RecordBatch:
    count = batch.num_rows
    places = {
        "file": pa.array([number] * count, pa.int32()),
        "row": pa.array(range(first, first + count), pa.int32()),
    }
    columns = []
    for name in names:
        if name in places:
            columns.append(places[name])
        elif name in batch.schema.names:
            columns.append(batch.column(name))
        else:  # written before there was such a column
            columns.append(pa.nulls(count, pa.string()))
    return pa.RecordBatch.from_arrays(columns, names=names)


@contextmanager
def partitioned_for(inputs: DataFrame) -> Iterator[None]:
    """Have Spark's shuffles make as many partitions as the inputs are worth, inside the block.

    Its default is 200 partitions however few the rows, and 200 tasks for each question asked.
    """
    spark = inputs.sparkSession
    cores = spark.sparkContext.defaultParallelism
    before = str(spark.conf.get(_PARTITIONS))
    spark.conf.set(_PARTITIONS, str(max(cores, math.ceil(inputs.count() / _ROWS_A_PARTITION))))
    try:
        yield
    finally:
        spark.conf.set(_PARTITIONS, before)


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
        One of `MODES`.
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
    if "content" not in inputs.columns:
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
    if "content" in inputs.columns:
        return differs.otherwise(F.sha2("i.content", 256) != F.col("k.content_sha256"))
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


def edited_files(plan: DataFrame) -> list[int]:
    """Return the files with rows that change without being extracted."""
    rows = plan.where(F.col("action").isin(META, LEFT)).select("file").distinct()
    return sorted(row.file for row in rows.collect())


def with_tasks(plan: DataFrame, layout: Layout) -> DataFrame:
    """Return the rows to extract, each with the number of its `task`."""
    todo = plan.where(F.col("action").isin(*EXTRACTED))
    turn = F.xxhash64("image_id")
    new = F.lit(layout.first_new_task) + F.pmod(turn, F.lit(max(1, layout.n_new_tasks)))
    if not layout.shares:
        return todo.withColumn("task", new.cast("int"))
    shares = todo.sparkSession.createDataFrame(
        [(share.file, share.first_task, share.n_tasks) for share in layout.shares],
        "file int, first_task int, n_tasks int",
    )
    bound = F.col("first_task") + F.pmod(turn, F.col("n_tasks"))
    joined = todo.join(F.broadcast(shares), "file", "left")
    task = F.when(F.col("file").isNull(), new).otherwise(bound).cast("int")
    return joined.withColumn("task", task).drop("first_task", "n_tasks")


def known_content(known: DataFrame) -> KnownContent | None:
    """Collect where features stand by content: 40 bytes a row, and nothing of larger tables."""
    rows = known.where((F.col("status") == OK) & F.col("content_sha256").isNotNull())
    found = rows.select("content_sha256", "file", "row").limit(MOST_KNOWN_CONTENT + 1).toArrow()
    if found.num_rows in (0, MOST_KNOWN_CONTENT + 1):
        return None
    return KnownContent.of(*(found.column(number).to_pylist() for number in range(3)))


def edits(batches: Batches) -> Iterator[dict[str, object]]:
    """Yield the rows of a plan as a task receives them."""
    for batch in batches:
        yield from batch.to_pylist()
