"""The files of a table, and the shares of a table of inputs: rows of a file that one task reads."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from pool3 import storage
from pool3.errors import NotFound, UsageError
from pool3.inputs.lake_tables import DELTA, kind_around, table_kind
from pool3.inputs.pictures import SetAside, no_pictures, pictures, root_and_pattern
from pool3.inputs.s3_inventory import csv_columns as inventory_columns
from pool3.inputs.s3_inventory import inventory_files, read_manifest
from pool3.inputs.types import carried_struct
from pool3.storage import StoredObject
from pool3.storage.tables import TableFile, open_table, table_files

SHARE_BYTES = 64 << 20

PARQUET, CSV, JSON_LINES = "parquet", "csv", "json"
_FORMATS = {
    "parquet": PARQUET,
    "pq": PARQUET,
    "csv": CSV,
    "tsv": CSV,
    "jsonl": JSON_LINES,
    "ndjson": JSON_LINES,
    "json": JSON_LINES,
}
_SUFFIX = re.compile(rf"\.({'|'.join(_FORMATS)})(\.gz|\.zst|\.bz2)?", re.IGNORECASE)
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The rows of one file that one task reads.

    Attributes
    ----------
    source
        Uri of the table, for errors.
    number
        Index of the file among all files of the input.
    split, n_splits
        The share is split `split` of `n_splits` of the row groups.
    constants
        Values of columns that are in the table's log or folder names and not in the file.
    columns
        Column names of a CSV file without a header.
    escape
        The character before a quote in CSV, None where quotes are doubled.
    is_inventory
        Whether the rows are those of an S3 Inventory, which has buckets and keys instead of uris.
    deleted
        The deletion vector of the file, packed (`pool3.storage.delta_protocol.unpack_mask`).
    """

    source: str
    file: str
    format: str
    number: int
    split: int = 0
    n_splits: int = 1
    constants: Mapping[str, str | None] = field(default_factory=dict)
    columns: Sequence[str] = ()
    escape: str | None = None
    is_inventory: bool = False
    deleted: str | None = None

    def to_json(self) -> str:
        """Return the share as a line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Share:
        """Return the share that `to_json` described."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class TableInput:
    """One table of inputs: its canonical uri, shares, bytes, objects set aside, and schema.

    `schema` is None if it has to be read from the files.
    """

    uri: str
    shares: tuple[Share, ...]
    bytes: int
    set_aside: dict[str, int]
    schema: pa.Schema | None


def table_input(
    where: str,
    *,
    glob: str | None,
    first_number: int,
    csv_columns: Sequence[str] = (),
    csv_escape: str | None = None,
) -> TableInput:
    """Find the files of a table of inputs.

    Parameters
    ----------
    where
        A Delta table; a file, glob or folder of Parquet, CSV or JSON lines; or the manifest of an
        S3 Inventory.
    glob
        Restricts a folder.
    first_number
        Number of the table's first file among all files of the input.
    csv_columns
        Column names of CSV files without a header.
    csv_escape
        The character before a quote in CSV files, None where quotes are doubled.

    Raises
    ------
    UsageError
        There is no such file, it has another format, or it belongs to a table whose files must not
        be read directly.
    """
    root, pattern = root_and_pattern(where)
    kind = table_kind(root)
    if kind == DELTA and pattern is None:
        if glob is not None:
            raise UsageError(
                f"expected --glob with a folder of files, found the Delta table {root}; omit "
                "--glob and select rows with --input-where"
            )
        return _delta_input(root, first_number)
    manifest = read_manifest(root) if pattern is None else None
    if manifest is not None:
        return _inventory_input(root, manifest, first_number)
    require_outside(root)
    table = _file_input(where, root, glob, first_number)
    if csv_columns:
        table = _with_csv(table, "--input-columns", columns=csv_columns)
    return _with_csv(table, "--csv-escape", escape=csv_escape) if csv_escape else table


