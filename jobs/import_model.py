"""import-model: any supported weights of Inception-v3 in, one model directory out.

It runs in the driver alone and starts no Spark session; it is a job so that it reaches the buckets
and the Python environment that the other jobs reach.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool3 import storage
from pool3.decode import RESIZES
from pool3.errors import UsageError
from pool3.job import job_parser, run_job, since_start
from pool3.models import load_model, read_model
from pool3.models.directory import is_model
from pool3.report import Report, new_run_id

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JOB = "import-model"


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """What import-model is asked to do; the options of the command line, checked."""

    source: str
    output: str
    resize: str | None = None
    input_tensor: str | None = None
    output_tensor: str | None = None
    report: str | None = None

    def __post_init__(self) -> None:
        if self.resize is not None and self.resize not in RESIZES:
            raise UsageError(
                f"expected --resize to be one of {', '.join(RESIZES)}, found {self.resize!r}"
            )
        storage.canonical_uri(self.output)

    @property
    def output_uri(self) -> str:
        """The model directory, canonical."""
        return storage.canonical_uri(self.output)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        JOB,
        "Read the weights of an Inception-v3 and write them as a model directory: weights, frozen\n"
        "graph and model.json. Files are known by their contents; no code in them is run.",
        "examples:\n"
        "  ./submit.sh import-model --source inception-2015-12-05.tgz --output build/model\n"
        "  ./submit.sh import-model --source classifier.keras --output s3://lake/models/mine\n"
        "\nexit status: 0 done, 1 failed, 2 wrong arguments or no Inception-v3 (nothing written)",
    )
    parser.add_argument(
        "--source",
        required=True,
        metavar="WHERE",
        help="imagenet, seeded, a frozen graph (.pb), slim's checkpoint (.ckpt), a Keras file "
        "(.keras, .h5) or SavedModel, a .tar.gz of one of these, or a model directory",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the model directory")
    parser.add_argument(
        "--resize",
        metavar="NAME",
        help=f"how pictures are resized, {' or '.join(RESIZES)} (default: as the source was used)",
    )
    parser.add_argument(
        "--input-tensor",
        metavar="T",
        help="of a frozen graph, where pictures come in (default: found by structure)",
    )
    parser.add_argument(
        "--output-tensor",
        metavar="T",
        help="of a frozen graph, the feature (default: found by structure)",
    )
    return parser


def configure(arguments: argparse.Namespace) -> ImportConfig:
    """Return the configuration of a parsed command line."""
    return ImportConfig(**vars(arguments))


def run(spark: SparkSession | None, config: ImportConfig) -> Report:
    """Import a model; returns the report. There is nothing for Spark to do, so it may be None."""
    del spark
    report = Report(job=JOB, run_id=new_run_id())
    report.seconds["startup"] = since_start()
    model = load_model(
        config.source,
        resize=config.resize,
        input_tensor=config.input_tensor,
        output_tensor=config.output_tensor,
    )
    if is_model(config.output_uri):
        held = read_model(config.output_uri).model_id
        if held != model.model_id:
            raise UsageError(
                f"expected no other model in {config.output_uri}, found {held}, which is not "
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
        input_size=model.input_size,
        variant=model.variant.as_json(),
    )
    return report


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return run_job(
        JOB,
        argv,
        parser=arg_parser(),
        configure=configure,
        run=lambda config: run(None, config),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
