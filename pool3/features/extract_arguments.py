"""The command line of extract-features."""

from __future__ import annotations

import argparse

from pool3.engines import AUTO, ENGINES, PRECISIONS
from pool3.features.extract_options import MODES, ON_DUPLICATE, ExtractConfig
from pool3.job import job_parser


def extract_parser(job: str) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        job,
        "Extract one feature vector from each picture into a Delta table. Pictures that cannot be\n"
        "read become rows too, with the reason. Run again, it does what is new or changed and\n"
        "what could not be fetched; stopped at any moment, the same command goes on from there.",
        "example:\n"
        "  ./submit.sh extract-features --input photos/ --output build/features --model seeded\n"
        "\nexit status: 0 done, 1 failed, 2 wrong arguments (nothing written),\n"
        "3 done, but too much failed or is gone",
    )
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="WHERE",
        help="folder (searched recursively), file or glob; with --uri-column or --content-column a "
        "table: Delta, Parquet, CSV or JSON lines, or the manifest.json of an S3 Inventory, whose "
        "uris are in the column uri; may be given several times",
    )
    _add_table_options(inputs)
    parser.add_argument(
        "--output", required=True, metavar="TABLE", help="feature table, made if it is not there"
    )
    parser.add_argument(
        "--model",
        default=ExtractConfig.model,
        help="imagenet (Keras' weights, downloaded once), seeded (no download; finds "
        "near-duplicates and knows no meaning), a Keras file, SavedModel, frozen graph or "
        "checkpoint of an Inception-v3, or a model directory (default: %(default)s)",
    )
    parser.add_argument(
        "--glob", help="only files whose name matches, such as '*.jpg'; with a /, the path below"
    )
    _add_model_options(parser)
    _add_run_options(parser)
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of what runs the model, and of what one picture may cost."""
    parser.add_argument(
        "--engine",
        default=ExtractConfig.engine,
        help=f"{', '.join((AUTO, *ENGINES))}: auto takes what is fastest on each executor "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        default=ExtractConfig.precision,
        help=f"{', '.join((AUTO, *PRECISIONS))}: auto takes the fastest that the hardware computes "
        "in and the model bears (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=ExtractConfig.batch_size,
        metavar="N",
        help="pictures in one call of the model (default: %(default)s)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=ExtractConfig.max_pixels,
        metavar="N",
        help="a picture of more pixels is a row with too_many_pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--max-bytes",
        type=int,
        default=ExtractConfig.max_bytes,
        metavar="N",
        help="a file of more bytes is a row with too_large (default: %(default)s)",
    )


def _add_table_options(inputs: argparse._ArgumentGroup) -> None:
    """Add the options of inputs that are listed in a table."""
    inputs.add_argument("--input-table", metavar="NAME", help="a table of Spark's catalog")
    inputs.add_argument(
        "--input-columns",
        metavar="NAME,…",
        help="the columns of CSV files that have no header line, in their order",
    )
    for role, held in (
        ("uri", "the uri of each picture"),
        ("content", "the bytes of each picture"),
        ("id", "the image_id (default: the uri)"),
        ("size", "the length in bytes, so that a run asks the bucket nothing"),
        ("etag", "the etag, by which a change is seen"),
        ("modified", "the time of the last change"),
    ):
        inputs.add_argument(f"--{role}-column", metavar="COLUMN", help=f"column with {held}")
    inputs.add_argument(
        "--id-from", metavar="relative:BASE", help="image_id is the path below BASE"
    )
    inputs.add_argument(
        "--input-where", metavar="SQL", help="only rows of the table that this holds for"
    )
    inputs.add_argument(
        "--allow-uri",
        action="append",
        default=[],
        metavar="PREFIX",
        help="uris of a table are fetched only below one of these",
    )
    inputs.add_argument(
        "--on-duplicate",
        default=ExtractConfig.on_duplicate,
        metavar="|".join(ON_DUPLICATE),
        help="what to do when an id comes twice (default: %(default)s)",
    )


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of what is done to which inputs, and when a run counts as failed."""
    runs = parser.add_argument_group("runs")
    runs.add_argument(
        "--mode",
        default=ExtractConfig.mode,
        help=f"{', '.join(MODES)}: incremental does what is new, changed or out of reach before; "
        "retry-failed also what failed; overwrite everything (default: %(default)s)",
    )
    runs.add_argument(
        "--plan",
        action="store_true",
        help="tell what would be done and what it would cost; write nothing",
    )
    runs.add_argument("--limit", type=int, metavar="N", help="only the first N inputs")
    runs.add_argument("--sample", type=float, metavar="SHARE", help="only a share of the inputs")
    runs.add_argument(
        "--seed", type=int, default=0, metavar="N", help="draws another sample (default: 0)"
    )
    runs.add_argument(
        "--max-minutes",
        type=float,
        metavar="M",
        help="begin nothing more after so long; the next run goes on",
    )
    _add_gates(runs)
    runs.add_argument(
        "--thumbnails", type=int, metavar="SIDE", help="keep a JPEG of at most SIDE pixels a side"
    )
    runs.add_argument(
        "--metrics-file", metavar="URI", help="write the figures as a Prometheus textfile, too"
    )


def _add_gates(runs: argparse._ArgumentGroup) -> None:
    """Add the options of what is marked as gone, and of the shares that end a run."""
    runs.add_argument(
        "--prune",
        action="store_true",
        help="mark pictures below --prune-scope that are not among the inputs as gone",
    )
    runs.add_argument("--prune-scope", metavar="PREFIX", help="where pictures may be gone")
    for name, what in (
        ("max-gone", "pictures in the scope are gone; then nothing is changed (exit 3)"),
        ("max-failed", "pictures failed, files that are none not counted (exit 3)"),
        ("max-transient", "pictures were out of reach; the run stops (exit 1)"),
    ):
        runs.add_argument(
            f"--{name}",
            type=float,
            default=getattr(ExtractConfig, name.replace("-", "_")),
            metavar="SHARE",
            help=f"not done when more {what} (default: %(default)s)",
        )


def configure(arguments: argparse.Namespace) -> ExtractConfig:
    """Return the configuration of a parsed command line."""
    return ExtractConfig(**vars(arguments))
