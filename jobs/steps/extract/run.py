"""Runs an extraction on the driver: from the comparison with the table to the last commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.options.extract_features import JOB, ExtractConfig
from jobs.runtime.report import Report
from jobs.runtime.run import fail, since_start
from jobs.runtime.summary import summary_text
from jobs.steps.extract.chunk import ChunkRunner
from jobs.steps.extract.compare import Work, compare
from jobs.steps.extract.existing import existing_content
from jobs.steps.extract.gates import require_few_gone, require_reachable
from jobs.steps.extract.inputs import Inventory
from jobs.steps.extract.plan import Count, edited_files, new_blocks, replaced_files, with_tasks
from jobs.steps.extract.report import fill_report
from jobs.steps.gates import require_few_failed
from jobs.steps.tasks import gather
from pool3 import storage
from pool3.errors import Pool3Error, UsageError
from pool3.extract.actions import EXTRACTED, LEFT, META, NEW, SKIPPED
from pool3.extract.layout import Layout, Pace, Unit, lay_out
from pool3.extract.reuse import ExistingContent
from pool3.extract.task_summary import TaskSummary
from pool3.features.schema import GONE
from pool3.features.table import FeatureTable, model_uri, own_table
from pool3.images.decode import DecodeLimits
from pool3.images.profiles import IGNORED, SRGB
from pool3.models import ModelDirectory, load_model
from pool3.models.directory import with_colour
from pool3.models.graph.graphdef import check_ops
from udfs.extract import ExtractSettings, extract_partition

log = logging.getLogger(__name__)

#: Number of pictures that ``--plan`` extracts to estimate the cost.
SAMPLED = 64


@contextmanager
def comparison(
    spark: SparkSession,
    config: ExtractConfig,
    model: ModelDirectory,
    inventory: Inventory,
    frame: DataFrame,
    report: Report,
) -> Iterator[Work]:
    """Compare the inputs with the table, and report the counts."""
    work = compare(spark, config, model, inventory, frame)
    planned = {action: count.pictures for action, count in sorted(work.counts.items())}
    text = ", ".join(f"{pictures} {action}" for action, pictures in planned.items())
    log.info("%d inputs, model %s: %s", work.inputs, model.model_id, text)
    report.model_id = model.model_id
    report.warnings.extend(model.notes)
    report.details["set_aside"] = inventory.set_aside
    report.details["planned"] = planned
    try:
        yield work
    finally:
        work.unpersist()


def load_checked_model(config: ExtractConfig, table: FeatureTable | None) -> ModelDirectory:
    """Load the model; raise `UsageError` when the table has features of another one.

    A table of the same model with another treatment of colour profiles is continued with that.
    """
    model = load_model(config.model)
    check_ops(model.graph)  # before anything is written
    expected = table.model_id() if table is not None else None
    if expected is not None and expected != model.model_id:
        other = with_colour(model, SRGB if model.colour == IGNORED else IGNORED)
        model = other if expected == other.model_id else model
    if expected is not None and expected != model.model_id:
        raise UsageError(
            f"expected model {expected}, which made the features in {config.output_uri}, found "
            f"{model.model_id} ({config.model}); use that model or another --output"
        )
    return model


def _store_model(config: ExtractConfig, model: ModelDirectory) -> None:
    """Store a copy of the model's directory in the table."""
    place = model_uri(config.output_uri, model.model_id)
    if not storage.exists(storage.join(place, "model.json")):
        model.write(place)


