"""The steps of compact-features: merge small files, erase rows, delete old versions."""

from __future__ import annotations

from collections.abc import Sequence, Set

import pyarrow as pa
from pyspark.sql import SparkSession

from jobs.options.compact_features import JOB, CompactConfig
from jobs.runtime.report import Report
from jobs.steps.tasks import gather, gather_files, spread
from pool3 import storage
from pool3.errors import Pool3Error, UsageError
from pool3.features.lease import Lease
from pool3.features.merge import Merged, merge_groups, require_same_rows
from pool3.features.table import FeatureTable, own_table
from pool3.features.vacuum import checkpoint, keep_since, log_before, outdated, run_leftovers
from pool3.storage import StoredObject
from pool3.storage.removal import delete_objects
from pool3.storage.tables import TableFile, commit
from udfs.compact import GROUP_SCHEMA, group_rows, merge_group
from udfs.find_ids import find_files_with_ids

#: Ids by path of the file that has them, None for a file that cannot be read.
FilesWithIds = dict[str, list[str] | None]


def require_table(config: CompactConfig) -> FeatureTable:
    """Return the newest version of the table; raise `UsageError` when there is none."""
    table = own_table(config.output_uri)
    if table is None:
        raise UsageError(
            f"expected a feature table at {config.output_uri}, found none; check --table"
        )
    return table


def files_with_ids(
    spark: SparkSession, table: FeatureTable, files: Sequence[TableFile], ids: Set[str]
) -> FilesWithIds:
    """Return the files that have some of the ids, with these ids."""
    if not files or not ids:
        return {}
    n_tasks = min(len(files), 4 * spark.sparkContext.defaultParallelism)
    wanted = spark.sparkContext.broadcast(ids)
    function = find_files_with_ids(table, wanted)
    tasks = gather_files(spark, files, function, label="looking for ids", most_tasks=n_tasks)
    return {task["path"]: task["ids"] for task in tasks}


def require_readable(table: FeatureTable, files: FilesWithIds) -> None:
    """Raise `Pool3Error` for a file that may have ids to erase and cannot be read."""
    for path, ids in files.items():
        if ids is None:
            raise Pool3Error(
                f"expected ids in {storage.join(table.uri, path)}, found that it cannot be read; "
                "nothing was erased: restore the file or an older version of the table, and run "
                "again"
            )


def merge_files(
    spark: SparkSession,
    config: CompactConfig,
    table: FeatureTable,
    erased: Set[str],
    forced: Set[str],
    report: Report,
) -> FeatureTable:
    """Merge small files, rewrite those that are `forced`, and commit; returns the new version."""
    groups = merge_groups(table.files, target_bytes=config.target_file_mb << 20, forced=forced)
    schema = table.log_schema()
    merges = _merge(spark, table, groups, erased, schema, report.run_id)
    old = [file for group in groups for file in group]
    new = [merge.file for merge in merges if merge.file is not None]
    require_same_rows(merges, sum(table.n_rows(file) for file in old))
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
        custom_metadata={"job": JOB.name, "run_id": report.run_id},
        data_change=report.counts["gone"] > 0,
    )
    return require_table(config)


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
    """Report rows and files: ``ok`` rows were copied, ``skipped`` ones are in unchanged files."""
    rows, read = (sum(file.rows for file in files) for files in (table.files, old))
    report.counts.update(ok=read - n_erased, skipped=rows - read, gone=n_erased)
    report.details.update(
        table=table.uri,
        files={"before": len(table.files), "after": len(table.files) - len(old) + len(new)},
        merged={"files": len(old), "into": len(new)},
    )


def clean_table(
    config: CompactConfig,
    table: FeatureTable,
    unnamed: Sequence[StoredObject],
    unnamed_with_ids: Set[str],
    erasing: bool,
    lease: Lease,
    report: Report,
) -> None:
    """Delete objects that are no longer needed, and write a checkpoint.

    With `erasing`, every object that may contain the ids is deleted whatever its age: the
    `unnamed_with_ids` among the files that no version names, the leftovers of runs, and the older
    log.
    """
    cutoff = keep_since(config.keep_hours)
    leftovers = run_leftovers(
        table.uri, keep_since(0) if erasing else cutoff, lease_number=lease.number
    )
    obsolete = {
        *outdated(table, unnamed, cutoff),
        *(storage.join(table.uri, path) for path in unnamed_with_ids),
        *(entry.uri for entry in leftovers),
    }
    delete_objects(sorted(obsolete))
    version = checkpoint(table.uri)
    if erasing:
        delete_objects(log_before(table.uri, version))
    freed = sum(entry.size for entry in [*unnamed, *leftovers] if entry.uri in obsolete)
    report.details.update(freed={"files": len(obsolete), "bytes": freed}, table_version=version)
