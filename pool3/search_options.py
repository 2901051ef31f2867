"""Options that the jobs share which search an index: which snapshot, how far, in what pieces."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from pool3.errors import UsageError

MAX_TASK_MB = 8192


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


def require_counts(options: Mapping[str, int | None]) -> None:
    """Raise `UsageError` for the first option that is below 1; None passes."""
    for option, value in options.items():
        if value is not None and value < 1:
            raise UsageError(f"expected {option} of at least 1, found {value}")
