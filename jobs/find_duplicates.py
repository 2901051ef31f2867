"""find-duplicates: clusters of near-duplicate pictures over a whole index, as a table.

Pictures of identical bytes count as one first. Each of the others asks the index for its own
neighbours, so that nothing is quadratic; those within the threshold are pairs, and pairs become
clusters around representatives.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pool3 import storage
from pool3.duplicates import check_threshold, cluster_id, cluster_sheet
from pool3.errors import UsageError
from pool3.index.depth import depth_of
from pool3.index.opening import open_snapshot
from pool3.job import job_parser, run_job, since_start
from pool3.report import Report, new_run_id
from pool3.result_tables import replace_rows, result_version
from pool3.search_options import MAX_TASK_MB, add_index_options, require_counts
from pool3.storage.tables import TableFile
from udfs.clusters import Passes
from udfs.duplicates import DUPLICATE_SCHEMA, PairSettings, largest
from udfs.search_shards import OpenIndex, search_tasks

JOB = "find-duplicates"
BYTES_A_MB = 1 << 20
# The depth that a search begins with is that of so many hits.
FIRST_K = 10
SHOWN = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig:
    """What find-duplicates is asked to do; the options of the command line, checked."""

    index: str
    output: str
    threshold: float = 0.05
    max_neighbours: int = 1000
    snapshot: int | None = None
    recall: float | None = None
    sheet_dir: str | None = None
    sheets: int = 20
    max_task_mb: int = MAX_TASK_MB
    report: str | None = None

    def __post_init__(self) -> None:
        require_counts(
            {
                "--max-neighbours": self.max_neighbours,
                "--snapshot": self.snapshot,
                "--sheets": self.sheets,
                "--max-task-mb": self.max_task_mb,
            }
        )
        check_threshold(self.threshold, "angular")
        for where in (self.index, self.output, self.sheet_dir):
            if where is not None:
                storage.canonical_uri(where)

    @property
    def output_uri(self) -> str:
        """The table of clusters, canonical."""
        return storage.canonical_uri(self.output)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        JOB,
        "Find pictures that are nearly the same, and write a row for each to a Delta table with\n"
        "the columns cluster_id, image_id, representative_id, distance_to_representative. Each\n"
        "picture is in one cluster at most, and within --threshold of its representative. Each\n"
        "run's rows take the place of those before; older versions of the table stay readable.",
        "examples:\n"
        "  ./submit.sh find-duplicates --index s3://lake/index --output s3://lake/duplicates\n"
        "  ./submit.sh find-duplicates --index build/index --output build/duplicates \\\n"
        "      --threshold 0.02 --sheet-dir build/sheets\n"
        "\nexit status: 0 done, 1 failed, 2 wrong arguments (nothing written)",
    )
    parser.add_argument("--index", required=True, metavar="DIR", help="the index; not one of dot")
    parser.add_argument("--output", required=True, metavar="TABLE", help="the table of clusters")
    parser.add_argument(
        "--threshold",
        type=float,
        default=DuplicatesConfig.threshold,
        metavar="DISTANCE",
        help="largest distance to the representative, as a search shows it (default: %(default)s)",
    )
    parser.add_argument(
        "--max-neighbours",
        type=int,
        default=DuplicatesConfig.max_neighbours,
        metavar="N",
        help="how many neighbours within the threshold a picture looks for in a shard; how many "
        "pictures have more is reported (default: %(default)s)",
    )
    parser.add_argument(
        "--recall",
        type=float,
        metavar="SHARE",
        help="look as far as the index's measured curve says for this recall (default: 0.95)",
    )
    parser.add_argument(
        "--sheet-dir", metavar="DIR", help="draw contact sheets of the largest clusters there"
    )
    parser.add_argument(
        "--sheets",
        type=int,
        default=DuplicatesConfig.sheets,
        metavar="N",
        help="how many of them (default: %(default)s)",
    )
    add_index_options(parser)
    return parser


def configure(arguments: argparse.Namespace) -> DuplicatesConfig:
    """Return the configuration of a parsed command line."""
    return DuplicatesConfig(**vars(arguments))


def run(spark: SparkSession, config: DuplicatesConfig) -> Report:
    """Find the clusters; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    uri, manifest, reduction = open_snapshot(config.index, config.snapshot)
    check_threshold(config.threshold, manifest.metric)
    if not manifest.rows:
        raise UsageError(f"expected an index with rows, found none in {uri}")
    settings = PairSettings(
        depth=depth_of(manifest, FIRST_K, recall=config.recall),
        threshold=config.threshold,
        most=config.max_neighbours,
    )
    version = result_version(config.output_uri, DUPLICATE_SCHEMA)
    index = OpenIndex.of(uri, manifest, reduction, config.max_task_mb * BYTES_A_MB)
    passes = Passes(spark, index)
    report.counts["ok"] = manifest.rows
    report.model_id = manifest.model_id
    report.details.update(snapshot_id=manifest.snapshot_id, threshold=config.threshold)
    report.seconds["startup"] = since_start()
    with _few_partitions(spark):
        _find(config, passes, settings, version, report)
    return report


