"""evaluate-index: recall against exact search, and by labels precision and mAP.

Sample queries are searched as a user's would be, and measured against every row of the index. With
labels, precision and mean average precision tell whether what is near is also alike.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pyspark.sql import SparkSession

from pool3 import storage
from pool3.errors import GateError, UsageError
from pool3.evaluation import Estimate
from pool3.index.curve import MEASURED_KS
from pool3.index.depth import Depth, depth_of
from pool3.index.manifest import Manifest
from pool3.index.opening import open_snapshot
from pool3.job import fail, job_parser, run_job, since_start
from pool3.report import Report, new_run_id
from pool3.search_options import MAX_TASK_MB, add_search_options, require_counts
from udfs.evaluate import Queries
from udfs.evaluation import Evaluation
from udfs.search_shards import OpenIndex

JOB = "evaluate-index"
GATED_K = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What evaluate-index is asked to do; the options of the command line, checked."""

    index: str
    queries: str | None = None
    sample: int = 1000
    seed: int = 1
    labels: str | None = None
    snapshot: int | None = None
    recall: float | None = None
    rerank: int | None = None
    search_k: int | None = None
    min_recall: float = 0.0
    max_task_mb: int = MAX_TASK_MB
    report: str | None = None

    def __post_init__(self) -> None:
        require_counts(
            {
                "--sample": self.sample,
                "--snapshot": self.snapshot,
                "--max-task-mb": self.max_task_mb,
            }
        )
        if self.seed < 0:
            raise UsageError(f"expected --seed of at least 0, found {self.seed}")
        if not 0 <= self.min_recall <= 1:
            raise UsageError(f"expected --min-recall from 0 to 1, found {self.min_recall}")
        storage.canonical_uri(self.index)

    @property
    def output_uri(self) -> str:
        """What the report is named after: the job writes nothing else."""
        return storage.canonical_uri(self.index) + ".evaluation"


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        JOB,
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


def configure(arguments: argparse.Namespace) -> EvaluateConfig:
    """Return the configuration of a parsed command line."""
    return EvaluateConfig(**vars(arguments))


def run(spark: SparkSession, config: EvaluateConfig) -> Report:
    """Evaluate the index; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    uri, manifest, reduction = open_snapshot(config.index, config.snapshot)
    if not manifest.rows:
        raise UsageError(f"expected an index with rows to evaluate, found none in {uri}")
    depths = _depths(config, manifest)
    index = OpenIndex.of(uri, manifest, reduction, config.max_task_mb << 20)
    evaluation = Evaluation(spark, index)
    report.model_id = manifest.model_id
    report.details.update(snapshot_id=manifest.snapshot_id, rows=manifest.rows)
    report.seconds["startup"] = since_start()
    with report.timed("queries"):
        queries = _queries(config, evaluation, report)
    with report.timed("exact"):
        true = evaluation.true_distances(queries, max(depths))
    with report.timed("search"):
        found = {k: evaluation.search(queries, depth) for k, depth in depths.items()}
    recall = {k: Estimate.of(true.shares_found(hits, k)) for k, hits in found.items()}
    report.details.update(
        recall=_told(recall), depth={str(k): _depth_told(depth) for k, depth in depths.items()}
    )
    for k, estimate in recall.items():
        if estimate is not None:
            log.info("recall@%s %.4f (%.4f to %.4f)", k, estimate.mean, estimate.low, estimate.high)
    if config.labels is not None:
        with report.timed("labels"):
            scores = evaluation.by_label(queries, found, config.labels, config.queries)
        average = None if scores[1] is None else scores[1].as_dict()
        report.details.update({"precision": _told(scores[0]), f"map@{max(found)}": average})
    _check_recall(report, recall, config)
    return report


def _depths(config: EvaluateConfig, manifest: Manifest) -> dict[int, Depth]:
    """Return how far a user's search looks for each k, with a place more for its own row."""
    depths = {}
    for k in MEASURED_KS:
        if config.rerank is None or k <= config.rerank:
            depth = depth_of(
                manifest, k, recall=config.recall, rerank=config.rerank, search_k=config.search_k
            )
            depths[k] = replace(depth, k=k + 1, rerank=max(depth.rerank, k + 1))
    return depths


def _queries(config: EvaluateConfig, evaluation: Evaluation, report: Report) -> Queries:
    if config.queries is None:
        queries = evaluation.drawn(config.sample, config.seed)
    else:
        queries, left_out = evaluation.given(config.queries)
        report.errors = dict(left_out.errors)
        report.counts.update(failed=sum(left_out.errors.values()), skipped=left_out.skipped)
        report.details["failed"] = left_out.named
    report.counts["ok"] = len(queries.ids)
    return queries


def _told(estimates: Mapping[int, Estimate | None]) -> dict[str, dict[str, float] | None]:
    return {
        str(k): None if estimate is None else estimate.as_dict()
        for k, estimate in estimates.items()
    }


def _depth_told(depth: Depth) -> dict[str, float | None]:
    return {"rerank": depth.rerank, "search_k": depth.search_k, "promised": depth.recall}


def _check_recall(
    report: Report, recall: Mapping[int, Estimate | None], config: EvaluateConfig
) -> None:
    """Set the outcome ``gate`` when recall is too low, or nothing could be measured."""
    k = max(k for k in recall if k <= GATED_K)
    estimate = recall[k]
    found = 0.0 if estimate is None else estimate.mean
    if found < config.min_recall:
        fail(
            report,
            GateError.exit_code,
            f"expected recall@{k} of at least {config.min_recall}, found {found:.4f} in snapshot "
            f"{report.details['snapshot_id']}; search with a higher --recall, or build with more "
            "trees (--min-recall sets the limit)",
        )


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return run_job(
        JOB,
        argv,
        parser=arg_parser(),
        configure=configure,
        run=lambda config: run(SparkSession.builder.appName(JOB).getOrCreate(), config),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
