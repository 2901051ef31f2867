"""The options that locate the inputs of an extraction."""

from __future__ import annotations

import string
from collections import Counter
from dataclasses import dataclass

from pool3 import storage
from pool3.errors import UsageError

_RELATIVE = "relative:"
_ESCAPES = frozenset(string.punctuation) - set(',"')
_COLUMNS = ("uri", "id", "content", "size", "etag", "modified")


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """Where the inputs are, and how a table of inputs is read.

    Parameters
    ----------
    inputs
        Folders, files and globs of pictures; or, when a column is named, tables: Delta, or files,
        globs or folders of Parquet, CSV (with a header) or JSON lines.
    glob
        Restricts folders, as in `pool3.inputs.pictures.pictures`.
    input_table
        A table of Spark's catalog, instead of `inputs`.
    csv_columns
        The columns of CSV files that have no header line, in their order.
    csv_escape
        The character before a quote in CSV files, a backslash in those that Spark writes; None
        where quotes are doubled.
    uri_column, content_column
        The column with the uri of each picture, or with its bytes.
    id_column, id_from
        The source of ids: a column, or ``relative:BASE``, the path below BASE. By default the id of
        a picture is its uri.
    size_column, etag_column, modified_column
        Columns with the attributes of each uri, as in an S3 Inventory.
    where
        Spark SQL condition over the table's own columns; other rows are not inputs.
    allow_uri
        Prefixes, on segment boundaries, below which uris of a table may be fetched.

    Raises
    ------
    UsageError
        The options are incomplete or exclude each other.
    """

    inputs: tuple[str, ...] = ()
    glob: str | None = None
    input_table: str | None = None
    csv_columns: tuple[str, ...] = ()
    csv_escape: str | None = None
    uri_column: str | None = None
    id_column: str | None = None
    id_from: str | None = None
    content_column: str | None = None
    size_column: str | None = None
    etag_column: str | None = None
    modified_column: str | None = None
    where: str | None = None
    allow_uri: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.inputs) == (self.input_table is not None):
            raise UsageError(
                "expected either --input or --input-table, found "
                f"{'both' if self.inputs else 'neither'}; name one of them"
            )
        for where in (*self.inputs, *self.allow_uri):
            storage.canonical_uri(where)
        self._check_ids()
        if self.tables:
            self._check_table()
        else:
            self._check_folders()

    @property
    def tables(self) -> bool:
        """Whether the inputs are tables rather than pictures."""
        return self.input_table is not None or bool(self.columns())

    def columns(self) -> dict[str, str]:
        """Return the named columns by role: ``uri``, ``id``, ``content`` and so on."""
        named = {role: getattr(self, f"{role}_column") for role in _COLUMNS}
        return {role: column for role, column in named.items() if column is not None}

    @property
    def base(self) -> str | None:
        """The canonical BASE of ``relative:BASE``, None for ids that are not relative."""
        if self.id_from is None:
            return None
        return storage.canonical_uri(self.id_from.removeprefix(_RELATIVE))

    def _check_ids(self) -> None:
        if self.id_from is None:
            return
        if self.id_column is not None:
            raise UsageError(
                "expected one source of ids, found --id-column and --id-from; omit one of them"
            )
        if not self.id_from.startswith(_RELATIVE) or self.id_from == _RELATIVE:
            raise UsageError(
                f"expected --id-from {_RELATIVE}BASE, found {self.id_from!r}; name the folder that "
                "ids are relative to as BASE"
            )
        storage.canonical_uri(self.id_from.removeprefix(_RELATIVE))

    def _check_folders(self) -> None:
        for option, value in (
            ("--input-where", self.where),
            ("--allow-uri", self.allow_uri),
            ("--input-columns", self.csv_columns),
            ("--csv-escape", self.csv_escape),
        ):
            if value:
                raise UsageError(
                    f"expected {option} only with a table of inputs, found it with a folder; name "
                    "the table's --uri-column or --content-column, or omit the option"
                )
        for where in self.inputs:
            self._check_relative(storage.canonical_uri(where))

    def _check_relative(self, uri: str) -> None:
        base = self.base
        if base is not None and not f"{uri.rstrip('/')}/".startswith(f"{base.rstrip('/')}/"):
            raise UsageError(
                f"expected every --input below the base of --id-from, {base}, found {uri}; name a "
                "base that contains all of them"
            )

    def _check_table(self) -> None:
        if self.uri_column is None and self.content_column is None:
            raise UsageError(
                "expected --uri-column or --content-column with a table of inputs, found neither; "
                "name the column with the pictures' uris or their bytes"
            )
        if self.uri_column is None and self.id_column is None:
            raise UsageError(
                "expected --id-column with --content-column, found none; name a column with ids, "
                "since rows without a uri have no other id"
            )
        if self.content_column is None and not self.allow_uri:
            raise UsageError(
                "expected --allow-uri PREFIX with a table of uris, found none; name the prefixes "
                "below which its rows may be fetched"
            )
        if self.uri_column is None and self.id_from is not None:
            raise UsageError("expected --uri-column with --id-from, found none; name the column")
        if self.input_table is not None and self.glob is not None:
            raise UsageError("expected --glob with --input, found --input-table; omit --glob")
        self._check_csv()
        for column, count in Counter(self.columns().values()).items():
            if count > 1:
                raise UsageError(
                    f"expected a different column for each option, found {column} named {count} "
                    "times; name each column once"
                )

    def _check_csv(self) -> None:
        for option, value in (
            ("--input-columns", self.csv_columns),
            ("--csv-escape", self.csv_escape),
        ):
            if value and self.input_table is not None:
                raise UsageError(
                    f"expected {option} with --input, found --input-table; omit {option}"
                )
        escape = self.csv_escape
        if escape is not None and (len(escape) != 1 or escape not in _ESCAPES):
            raise UsageError(
                f"expected one character of ASCII punctuation in --csv-escape, found {escape!r}; "
                "name the one before quotes, or omit the option where quotes are doubled"
            )
        for column, count in Counter(self.csv_columns).items():
            if count > 1 or not column:
                raise UsageError(
                    f"expected a unique name for each column in --input-columns, found {column!r} "
                    f"{count} times; name all columns, in their order"
                )
