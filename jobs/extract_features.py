"""extract-features: pictures in, feature table out.

The inputs are compared with the table on Spark; what is new or changed is fetched, decoded and run
through the model by tasks that store one Parquet part each, and every few minutes a Delta commit
publishes what is done. The frozen graph is broadcast once. Every input becomes one row.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pool3 import storage
from pool3.decode import DecodeLimits
from pool3.engines import AUTO, ENGINES, PRECISIONS
from pool3.errors import Pool3Error, UsageError
from pool3.features.chunks import Layout, Pace, Unit, lay_out
from pool3.features.gates import require_few_failed, require_few_gone, require_reachable
from pool3.features.lease import leased
from pool3.features.schema import GONE, feature_schema
from pool3.features.staging import staged
from pool3.features.summary import TaskSummary, fill_report
from pool3.features.suppression import read_suppressed
from pool3.features.table import FeatureTable, model_uri, own_table
from pool3.inputs.options import InputOptions
from pool3.job import fail, job_parser, run_job, since_start
from pool3.models import ModelDirectory, load_model
from pool3.models.graphdef import check_ops
from pool3.report import Report, new_run_id
from pool3.run_summary import prometheus_text, summary_text
from udfs.chunk import ChunkRunner
from udfs.extract import ExtractSettings, extract_part
from udfs.inputs import Inventory, inventory
from udfs.plan import (
    EXTRACTED,
    LEFT,
    META,
    MODES,
    NEW,
    SKIPPED,
    Counted,
    PlanOptions,
    counted,
    edited_files,
    known_content,
    known_rows,
    one_of_each,
    partitioned_for,
    planned,
    replaced_files,
    with_tasks,
)
from udfs.spread import gather

JOB = "extract-features"
SAMPLED = 64
"""Pictures that a plan measures the cost of one on."""
_SHARES = 1_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """What extract-features is asked to do; the options of the command line, checked."""

    input: str | Sequence[str] = ()
    output: str
    model: str = "imagenet"
    glob: str | None = None
    input_table: str | None = None
    uri_column: str | None = None
    id_column: str | None = None
    id_from: str | None = None
    content_column: str | None = None
    size_column: str | None = None
    etag_column: str | None = None
    modified_column: str | None = None
    input_where: str | None = None
    allow_uri: Sequence[str] = ()
    on_duplicate: str = "error"
    mode: str = "incremental"
    prune: bool = False
    prune_scope: str | None = None
    max_gone: float = 0.01
    max_failed: float = 0.02
    max_transient: float = 0.05
    plan: bool = False
    limit: int | None = None
    sample: float | None = None
    seed: int = 0
    max_minutes: float | None = None
    thumbnails: int | None = None
    metrics_file: str | None = None
    engine: str = AUTO
    precision: str = AUTO
    batch_size: int = 16
    max_pixels: int = DecodeLimits.max_pixels
    max_bytes: int = DecodeLimits.max_bytes
    timeout_s: float = 30.0
    decode_function: str = "pool3.decode:decode_resized"
    report: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_pixels", "max_bytes", "limit", "thumbnails"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"expected {option} of at least 1, found {value}")
        for name, most in (
            ("max_gone", 1), ("max_failed", 1), ("max_transient", 1), ("sample", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 0 <= value <= most:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"expected {option} between 0 and {most}, found {value}")
        for name, known in (
            ("engine", (AUTO, *ENGINES)),
            ("precision", (AUTO, *PRECISIONS)),
            ("mode", MODES),
            ("on_duplicate", ("error", "last")),
        ):
            if getattr(self, name) not in known:
                option = "--" + name.replace("_", "-")
                raise UsageError(
                    f"expected {option} to be one of {', '.join(known)}, found "
                    f"{getattr(self, name)!r}"
                )
        self._check_prune()
        self.input_options()
        storage.canonical_uri(self.output)

    def _check_prune(self) -> None:
        if self.prune != (self.prune_scope is not None):
            raise UsageError(
                "expected --prune and --prune-scope PREFIX together, found one of them; the scope "
                "says where pictures may be marked as gone"
            )
        if self.prune and (self.limit or self.sample is not None or self.input_where):
            raise UsageError(
                "expected the whole input with --prune, found --limit, --sample or --input-where; "
                "what they leave out would count as gone"
            )

    def input_options(self) -> InputOptions:
        """Return where the inputs are."""
        inputs = (self.input,) if isinstance(self.input, str) else tuple(self.input)
        return InputOptions(
            inputs=inputs,
            glob=self.glob,
            input_table=self.input_table,
            uri_column=self.uri_column,
            id_column=self.id_column,
            id_from=self.id_from,
            content_column=self.content_column,
            size_column=self.size_column,
            etag_column=self.etag_column,
            modified_column=self.modified_column,
            where=self.input_where,
            allow_uri=tuple(self.allow_uri),
        )

    @property
    def output_uri(self) -> str:
        """The table, canonical."""
        return storage.canonical_uri(self.output)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        JOB,
        "Extract one feature vector from each picture into a Delta table. Pictures that cannot be\n"
        "read become rows too, with the reason. Run again, it does what is new or changed and\n"
        "what could not be fetched; stopped at any moment, the same command goes on from there.",
        "example:\n"
        "  ./submit.sh extract-features --input photos/ --output build/features --model seeded\n"
        "\nexit status: 0 done, 1 failed, 2 wrong arguments (nothing written),\n"
        "3 done, but too much failed or is gone",
    )
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="WHERE",
        help="folder (searched recursively), file or glob; with --uri-column or --content-column a "
        "table: Delta, Parquet, CSV or JSON lines; may be given several times",
    )
    _add_table_options(inputs)
    parser.add_argument(
        "--output", required=True, metavar="TABLE", help="feature table, made if it is not there"
    )
    parser.add_argument(
        "--model",
        default=ExtractConfig.model,
        help="imagenet (Keras' weights, downloaded once), seeded (no download; finds "
        "near-duplicates and knows no meaning), a Keras file, SavedModel, frozen graph or "
        "checkpoint of an Inception-v3, or a model directory (default: %(default)s)",
    )
    parser.add_argument(
        "--glob", help="only files whose name matches, such as '*.jpg'; with a /, the path below"
    )
    parser.add_argument(
        "--engine",
        default=ExtractConfig.engine,
        help=f"{', '.join((AUTO, *ENGINES))}: auto takes what is fastest on each executor "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        default=ExtractConfig.precision,
        help=f"{', '.join((AUTO, *PRECISIONS))}: auto takes the fastest that the hardware computes "
        "in and the model bears (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=ExtractConfig.batch_size,
        metavar="N",
        help="pictures in one call of the model (default: %(default)s)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=ExtractConfig.max_pixels,
        metavar="N",
        help="a picture of more pixels is a row with too_many_pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--max-bytes",
        type=int,
        default=ExtractConfig.max_bytes,
        metavar="N",
        help="a file of more bytes is a row with too_large (default: %(default)s)",
    )
    _add_run_options(parser)
    return parser


def _add_table_options(inputs: argparse._ArgumentGroup) -> None:
    """Add the options of inputs that are listed in a table."""
    inputs.add_argument("--input-table", metavar="NAME", help="a table of Spark's catalog")
    for role, held in (
        ("uri", "the uri of each picture"),
        ("content", "the bytes of each picture"),
        ("id", "the image_id (default: the uri)"),
        ("size", "the length in bytes, so that a run asks the bucket nothing"),
        ("etag", "the etag, by which a change is seen"),
        ("modified", "the time of the last change"),
    ):
        inputs.add_argument(f"--{role}-column", metavar="COLUMN", help=f"column with {held}")
    inputs.add_argument(
        "--id-from", metavar="relative:BASE", help="image_id is the path below BASE"
    )
    inputs.add_argument(
        "--input-where", metavar="SQL", help="only rows of the table that this holds for"
    )
    inputs.add_argument(
        "--allow-uri",
        action="append",
        default=[],
        metavar="PREFIX",
        help="uris of a table are fetched only below one of these",
    )
    inputs.add_argument(
        "--on-duplicate",
        default=ExtractConfig.on_duplicate,
        metavar="error|last",
        help="what to do when an id comes twice (default: %(default)s)",
    )


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of what is done to which inputs, and when a run counts as failed."""
    runs = parser.add_argument_group("runs")
    runs.add_argument(
        "--mode",
        default=ExtractConfig.mode,
        help=f"{', '.join(MODES)}: incremental does what is new, changed or out of reach before; "
        "retry-failed also what failed; overwrite everything (default: %(default)s)",
    )
    runs.add_argument(
        "--plan",
        action="store_true",
        help="tell what would be done and what it would cost; write nothing",
    )
    runs.add_argument("--limit", type=int, metavar="N", help="only the first N inputs")
    runs.add_argument("--sample", type=float, metavar="SHARE", help="only a share of the inputs")
    runs.add_argument(
        "--seed", type=int, default=0, metavar="N", help="draws another sample (default: 0)"
    )
    runs.add_argument(
        "--max-minutes",
        type=float,
        metavar="M",
        help="begin nothing more after so long; the next run goes on",
    )
    runs.add_argument(
        "--prune",
        action="store_true",
        help="mark pictures below --prune-scope that are not among the inputs as gone",
    )
    runs.add_argument("--prune-scope", metavar="PREFIX", help="where pictures may be gone")
    for name, what in (
        ("max-gone", "pictures in the scope are gone; then nothing is changed (exit 3)"),
        ("max-failed", "pictures failed, files that are none not counted (exit 3)"),
        ("max-transient", "pictures were out of reach; the run stops (exit 1)"),
    ):
        runs.add_argument(
            f"--{name}",
            type=float,
            default=getattr(ExtractConfig, name.replace("-", "_")),
            metavar="SHARE",
            help=f"not done when more {what} (default: %(default)s)",
        )
    runs.add_argument(
        "--thumbnails", type=int, metavar="SIDE", help="keep a JPEG of at most SIDE pixels a side"
    )
    runs.add_argument(
        "--metrics-file", metavar="URI", help="write the figures as a Prometheus textfile, too"
    )


