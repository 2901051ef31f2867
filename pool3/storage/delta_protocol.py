"""What a Delta table is besides its Parquet files: features, deletion vectors, places of files.

A table is read right or refused by name. Reading its Parquet files without its log's word on
deleted rows, renamed columns or files elsewhere would give wrong rows without an error.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pool3.errors import StorageError, UsageError
from pool3.storage.objects import fetch, list_objects
from pool3.storage.uris import canonical_uri, table_location

_DELETION_VECTORS = "deletionVectors"
_COLUMN_MAPPING = "columnMapping"
_VECTOR_SUFFIX = ".bin"
#: Reader features that either change nothing for a reader or that this reader applies.
_SUPPORTED = frozenset(
    {
        _DELETION_VECTORS,
        _COLUMN_MAPPING,  # refused only where the mode is set
        "timestampNtz",
        "typeWidening",
        "typeWidening-preview",
        "v2Checkpoint",
        "vacuumProtocolCheck",
    }
)
_MAX_READER_VERSION = 3
_UNSUPPORTED_ERROR = re.compile(r"[Uu]nsupported|not supported|protocol action|catalog-managed")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|/")


def unsupported_protocol(uri: str, reason: str) -> UsageError | None:
    """Return the error for a table that deltalake refuses to open; None for another failure."""
    if _UNSUPPORTED_ERROR.search(reason) is None:
        return None
    return _refusal(
        uri,
        "features and types that this version of pool3 reads",
        reason,
        "write the rows to a table without them (CREATE TABLE ... AS SELECT)",
    )


def require_supported(table: DeltaTable, uri: str) -> None:
    """Raise `UsageError` if the rows of a version need more than this reader applies.

    Parameters
    ----------
    uri
        The table, for the error.
    """
    protocol = table.protocol()
    if protocol.min_reader_version > _MAX_READER_VERSION:
        raise _refusal(
            uri,
            f"a reader version up to {_MAX_READER_VERSION}",
            f"version {protocol.min_reader_version}",
            "write the rows to a table of an older version (CREATE TABLE ... AS SELECT)",
        )
    mapping = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mapping != "none":
        raise _refusal(
            uri,
            "columns under their own names",
            f"{_COLUMN_MAPPING} (mode {mapping})",
            "write the rows to a table without it (CREATE TABLE ... AS SELECT), or run ALTER TABLE "
            "... DROP FEATURE columnMapping",
        )
    unknown = sorted(set(protocol.reader_features or ()) - _SUPPORTED)
    if unknown:
        raise _refusal(
            uri,
            "features and types that this version of pool3 reads",
            ", ".join(unknown),
            "write the rows to a table without them (CREATE TABLE ... AS SELECT), or run ALTER "
            "TABLE ... DROP FEATURE",
        )


def _refusal(uri: str, expected: str, actual: str, remedy: str) -> UsageError:
    return UsageError(f"expected a Delta table with {expected}, found {actual} in {uri}; {remedy}")


def path_in_table(uri: str, logged: str) -> str:
    """Return the path of a file relative to its table, as the store has it.

    Parameters
    ----------
    uri
        Canonical uri of the table.
    logged
        The path of an add action: url-encoded, relative, or absolute in a shallow clone.

    Raises
    ------
    UsageError
        The file is not below the table.
    """
    path = unquote(logged)
    if _ABSOLUTE.match(logged):
        path = _absolute(path)
        path = path.removeprefix(f"{uri}/") if path.startswith(f"{uri}/") else ""
    if not path or ".." in path.split("/"):
        raise UsageError(
            f"expected a Delta table whose files are all below {uri}, found the file {logged} in "
            "its log, as in a shallow clone; copy the table with its files (CREATE TABLE ... DEEP "
            "CLONE, or CREATE TABLE ... AS SELECT)"
        )
    return path


def _absolute(path: str) -> str:
    try:
        return canonical_uri(path)
    except UsageError:
        return ""


def deleted_rows(table: DeltaTable, uri: str) -> Mapping[str, str]:
    """Return the deletion vectors of a version, packed, by the decoded path of their file.

    Raises
    ------
    UsageError
        They cannot be applied.
    StorageError
        One cannot be fetched.
    """
    if _DELETION_VECTORS not in (table.protocol().reader_features or ()):
        return {}
    try:
        vectors, root = _vectors(table, uri)
    except (DeltaError, OSError) as error:
        reason = str(error).split("\n", 1)[0]
        if _UNSUPPORTED_ERROR.search(reason):
            raise _refusal(
                uri,
                "deletion vectors that can be applied",
                f"{_DELETION_VECTORS} ({reason})",
                "remove them with REORG TABLE ... APPLY (PURGE)",
            ) from error
        raise StorageError(
            "fetch_failed",
            f"the deletion vectors of the table {uri} cannot be read ({reason}); restore their "
            "files, or run REORG TABLE ... APPLY (PURGE)",
        ) from error
    packed = {}
    for file, selection in zip(
        vectors.column("filepath").to_pylist(), vectors.column("selection_vector"), strict=True
    ):
        mask = ~selection.values.to_numpy(zero_copy_only=False).astype(np.bool_)
        packed[unquote(file).removeprefix(root)] = pack_mask(mask)
    return packed


def _vectors(table: DeltaTable, uri: str) -> tuple[pa.Table, str]:
    """Return the deletion vectors of a version, and the beginning of the paths in them."""
    if table_location(uri).rstrip("/") == uri:
        return _read_vectors(table)
    # deltalake escapes the location of a table once more where it looks for their files.
    with TemporaryDirectory() as copy:
        for item in list_objects(uri):
            path = item.uri.removeprefix(f"{uri}/")
            if path.startswith("_delta_log/") or path.endswith(_VECTOR_SUFFIX):
                _copy(item.uri, Path(copy), path)
        return _read_vectors(DeltaTable(copy, version=table.version()))


def _read_vectors(table: DeltaTable) -> tuple[pa.Table, str]:
    root = unquote(table.table_uri).rstrip("/") + "/"
    return pa.table(table.deletion_vectors().read_all()), root


def _copy(uri: str, folder: Path, path: str) -> None:
    if ".." in path.split("/"):  # no file of a table, and out of the copy
        return
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(fetch(uri))


def pack_mask(deleted: npt.NDArray[np.bool_]) -> str:
    """Return which rows of a file are deleted as text, small enough to be sent to tasks."""
    return base64.b64encode(zlib.compress(np.packbits(deleted).tobytes())).decode("ascii")


def unpack_mask(packed: str | None, n_rows: int) -> npt.NDArray[np.bool_]:
    """Return which of the `n_rows` rows of a file are deleted.

    Examples
    --------
    >>> unpack_mask(pack_mask(np.array([False, True])), 3).tolist()
    [False, True, False]
    """
    mask = np.zeros(n_rows, dtype=np.bool_)
    if packed is not None:
        bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8))
        n_bits = min(n_rows, len(bits))
        mask[:n_bits] = bits[:n_bits]
    return mask


def count_deleted(packed: str | None) -> int:
    """Return how many rows a packed mask deletes."""
    if packed is None:
        return 0
    bits = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8)
    return int(np.unpackbits(bits).sum())
