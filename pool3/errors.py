"""The exceptions of pool3.

Each message is one sentence for a person: what was expected, what was found, the offender and the
remedy. The class determines the exit status of a command (`exit_code`).
"""

from __future__ import annotations


class Pool3Error(Exception):
    """Base class of all errors that pool3 raises on purpose (exit status 1)."""

    exit_code = 1


class UsageError(Pool3Error):
    """The arguments or the configuration are wrong; nothing was written (exit status 2)."""

    exit_code = 2


class GateError(Pool3Error):
    """The job finished, but its result did not pass a gate (exit status 3)."""

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
    """The object does not exist."""

    def __init__(self, message: str) -> None:
        super().__init__("not_found", message)


class AlreadyExists(StorageError):
    """An object that must be created only once exists already."""

    def __init__(self, message: str) -> None:
        super().__init__("already_exists", message)


class CacheFull(StorageError):
    """The local cache has no room for a file because everything in it is in use."""

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
        What is wrong, for a person.
    seconds
        How long decoding took until it failed; 0 outside of a `DecodePool`.
    """

    def __init__(self, code: str, detail: str, seconds: float = 0.0) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.seconds = seconds

    def __reduce__(self) -> tuple[type[PictureError], tuple[str, str, float]]:
        return (PictureError, (self.code, self.detail, self.seconds))


class ModelError(UsageError):
    """A weights file or a graph cannot be used as a model."""


class EngineMissing(UsageError):
    """The library that runs the model is not installed."""


class InvalidIndex(UsageError):
    """An index cannot be read: it is no index, it is damaged, or its format is unknown."""


class SnapshotExpired(InvalidIndex):
    """The snapshot was deleted by retention; `Index.refresh` opens the newest one."""


def install_remedy(extra: str) -> str:
    """Return how to install an extra of this package, which is in no package index."""
    return f"install it in a clone of pool3 with: pip install '.[{extra}]'"