def configure(arguments: argparse.Namespace) -> ExtractConfig:
    """Return the configuration of a parsed command line."""
    return ExtractConfig(**vars(arguments))


def run(spark: SparkSession, config: ExtractConfig) -> Report:
    """Bring the table up to date with the inputs; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    report.details.update(input=config.input, output=config.output_uri)
    model = _model(config, own_table(config.output_uri))
    with staged(config.output_uri, report.run_id) as staging:
        found = inventory(spark, config.input_options(), staging=staging)
        with partitioned_for(found.frame):
            frame = one_of_each(_narrowed(found.frame, config), config.on_duplicate)
            if config.plan:
                work = _compared(spark, config, model, found, frame, report)
                return _planned_only(spark, config, work, report)
            with leased(config.output_uri, run_id=report.run_id, job=JOB):
                work = _compared(spark, config, model, found, frame, report)
                try:
                    return _extracted(spark, config, work, report)
                finally:
                    work.forget()


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Inputs and table, compared: the plan, and its counts by action."""

    table: FeatureTable | None
    model: ModelDirectory
    schema: pa.Schema
    known: DataFrame | None
    plan: DataFrame
    counts: Mapping[str, Counted]
    n_known: int

    def forget(self) -> None:
        """Give back what Spark keeps of the comparison."""
        self.plan.unpersist()
        if self.known is not None:
            self.known.unpersist()

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


