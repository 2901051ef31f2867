"""extract-features: pictures in, feature table out.

The frozen graph is broadcast once; each task fetches, decodes and runs its share of the pictures
and stores one Parquet part; one Delta commit publishes them all. Every input becomes one row.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import SparkSession

from pool3 import storage
from pool3.decode import DecodeLimits
from pool3.engines import AUTO, ENGINES, PRECISIONS
from pool3.errors import UsageError
from pool3.features.schema import FEATURE_SCHEMA
from pool3.features.summary import TaskSummary, fill_report, require_every_input
from pool3.features.table import FeatureTable, Overlap, model_uri, overlap, own_table
from pool3.job import job_parser, run_job, since_start
from pool3.listing import Listing, list_pictures
from pool3.models import ModelDirectory, load_model
from pool3.report import Report, new_run_id
from pool3.storage.tables import TableFile, commit
from udfs.extract import INPUT_SCHEMA, ExtractSettings, extract_part, input_rows
from udfs.files import FILE_SCHEMA, file_rows
from udfs.spread import gather, spread
from udfs.supersede import rewrite_without

JOB = "extract-features"
FEWEST_A_TASK, MOST_A_TASK = 64, 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """What extract-features is asked to do; the options of the command line, checked."""

    input: str
    output: str
    model: str = "imagenet"
    glob: str | None = None
    engine: str = AUTO
    precision: str = AUTO
    batch_size: int = 16
    max_pixels: int = DecodeLimits.max_pixels
    max_bytes: int = DecodeLimits.max_bytes
    report: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_pixels", "max_bytes"):
            if getattr(self, name) < 1:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"expected {option} of at least 1, found {getattr(self, name)}")
        for name, known in (("engine", ENGINES), ("precision", PRECISIONS)):
            if getattr(self, name) not in (AUTO, *known):
                raise UsageError(
                    f"expected --{name} to be one of {', '.join((AUTO, *known))}, found "
                    f"{getattr(self, name)!r}"
                )
        storage.canonical_uri(self.input)
        storage.canonical_uri(self.output)

    @property
    def output_uri(self) -> str:
        """The table, canonical."""
        return storage.canonical_uri(self.output)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        JOB,
        "Extract one feature vector from each picture into a Delta table. Pictures that cannot be\n"
        "read become rows too, with the reason. Pictures that the table holds already are\n"
        "extracted anew, and their old rows go in the same commit.",
        "example:\n"
        "  ./submit.sh extract-features --input photos/ --output build/features --model seeded\n"
        "\nexit status: 0 done, 1 failed, 2 wrong arguments (nothing written)",
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="WHERE",
        help="folder (searched recursively), file or glob",
    )
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
    return parser


def configure(arguments: argparse.Namespace) -> ExtractConfig:
    """Return the configuration of a parsed command line."""
    return ExtractConfig(**vars(arguments))


def run(spark: SparkSession, config: ExtractConfig) -> Report:
    """Extract the features of every input and commit them; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    table = own_table(config.output_uri)
    listing = list_pictures(config.input, glob=config.glob)
    model = _model(config, table)
    old = _overlap(table, listing)
    log.info("%d inputs, model %s", len(listing.objects), model.model_id)
    report.seconds["startup"] = since_start()
    tasks = _extract(spark, config, listing, old, model, report.run_id)
    fill_report(report, tasks, elapsed_s=since_start() - report.seconds["startup"])
    require_every_input(tasks, len(listing.objects))
    parts = [task.file for task in tasks if task.file is not None]
    if table is not None and old.files:
        replaced = {found.uri for found in listing.objects}.difference(*(t.kept for t in tasks))
        parts += _rewrite(spark, table, old.files, replaced, report.run_id, model)
    version = commit(
        config.output_uri,
        schema=FEATURE_SCHEMA,
        added=parts,
        removed=old.files,
        read_version=None if table is None else table.version,
        run_id=report.run_id,
        facts={"job": JOB, "run_id": report.run_id, "model_id": model.model_id},
    )
    report.model_id = model.model_id
    report.warnings.extend(model.notes)
    report.details.update(
        input=config.input,
        output=config.output_uri,
        table_version=version,
        set_aside=listing.set_aside,
    )
    return report


def _model(config: ExtractConfig, table: FeatureTable | None) -> ModelDirectory:
    """Load the model and keep a copy of its directory in the table."""
    model = load_model(config.model)
    held = table.model_id() if table is not None else None
    if held is not None and held != model.model_id:
        raise UsageError(
            f"expected model {held}, which made the features in {config.output_uri}, found "
            f"{model.model_id} ({config.model}); use that model or another --output"
        )
    place = model_uri(config.output_uri, model.model_id)
    if not storage.exists(storage.join(place, "model.json")):
        model.write(place)
    return model


def _overlap(table: FeatureTable | None, listing: Listing) -> Overlap:
    if table is None:
        return Overlap(frozenset(), ())
    return overlap(table, {found.uri for found in listing.objects})


def _extract(
    spark: SparkSession,
    config: ExtractConfig,
    listing: Listing,
    old: Overlap,
    model: ModelDirectory,
    run_id: str,
) -> list[TaskSummary]:
    settings = ExtractSettings(
        table_uri=config.output_uri,
        run_id=run_id,
        model_id=model.model_id,
        dimension=model.feature_dimension,
        input_size=model.input_size,
        resize=model.resize,
        engine=config.engine,
        precision=config.precision,
        threads=int(spark.conf.get("spark.task.cpus", "1") or 1),
        batch_size=config.batch_size,
        limits=DecodeLimits(max_pixels=config.max_pixels, max_bytes=config.max_bytes),
    )
    inputs = input_rows(listing.objects, old.ok_ids)
    graph = spark.sparkContext.broadcast(model.graph)
    frame = spread(spark, inputs, INPUT_SCHEMA, _n_tasks(spark, inputs.num_rows))
    summaries = gather(frame, extract_part(settings, graph), label="extracting features")
    return [TaskSummary.from_dict(summary) for summary in summaries]


def _n_tasks(spark: SparkSession, n_inputs: int) -> int:
    """Return how many tasks share the inputs: the same number for each core, and a few of them."""
    cores = spark.sparkContext.defaultParallelism
    few = min(4 * cores, n_inputs // FEWEST_A_TASK)
    rounds = math.ceil(max(few, n_inputs / MOST_A_TASK) / cores)
    return min(n_inputs, cores * max(1, rounds))


def _rewrite(
    spark: SparkSession,
    table: FeatureTable,
    files: Sequence[TableFile],
    replaced: set[str],
    run_id: str,
    model: ModelDirectory,
) -> list[TableFile]:
    """Write the files that hold replaced rows anew without them."""
    ids = spark.sparkContext.broadcast(replaced)
    frame = spread(spark, file_rows(files), FILE_SCHEMA, len(files))
    function = rewrite_without(table, ids, run_id, model.feature_dimension)
    summaries = gather(frame, function, label="replacing old rows")
    return [TableFile.from_dict(task["file"]) for task in summaries if task["file"] is not None]


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
