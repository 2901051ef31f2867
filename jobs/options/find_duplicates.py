"""The options of find-duplicates, checked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from jobs.options.shared import ResultTableConfig, add_index_options, require_counts
from jobs.runtime.job import Job
from jobs.runtime.run import job_parser
from pool3 import storage
from pool3.search.duplicates import check_threshold

NAME = "find-duplicates"


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig(ResultTableConfig):
    """The configuration of find-duplicates: the options of its command line, checked."""

    threshold: float = 0.05
    max_neighbours: int = 1000
    sheet_dir: str | None = None
    sheets: int = 20

    def __post_init__(self) -> None:
        require_counts({"--max-neighbours": self.max_neighbours, "--sheets": self.sheets})
        check_threshold(self.threshold, "angular")
        super().__post_init__()
        if self.sheet_dir is not None:
            storage.canonical_uri(self.sheet_dir)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        NAME,
        "Find pictures that are nearly the same, and write a row for each to a Delta table with\n"
        "the columns cluster_id, image_id, representative_id, distance_to_representative. Each\n"
        "picture is in one cluster at most, and within --threshold of its representative. Each\n"
        "run's rows take the place of those before; older versions of the table stay readable.",
        "examples:\n"
        "  ./submit.sh find-duplicates --index s3://lake/index --output s3://lake/duplicates\n"
        "  ./submit.sh find-duplicates --index build/index --output build/duplicates \\\n"
        "      --threshold 0.02 --sheet-dir build/sheets\n"
        "\nexit status: 0 done, 1 failed, 2 wrong arguments (nothing written)",
    )
    parser.add_argument("--index", required=True, metavar="DIR", help="the index; not one of dot")
    parser.add_argument("--output", required=True, metavar="TABLE", help="the table of clusters")
    parser.add_argument(
        "--threshold",
        type=float,
        default=DuplicatesConfig.threshold,
        metavar="DISTANCE",
        help="largest distance to the representative, as a search shows it (default: %(default)s)",
    )
    parser.add_argument(
        "--max-neighbours",
        type=int,
        default=DuplicatesConfig.max_neighbours,
        metavar="N",
        help="how many neighbours within the threshold a picture looks for in a shard; how many "
        "pictures have more is reported (default: %(default)s)",
    )
    parser.add_argument(
        "--recall",
        type=float,
        metavar="SHARE",
        help="look as far as the index's measured curve says for this recall (default: 0.95)",
    )
    parser.add_argument(
        "--sheet-dir", metavar="DIR", help="draw contact sheets of the largest clusters there"
    )
    parser.add_argument(
        "--sheets",
        type=int,
        default=DuplicatesConfig.sheets,
        metavar="N",
        help="how many of them (default: %(default)s)",
    )
    add_index_options(parser)
    return parser


JOB = Job(NAME, DuplicatesConfig, arg_parser)