def _settings(
    spark: SparkSession, config: ExtractConfig, work: Work, run_id: str
) -> ExtractSettings:
    return ExtractSettings(
        table_uri=config.output_uri,
        run_id=run_id,
        model_id=work.model.model_id,
        graph_sha256=work.model.graph_sha256,
        dimension=work.model.feature_dimension,
        schema=work.schema,
        input_size=work.model.input_size,
        resize=work.model.resize,
        colour=work.model.colour,
        engine=config.engine,
        precision=config.precision,
        threads=int(spark.conf.get("spark.task.cpus", "1") or 1),
        gpu=float(spark.conf.get("spark.task.resource.gpu.amount", "0") or 0) > 0,
        batch_size=config.batch_size,
        limits=DecodeLimits(max_pixels=config.max_pixels, max_bytes=config.max_bytes),
        thumbnail_side=config.thumbnails,
        decode_function=config.decode_function,
        timeout_s=config.timeout_s,
    )


def plan_only(spark: SparkSession, config: ExtractConfig, work: Work, report: Report) -> Report:
    """Report what a run would do, and its estimated cost from a sample of the pictures."""
    todo = work.to_extract
    report.counts["skipped"] = work.pictures(SKIPPED) + work.pictures(META)
    report.counts["gone"] = work.pictures(LEFT)
    report.details.update(to_extract=todo.pictures, bytes=todo.total_bytes)
    if todo.pictures:
        sample = _extract_sample(spark, _settings(spark, config, work, report.run_id), work)
        cpu_s = (sample.cpu_s - sample.load_cpu_s) / max(1, sample.inputs)
        report.cpu_s_per_image = round(cpu_s, 5)
        report.details.update(
            sampled=sample.inputs, estimated_core_hours=float(f"{cpu_s * todo.pictures / 3600:.3g}")
        )
    log.info("%s", summary_text(report))
    return report


