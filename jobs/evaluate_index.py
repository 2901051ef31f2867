"""evaluate-index: recall against exact search, and by labels precision and mAP.

Sample queries are searched as a user's would be, and measured against every row of the index. With
labels, precision and mean average precision tell whether what is near is also alike.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.options.evaluate_index import JOB, EvaluateConfig, arg_parser
from jobs.runtime.report import Report
from jobs.runtime.run import gated, since_start
from jobs.steps.gates import require_sample_recall
from jobs.steps.search.evaluate import Evaluation, efforts_by_k
from pool3.errors import UsageError
from pool3.index.snapshots.snapshot import open_snapshot
from pool3.search.evaluate import Estimate, as_dicts
from udfs.evaluate import Queries
from udfs.search import GroupedSnapshot

__all__ = ["arg_parser", "main", "run"]

log = logging.getLogger(__name__)


def run(spark: SparkSession, config: EvaluateConfig) -> Report:
    """Evaluate the index; returns the report."""
    report = JOB.report()
    snapshot = open_snapshot(config.index, config.snapshot)
    manifest = snapshot.manifest
    if not manifest.rows:
        raise UsageError(f"expected an index with rows to evaluate, found none in {snapshot.uri}")
    efforts = efforts_by_k(manifest, config.recall, config.rerank, config.search_k)
    index = GroupedSnapshot.of(snapshot, config.max_task_bytes)
    evaluation = Evaluation(spark, index)
    report.model_id = manifest.model_id
    report.details.update(snapshot_id=manifest.snapshot_id, rows=manifest.rows)
    report.seconds["startup"] = since_start()
    with report.timed("queries"):
        queries = _queries(config, evaluation, report)
    with report.timed("exact"):
        true = evaluation.true_distances(queries, max(efforts))
    with report.timed("search"):
        hits = {k: evaluation.search(queries, effort) for k, effort in efforts.items()}
    recall = {k: Estimate.of(true.recalls(hits_of_k, k)) for k, hits_of_k in hits.items()}
    for k, estimate in recall.items():
        if estimate is not None:
            log.info("recall@%s %.4f (%.4f to %.4f)", k, estimate.mean, estimate.low, estimate.high)
    report.details["recall"] = as_dicts(recall)
    report.details["effort"] = {
        str(k): {"rerank": effort.rerank, "search_k": effort.search_k, "promised": effort.recall}
        for k, effort in efforts.items()
    }
    if config.labels is not None:
        with report.timed("labels"):
            precision, average = evaluation.by_label(queries, hits, config.labels, config.queries)
        report.details["precision"] = as_dicts(precision)
        report.details[f"map@{max(hits)}"] = None if average is None else average.as_dict()
    with gated(report):
        require_sample_recall(recall, config.min_recall, snapshot=manifest.snapshot_id)
    return report


def _queries(config: EvaluateConfig, evaluation: Evaluation, report: Report) -> Queries:
    if config.queries is None:
        queries = evaluation.drawn(config.sample, config.seed)
    else:
        queries, skipped_rows = evaluation.given(config.queries)
        report.count_skipped(skipped_rows)
        report.details["failed"] = skipped_rows.named
    report.counts["ok"] = len(queries.ids)
    return queries


def main(argv: Sequence[str]) -> int:
    """Run the job; returns its exit status."""
    return JOB.main(argv, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