def require_outside(root: str) -> None:
    """Raise `UsageError` if a folder or file is, or belongs to, a table with a log."""
    kind = table_kind(root)
    around = (root, kind) if kind is not None else kind_around(root)
    if around is not None:
        raise _files_of_table(root, *around)


def _files_of_table(root: str, folder: str, kind: str) -> UsageError:
    remedy = (
        f"name {folder} itself"
        if kind == DELTA
        else "read it in Spark's catalog with --input-table, or export it to Parquet"
    )
    return UsageError(
        f"expected a Delta table or files outside of any table, found {root} in the {kind} "
        f"table {folder}; {remedy}"
    )


def _file_input(where: str, root: str, glob: str | None, first_number: int) -> TableInput:
    listed = list_table_files(where, root, glob)
    if not listed.files:
        error = no_pictures(where, SetAside(listed.set_aside))
        raise UsageError(f"{error}; a table is a file of {', '.join(sorted(_FORMATS))}")
    shares = [
        share
        for number, file in enumerate(listed.files, start=first_number)
        for share in _shares(
            root,
            file_uri(root, file),
            file.size,
            str(format_of(file_uri(root, file))),
            number,
            dict(file.partition),
        )
    ]
    size = sum(file.size for file in listed.files)
    return TableInput(root, tuple(shares), size, dict(listed.set_aside), None)


@dataclass(frozen=True, slots=True)
class ListedFiles:
    """The files of a table without a log, and counts of the objects set aside, by reason."""

    files: tuple[TableFile, ...]
    set_aside: Counter[str]


def list_table(where: str) -> tuple[TableFile, ...]:
    """Return the files of a table without a log: a file or a folder; none if nothing is there.

    Where there are Parquet files, files of other formats are no part of the table.

    Raises
    ------
    UsageError
        They belong to a table whose files must not be read directly, or are of several formats.
    """
    root, pattern = root_and_pattern(where)
    if pattern is not None:
        raise UsageError(
            f"expected a file or a folder as a table, found the glob {where}; name the folder"
        )
    require_outside(root)
    try:
        files = list_table_files(where, root, None).files
    except UsageError as error:
        if isinstance(error.__cause__, NotFound):
            return ()
        raise
    formats = {str(format_of(file_uri(root, file))) for file in files}
    if PARQUET in formats:
        return tuple(file for file in files if format_of(file_uri(root, file)) == PARQUET)
    if len(formats) > 1:
        raise UsageError(
            f"expected files of one format as a table, found {' and '.join(sorted(formats))} in "
            f"{root}; name one of the files, or move the others"
        )
    return files


def list_table_files(where: str, root: str, glob: str | None) -> ListedFiles:
    """List the files of a table without a log.

    Raises
    ------
    UsageError
        Nothing is there, some belong to a table below `root`, or some have other NAME=VALUE
        folders above them than the rest.
    """
    aside = SetAside()
    listed = sorted(pictures(where, glob=glob, aside=aside), key=lambda file: file.uri)
    for folder in sorted(aside.tables):
        raise _files_of_table(root, folder, str(table_kind(folder)))
    reasons = Counter(aside.reasons)
    files: list[TableFile] = []
    for entry in listed:
        form = format_of(entry.uri)
        reason = "not_a_table" if form is None else "empty_file" if entry.size == 0 else None
        if reason is not None:
            reasons[reason] += 1
            continue
        files.append(listed_file(root, entry, _folder_values(entry.uri.removeprefix(root))))
        if dict(files[-1].partition).keys() != dict(files[0].partition).keys():
            raise UsageError(
                f"expected the same NAME=VALUE folders above every file in {root}, found others "
                f"above {entry.uri} than above {file_uri(root, files[0])}; name one of them alone"
            )
    return ListedFiles(tuple(files), reasons)


def listed_file(
    root: str, entry: StoredObject, partition: Mapping[str, str | None] | None = None
) -> TableFile:
    """Return a listed object below a table as a file whose rows and bounds are unknown."""
    return TableFile(
        path=path_below(root, entry),
        size=entry.size,
        rows=0,
        smallest=None,
        largest=None,
        partition=tuple((partition or {}).items()),
    )


