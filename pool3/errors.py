"""What can go wrong, as types.

Each message is one sentence for a person: what was expected, what was found, the offender, and the
remedy. The exit status of a command follows from the type (`exit_code`).
"""

from __future__ import annotations


class Pool3Error(Exception):
    """Base of every error that pool3 raises on purpose; a job that meets one exits with 1."""

    exit_code = 1


class UsageError(Pool3Error):
    """The arguments or the configuration are wrong, and nothing was written (exit status 2)."""

    exit_code = 2


class GateError(Pool3Error):
    """The job finished, and a gate did not hold (exit status 3)."""

    exit_code = 3


class StorageError(Pool3Error):
    """An object could not be read or written.

    Parameters
    ----------
    code
        ``not_found``, ``denied``, ``fetch_failed`` or ``too_large``, as in the feature table.
    message
        One sentence that names the object.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotFound(StorageError):
    """There is no such object."""

    def __init__(self, message: str) -> None:
        super().__init__("not_found", message)


class AlreadyExists(StorageError):
    """Something that must be created only once stands there already."""

    def __init__(self, message: str) -> None:
        super().__init__("already_exists", message)


class CacheFull(StorageError):
    """The local cache has no room for a file, and what it holds is in use."""

    def __init__(self, message: str) -> None:
        super().__init__("too_large", message)


class PictureError(Pool3Error):
    """One picture cannot be decoded.

    Parameters
    ----------
    code
        One of the permanent codes of the feature table: ``empty``, ``not_an_image``,
        ``unsupported_format``, ``truncated``, ``corrupt``, ``too_many_pixels``, ``too_large``.
    detail
        What was found, for a person.
    seconds
        How long decoding took until it failed, where a pool of decoders did it.
    """

    def __init__(self, code: str, detail: str, seconds: float = 0.0) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.seconds = seconds

    def __reduce__(self) -> tuple[type[PictureError], tuple[str, str, float]]:
        return (PictureError, (self.code, self.detail, self.seconds))


class ModelError(UsageError):
    """A file of weights or a graph is not what it should be."""


class EngineMissing(UsageError):
    """The library that runs the model is not installed."""


class InvalidIndex(UsageError):
    """An index cannot be read: it is not one, it is damaged, or its format is unknown."""


class SnapshotExpired(InvalidIndex):
    """A snapshot was cleaned up while it was open, or before: `Index.refresh` opens the newest."""
