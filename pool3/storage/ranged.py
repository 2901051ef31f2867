"""A remote object as an ordinary file: what is read at a position is fetched, and no more."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from obstore import ReadableFile

_BUFFER_BYTES = 1 << 20


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