def path_below(root: str, entry: StoredObject) -> str:
    """Return the path of a listed object relative to its table."""
    return entry.uri.removeprefix(root).lstrip("/")


def file_uri(root: str, file: TableFile) -> str:
    """Return the canonical uri of a file of a table, which may be that file alone."""
    return storage.join(root, file.path) if file.path else root


def _with_csv(table: TableInput, option: str, **changes: Any) -> TableInput:
    """Set what an option says about CSV files."""
    for share in table.shares:
        if share.format != CSV:
            raise UsageError(
                f"expected CSV files with {option}, found {share.file}; omit the option"
            )
    return replace(table, shares=tuple(replace(share, **changes) for share in table.shares))


def _inventory_input(root: str, manifest: dict[str, Any], first_number: int) -> TableInput:
    columns = inventory_columns(manifest)
    files = [(file, size) for file, size in inventory_files(manifest) if size > 0]
    shares = [
        replace(share, columns=columns, is_inventory=True)
        for number, (file, size) in enumerate(files, start=first_number)
        for share in _shares(root, file, size, CSV if columns else PARQUET, number)
    ]
    if not shares:
        raise UsageError(f"expected objects in the inventory {root}, found none; check --input")
    return TableInput(root, tuple(shares), sum(size for _, size in files), {}, None)


def _folder_values(below: str) -> dict[str, str | None]:
    """Return the column values from folder names such as ``day=2026-01-31``."""
    pairs = [segment.partition("=") for segment in below.split("/")[:-1] if "=" in segment]
    return {name: None if value == _HIVE_NULL else unquote(value) for name, _, value in pairs}


def format_of(uri: str) -> str | None:
    """Return the format that a file's name indicates, None if it is not supported."""
    name = storage.name_of(uri)
    match = _SUFFIX.search(name)
    if match is None or match.end() != len(name):
        return None
    form = _FORMATS[match[1].lower()]
    return None if form == PARQUET and match[2] else form


def _shares(
    source: str,
    file: str,
    size: int,
    form: str,
    number: int,
    constants: Mapping[str, str | None] | None = None,
) -> Iterator[Share]:
    n_splits = max(1, math.ceil(size / SHARE_BYTES)) if form == PARQUET else 1
    for split in range(n_splits):
        yield Share(
            source=source,
            file=file,
            format=form,
            number=number,
            split=split,
            n_splits=n_splits,
            constants=constants or {},
        )


def _delta_input(root: str, first_number: int) -> TableInput:
    table = open_table(root)
    if table is None:
        raise UsageError(f"expected a Delta table at {root}, found a log without one; repair it")
    schema = pa.schema(table.schema().to_arrow())
    shares: list[Share] = []
    size = 0
    for offset, file in enumerate(table_files(table, root)):
        shares += (
            replace(share, deleted=file.deleted)
            for share in _shares(
                root,
                storage.join(root, file.path),
                file.size,
                PARQUET,
                first_number + offset,
                dict(file.partition),
            )
        )
        size += file.size
    if not shares:
        raise no_files(root)
    return TableInput(root, tuple(shares), size, {}, schema)


def no_files(root: str) -> UsageError:
    """Return the error of a Delta table without a single file."""
    return UsageError(
        f"expected rows in the Delta table {root}, found a table without files; check the uri or "
        "write rows to it"
    )


def require_same(first: pa.Schema, other: pa.Schema, source: str) -> None:
    """Raise `UsageError` when one of several tables of inputs has other columns than the first."""
    expected, actual = carried_struct(first), carried_struct(other)
    if {field.name: field.type for field in expected} != {
        field.name: field.type for field in actual
    }:
        raise UsageError(
            f"expected the same columns in every table of inputs, {expected}, found {actual} in "
            f"{source}; run the job once for each table"
        )
