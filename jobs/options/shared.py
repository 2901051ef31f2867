"""Options that the jobs share which search an index: which snapshot, how far, in what pieces."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pool3 import storage
from pool3.errors import StorageError, UsageError

MAX_TASK_MB = 8192
BYTES_A_MB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """The configuration of a job that works on an index; its report stands beside the index."""

    index: str
    report: str | None = None

    def __post_init__(self) -> None:
        storage.canonical_uri(self.index)

    @property
    def output_uri(self) -> str:
        """The index, canonical."""
        return storage.canonical_uri(self.index)


@dataclass(frozen=True, kw_only=True)
class SearchJobConfig(IndexConfig):
    """The configuration of a job that searches an index in tasks."""

    snapshot: int | None = None
    recall: float | None = None
    max_task_mb: int = MAX_TASK_MB

    def __post_init__(self) -> None:
        super().__post_init__()
        require_counts({"--snapshot": self.snapshot, "--max-task-mb": self.max_task_mb})

    @property
    def max_task_bytes(self) -> int:
        """Bytes of shards that one task opens at most."""
        return self.max_task_mb * BYTES_A_MB


@dataclass(frozen=True, kw_only=True)
class ResultTableConfig(SearchJobConfig):
    """The configuration of a job that searches an index and writes a table of results."""

    output: str

    def __post_init__(self) -> None:
        super().__post_init__()
        storage.canonical_uri(self.output)

    @property
    def output_uri(self) -> str:
        """The table of results, canonical."""
        return storage.canonical_uri(self.output)


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--snapshot``, ``--recall``, ``--rerank``, ``--search-k`` and ``--max-task-mb``."""
    add_index_options(parser)
    parser.add_argument(
        "--recall",
        type=float,
        metavar="SHARE",
        help="search as far as the index's measured curve says for this recall (default: 0.95)",
    )
    parser.add_argument(
        "--rerank",
        type=int,
        metavar="N",
        help="instead of --recall: how many candidates of each query are measured exactly",
    )
    parser.add_argument(
        "--search-k",
        type=int,
        metavar="N",
        help="instead of --recall: how many leaf entries of the trees are gathered, over all "
        "shards",
    )


def add_index_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--snapshot`` and ``--max-task-mb``."""
    parser.add_argument(
        "--snapshot", type=int, metavar="ID", help="which snapshot (default: the published one)"
    )
    parser.add_argument(
        "--max-task-mb",
        type=int,
        default=MAX_TASK_MB,
        metavar="MB",
        help="files of shards that one task opens at most: a larger index is shared out among "
        "tasks, and every query goes to each share (default: %(default)s)",
    )


def require_shares(options: Mapping[str, float | None]) -> None:
    """Raise `UsageError` for the first option that is not from 0 to 1; None passes."""
    for option, value in options.items():
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"expected {option} from 0 to 1, found {value}")


def require_counts(options: Mapping[str, int | None]) -> None:
    """Raise `UsageError` for the first option that is below 1; None passes."""
    for option, value in options.items():
        if value is not None and value < 1:
            raise UsageError(f"expected {option} of at least 1, found {value}")


def ids_named(text: str, option: str = "--erase") -> frozenset[str]:
    """Return the ids that an option names.

    Parameters
    ----------
    text
        Ids with commas between them; or ``@FILE``, a UTF-8 text with one id on each line, or a
        JSON list of strings where its name ends with ``.json``. The mark is needed, since an id is
        mostly the path of a file itself. Only a JSON list can name the empty id, which older
        releases took in.
    option
        What an error names.

    Raises
    ------
    UsageError
        No id is named, or the file cannot be read as ids.

    Examples
    --------
    >>> sorted(ids_named("s3://lake/a.jpg,s3://lake/b.jpg"))
    ['s3://lake/a.jpg', 's3://lake/b.jpg']
    """
    ids = _ids_in_file(text[1:]) if text.startswith("@") else _filled(text.split(","))
    if not ids:
        raise UsageError(f"expected ids in {option}, found none in {text!r}; name at least one")
    return frozenset(ids)


def _ids_in_file(where: str) -> list[str]:
    uri = storage.canonical_uri(where)
    try:
        text = storage.fetch(uri).decode("utf-8-sig")
        ids = json.loads(text) if uri.endswith(".json") else _lines(text)
    except (StorageError, ValueError) as error:
        raise UsageError(
            f"expected ids to erase in {uri}, which cannot be read ({error}); give one id on each "
            "line, in UTF-8"
        ) from error
    if not isinstance(ids, list) or not all(isinstance(image_id, str) for image_id in ids):
        raise UsageError(f"expected a JSON list of strings in {uri}; write the ids as strings")
    return ids


def _lines(text: str) -> list[str]:
    # Not splitlines: that splits at characters which names of files may hold.
    return _filled(line.removesuffix("\r") for line in text.split("\n"))


def _filled(ids: Iterable[str]) -> list[str]:
    return [image_id for image_id in ids if image_id]
