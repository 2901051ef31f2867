"""compact-features: small files of a feature table merged, old versions freed, rows erased.

Merging changes no row: the new files are counted against the old ones before one commit puts them
in their place. Erasing takes rows out of every file that stays, whatever version it belongs to.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from itertools import chain

from pyspark.sql import SparkSession

from jobs.options.compact_features import JOB, CompactConfig, arg_parser, configure
from jobs.options.shared import ids_named
from jobs.runtime.report import Report
from jobs.runtime.run import run_job, since_start
from jobs.steps.features.compact import (
    clean_table,
    files_with_ids,
    merge_files,
    require_readable,
    require_table,
)
from pool3.features.lease import leased
from pool3.features.suppression import suppress
from pool3.features.vacuum import (
    as_files,
    unnamed_files,
)
from pool3.storage.names import new_run_id

log = logging.getLogger(__name__)


def run(spark: SparkSession, config: CompactConfig) -> Report:
    """Compact the table; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    erased = frozenset() if config.erase is None else ids_named(config.erase)
    require_table(config)
    with leased(config.output_uri, run_id=report.run_id, job=JOB) as lease:
        report.seconds["startup"] = since_start()
        if erased:
            suppress(config.output_uri, erased)
        table = require_table(config)
        with_ids = files_with_ids(spark, table, table.files, erased)
        require_readable(table, with_ids)
        with report.timed("write"):
            table = merge_files(spark, config, table, erased, with_ids.keys(), report)
        unnamed = unnamed_files(table)
        unnamed_with_ids = files_with_ids(spark, table, as_files(table, unnamed), erased)
        with report.timed("clean"):
            clean_table(
                config, table, unnamed, unnamed_with_ids.keys(), bool(erased), lease, report
            )
    if erased:
        found = chain(*(ids or () for ids in (*with_ids.values(), *unnamed_with_ids.values())))
        _tell_of_erasure(report, len(erased), len(set(found)))
    return report


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
