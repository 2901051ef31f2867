"""The options of search-batch, checked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from jobs.options.shared import (
    ResultTableConfig,
    add_search_options,
    require_counts,
    require_shares,
)
from jobs.runtime.job import Job
from jobs.runtime.run import job_parser

NAME = "search-batch"


@dataclass(frozen=True, kw_only=True)
class SearchConfig(ResultTableConfig):
    """The configuration of search-batch: the options of its command line, checked."""

    queries: str
    k: int = 10
    rerank: int | None = None
    search_k: int | None = None
    max_failed: float = 0.02

    def __post_init__(self) -> None:
        require_counts({"-k": self.k})
        require_shares({"--max-failed": self.max_failed})
        super().__post_init__()


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        NAME,
        "Find the k nearest pictures of each query, and write them to a Delta table with the\n"
        "columns query_id, rank, image_id, distance, model_id, snapshot_id, run_id. Each run's\n"
        "rows take the place of those before; older versions of the table stay readable.",
        "examples:\n"
        "  ./submit.sh search-batch --index s3://lake/index --queries s3://lake/new-photos \\\n"
        "      --output s3://lake/answers\n"
        "  ./submit.sh search-batch --index build/index --queries build/features \\\n"
        "      --output build/answers -k 100 --recall 0.99\n"
        "\nexit status: 0 done, 1 failed, 2 wrong arguments (nothing written), 3 done, and more\n"
        "queries than --max-failed could not be searched with",
    )
    parser.add_argument("--index", required=True, metavar="DIR", help="the index")
    parser.add_argument(
        "--queries",
        required=True,
        metavar="TABLE_OR_PICTURES",
        help="a feature table, or any Delta table, folder or file of Parquet with the columns "
        "features and query_id or image_id; or a folder, file or glob of pictures, whose uris "
        "are then the query ids",
    )
    parser.add_argument("--output", required=True, metavar="TABLE", help="the table of answers")
    parser.add_argument(
        "-k",
        type=int,
        default=SearchConfig.k,
        metavar="K",
        help="hits for each query; fewer only where the index has fewer rows (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--max-failed",
        type=float,
        default=SearchConfig.max_failed,
        metavar="SHARE",
        help="largest share of queries that may fail; files that are no pictures do not count "
        "(default: %(default)s)",
    )
    add_search_options(parser)
    return parser


JOB = Job(NAME, SearchConfig, arg_parser)
