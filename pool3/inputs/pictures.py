"""Which objects of a folder or glob are inputs, and which are set aside, counted by reason.

A folder means every file below it. Only names that writers of tables and file systems use for
themselves are set aside: dot-names, ``_SUCCESS``, ``_temporary``, ``_delta_log`` and their like.
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
    """What an input holds: the objects sorted by uri, and how many were set aside and why."""

    objects: tuple[StoredObject, ...]
    set_aside: dict[str, int]


@dataclass(slots=True)
class Aside:
    """What a listing passed over: how many objects for which reason, and tables that it met.

    The log of a table below a folder of pictures may be listed after its files; whoever listed
    them sets them aside as ``table`` at the end, with `of_a_table`.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    tables: set[str] = field(default_factory=set)

    def of_a_table(self, uri: str) -> bool:
        """Tell whether an object lies in one of the tables."""
        return any(uri.startswith(f"{table}/") for table in self.tables)

    def described(self) -> str:
        """Say in words why nothing may be left."""
        if not self.reasons:
            return "it is empty"
        told = sorted(self.reasons.items())
        return ", ".join(f"{count} set aside as {reason}" for reason, count in told)


def list_pictures(where: str, *, glob: str | None = None) -> Listing:
    """List the inputs of an extraction, all at once.

    Parameters
    ----------
    where, glob
        As in `pictures`.

    Raises
    ------
    UsageError
        `where` does not exist or is a table, or no input is in it.
    """
    aside = Aside()
    found = list(pictures(where, glob=glob, aside=aside))
    kept = [one for one in found if not aside.of_a_table(one.uri)]
    if len(kept) < len(found):
        aside.reasons["table"] += len(found) - len(kept)
    if not kept:
        raise nothing_found(where, aside)
    return Listing(tuple(sorted(kept, key=lambda one: one.uri)), dict(aside.reasons))


def nothing_found(where: str, aside: Aside) -> UsageError:
    """Return the error of an input without a single picture."""
    return UsageError(
        f"expected at least one picture in {where}, found none ({aside.described()}); check "
        "--input and --glob"
    )


def pictures(where: str, *, glob: str | None = None, aside: Aside) -> Iterator[StoredObject]:
    """Yield the inputs of an extraction as the store lists them, in no particular order.

    Parameters
    ----------
    where
        A folder, a single file, or a glob such as ``s3://lake/photos/**/*.jpg``. In a glob, ``*``
        and ``?`` stay within a segment and ``**`` spans segments; a path that exists as it is
        written is no glob, whatever its characters.
    glob
        Narrows a folder: matched against the file name, or against the path below the folder when
        it holds a ``/``.
    aside
        Filled as the listing goes on.

    Raises
    ------
    UsageError
        `where` does not exist, or is a Delta, Hudi or Iceberg table.
    """
    root, pattern = root_and_pattern(where)
    try:
        require_no_table(root)
        for found in storage.list_objects(root):
            if _is_input(found.uri, root, pattern, glob, aside):
                yield found
    except NotFound as error:
        raise UsageError(
            f"expected a folder, a file or a glob of pictures, found nothing at {root}; check "
            "--input"
        ) from error


def root_and_pattern(where: str) -> tuple[str, re.Pattern[str] | None]:
    """Return the folder or file that a place begins at, and for a glob what lies below it."""
    uri = storage.canonical_uri(where)
    if _WILDCARDS.search(uri) is None or storage.exists(uri) or storage.is_directory(uri):
        return uri, None
    segments = uri.split("/")
    fixed = list(takewhile(lambda segment: not _WILDCARDS.search(segment), segments))
    root = "/".join(fixed) or "/"
    return root, glob_pattern("/".join(segments[len(fixed) :]))


def _is_input(
    uri: str, root: str, pattern: re.Pattern[str] | None, glob: str | None, aside: Aside
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
        if segment.startswith("."):
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
