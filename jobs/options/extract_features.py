"""The options of extract-features, validated before anything is read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.options.shared import require_counts
from jobs.runtime.job import Job
from jobs.runtime.run import job_parser
from pool3 import storage
from pool3.engines import AUTO, ENGINES, PRECISIONS
from pool3.errors import UsageError
from pool3.images.decode import DecodeLimits
from pool3.inputs.options import InputOptions
from pool3.storage.uris import table_location

NAME = "extract-features"

MODES = ("incremental", "overwrite", "retry-failed")
ON_DUPLICATE = ("error", "last")

_POSITIVE = ("batch_size", "max_pixels", "max_bytes", "limit", "thumbnails")
_SHARES = ("max_gone", "max_failed", "max_transient", "sample")
_CHOICES = (
    ("engine", (AUTO, *ENGINES)),
    ("precision", (AUTO, *PRECISIONS)),
    ("mode", MODES),
    ("on_duplicate", ON_DUPLICATE),
)


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """The options of extract-features, validated.

    Raises
    ------
    UsageError
        An option is out of range, or two options exclude each other.
    """

    input: str | Sequence[str] = ()
    output: str
    model: str = "imagenet"
    glob: str | None = None
    input_table: str | None = None
    input_columns: str | None = None
    csv_escape: str | None = None
    uri_column: str | None = None
    id_column: str | None = None
    id_from: str | None = None
    content_column: str | None = None
    size_column: str | None = None
    etag_column: str | None = None
    modified_column: str | None = None
    input_where: str | None = None
    allow_uri: Sequence[str] = ()
    on_duplicate: str = "error"
    mode: str = "incremental"
    prune: bool = False
    prune_scope: str | None = None
    max_gone: float = 0.01
    max_failed: float = 0.02
    max_transient: float = 0.05
    plan: bool = False
    limit: int | None = None
    sample: float | None = None
    seed: int = 0
    max_minutes: float | None = None
    thumbnails: int | None = None
    metrics_file: str | None = None
    engine: str = AUTO
    precision: str = AUTO
    batch_size: int = 16
    max_pixels: int = DecodeLimits.max_pixels
    max_bytes: int = DecodeLimits.max_bytes
    timeout_s: float = 30.0
    decode_function: str = "pool3.images.decode:decode_resized"
    report: str | None = None

    def __post_init__(self) -> None:
        self._check_figures()
        self._check_choices()
        self._check_prune()
        self.input_options()
        self._check_output()

    def _check_figures(self) -> None:
        require_counts({_option(name): getattr(self, name) for name in _POSITIVE})
        for name in _SHARES:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"expected {_option(name)} between 0 and 1, found {value}")

    def _check_choices(self) -> None:
        for name, choices in _CHOICES:
            if getattr(self, name) not in choices:
                raise UsageError(
                    f"expected {_option(name)} to be one of {', '.join(choices)}, found "
                    f"{getattr(self, name)!r}"
                )

    def _check_prune(self) -> None:
        if self.prune != (self.prune_scope is not None):
            raise UsageError(
                "expected --prune and --prune-scope PREFIX together, found one of them; name the "
                "prefix below which pictures may be marked as gone, or omit --prune"
            )
        if self.prune and (self.limit or self.sample is not None or self.input_where):
            raise UsageError(
                "expected the whole input with --prune, found --limit, --sample or --input-where; "
                "omit them, since the pictures that they leave out would count as gone"
            )

    def _check_output(self) -> None:
        table_location(self.output_uri)
        if self.output_uri.startswith("hdfs://"):
            raise UsageError(
                f"expected --output in a bucket or a local folder, found {self.output_uri}; name "
                "one of those, since HDFS is only read"
            )

    def input_options(self) -> InputOptions:
        """Return the options that locate the inputs."""
        inputs = (self.input,) if isinstance(self.input, str) else tuple(self.input)
        names = self.input_columns
        return InputOptions(
            inputs=inputs,
            glob=self.glob,
            input_table=self.input_table,
            csv_columns=() if names is None else tuple(map(str.strip, names.split(","))),
            csv_escape=self.csv_escape,
            uri_column=self.uri_column,
            id_column=self.id_column,
            id_from=self.id_from,
            content_column=self.content_column,
            size_column=self.size_column,
            etag_column=self.etag_column,
            modified_column=self.modified_column,
            where=self.input_where,
            allow_uri=tuple(self.allow_uri),
        )

    @property
    def output_uri(self) -> str:
        """Canonical uri of the table."""
        return storage.canonical_uri(self.output)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        NAME,
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
    """Add the options of the engine, and the limits of one picture."""
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
    """Add the options of tables of inputs."""
    inputs.add_argument("--input-table", metavar="NAME", help="a table of Spark's catalog")
    inputs.add_argument(
        "--input-columns",
        metavar="NAME,…",
        help="the columns of CSV files that have no header line, in their order",
    )
    inputs.add_argument(
        "--csv-escape",
        metavar="CHARACTER",
        help="the character before a quote in CSV files, '\\' where Spark wrote them (default: "
        "quotes are doubled)",
    )
    for role, what in (
        ("uri", "the uri of each picture"),
        ("content", "the bytes of each picture"),
        ("id", "the image_id (default: the uri)"),
        ("size", "the length in bytes, so that a run asks the bucket nothing"),
        ("etag", "the etag, by which a change is seen"),
        ("modified", "the time of the last change"),
    ):
        inputs.add_argument(f"--{role}-column", metavar="COLUMN", help=f"column with {what}")
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
    """Add the options that select the work of a run, and those that end it."""
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
    """Add the options for pictures that are gone, and the shares that end a run."""
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
            help=f"not done when more {what}; up to 3 of them always pass, unless they are half "
            "of all or SHARE is 0 (default: %(default)s)",
        )


JOB = Job(NAME, ExtractConfig, arg_parser)
