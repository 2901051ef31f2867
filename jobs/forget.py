"""forget: takes pictures out of an index for good: rows, vectors, metadata and thumbnails.

The shards that hold them are written anew without them and published; every other snapshot that
names a file with them expires at once, and the files are deleted. A scan of what is left then
proves that they are gone.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from pyspark.sql import SparkSession

from pool3 import storage
from pool3.errors import Pool3Error
from pool3.features.cleaning import keep_since
from pool3.features.erasure import ids_named
from pool3.index.manifest import EVIDENCE, IDS, Manifest, ShardEntry
from pool3.index.opening import open_snapshot
from pool3.index.publication import (
    newest_entry,
    newest_snapshot,
    next_snapshot,
    publish,
    utc_now,
    write_manifest,
)
from pool3.index.recall_steps import stored_samples
from pool3.index.reduction import Reduction
from pool3.index.retention import Holdings, delete_expired, holdings
from pool3.index.tombstones import numbered
from pool3.job import job_parser, run_job, since_start
from pool3.report import Report, new_run_id
from udfs.holders import holders
from udfs.measure import pick_samples, with_recall
from udfs.shard import ShardSettings, built_shards
from udfs.stored import stored_metadata, stored_rows

JOB = "forget"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ForgetConfig:
    """What forget is asked to do; the options of the command line, checked."""

    index: str
    ids: str
    report: str | None = None

    def __post_init__(self) -> None:
        storage.canonical_uri(self.index)

    @property
    def output_uri(self) -> str:
        """The index, canonical."""
        return storage.canonical_uri(self.index)


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = job_parser(
        JOB,
        "Take pictures out of an index for good, with all that it holds of them, and out of every\n"
        "snapshot: older ones that name them expire at once. Erase them from the feature table\n"
        "first (compact-features --erase), or the next build-index adds them again.",
        "example:\n"
        "  ./submit.sh forget --index s3://lake/index --ids @ids.txt\n"
        "\nexit status: 0 done, 1 failed (another run published meanwhile, say: run it again),\n"
        "2 wrong arguments (nothing written)",
    )
    parser.add_argument("--index", required=True, metavar="DIR", help="the index")
    parser.add_argument(
        "--ids",
        required=True,
        metavar="IDS",
        help="image ids with commas between them, or @FILE with one on each line (@FILE.json: a "
        "list of strings, for ids with line feeds)",
    )
    return parser


def configure(arguments: argparse.Namespace) -> ForgetConfig:
    """Return the configuration of a parsed command line."""
    return ForgetConfig(**vars(arguments))


def run(spark: SparkSession, config: ForgetConfig) -> Report:
    """Forget pictures; returns the report."""
    report = Report(job=JOB, run_id=new_run_id())
    ids = ids_named(config.ids, option="--ids")
    published = newest_entry(config.output_uri)
    index, base, reduction = open_snapshot(config.output_uri)
    report.seconds["startup"] = since_start()
    report.model_id = base.model_id
    held = holdings(index)
    found = holders(spark, held, ids)
    if found:
        manifest = _without(spark, index, base, reduction, ids, found.keys(), report.run_id)
        write_manifest(index, manifest)
        publish(index, manifest.snapshot_id, by=report.run_id, why="forgot", after=published)
        report.counts.update(ok=manifest.rows, gone=base.rows - manifest.rows)
        report.details["snapshot_id"] = manifest.snapshot_id
        _delete(held, holdings(index), found.keys(), manifest.snapshot_id, report)
    _prove(spark, index, ids)
    _tell(report, len(ids), len({name for names in found.values() for name in names or ()}))
    return report


def _without(
    spark: SparkSession,
    index: str,
    base: Manifest,
    reduction: Reduction,
    ids: Set[str],
    found: Set[str],
    run_id: str,
) -> Manifest:
    """Store what the next snapshot has in the place of the files that hold some ids."""
    parent = newest_snapshot(index)
    snapshot = next_snapshot(parent)
    holding = [entry for entry in base.shards if entry.rows and entry.files[IDS].path in found]
    rewritten = _rewritten(spark, index, base, reduction, holding, ids, snapshot)
    entries = [
        entry if entry not in holding else rewritten.get(entry.number) for entry in base.shards
    ]
    shards = numbered([_unmeasured(entry) for entry in entries if entry is not None])
    manifest = replace(
        base,
        snapshot_id=snapshot,
        parent=parent,
        base=base.snapshot_id,
        created_at=utc_now(),
        run_id=run_id,
        rows=sum(entry.live for entry in shards),
        shards=shards,
        samples=None,
        recall=None,
    )
    before = stored_samples(index, base)
    if before is None:
        picked = pick_samples(spark, index, manifest)
    else:
        kept = before.without(ids)
        picked = (list(kept.ids), kept.queries)
    return with_recall(spark, index, manifest, reduction, picked=picked)


def _rewritten(
    spark: SparkSession,
    index: str,
    base: Manifest,
    reduction: Reduction,
    holding: Sequence[ShardEntry],
    ids: Set[str],
    snapshot: int,
) -> dict[int, ShardEntry]:
    """Store shards without some rows and without dead ones; one that is left empty is not there."""
    if not holding:
        return {}
    rows = stored_rows(spark, index, holding, without=ids)
    settings = ShardSettings(
        index_uri=index,
        n_trees=base.n_trees,
        seed=base.seed,
        vectors_dtype=base.vectors_dtype,
        added_in=snapshot,
        carried=stored_metadata(index, holding),
    )
    built = built_shards(rows, settings, reduction, len(base.shards)).shards
    added_in = {entry.number: entry.added_in for entry in holding}
    return {number: replace(entry, added_in=added_in[number]) for number, entry in built.items()}


def _unmeasured(entry: ShardEntry) -> ShardEntry:
    """Leave out what was measured with samples that may be among the forgotten pictures."""
    files = {kind: file for kind, file in entry.files.items() if kind != EVIDENCE}
    return replace(entry, files=files, search_k=())


def _delete(
    before: Holdings, after: Holdings, found: Set[str], snapshot: int, report: Report
) -> None:
    """Expire the snapshots that name files with forgotten pictures, and delete what nobody names.

    Only what was there before the new snapshot was published: a run that began before that cannot
    publish any more, and what a later one writes is not listed.
    """
    expired = {
        number
        for number, manifest in after.manifests.items()
        if number != snapshot and found & {file.path for file in manifest.files()}
    }
    listed = {path: after.objects[path] for path in before.objects if path in after.objects}
    manifests = {f"snapshots/{number:020d}/manifest.json" for number in after.manifests}
    objects = {
        path: at for path, at in after.objects.items() if path in manifests or path in listed
    }
    stay = set(after.manifests) - expired
    deleted = delete_expired(replace(after, objects=objects), stay, before=keep_since(0))
    report.details.update(
        expired=sorted(expired), freed={"files": len(deleted)}, files_with_them=len(found)
    )


def _prove(spark: SparkSession, index: str, ids: Set[str]) -> None:
    """Look for the ids in every file that is left.

    Raises
    ------
    Pool3Error
        When one holds them, or cannot be read.
    """
    left = holders(spark, holdings(index), ids)
    if left:
        raise Pool3Error(
            f"expected no file of {index} to hold the pictures, found {len(left)} that do or "
            f"cannot be read, {min(left)} for one; another run may have written meanwhile: run "
            "forget again"
        )


def _tell(report: Report, n_ids: int, n_found: int) -> None:
    """Report what was forgotten, by numbers: the ids themselves are to stand nowhere."""
    report.details["forgotten"] = {"ids": n_ids, "found": n_found}
    report.warnings.append(
        "the next build-index adds the pictures again unless they are erased from the feature "
        "table (compact-features --erase); caches of machines that searched, a bucket that keeps "
        "versions of its objects, a backup or an older report still hold what they held"
    )
    if n_found < n_ids:
        report.warnings.append(
            f"{n_ids - n_found} of {n_ids} ids stood in no file of the index (a file with ids is "
            "named @FILE)"
        )
    for warning in report.warnings:
        log.warning("%s", warning)


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
