"""What an extraction is asked to do, checked before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pool3 import storage
from pool3.decode import DecodeLimits
from pool3.engines import AUTO, ENGINES, PRECISIONS
from pool3.errors import UsageError
from pool3.inputs.options import InputOptions

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
    """What extract-features is asked to do; the options of the command line, checked.

    Raises
    ------
    UsageError
        An option is out of bounds, or two of them exclude each other.
    """

    input: str | Sequence[str] = ()
    output: str
    model: str = "imagenet"
    glob: str | None = None
    input_table: str | None = None
    input_columns: str | None = None
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
    decode_function: str = "pool3.decode:decode_resized"
    report: str | None = None

    def __post_init__(self) -> None:
        self._check_figures()
        self._check_choices()
        self._check_prune()
        self.input_options()
        self._check_output()

    def _check_figures(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"expected {_option(name)} of at least 1, found {value}")
        for name in _SHARES:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"expected {_option(name)} between 0 and 1, found {value}")

    def _check_choices(self) -> None:
        for name, known in _CHOICES:
            if getattr(self, name) not in known:
                raise UsageError(
                    f"expected {_option(name)} to be one of {', '.join(known)}, found "
                    f"{getattr(self, name)!r}"
                )

    def _check_prune(self) -> None:
        if self.prune != (self.prune_scope is not None):
            raise UsageError(
                "expected --prune and --prune-scope PREFIX together, found one of them; the scope "
                "says where pictures may be marked as gone"
            )
        if self.prune and (self.limit or self.sample is not None or self.input_where):
            raise UsageError(
                "expected the whole input with --prune, found --limit, --sample or --input-where; "
                "what they leave out would count as gone"
            )

    def _check_output(self) -> None:
        if self.output_uri.startswith("hdfs://"):
            raise UsageError(
                f"expected --output in a bucket or a local folder, found {self.output_uri}; keep "
                "the table in one of those, since HDFS is only read from"
            )

    def input_options(self) -> InputOptions:
        """Return where the inputs are."""
        inputs = (self.input,) if isinstance(self.input, str) else tuple(self.input)
        names = self.input_columns
        return InputOptions(
            inputs=inputs,
            glob=self.glob,
            input_table=self.input_table,
            csv_columns=() if names is None else tuple(map(str.strip, names.split(","))),
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
        """The table, canonical."""
        return storage.canonical_uri(self.output)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
