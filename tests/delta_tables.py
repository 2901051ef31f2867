"""Delta tables that deltalake does not write: their log by hand, and deletion vectors."""

from __future__ import annotations

import json
import struct
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import Schema

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_MAGIC = 1681511377

#: Writes or describes the deletion vector of a file in the folder of its table.
Vector = Callable[[Path], dict[str, Any]]


def z85(data: bytes) -> str:
    """Encode bytes, padded to a multiple of four, as deletion vectors are in a log."""
    padded = data + b"\0" * (-len(data) % 4)
    text = []
    for start in range(0, len(padded), 4):
        value = int.from_bytes(padded[start : start + 4], "big")
        digits = [value // 85**power % 85 for power in (4, 3, 2, 1, 0)]
        text += [_Z85[digit] for digit in digits]
    return "".join(text)


def roaring(rows: Iterable[int]) -> bytes:
    """Return row numbers under 65536 as a 64-bit roaring bitmap of one array container."""
    numbers = sorted(rows)
    container = b"".join(struct.pack("<H", number) for number in numbers)
    bitmap = struct.pack("<IIHHI", 12346, 1, 0, len(numbers) - 1, 16) + container
    return struct.pack("<i", _MAGIC) + struct.pack("<QI", 1, 0) + bitmap


def inline_vector(rows: Sequence[int]) -> Vector:
    """Return a deletion vector that stands in the log itself."""
    data = roaring(rows)
    vector = {
        "storageType": "i",
        "pathOrInlineDv": z85(data),
        "sizeInBytes": len(data),
        "cardinality": len(rows),
    }
    return lambda folder: vector


def stored_vector(rows: Sequence[int], *, missing: bool = False) -> Vector:
    """Return a deletion vector in a file of its own, which may be missing."""

    def write(folder: Path) -> dict[str, Any]:
        data, name = roaring(rows), uuid.uuid4()
        content = b"\x01" + struct.pack(">i", len(data)) + data
        content += struct.pack(">I", zlib.crc32(data))
        if not missing:
            (folder / f"deletion_vector_{name}.bin").write_bytes(content)
        return {
            "storageType": "u",
            "pathOrInlineDv": z85(name.bytes),
            "offset": 1,
            "sizeInBytes": len(data),
            "cardinality": len(rows),
        }

    return write


def protocol(*features: str) -> dict[str, Any]:
    """Return the protocol of a table with reader features."""
    if not features:
        return {"minReaderVersion": 1, "minWriterVersion": 2}
    names = list(features)
    versions = {"minReaderVersion": 3, "minWriterVersion": 7}
    return {**versions, "readerFeatures": names, "writerFeatures": names}


def add_action(
    folder: Path,
    rows: pa.Table,
    path: str = "part-0.parquet",
    *,
    logged: str | None = None,
    vector: Vector | None = None,
    partition: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Store rows as a Parquet file; returns its add action, under `logged` if that is given."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, file)
    action = {
        "path": path if logged is None else logged,
        "partitionValues": dict(partition or {}),
        "size": file.stat().st_size,
        "modificationTime": 1,
        "dataChange": True,
        "stats": json.dumps({"numRecords": rows.num_rows}),
    }
    if vector is not None:
        action["deletionVector"] = vector(folder)
    return action


def write_log(
    folder: Path,
    schema: pa.Schema,
    actions: Sequence[Mapping[str, Any]],
    *,
    table_protocol: Mapping[str, Any] | None = None,
    configuration: Mapping[str, str] | None = None,
    partition_columns: Sequence[str] = (),
    field_metadata: Callable[[str], Mapping[str, Any]] = lambda name: {},
) -> str:
    """Write the first commit of a table; returns its uri."""
    fields = json.loads(Schema.from_arrow(schema).to_json())
    for field in fields["fields"]:
        field["metadata"] = dict(field_metadata(field["name"]))
    metadata = {
        "id": str(uuid.uuid4()),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps(fields),
        "partitionColumns": list(partition_columns),
        "configuration": dict(configuration or {}),
        "createdTime": 1,
    }
    lines = [
        {"protocol": dict(table_protocol or protocol())},
        {"metaData": metadata},
        *({"add": dict(action)} for action in actions),
    ]
    log = folder / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    (log / f"{0:020d}.json").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(folder)


def put_vector(table: Path, path: str, vector: Vector) -> None:
    """Commit a deletion vector to a file of a table whose log has this file's add action."""
    log = table / "_delta_log"
    commits = sorted(log.glob("*.json"))
    lines = [json.loads(line) for file in commits for line in file.read_text().splitlines()]
    added = next(line["add"] for line in lines if line.get("add", {}).get("path") == path)
    features = protocol("deletionVectors")
    remove = {"path": path, "dataChange": True, "deletionTimestamp": 1}
    actions = [
        {"protocol": features},
        {"remove": remove},
        {"add": {**added, "deletionVector": vector(table)}},
    ]
    commit = log / f"{len(commits):020d}.json"
    commit.write_text("".join(f"{json.dumps(action)}\n" for action in actions))
