"""extract-features: pictures in, feature table out.

The inputs are compared with the table on Spark; what is new or changed is fetched, decoded and run
through the model by tasks that store one Parquet part each, and every few minutes a Delta commit
publishes what is done. The frozen graph is broadcast once. Every input becomes one row.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.options.extract_features import JOB, ExtractConfig, configure, extract_parser
from jobs.runtime.report import Report
from jobs.runtime.run import run_job
from jobs.steps.extract.compare import narrowed
from jobs.steps.extract.inputs import inventory
from jobs.steps.extract.plan import (
    one_of_each,
    read_once,
)
from jobs.steps.extract.run import comparison, extract, load_checked_model, plan_only
from pool3.features.lease import leased
from pool3.features.staging import staged
from pool3.features.table import own_table
from pool3.storage.names import new_run_id


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return extract_parser(JOB)


def run(spark: SparkSession, config: ExtractConfig) -> Report:
    """Bring the table up to date with the inputs; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    report.details.update(input=config.input, output=config.output_uri)
    model = load_checked_model(config, own_table(config.output_uri))
    with staged(config.output_uri, report.run_id) as staging:
        found = inventory(spark, config.input_options(), staging=staging)
        with read_once(found.frame) as inputs:
            frame = one_of_each(narrowed(inputs, config), config.on_duplicate)
            if config.plan:
                with comparison(spark, config, model, found, frame, report) as work:
                    return plan_only(spark, config, work, report)
            with (
                leased(config.output_uri, run_id=report.run_id, job=JOB),
                comparison(spark, config, model, found, frame, report) as work,
            ):
                return extract(spark, config, work, report)


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
