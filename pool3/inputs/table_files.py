"""The files of a table of inputs, and their shares: the rows of a file that one task reads."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from pool3 import storage
from pool3.errors import UsageError
from pool3.inputs.lake_tables import DELTA, kind_around, table_kind
from pool3.inputs.pictures import SetAside, no_pictures, pictures, root_and_pattern
from pool3.inputs.s3_inventory import csv_columns as inventory_columns
from pool3.inputs.s3_inventory import inventory_files, read_manifest
from pool3.inputs.types import carried_struct
from pool3.storage.tables import open_table

if TYPE_CHECKING:
    from deltalake import DeltaTable

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
#: Features of Delta tables that require more than reading the Parquet files of the log.
_UNREAD_FEATURES = frozenset({"deletionVectors", "columnMapping"})


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
    around = (root, kind) if kind is not None else kind_around(root)
    if around is not None:
        raise _files_of_table(root, *around)
    table = _file_input(where, root, glob, first_number)
    if csv_columns:
        table = _with_csv(table, "--input-columns", columns=csv_columns)
    return _with_csv(table, "--csv-escape", escape=csv_escape) if csv_escape else table


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
    aside = SetAside()
    files = sorted(pictures(where, glob=glob, aside=aside), key=lambda file: file.uri)
    for folder in sorted(aside.tables):
        raise _files_of_table(root, folder, str(table_kind(folder)))
    reasons = Counter(aside.reasons)
    shares: list[Share] = []
    size = 0
    number = first_number
    for file in files:
        form = format_of(file.uri)
        reason = "not_a_table" if form is None else "empty_file" if file.size == 0 else None
        if form is None or reason is not None:
            reasons[str(reason)] += 1
            continue
        constants = _folder_values(file.uri.removeprefix(root))
        if shares and constants.keys() != shares[0].constants.keys():
            raise UsageError(
                f"expected the same NAME=VALUE folders above every file in {root}, found others "
                f"above {file.uri} than above {shares[0].file}; name one of them as --input"
            )
        shares += _shares(root, file.uri, file.size, form, number, constants)
        number += 1
        size += file.size
    if not shares:
        error = no_pictures(where, SetAside(reasons))
        raise UsageError(f"{error}; a table is a file of {', '.join(sorted(_FORMATS))}")
    return TableInput(root, tuple(shares), size, dict(reasons), None)


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
    _require_plain(root, table)
    schema = pa.schema(table.schema().to_arrow())
    partitions = table.metadata().partition_columns
    shares: list[Share] = []
    size = 0
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    for offset, action in enumerate(sorted(actions, key=lambda action: str(action["path"]))):
        constants = {name: _text(action[f"partition.{name}"]) for name in partitions}
        file = storage.join(root, unquote(action["path"]))
        file_size = action["size_bytes"]
        shares += _shares(root, file, file_size, PARQUET, first_number + offset, constants)
        size += file_size
    if not shares:
        raise UsageError(f"expected rows in the Delta table {root}, found none; check --input")
    return TableInput(root, tuple(shares), size, {}, schema)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _require_plain(root: str, table: DeltaTable) -> None:
    """Raise `UsageError` if the rows of a version do not follow from its files alone."""
    features = set(table.protocol().reader_features or ()) & _UNREAD_FEATURES
    mapping = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mapping == "none":
        features.discard("columnMapping")
    else:
        features.add("columnMapping")
    if features:
        raise UsageError(
            f"expected a Delta table without deletion vectors or renamed columns, found "
            f"{', '.join(sorted(features))} in {root}; read it in Spark's "
            "catalog with --input-table"
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
