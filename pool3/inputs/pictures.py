"""Lists the pictures of a folder or glob; objects that are no inputs are set aside and counted.

A folder means every file below it. Only names that table writers and file systems reserve are set
aside: names that start with a dot, ``_SUCCESS``, ``_temporary``, ``_delta_log`` and the like.
``_MG_0001.JPG`` is a photo.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile

from pool3 import storage
from pool3.errors import NotFound, UsageError
from pool3.inputs.lake_tables import require_no_table, table_above
from pool3.storage import StoredObject

_BOOKKEEPING = re.compile(
    r"_(SUCCESS|FAILURE|temporary|delta_log|change_data|delta_index|spark_metadata|metadata"
    r"|common_metadata|committed_\d+|started_\d+|pool3)"
)
_WILDCARDS = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Listing:
    """The pictures of an input, sorted by uri, and counts of the objects set aside, by reason."""

    objects: tuple[StoredObject, ...]
    set_aside: dict[str, int]


@dataclass(slots=True)
class SetAside:
    """The objects that a listing sets aside.

    Attributes
    ----------
    reasons
        Counts by reason.
    tables
        Folders below the input that are tables. Their log may be listed after their files, so the
        caller sets the files aside at the end, with `is_in_table`.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    tables: set[str] = field(default_factory=set)

    def is_in_table(self, uri: str) -> bool:
        """Return whether an object belongs to one of the tables."""
        return any(uri.startswith(f"{table}/") for table in self.tables)

    def describe(self) -> str:
        """Return the reasons as text, for the error of an input without pictures."""
        if not self.reasons:
            return "it is empty"
        counts = sorted(self.reasons.items())
        return ", ".join(f"{count} set aside as {reason}" for reason, count in counts)


def list_pictures(where: str, *, glob: str | None = None) -> Listing:
    """List the inputs of an extraction, all at once.

    Parameters
    ----------
    where, glob
        As in `pictures`.

    Raises
    ------
    UsageError
        `where` does not exist, is a table, or contains no picture.
    """
    aside = SetAside()
    listed = list(pictures(where, glob=glob, aside=aside))
    inputs = [picture for picture in listed if not aside.is_in_table(picture.uri)]
    if len(inputs) < len(listed):
        aside.reasons["table"] += len(listed) - len(inputs)
    if not inputs:
        raise no_pictures(where, aside)
    return Listing(tuple(sorted(inputs, key=lambda picture: picture.uri)), dict(aside.reasons))


def no_pictures(where: str, aside: SetAside) -> UsageError:
    """Return the error of an input without a single picture."""
    return UsageError(
        f"expected at least one picture in {where}, found none ({aside.describe()}); check "
        "--input and --glob"
    )


def pictures(where: str, *, glob: str | None = None, aside: SetAside) -> Iterator[StoredObject]:
    """Yield the inputs of an extraction as the store lists them, in no particular order.

    Parameters
    ----------
    where
        A folder, a single file, or a glob such as ``s3://lake/photos/**/*.jpg``. In a glob, ``*``
        and ``?`` match within a segment and ``**`` spans segments. A path that exists literally is
        not a glob, whatever its characters.
    glob
        Restricts a folder: matched against the file name, or against the path below the folder if
        it has a ``/``.
    aside
        Filled during the listing.

    Raises
    ------
    UsageError
        `where` does not exist, or is a Delta, Hudi or Iceberg table.
    """
    root, pattern = root_and_pattern(where)
    try:
        require_no_table(root)
        for entry in storage.list_objects(root):
            if _is_input(entry.uri, root, pattern, glob, aside):
                yield entry
    except NotFound as error:
        raise UsageError(
            f"expected a folder, a file or a glob of pictures, found nothing at {root}; check "
            "--input"
        ) from error


def root_and_pattern(where: str) -> tuple[str, re.Pattern[str] | None]:
    """Return the folder or file to list, and for a glob the pattern of paths below it."""
    uri = storage.canonical_uri(where)
    if _WILDCARDS.search(uri) is None or storage.exists(uri) or storage.is_directory(uri):
        return uri, None
    segments = uri.split("/")
    fixed = list(takewhile(lambda segment: not _WILDCARDS.search(segment), segments))
    root = "/".join(fixed) or "/"
    return root, glob_pattern("/".join(segments[len(fixed) :]))


def _is_input(
    uri: str, root: str, pattern: re.Pattern[str] | None, glob: str | None, aside: SetAside
) -> bool:
    below = uri.removeprefix(root).lstrip("/") or storage.name_of(uri)
    segments = below.split("/")
    depth = table_above(segments)
    if depth is not None:
        aside.tables.add("/".join([root.rstrip("/"), *segments[:depth]]))
    reason = _bookkeeping_reason(segments)
    if reason is None and pattern is not None and not pattern.fullmatch(below):
        reason = "not_in_glob"
    if reason is None and glob is not None and not _in_glob(below, glob):
        reason = "not_in_glob"
    if reason is not None:
        aside.reasons[reason] += 1
    return reason is None


def _bookkeeping_reason(segments: Iterable[str]) -> str | None:
    for segment in segments:
        if segment.startswith(".") and segment not in (".", ".."):  # names only in a bucket's keys
            return "dot_name"
        if _BOOKKEEPING.fullmatch(segment):
            return "bookkeeping"
    return None


def _in_glob(below: str, glob: str) -> bool:
    text = below if "/" in glob else storage.name_of(below)
    return glob_pattern(glob).fullmatch(text) is not None


def glob_pattern(glob: str) -> re.Pattern[str]:
    """Translate a glob over ``/``-separated segments to a regular expression.

    Examples
    --------
    >>> bool(glob_pattern("**/*.jpg").fullmatch("a/b/c.jpg"))
    True
    >>> bool(glob_pattern("*.jpg").fullmatch("a/c.jpg"))
    False
    """
    translated = []
    for piece in re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])", glob):
        if piece == "**/":
            translated.append("(?:.*/)?")
        elif piece == "**":
            translated.append(".*")
        elif piece == "*":
            translated.append("[^/]*")
        elif piece == "?":
            translated.append("[^/]")
        elif piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
            inner = "^" + piece[2:-1] if piece[1] == "!" else piece[1:-1]
            translated.append("[" + inner.replace("\\", "\\\\") + "]")
        else:
            translated.append(re.escape(piece))
    return re.compile("".join(translated), re.DOTALL)
