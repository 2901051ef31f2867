"""The weights inside of a tar, read as a stream: nothing is unpacked to disk by its own name."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from pool3.errors import ModelError

MOST_UNPACKED_BYTES = 2 << 30
MOST_MEMBERS = 10_000
_WEIGHTS = (".pb", ".ckpt", ".index", ".h5", ".hdf5", ".keras")
_DATA = ".data-"
_GZIP = b"\x1f\x8b"
_TAR_AT, _TAR = 257, b"ustar"


def is_archive(data: bytes) -> bool:
    """Tell whether a file is a tar, or is packed by gzip as a tar may be."""
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
        Base names of members (``classify_image_graph_def.pb``, ``inception_v3.ckpt``, ...) to
        their bytes.

    Raises
    ------
    ModelError
        If it is damaged, unpacks to more than `MOST_UNPACKED_BYTES`, has members that are links
        or would lie outside of its folder, two of one name, or none that may be weights.
    """
    stream: io.BytesIO | _Limited = io.BytesIO(data)
    if data.startswith(_GZIP):
        stream = _Limited(gzip.GzipFile(fileobj=io.BytesIO(data)))
    found: dict[str, bytes] = {}
    others = []
    try:
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|") as archive:
            for member, content in _files(archive):
                name = member.rpartition("/")[2]
                if name in found:
                    raise ModelError(f"expected one {name} in the archive, found two")
                if content is None:
                    others.append(member)
                else:
                    found[name] = content
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ModelError(
            f"expected a tar, found an archive that is none, or is damaged or cut short ({error})"
        ) from error
    if not found:
        raise ModelError(
            f"expected a graph (.pb), a checkpoint or a Keras file in the archive, found "
            f"{', '.join(others[:5]) or 'nothing'}"
        )
    return found


def _files(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes | None]]:
    """Give each file's name, and its bytes where it may be weights."""
    for count, member in enumerate(archive, 1):
        name = member.name.removeprefix("./")
        if count > MOST_MEMBERS:
            raise ModelError(f"expected at most {MOST_MEMBERS} files in the archive, found more")
        if name.startswith("/") or ".." in name.split("/"):
            raise ModelError(f"expected names inside of the archive, found {member.name!r}")
        if not (member.isfile() or member.isdir()) or member.issparse():
            raise ModelError(f"expected only files in the archive, {member.name!r} is a link or so")
        if member.size > MOST_UNPACKED_BYTES:
            raise ModelError(
                f"expected {member.name!r} to have {MOST_UNPACKED_BYTES} bytes at most, found "
                f"{member.size} declared"
            )
        if member.isdir():
            continue
        base = name.rpartition("/")[2]
        wanted = base.endswith(_WEIGHTS) or _DATA in base
        content = archive.extractfile(member) if wanted and not base.startswith(".") else None
        yield name, None if content is None else content.read()


class _Limited:
    """A stream that refuses to give more than `MOST_UNPACKED_BYTES`."""

    def __init__(self, source: gzip.GzipFile) -> None:
        self._source = source
        self._left = MOST_UNPACKED_BYTES

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ModelError(
                f"expected an archive of {MOST_UNPACKED_BYTES} bytes at most when unpacked, "
                "found more"
            )
        return data
