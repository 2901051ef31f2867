"""evaluate-index: recall against exact search, and by labels precision and mAP.

Sample queries are searched as a user's would be, and measured against every row of the index. With
labels, precision and mean average precision tell whether what is near is also alike.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pyspark.sql import SparkSession

from jobs.options.evaluate_index import JOB, EvaluateConfig, arg_parser, configure
from jobs.runtime.report import Report
from jobs.runtime.run import fail, run_job, since_start
from jobs.steps.search.evaluate import Evaluation
from pool3.errors import GateError, UsageError
from pool3.index.format.manifest import Manifest
from pool3.index.format.recall_curve import MEASURED_KS
from pool3.index.recall.effort import Effort, choose_effort
from pool3.index.snapshots.snapshot import open_snapshot
from pool3.search.evaluate import Estimate
from pool3.storage.names import new_run_id
from udfs.evaluate import Queries
from udfs.search import OpenIndex

GATED_K = 10

log = logging.getLogger(__name__)


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
        found = {k: evaluation.search(queries, effort) for k, effort in depths.items()}
    recall = {k: Estimate.of(true.shares_found(hits, k)) for k, hits in found.items()}
    report.details.update(
        recall=_told(recall), effort={str(k): _depth_told(effort) for k, effort in depths.items()}
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


def _depths(config: EvaluateConfig, manifest: Manifest) -> dict[int, Effort]:
    """Return how far a user's search looks for each k, with a place more for its own row."""
    depths = {}
    for k in MEASURED_KS:
        if config.rerank is None or k <= config.rerank:
            effort = choose_effort(
                manifest, k, recall=config.recall, rerank=config.rerank, search_k=config.search_k
            )
            depths[k] = replace(effort, k=k + 1, rerank=max(effort.rerank, k + 1))
    return depths


def _queries(config: EvaluateConfig, evaluation: Evaluation, report: Report) -> Queries:
    if config.queries is None:
        queries = evaluation.drawn(config.sample, config.seed)
    else:
        queries, skipped_rows = evaluation.given(config.queries)
        report.errors = dict(skipped_rows.errors)
        report.counts.update(failed=sum(skipped_rows.errors.values()), skipped=skipped_rows.skipped)
        report.details["failed"] = skipped_rows.named
    report.counts["ok"] = len(queries.ids)
    return queries


def _told(estimates: Mapping[int, Estimate | None]) -> dict[str, dict[str, float] | None]:
    return {
        str(k): None if estimate is None else estimate.as_dict()
        for k, estimate in estimates.items()
    }


def _depth_told(effort: Effort) -> dict[str, float | None]:
    return {"rerank": effort.rerank, "search_k": effort.search_k, "promised": effort.recall}


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
