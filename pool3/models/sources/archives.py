"""Reads weights from a tar as a stream; nothing is unpacked to disk."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from pool3.errors import ModelError

MAX_UNPACKED_BYTES = 2 << 30
MAX_MEMBERS = 10_000
_WEIGHTS = (".pb", ".ckpt", ".index", ".h5", ".hdf5", ".keras")
_DATA = ".data-"
_GZIP = b"\x1f\x8b"
_TAR_AT, _TAR = 257, b"ustar"


def is_archive(data: bytes) -> bool:
    """Return whether a file is a tar or compressed by gzip, as a tar may be."""
    return data.startswith(_GZIP) or data[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR


def weights_in_tar(data: bytes) -> dict[str, bytes]:
    """Read the members of a ``.tar`` or ``.tar.gz`` that may be weights.

    Parameters
    ----------
    data
        The whole archive.

    Returns
    -------
    dict
        The bytes of each member by its base name (``classify_image_graph_def.pb``,
        ``inception_v3.ckpt``, ...).

    Raises
    ------
    ModelError
        If it is damaged, unpacks to more than `MAX_UNPACKED_BYTES`, has members that are links or
        point outside of its folder, two with the same name, or none that may be weights.
    """
    stream: io.BytesIO | _LimitedStream = io.BytesIO(data)
    if data.startswith(_GZIP):
        stream = _LimitedStream(gzip.GzipFile(fileobj=io.BytesIO(data)))
    weights: dict[str, bytes] = {}
    others = []
    try:
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|") as archive:
            for member, content in _read_members(archive):
                name = member.rpartition("/")[2]
                if name in weights:
                    raise ModelError(f"expected one {name} in the archive, found two")
                if content is None:
                    others.append(member)
                else:
                    weights[name] = content
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ModelError(
            f"expected a tar, found an archive that is none, or is damaged or cut short ({error})"
        ) from error
    if not weights:
        raise ModelError(
            f"expected a graph (.pb), a checkpoint or a Keras file in the archive, found "
            f"{', '.join(others[:5]) or 'nothing'}"
        )
    return weights


def _read_members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes | None]]:
    """Yield the name of each file and, if it may be weights, its bytes."""
    for count, member in enumerate(archive, 1):
        name = member.name.removeprefix("./")
        if count > MAX_MEMBERS:
            raise ModelError(f"expected at most {MAX_MEMBERS} files in the archive, found more")
        if name.startswith("/") or ".." in name.split("/"):
            raise ModelError(f"expected names inside of the archive, found {member.name!r}")
        if not (member.isfile() or member.isdir()) or member.issparse():
            raise ModelError(
                f"expected only files in the archive, found {member.name!r} of another type"
            )
        if member.size > MAX_UNPACKED_BYTES:
            raise ModelError(
                f"expected {member.name!r} to have {MAX_UNPACKED_BYTES} bytes at most, found "
                f"{member.size} declared"
            )
        if member.isdir():
            continue
        base = name.rpartition("/")[2]
        is_weights = base.endswith(_WEIGHTS) or _DATA in base
        content = archive.extractfile(member) if is_weights and not base.startswith(".") else None
        yield name, None if content is None else content.read()


class _LimitedStream:
    """A stream that raises `ModelError` after `MAX_UNPACKED_BYTES`."""

    def __init__(self, source: gzip.GzipFile) -> None:
        self._source = source
        self._remaining = MAX_UNPACKED_BYTES

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._remaining -= len(data)
        if self._remaining < 0:
            raise ModelError(
                f"expected an archive of {MAX_UNPACKED_BYTES} bytes at most when unpacked, "
                "found more"
            )
        return data