def _compared(
    spark: SparkSession,
    config: ExtractConfig,
    model: ModelDirectory,
    found: Inventory,
    frame: DataFrame,
    report: Report,
) -> _Work:
    """Compare the inputs with the table as it is now."""
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
    work = _Work(
        table=table,
        model=model,
        schema=schema,
        known=known,
        plan=plan,
        counts=counted(plan),
        n_known=0 if table is None else sum(file.rows for file in table.files),
    )
    if work.inputs == 0:
        raise UsageError(
            "expected at least one input, found none after --input-where, --sample and --limit; "
            "widen them"
        )
    told = ", ".join(f"{one.pictures} {action}" for action, one in sorted(work.counts.items()))
    log.info("%d inputs, model %s: %s", work.inputs, model.model_id, told)
    report.model_id = model.model_id
    report.warnings.extend(model.notes)
    report.details["set_aside"] = found.set_aside
    report.details["planned"] = {action: one.pictures for action, one in work.counts.items()}
    return work


def _narrowed(frame: DataFrame, config: ExtractConfig) -> DataFrame:
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


def _model(config: ExtractConfig, table: FeatureTable | None) -> ModelDirectory:
    """Load the model; a table holds the features of one only."""
    model = load_model(config.model)
    check_ops(model.graph)  # before anything is written
    held = table.model_id() if table is not None else None
    if held is not None and held != model.model_id:
        raise UsageError(
            f"expected model {held}, which made the features in {config.output_uri}, found "
            f"{model.model_id} ({config.model}); use that model or another --output"
        )
    return model


