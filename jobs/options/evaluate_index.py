"""The options of evaluate-index, checked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from jobs.options.shared import (
    SearchJobConfig,
    add_search_options,
    require_counts,
    require_shares,
)
from jobs.runtime.job import Job
from jobs.runtime.run import job_parser
from pool3 import storage
from pool3.errors import UsageError

NAME = "evaluate-index"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(SearchJobConfig):
    """The configuration of evaluate-index: the options of its command line, checked."""

    queries: str | None = None
    sample: int = 1000
    seed: int = 1
    labels: str | None = None
    rerank: int | None = None
    search_k: int | None = None
    min_recall: float = 0.0

    def __post_init__(self) -> None:
        require_counts({"--sample": self.sample})
        if self.seed < 0:
            raise UsageError(f"expected --seed of at least 0, found {self.seed}")
        require_shares({"--min-recall": self.min_recall})
        super().__post_init__()

    @property
    def output_uri(self) -> str:
        """What the report is named after: the job writes nothing else."""
        return storage.canonical_uri(self.index) + ".evaluation"


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        NAME,
        "Measure recall@1, @10 and @100 of an index against exact search over all its rows, each\n"
        "with a 95 % interval. A hit counts as right when it is no farther than the true k-th\n"
        "neighbour; a query's own row never counts. Nothing but the report is written: to\n"
        "INDEX.evaluation.report.json, and as the last line on stdout.",
        "examples:\n"
        "  ./submit.sh evaluate-index --index s3://lake/index --min-recall 0.95\n"
        "  ./submit.sh evaluate-index --index build/index --snapshot 7 --labels meta.label\n"
        "\nexit status: 0 done, 1 failed, 2 wrong arguments, 3 recall@10 is below --min-recall",
    )
    parser.add_argument("--index", required=True, metavar="DIR", help="the index")
    parser.add_argument(
        "--queries",
        metavar="TABLE_OR_PICTURES",
        help="queries to measure with, as for search-batch (default: rows of the index)",
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=EvaluateConfig.sample,
        metavar="N",
        help="without --queries: how many rows of the index are drawn (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=EvaluateConfig.seed,
        metavar="N",
        help="which rows are drawn (default: %(default)s)",
    )
    parser.add_argument(
        "--labels",
        metavar="COLUMN",
        help="a column of the index's metadata (and of the table of --queries): also measure "
        "precision@k, the share of hits with the query's label, and mAP",
    )
    parser.add_argument(
        "--min-recall",
        type=float,
        default=EvaluateConfig.min_recall,
        metavar="SHARE",
        help="exit with 3 when the measured recall@10 is lower (default: %(default)s)",
    )
    add_search_options(parser)
    return parser


JOB = Job(NAME, EvaluateConfig, arg_parser)
