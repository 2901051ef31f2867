"""The options of import-model, checked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from jobs.runtime.job import Job
from jobs.runtime.run import job_parser
from pool3 import storage
from pool3.errors import UsageError
from pool3.images.decode import RESIZES
from pool3.images.profiles import COLOURS

NAME = "import-model"


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """The configuration of import-model: the options of its command line, checked."""

    source: str
    output: str
    resize: str | None = None
    colour: str | None = None
    input_tensor: str | None = None
    output_tensor: str | None = None
    report: str | None = None

    def __post_init__(self) -> None:
        if self.resize is not None and self.resize not in RESIZES:
            raise UsageError(
                f"expected --resize to be one of {', '.join(RESIZES)}, found {self.resize!r}"
            )
        if self.colour is not None and self.colour not in COLOURS:
            raise UsageError(
                f"expected --colour to be one of {', '.join(COLOURS)}, found {self.colour!r}"
            )
        storage.canonical_uri(self.output)

    @property
    def output_uri(self) -> str:
        """The model directory, canonical."""
        return storage.canonical_uri(self.output)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        NAME,
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
        "--colour",
        metavar="NAME",
        help=f"how colour profiles of pictures are treated, {' or '.join(COLOURS)} (default: as "
        "the model directory says, else srgb)",
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


JOB = Job(NAME, ImportConfig, arg_parser)
