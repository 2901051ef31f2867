"""compact-features: small files of a feature table merged, old versions freed, rows erased.

Merging changes no row: the new files are counted against the old ones before one commit puts them
in their place. Erasing takes rows out of every file that stays, whatever version it belongs to.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
from pyspark.sql import SparkSession

from pool3 import storage
from pool3.errors import Pool3Error, StorageError, UsageError
from pool3.features.cleaning import (
    as_files,
    checkpoint,
    keep_since,
    log_before,
    outdated,
    run_leavings,
    unnamed_files,
)
from pool3.features.erasure import ids_named
from pool3.features.lease import Lease, leased
from pool3.features.merging import Merged, merge_groups, require_same_rows
from pool3.features.suppression import suppress
from pool3.features.table import FeatureTable, own_table
from pool3.job import job_parser, run_job, since_start
from pool3.report import Report, new_run_id
from pool3.storage import StoredObject
from pool3.storage.removal import delete_objects
from pool3.storage.tables import TableFile, commit, open_table
from udfs.compact import GROUP_SCHEMA, find_holders, group_rows, merge_group
from udfs.files import FILE_SCHEMA, file_rows
from udfs.spread import gather, spread

JOB = "compact-features"

#: Files by their paths, each with the ids that were found in it.
Holders = dict[str, list[str] | None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CompactConfig:
    """What compact-features is asked to do; the options of the command line, checked."""

    table: str
    target_file_mb: int = 256
    erase: str | None = None
    keep_hours: float = 168
    report: str | None = None

    def __post_init__(self) -> None:
        if self.target_file_mb < 1:
            raise UsageError(
                f"expected --target-file-mb of at least 1, found {self.target_file_mb}"
            )
        if not (math.isfinite(self.keep_hours) and self.keep_hours >= 0):
            raise UsageError(f"expected --keep-hours of at least 0, found {self.keep_hours}")
        storage.canonical_uri(self.table)

    @property
    def output_uri(self) -> str:
        """The table, canonical."""
        return storage.canonical_uri(self.table)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        JOB,
        "Merge the small files of a feature table, delete what only versions older than\n"
        "--keep-hours need and what killed runs left, and write a checkpoint of its log. With\n"
        "--erase, the rows of some ids are physically gone afterwards: from every file, from the\n"
        "log, and at once; later runs of extract-features skip these ids.",
        "examples:\n"
        "  ./submit.sh compact-features --table s3://lake/features\n"
        "  ./submit.sh compact-features --table s3://lake/features --erase @ids.txt\n"
        "\nexit status: 0 done, 1 failed (another run is writing, say), 2 wrong arguments\n"
        "(nothing written)",
    )
    parser.add_argument("--table", required=True, metavar="TABLE", help="the feature table")
    parser.add_argument(
        "--target-file-mb",
        type=int,
        default=CompactConfig.target_file_mb,
        metavar="MB",
        help="files under half of this are merged into files of about this (default: %(default)s)",
    )
    parser.add_argument(
        "--erase",
        metavar="IDS",
        help="image ids with commas between them, or @FILE with one on each line (@FILE.json: a "
        "list of strings, for ids with line feeds). Versions of the table before this run "
        "cannot be read any more",
    )
    parser.add_argument(
        "--keep-hours",
        type=float,
        default=CompactConfig.keep_hours,
        metavar="H",
        help="versions that were current in this time stay readable (default: %(default)s)",
    )
    return parser


def configure(arguments: argparse.Namespace) -> CompactConfig:
    """Return the configuration of a parsed command line."""
    return CompactConfig(**vars(arguments))


def run(spark: SparkSession, config: CompactConfig) -> Report:
    """Compact the table; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    erased = frozenset() if config.erase is None else ids_named(config.erase)
    _newest(config)
    with leased(config.output_uri, run_id=report.run_id, job=JOB) as lease:
        report.seconds["startup"] = since_start()
        if erased:
            suppress(config.output_uri, erased)
        table = _newest(config)
        holders = _holders(spark, table, table.files, erased)
        _require_readable(table, holders)
        with report.timed("write"):
            table = _compact(spark, config, table, erased, holders.keys(), report)
        unnamed = unnamed_files(table)
        old_holders = _holders(spark, table, as_files(table, unnamed), erased)
        with report.timed("clean"):
            _clean(config, table, unnamed, old_holders.keys(), bool(erased), lease, report)
    if erased:
        found = chain(*(ids or () for ids in (*holders.values(), *old_holders.values())))
        _tell_of_erasure(report, len(erased), len(set(found)))
    return report


def _newest(config: CompactConfig) -> FeatureTable:
    table = own_table(config.output_uri)
    if table is None:
        raise UsageError(
            f"expected a feature table at {config.output_uri}, found none; check --table"
        )
    return table


