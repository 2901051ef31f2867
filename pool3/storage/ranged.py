"""Reads ranges of a remote object: as a file, or many ranges at the same time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, cast

import obstore
from obstore import exceptions

from pool3.errors import StorageError
from pool3.storage.clients import hurried_store_of, raise_mapped
from pool3.storage.retries import Exhausted, retried
from pool3.storage.uris import split_remote

if TYPE_CHECKING:
    from obstore import ReadableFile

_BUFFER_BYTES = 1 << 20

# Ranges closer than this are fetched in one request, since the gap costs about a request's latency.
_COALESCED_GAP = 1 << 18
_ATTEMPTS = 4
_DEADLINE_S = 120.0
_STALL_S = 15.0


class _Ranged(io.RawIOBase):
    """Adapts obstore's reader to Python's file protocol, which pyarrow expects."""

    def __init__(self, reader: ReadableFile) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        data = bytes(self._reader.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)


def ranged_file(reader: ReadableFile) -> BinaryIO:
    """Return a buffered, seekable file over obstore's reader."""
    return cast(BinaryIO, io.BufferedReader(_Ranged(reader), _BUFFER_BYTES))


def fetch_ranges(uri: str, starts: Sequence[int], length: int) -> bytes:
    """Return ranges of equal length of one remote object, one after the other.

    Close ranges are fetched in one request, other ones concurrently. All of them are retried when
    the server is busy or the connection breaks.

    Parameters
    ----------
    uri
        Canonical uri of an object in a bucket.
    starts
        Offset of each range, ascending.
    length
        Bytes of each range.

    Raises
    ------
    NotFound, StorageError
        The object is missing, cannot be reached, or is shorter.
    """
    bucket, key = split_remote(uri)

    def attempt(limit_s: float) -> bytes:
        store = hurried_store_of(bucket, limit_s, _STALL_S)
        lengths = [length] * len(starts)
        ranges = obstore.get_ranges(
            store, key, starts=starts, lengths=lengths, coalesce=_COALESCED_GAP
        )
        return b"".join(ranges)

    if not starts:
        return b""
    try:
        data = retried(attempt, attempts=_ATTEMPTS, deadline_s=_DEADLINE_S)
    except Exhausted as error:
        raise_mapped(uri, cast(Exception, error.__cause__), str(error))
    except (exceptions.BaseError, OSError) as error:
        raise_mapped(uri, error)
    if len(data) != length * len(starts):
        raise StorageError(
            "fetch_failed",
            f"expected {len(starts)} ranges of {length} bytes of {uri}, found {len(data)} bytes: "
            "the object is damaged or was replaced; restore it or build the index again",
        )
    return data
