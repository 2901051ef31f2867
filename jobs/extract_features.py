"""extract-features: pictures in, feature table out.

Spark compares the inputs with the table. Tasks fetch and decode new and changed pictures, run the
model and store one Parquet file each; every few minutes a Delta commit publishes finished files.
The frozen graph is broadcast once. Every input becomes one row.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.options.extract_features import JOB, ExtractConfig, arg_parser
from jobs.runtime.report import Report
from jobs.steps.extract.compare import selected_inputs
from jobs.steps.extract.inputs import inventory
from jobs.steps.extract.plan import persisted, unique_inputs
from jobs.steps.extract.run import comparison, extract, load_checked_model, plan_only
from pool3.features.lease import leased
from pool3.features.staging import staged
from pool3.features.table import own_table

__all__ = ["arg_parser", "main", "run"]


def run(spark: SparkSession, config: ExtractConfig) -> Report:
    """Bring the table up to date with the inputs; returns the report."""
    report = JOB.report()
    report.details.update(input=config.input, output=config.output_uri)
    model = load_checked_model(config, own_table(config.output_uri))
    with staged(config.output_uri, report.run_id) as staging:
        inputs = inventory(spark, config.input_options(), staging=staging)
        with persisted(inputs.frame) as rows:
            frame = unique_inputs(selected_inputs(rows, config), config.on_duplicate)
            if config.plan:
                with comparison(spark, config, model, inputs, frame, report) as work:
                    return plan_only(spark, config, work, report)
            with (
                leased(config.output_uri, run_id=report.run_id, job=JOB.name),
                comparison(spark, config, model, inputs, frame, report) as work,
            ):
                return extract(spark, config, work, report)


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return JOB.main(argv, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