def _keep_model(config: ExtractConfig, model: ModelDirectory) -> None:
    """Keep a copy of the model's directory in the table."""
    place = model_uri(config.output_uri, model.model_id)
    if not storage.exists(storage.join(place, "model.json")):
        model.write(place)


def _settings(
    spark: SparkSession, config: ExtractConfig, work: _Work, run_id: str
) -> ExtractSettings:
    return ExtractSettings(
        table_uri=config.output_uri,
        run_id=run_id,
        model_id=work.model.model_id,
        dimension=work.model.feature_dimension,
        schema=work.schema,
        input_size=work.model.input_size,
        resize=work.model.resize,
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


def _planned_only(
    spark: SparkSession, config: ExtractConfig, work: _Work, report: Report
) -> Report:
    """Tell what a run would do, and what it would cost, from a few pictures that are tried."""
    todo = work.to_extract
    report.counts["skipped"] = work.pictures(SKIPPED) + work.pictures(META)
    report.counts["gone"] = work.pictures(LEFT)
    report.details.update(to_extract=todo.pictures, bytes=todo.total_bytes)
    if todo.pictures:
        rows = work.plan.where(F.col("action").isin(*EXTRACTED))
        turn = F.pmod(F.xxhash64("image_id"), F.lit(max(1, todo.pictures // (2 * SAMPLED))))
        trial = replace(_settings(spark, config, work, report.run_id), table_uri=None)
        graph = spark.sparkContext.broadcast(work.model.graph)
        nothing = spark.sparkContext.broadcast(None)
        function = extract_part(trial, graph, None, nothing)
        frame = rows.where(turn == 0).limit(SAMPLED).repartition(1)
        (tried,) = [TaskSummary.from_dict(one) for one in gather(frame, function, label="sample")]
        cpu_s = (tried.cpu_s - tried.load_cpu_s) / max(1, tried.inputs)
        report.cpu_s_per_image = round(cpu_s, 5)
        report.details.update(
            sampled=tried.inputs, estimated_core_hours=float(f"{cpu_s * todo.pictures / 3600:.3g}")
        )
    log.info("%s", summary_text(report))
    return report


def _extracted(spark: SparkSession, config: ExtractConfig, work: _Work, report: Report) -> Report:
    """Do what is planned; the report tells how far it came, whatever ends it."""
    tasks: list[TaskSummary] = []
    report.seconds["startup"] = since_start()
    report.counts["skipped"] = work.pictures(SKIPPED) + work.pictures(META)
    _keep_model(config, work.model)
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
    if config.metrics_file is not None:
        storage.put(storage.canonical_uri(config.metrics_file), prometheus_text(report).encode())
    return report


def _check_gone(config: ExtractConfig, work: _Work) -> None:
    if work.known is None or config.prune_scope is None:
        return
    scope = storage.canonical_uri(config.prune_scope).rstrip("/") + "/"
    held = work.known.where(F.col("uri").startswith(scope) & (F.col("status") != GONE)).count()
    require_few_gone(work.pictures(LEFT), held, config.max_gone)


def _chunks(
    spark: SparkSession,
    config: ExtractConfig,
    work: _Work,
    report: Report,
    tasks: list[TaskSummary],
) -> bool:
    """Run and commit chunk after chunk into `tasks`; tell whether all came to their turn."""
    cores = spark.sparkContext.defaultParallelism
    new = work.counts.get(NEW, Counted())
    again = any(work.pictures(action) for action in EXTRACTED if action != NEW)
    replaced = replaced_files(work.plan) if again else []
    layout = lay_out(replaced, (new.pictures, new.total_bytes), cores=cores)
    runner = _runner(spark, config, work, report, layout)
    bound = {file for unit in layout.units for file in unit.files}
    edits = work.pictures(META) + work.pictures(LEFT)
    edited = [file for file in edited_files(work.plan) if file not in bound] if edits else []
    pace = Pace(cores)
    report.details.update(chunks=0, table_version=runner.version)
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


def _runner(
    spark: SparkSession, config: ExtractConfig, work: _Work, report: Report, layout: Layout
) -> ChunkRunner:
    known = None
    if work.known is not None and layout.units and config.mode != "overwrite":
        known = known_content(work.known)
    context = spark.sparkContext
    return ChunkRunner(
        spark=spark,
        job=JOB,
        settings=_settings(spark, config, work, report.run_id),
        table=work.table,
        plan=work.plan,
        todo=with_tasks(work.plan, layout),
        graph=context.broadcast(work.model.graph),
        known=context.broadcast(known),
        version=None if work.table is None else work.table.version,
    )


def _label(number: int, units: Sequence[Unit], layout: Layout) -> str:
    if len(units) == len(layout.units):
        return "extracting features"
    return f"extracting features, chunk {number}"


def _out_of_time(config: ExtractConfig) -> bool:
    return config.max_minutes is not None and since_start() > 60 * config.max_minutes


def _fill(report: Report, work: _Work, tasks: Sequence[TaskSummary]) -> None:
    fill_report(report, tasks, elapsed_s=since_start() - report.seconds["startup"])
    report.details["meta_updated"] = work.pictures(META)
    report.details["remaining"] = work.to_extract.pictures - sum(task.inputs for task in tasks)


def _check_outcome(config: ExtractConfig, work: _Work, report: Report) -> None:
    """Check the table against the inputs, and the gate of failures."""
    table = own_table(config.output_uri)
    rows = 0 if table is None else sum(file.rows for file in table.files)
    accounted = report.counts["ok"] + report.counts["failed"] + report.counts["skipped"]
    expected = work.n_known + work.pictures(NEW)
    try:
        if rows != expected or accounted != work.inputs:
            raise Pool3Error(
                f"expected {expected} rows in {config.output_uri} and {work.inputs} inputs "
                f"accounted for, found {rows} and {accounted}; do not use version "
                f"{report.details.get('table_version')}, and report this as a defect"
            )
        require_few_failed(report.counts["ok"], report.errors, config.max_failed)
    except Pool3Error as error:
        fail(report, error.exit_code, str(error))


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return run_job(
        JOB,
        argv,
        parser=arg_parser(),
        configure=configure,
        run=lambda config: run(SparkSession.builder.appName(JOB).getOrCreate(), config),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
