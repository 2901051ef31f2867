"""import-model: any supported weights of Inception-v3 in, one model directory out.

It runs in the driver alone and starts no Spark session; it is a job so that it reaches the buckets
and the Python environment that the other jobs reach.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.options.import_model import JOB, ImportConfig, arg_parser
from jobs.runtime.report import Report
from jobs.runtime.run import since_start
from pool3.errors import UsageError
from pool3.models import load_model, read_model
from pool3.models.directory import is_model

__all__ = ["arg_parser", "main", "run"]

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(spark: SparkSession | None, config: ImportConfig) -> Report:
    """Import a model; returns the report. There is nothing for Spark to do, so it may be None."""
    del spark
    report = JOB.report()
    report.seconds["startup"] = since_start()
    model = load_model(
        config.source,
        resize=config.resize,
        colour=config.colour,
        input_tensor=config.input_tensor,
        output_tensor=config.output_tensor,
    )
    if is_model(config.output_uri):
        existing = read_model(config.output_uri).model_id
        if existing != model.model_id:
            raise UsageError(
                f"expected no other model in {config.output_uri}, found {existing}, which is not "
                f"{model.model_id}; give another --output"
            )
    with report.timed("write"):
        model.write(config.output_uri)
    report.counts["ok"] = 1
    report.model_id = model.model_id
    report.warnings.extend(model.notes)
    report.details.update(
        source=model.source,
        output=config.output_uri,
        resize=model.resize,
        colour=model.colour,
        input_size=model.input_size,
        variant=model.variant.as_json(),
    )
    return report


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return JOB.main_on_driver(argv, lambda config: run(None, config))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