def _holders(
    spark: SparkSession, table: FeatureTable, files: Sequence[TableFile], ids: Set[str]
) -> Holders:
    """Return the files that hold some ids, with these; None for a file that cannot be read."""
    if not files or not ids:
        return {}
    n_tasks = min(len(files), 4 * spark.sparkContext.defaultParallelism)
    frame = spread(spark, file_rows(files), FILE_SCHEMA, n_tasks)
    wanted = spark.sparkContext.broadcast(ids)
    found = gather(frame, find_holders(table, wanted), label="looking for ids")
    return {task["path"]: task["ids"] for task in found}


def _require_readable(table: FeatureTable, holders: Holders) -> None:
    for path, ids in holders.items():
        if ids is None:
            raise Pool3Error(
                f"expected ids in {storage.join(table.uri, path)}, which cannot be read; nothing "
                "was erased: restore the file, or an older version of the table, and run again"
            )


def _compact(
    spark: SparkSession,
    config: CompactConfig,
    table: FeatureTable,
    erased: Set[str],
    forced: Set[str],
    report: Report,
) -> FeatureTable:
    """Merge small files, rewrite those that are `forced`, and commit; returns the new version."""
    groups = merge_groups(table.files, target_bytes=config.target_file_mb << 20, forced=forced)
    schema = _schema(table)
    merges = _merge(spark, table, groups, erased, schema, report.run_id)
    old = [file for group in groups for file in group]
    new = [merge.file for merge in merges if merge.file is not None]
    require_same_rows(merges, sum(file.rows for file in old))
    _count(report, table, old, new, n_erased=sum(merge.erased for merge in merges))
    if not groups:
        return table
    commit(
        table.uri,
        schema=schema,
        added=new,
        removed=old,
        read_version=table.version,
        run_id=report.run_id,
        facts={"job": JOB, "run_id": report.run_id},
        data_change=report.counts["gone"] > 0,
    )
    return _newest(config)


def _schema(table: FeatureTable) -> pa.Schema:
    """Return the columns of the table as its log has them."""
    opened = open_table(table.uri, table.version)
    if opened is None:
        raise StorageError("not_found", f"the table {table.uri} has gone")
    return pa.schema(opened.schema().to_arrow())


def _merge(
    spark: SparkSession,
    table: FeatureTable,
    groups: Sequence[Sequence[TableFile]],
    erased: Set[str],
    schema: pa.Schema,
    run_id: str,
) -> list[Merged]:
    if not groups:
        return []
    ids = spark.sparkContext.broadcast(erased)
    frame = spread(spark, group_rows(groups), GROUP_SCHEMA, len(groups))
    function = merge_group(table, ids, run_id, schema.serialize().to_pybytes())
    return [Merged.from_dict(merge) for merge in gather(frame, function, label="merging files")]


def _count(
    report: Report,
    table: FeatureTable,
    old: Sequence[TableFile],
    new: Sequence[TableFile],
    *,
    n_erased: int,
) -> None:
    """Report rows and files: ok was carried over, skipped lies in files that stay as they are."""
    rows, read = (sum(file.rows for file in files) for files in (table.files, old))
    report.counts.update(ok=read - n_erased, skipped=rows - read, gone=n_erased)
    report.details.update(
        table=table.uri,
        files={"before": len(table.files), "after": len(table.files) - len(old) + len(new)},
        merged={"files": len(old), "into": len(new)},
    )


def _clean(
    config: CompactConfig,
    table: FeatureTable,
    unnamed: Sequence[StoredObject],
    holders: Set[str],
    erasing: bool,
    lease: Lease,
    report: Report,
) -> None:
    """Delete what counts no more, and write a checkpoint.

    With `erasing`, all that may hold the ids goes whatever its age: the `holders` among the files
    that no version names, what runs left, and the log's older part.
    """
    cutoff = keep_since(config.keep_hours)
    leavings = run_leavings(
        table.uri, keep_since(0) if erasing else cutoff, lease_number=lease.number
    )
    doomed = {
        *outdated(table, unnamed, cutoff),
        *(storage.join(table.uri, path) for path in holders),
        *(found.uri for found in leavings),
    }
    delete_objects(sorted(doomed))
    version = checkpoint(table.uri)
    if erasing:
        delete_objects(log_before(table.uri, version))
    freed = sum(found.size for found in [*unnamed, *leavings] if found.uri in doomed)
    report.details.update(freed={"files": len(doomed), "bytes": freed}, table_version=version)


def _tell_of_erasure(report: Report, n_ids: int, n_found: int) -> None:
    """Report what was erased, by numbers: the ids themselves are to stand nowhere."""
    report.details["erased"] = {"ids": n_ids, "found": n_found, "rows": report.counts["gone"]}
    report.warnings.append(
        "versions of the table before this one cannot be read any more; an index that was built "
        "from them holds the erased ids until build-index runs again, and a bucket that keeps "
        "versions of its objects, a backup or an older report still holds what it held"
    )
    if n_found < n_ids:
        report.warnings.append(
            f"{n_ids - n_found} of {n_ids} ids to erase stood in no file of the table; they are "
            "suppressed from now on (a file with ids is named @FILE)"
        )
    for warning in report.warnings:
        log.warning("%s", warning)


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
