"""Runs one chunk of an extraction: extracts, rewrites files with replaced rows, and commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.steps.extract.contents import InputContents
from jobs.steps.extract.report import require_every_input
from jobs.steps.tasks import gather
from pool3.extract.actions import REPLACED
from pool3.extract.layout import Unit
from pool3.extract.reuse import ExistingContent
from pool3.extract.task_summary import TaskSummary
from pool3.features.table import FeatureTable
from pool3.storage.tables import TableFile, commit
from udfs.extract import ExtractSettings, extract_partition
from udfs.rewrite import rewrite


@dataclass(kw_only=True)
class ChunkRunner:
    """Runs the chunks of an extraction and commits each of them.

    Attributes
    ----------
    table
        The version that the run began from, None when the run makes the table.
    plan
        All rows of the plan.
    contents
        Adds the bytes to rows whose input contains them, None where pictures are fetched.
    todo
        The rows to extract, with their ``task``.
    graph, existing
        See `udfs.extract.extract_partition`.
    version
        The newest version of the table; each commit updates it.
    """

    spark: SparkSession
    job: str
    settings: ExtractSettings
    table: FeatureTable | None
    plan: DataFrame
    contents: InputContents | None
    todo: DataFrame
    graph: Broadcast[bytes]
    existing: Broadcast[ExistingContent | None]
    version: int | None

    def run(self, units: Sequence[Unit], edited: Sequence[int], *, label: str) -> list[TaskSummary]:
        """Extract some units, and apply the other planned edits of their files and of `edited`."""
        tasks = self._extracted(units, label)
        retained = {image_id for task in tasks for image_id in (*task.retained, *task.unchanged)}
        files = sorted({file for unit in units for file in unit.files}.union(edited))
        added = [task.file for task in tasks if task.file is not None]
        removed = []
        if files and self.table is not None:
            for number, file in self._rewritten(files, retained, self.table):
                removed.append(self.table.files[number])
                added += [] if file is None else [file]
        if added or removed:
            self.version = commit(
                self._table_uri,
                schema=self.settings.schema,
                added=added,
                removed=removed,
                read_version=self.version,
                run_id=f"{self.settings.run_id}:{label}",
                custom_metadata={
                    "job": self.job,
                    "run_id": self.settings.run_id,
                    "model_id": self.settings.model_id,
                },
            )
        return tasks

    @property
    def _table_uri(self) -> str:
        if self.settings.table_uri is None:
            raise ValueError("a trial does not commit")
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
        function = extract_partition(self.settings, self.graph, self.table, self.existing)
        summaries = gather(frame, function, label=label)
        tasks = [TaskSummary.from_dict(summary) for summary in summaries]
        require_every_input(tasks, rows.count())
        return tasks

    def _rewritten(
        self, files: Sequence[int], retained: set[str], table: FeatureTable
    ) -> list[tuple[int, TableFile | None]]:
        """Rewrite files without the rows that were extracted again, and with the other edits."""
        rows = self.plan.where(F.col("file").isin(*files) & F.col("action").isin(*REPLACED)).select(
            "image_id", "file", "action", *(["meta"] if "meta" in self.plan.columns else [])
        )
        tasks = {file: task for task, file in enumerate(files)}
        by_file = F.create_map(*[F.lit(value) for pair in tasks.items() for value in pair])
        frame = rows.withColumn("task", by_file[F.col("file")]).repartitionById(len(files), "task")
        function = rewrite(
            table,
            self.spark.sparkContext.broadcast(retained),
            self.settings.run_id,
            self.settings.dimension,
            self.settings.schema,
        )
        return [
            (task["number"], None if task["file"] is None else TableFile.from_dict(task["file"]))
            for task in gather(frame, function, label="replacing rows")
        ]
