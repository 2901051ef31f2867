"""One chunk of an extraction: its tasks run, the files that they touch rewritten, one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.steps.extract.contents import InputContents
from jobs.steps.extract.report import require_every_input
from jobs.steps.tasks import gather
from pool3.extract.actions import REPLACED
from pool3.extract.layout import Unit
from pool3.extract.task_summary import TaskSummary
from pool3.features.table import FeatureTable
from pool3.storage.tables import TableFile, commit
from udfs.extract import ExtractSettings, extract_part
from udfs.rewrite import rewrite


@dataclass(kw_only=True)
class ChunkRunner:
    """Runs chunk after chunk on one version of a table, and commits each.

    Attributes
    ----------
    table
        The version that the run began from, None when the run makes the table.
    plan
        All rows of the plan; `todo` are those to extract, with their ``task``.
    contents
        What gives rows their bytes, None where they are fetched.
    graph, known
        Spark broadcasts; see `udfs.extract.extract_part`.
    version
        The newest version of the table; each commit moves it on.
    """

    spark: SparkSession
    job: str
    settings: ExtractSettings
    table: FeatureTable | None
    plan: DataFrame
    contents: InputContents | None
    todo: DataFrame
    graph: Any
    known: Any
    version: int | None

    def run(self, units: Sequence[Unit], edited: Sequence[int], *, label: str) -> list[TaskSummary]:
        """Extract some units, and apply what else is planned for their files and for `edited`."""
        tasks = self._extracted(units, label)
        kept = {image_id for task in tasks for image_id in (*task.kept, *task.unchanged)}
        files = sorted({file for unit in units for file in unit.files}.union(edited))
        added = [task.file for task in tasks if task.file is not None]
        removed = []
        if files and self.table is not None:
            for number, rest in self._rewritten(files, kept, self.table):
                removed.append(self.table.files[number])
                added += [] if rest is None else [rest]
        if added or removed:
            self.version = commit(
                self._table_uri,
                schema=self.settings.schema,
                added=added,
                removed=removed,
                read_version=self.version,
                run_id=f"{self.settings.run_id}:{label}",
                facts={
                    "job": self.job,
                    "run_id": self.settings.run_id,
                    "model_id": self.settings.model_id,
                },
            )
        return tasks

    @property
    def _table_uri(self) -> str:
        if self.settings.table_uri is None:
            raise ValueError("a trial commits nothing")
        return self.settings.table_uri

    def _extracted(self, units: Sequence[Unit], label: str) -> list[TaskSummary]:
        if not units:
            return []
        first = units[0].first_task
        count = sum(unit.n_tasks for unit in units)
        rows = self.todo.where(F.col("task").between(first, first + count - 1))
        frame = rows.withColumn("task", F.col("task") - first)
        if self.contents is not None:
            frame = self.contents.of(frame)
        frame = frame.repartitionById(count, "task")
        function = extract_part(self.settings, self.graph, self.table, self.known)
        tasks = [TaskSummary.from_dict(found) for found in gather(frame, function, label=label)]
        require_every_input(tasks, rows.count())
        return tasks

    def _rewritten(
        self, files: Sequence[int], kept: set[str], table: FeatureTable
    ) -> list[tuple[int, TableFile | None]]:
        """Rewrite files without the rows that were extracted anew, and with their other edits."""
        rows = self.plan.where(F.col("file").isin(*files) & F.col("action").isin(*REPLACED)).select(
            "image_id", "file", "action", *(["meta"] if "meta" in self.plan.columns else [])
        )
        turns = {file: turn for turn, file in enumerate(files)}
        by_file = F.create_map(*[F.lit(value) for pair in turns.items() for value in pair])
        frame = rows.withColumn("turn", by_file[F.col("file")]).repartitionById(len(files), "turn")
        function = rewrite(
            table,
            self.spark.sparkContext.broadcast(kept),
            self.settings.run_id,
            self.settings.dimension,
            self.settings.schema,
        )
        return [
            (found["number"], None if found["file"] is None else TableFile.from_dict(found["file"]))
            for found in gather(frame, function, label="replacing rows")
        ]