def _extract_sample(spark: SparkSession, settings: ExtractSettings, work: Work) -> TaskSummary:
    """Extract some of the planned pictures in one task, and store nothing."""
    step = max(1, work.to_extract.pictures // (2 * SAMPLED))
    chosen = F.pmod(F.xxhash64("image_id"), F.lit(step)) == 0
    rows = work.plan.where(F.col("action").isin(*EXTRACTED)).where(chosen).limit(SAMPLED)
    frame = (rows if work.contents is None else work.contents.of(rows)).repartition(1)
    context = spark.sparkContext
    no_content: Broadcast[ExistingContent | None] = context.broadcast(None)
    function = extract_partition(
        replace(settings, table_uri=None), context.broadcast(work.model.graph), None, no_content
    )
    (summary,) = gather(frame, function, label="sample")
    return TaskSummary.from_dict(summary)


def extract(spark: SparkSession, config: ExtractConfig, work: Work, report: Report) -> Report:
    """Carry out the plan; the report is filled even if an error ends the run."""
    tasks: list[TaskSummary] = []
    report.seconds["startup"] = since_start()
    report.counts["skipped"] = work.pictures(SKIPPED) + work.pictures(META)
    _store_model(config, work.model)
    try:
        _check_gone(config, work)
        finished = _chunks(spark, config, work, report, tasks)
    except Pool3Error as error:
        _fill(report, work, tasks)
        fail(report, error.exit_code, str(error))
    else:
        _fill(report, work, tasks)
        if finished:
            _check_outcome(config, work, report)
    report.seconds["total"] = since_start()
    log.info("%s", summary_text(report))
    return report


def _check_gone(config: ExtractConfig, work: Work) -> None:
    if work.existing is None or config.prune_scope is None:
        return
    scope = storage.canonical_uri(config.prune_scope).rstrip("/") + "/"
    in_scope = F.col("uri").startswith(scope) & (F.col("status") != GONE)
    require_few_gone(work.pictures(LEFT), work.existing.where(in_scope).count(), config.max_gone)


def _chunks(
    spark: SparkSession,
    config: ExtractConfig,
    work: Work,
    report: Report,
    tasks: list[TaskSummary],
) -> bool:
    """Run and commit chunk after chunk; return whether all of them ran.

    The summaries of finished tasks are appended to `tasks`, so that they survive an error.
    """
    cores = spark.sparkContext.defaultParallelism
    layout = _layout(work, cores)
    edited = _files_to_edit(work, layout)
    version = None if work.table is None else work.table.version
    report.details.update(chunks=0, table_version=version)
    if not layout.units and not edited:
        return True  # nothing changed: the model is not broadcast
    runner = _runner(spark, config, work, report, layout)
    pace = Pace(cores)
    for number, units in enumerate(pace.chunks(layout.units), start=1):
        if _out_of_time(config):
            return False
        started = time.monotonic()
        done = runner.run(units, (), label=_label(number, units, layout))
        pace.measured(len(done), time.monotonic() - started)
        tasks += done
        report.details.update(chunks=number, table_version=runner.version)
        require_reachable(tasks, config.max_transient)
    if edited:
        runner.run((), edited, label="updating rows")
        report.details["table_version"] = runner.version
    report.counts["gone"] = work.pictures(LEFT)
    return True


def _layout(work: Work, cores: int) -> Layout:
    new = work.counts.get(NEW, Count())
    again = any(work.pictures(action) for action in EXTRACTED if action != NEW)
    replaced = replaced_files(work.plan) if again else []
    in_blocks = work.contents is not None and work.contents.in_blocks
    blocks = new_blocks(work.plan) if in_blocks and new.pictures else []
    return lay_out(replaced, (new.pictures, new.total_bytes), blocks, cores=cores)


def _files_to_edit(work: Work, layout: Layout) -> list[int]:
    """Return the files with rows to edit that no chunk rewrites anyway."""
    if not work.pictures(META) + work.pictures(LEFT):
        return []
    rewritten = {file for unit in layout.units for file in unit.files}
    return [file for file in edited_files(work.plan) if file not in rewritten]


def _runner(
    spark: SparkSession, config: ExtractConfig, work: Work, report: Report, layout: Layout
) -> ChunkRunner:
    existing = None
    if work.existing is not None and layout.units and config.mode != "overwrite":
        existing = existing_content(work.existing)
    context = spark.sparkContext
    return ChunkRunner(
        spark=spark,
        job=JOB.name,
        settings=_settings(spark, config, work, report.run_id),
        table=work.table,
        plan=work.plan,
        contents=work.contents,
        todo=with_tasks(work.plan, layout),
        graph=context.broadcast(work.model.graph),
        existing=context.broadcast(existing),
        version=None if work.table is None else work.table.version,
    )


def _label(number: int, units: Sequence[Unit], layout: Layout) -> str:
    if len(units) == len(layout.units):
        return "extracting features"
    return f"extracting features, chunk {number}"


def _out_of_time(config: ExtractConfig) -> bool:
    return config.max_minutes is not None and since_start() > 60 * config.max_minutes


def _fill(report: Report, work: Work, tasks: Sequence[TaskSummary]) -> None:
    fill_report(report, tasks, elapsed_s=since_start() - report.seconds["startup"])
    report.details["meta_updated"] = work.pictures(META)
    report.details["remaining"] = work.to_extract.pictures - sum(task.inputs for task in tasks)


def _check_outcome(config: ExtractConfig, work: Work, report: Report) -> None:
    """Compare the table with the inputs, and check the gate of failures."""
    table = own_table(config.output_uri)
    rows = 0 if table is None else sum(file.rows for file in table.files)
    accounted = report.counts["ok"] + report.counts["failed"] + report.counts["skipped"]
    expected_rows = work.n_existing + work.pictures(NEW)
    note = "all rows are in the table, with the reasons in the column error_detail"
    try:
        if rows != expected_rows or accounted != work.inputs:
            raise Pool3Error(
                f"expected {expected_rows} rows in {config.output_uri} and {work.inputs} inputs "
                f"accounted for, found {rows} and {accounted}; do not use version "
                f"{report.details.get('table_version')}, and report this as a defect"
            )
        require_few_failed(
            report.counts["ok"], report.errors, config.max_failed, unit="pictures", note=note
        )
    except Pool3Error as error:
        fail(report, error.exit_code, str(error))