@contextmanager
def _few_partitions(spark: SparkSession) -> Iterator[None]:
    """Shuffle into as many partitions as a search has tasks, not into 200 of a few rows each."""
    name = "spark.sql.shuffle.partitions"
    before = str(spark.conf.get(name))
    spark.conf.set(name, search_tasks(spark))
    try:
        yield
    finally:
        spark.conf.set(name, before)


def _find(
    config: DuplicatesConfig,
    passes: Passes,
    settings: PairSettings,
    version: int | None,
    report: Report,
) -> None:
    """Find copies, then pairs, then clusters; store these, and draw the largest."""
    with report.timed("identical"):
        copies = passes.copies().persist(StorageLevel.DISK_ONLY)
        hidden = passes.hidden(copies)
        report.details["identical"] = sum(map(len, hidden.values()))
    with report.timed("pairs"):
        found = passes.pairs(hidden, settings).persist(StorageLevel.DISK_ONLY)
        _count_pairs(report, found, config)
    with report.timed("clusters"):
        pairs = found.where(F.col("second").isNotNull())
        members = passes.members(pairs, copies).persist(StorageLevel.DISK_ONLY)
        ranked = _store(config, passes, members, version, report)
    if config.sheet_dir is not None:
        with report.timed("sheets"):
            _draw(passes, members, ranked, config.sheet_dir)
    for frame in (copies, found, members):
        frame.unpersist()


def _count_pairs(report: Report, found: DataFrame, config: DuplicatesConfig) -> None:
    counted = found.agg(F.count("*"), F.count("second")).collect()[0]
    unfinished = counted[0] - counted[1]
    report.details.update(pairs=counted[1], unfinished=unfinished)
    if unfinished:
        warning = (
            f"{unfinished} pictures have {config.max_neighbours} neighbours or more within the "
            "threshold in one shard, and of these no more were looked at; lower --threshold, or "
            "raise --max-neighbours"
        )
        report.warnings.append(warning)
        log.warning("%s", warning)


def _store(
    config: DuplicatesConfig,
    passes: Passes,
    members: DataFrame,
    read_version: int | None,
    report: Report,
) -> list[tuple[str, int]]:
    """Write the table; returns representatives and sizes of its largest clusters."""
    tasks = passes.write(
        members, table_uri=config.output_uri, run_id=report.run_id, n_largest=config.sheets
    )
    files = [TableFile.from_dict(task["file"]) for task in tasks if task["file"] is not None]
    table_version = replace_rows(
        config.output_uri,
        schema=DUPLICATE_SCHEMA,
        files=files,
        read_version=read_version,
        run_id=report.run_id,
        job=JOB,
    )
    ranked = largest([tuple(one) for task in tasks for one in task["largest"]], config.sheets)
    report.details.update(
        pictures=sum(file.rows for file in files),
        clusters=sum(task["clusters"] for task in tasks),
        largest=[{"representative_id": one, "pictures": size} for one, size in ranked],
        table_version=table_version,
    )
    return ranked


def _draw(
    passes: Passes, members: DataFrame, ranked: Sequence[tuple[str, int]], folder: str
) -> None:
    """Store a contact sheet of each of some clusters."""
    shown = passes.shown(members, [one for one, _ in ranked], SHOWN + 1)
    uris = passes.uris([row.image_id for row in shown])
    for number, (representative, size) in enumerate(ranked, start=1):
        cluster = [
            (row.image_id, uris.get(row.image_id, row.image_id), row.distance_to_representative)
            for row in shown
            if row.representative_id == representative
        ]
        file = io.BytesIO()
        cluster_sheet(size, cluster).save(file, "PNG")
        name = f"{number:03d}-{cluster_id(representative)}.png"
        storage.put(storage.join(storage.canonical_uri(folder), name), file.getvalue())


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
