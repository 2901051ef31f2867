"""compact-features: small files of a feature table merged, old versions freed, rows erased.

Merging changes no row: the rows of the new files are compared with those of the old ones before one
commit replaces the files. Erasing removes rows from every file that stays, whatever its version.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain

from pyspark.sql import SparkSession

from jobs.options.compact_features import JOB, CompactConfig, arg_parser
from jobs.options.shared import ids_named
from jobs.runtime.report import Report
from jobs.runtime.run import since_start
from jobs.steps.features.compact import (
    clean_table,
    files_with_ids,
    merge_files,
    require_readable,
    require_table,
)
from pool3.features.lease import leased
from pool3.features.suppression import suppress
from pool3.features.table import listed_files
from pool3.features.vacuum import unnamed_files

__all__ = ["arg_parser", "main", "run"]


def run(spark: SparkSession, config: CompactConfig) -> Report:
    """Compact the table; returns the report."""
    report = JOB.report()
    erased = frozenset() if config.erase is None else ids_named(config.erase)
    require_table(config)
    with leased(config.output_uri, run_id=report.run_id, job=JOB.name) as lease:
        report.seconds["startup"] = since_start()
        if erased:
            suppress(config.output_uri, erased)
        table = require_table(config)
        with_ids = files_with_ids(spark, table, table.files, erased)
        require_readable(table, with_ids)
        with report.timed("write"):
            table = merge_files(spark, config, table, erased, with_ids.keys(), report)
        unnamed = unnamed_files(table)
        unnamed_with_ids = files_with_ids(spark, table, listed_files(table.uri, unnamed), erased)
        with report.timed("clean"):
            clean_table(
                config, table, unnamed, unnamed_with_ids.keys(), bool(erased), lease, report
            )
    if erased:
        stored = chain(*(ids or () for ids in (*with_ids.values(), *unnamed_with_ids.values())))
        _report_erasure(report, len(erased), len(set(stored)))
    return report


def _report_erasure(report: Report, n_ids: int, n_stored: int) -> None:
    """Report the number of erased ids; the ids themselves must not be stored anywhere."""
    report.details["erased"] = {"ids": n_ids, "found": n_stored, "rows": report.counts["gone"]}
    report.warn(
        "versions of the table before this one cannot be read any more; an index that was built "
        "from them contains the erased ids until build-index runs again, and so may a bucket with "
        "object versions, a backup or an older report"
    )
    if n_stored < n_ids:
        report.warn(
            f"{n_ids - n_stored} of {n_ids} ids to erase were in no file of the table; they are "
            "suppressed from now on (a file with ids is named @FILE)"
        )


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return JOB.main(argv, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
