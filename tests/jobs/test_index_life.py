"""An index through random changes, crashes included: never a wrong, lost or resurrected picture."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

import pool3
from jobs import build_index, compact_index, forget, publish_index
from jobs.build_index import BuildConfig
from jobs.options.compact_index import CompactIndexConfig
from jobs.options.forget import ForgetConfig
from jobs.options.publish_index import PublishConfig
from jobs.runtime.report import Report
from pool3 import storage
from pool3.index.snapshots.publication import newest_published
from pool3.index.snapshots.retention import list_index
from tests.jobs.index_tables import LakeTable, some_vectors

Rows = dict[str, tuple[np.ndarray, str]]


class Crash(Exception):
    """The driver dies."""


@contextmanager
def dying_before_write(number: int) -> Iterator[None]:
    """Let the driver die before its write of this number, counted from 0."""
    left = [number]

    def counted(write: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: object) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Crash
            write(*arguments)

        return run

    with pytest.MonkeyPatch.context() as patch:
        for name in ("put", "put_file", "put_if_absent"):
            patch.setattr(storage, name, counted(getattr(storage, name)))
        yield


def true_distances(matrix: np.ndarray, query: np.ndarray, metric: str) -> np.ndarray:
    if metric == "dot":
        return -(matrix @ query)
    if metric == "euclidean":
        return np.linalg.norm(matrix - query, axis=1)
    return 1 - matrix @ query / np.linalg.norm(matrix, axis=1) / np.linalg.norm(query)


class Life:
    """An index, its table, and what a search must find in each snapshot."""

    def __init__(self, spark: SparkSession, folder: Path, seed: int) -> None:
        self._spark = spark
        self._random = random.Random(seed)
        self._metric = ("angular", "euclidean", "dot")[seed % 3]
        self._dimension = 8 if seed == 1 else 140  # the second is reduced
        self.lake = LakeTable(folder / "features", rows_a_file=6)
        self.index = str(folder / "index")
        self.snapshots: dict[int, Rows] = {}
        self.published: int | None = None
        self.steps: list[str] = []
        self.lake.put(some_vectors(self._fresh(14), self._dimension))
        self.build()

    def _fresh(self, n: int) -> list[str]:
        taken = len(self.lake.rows)
        return [f"id {self._random.random():.9f} {taken + at}" for at in range(n)]

    def _some(self, most: int) -> list[str]:
        ids = sorted(self.lake.rows)
        return self._random.sample(ids, max(1, min(len(ids) - 3, self._random.randint(1, most))))

    def _rows(self) -> Rows:
        labels = self.lake.labels()
        return {name: (vector, labels[name]) for name, vector in self.lake.live().items()}

    # What happens to the table.

    def add(self) -> None:
        self.lake.put(some_vectors(self._fresh(self._random.randint(1, 5)), self._dimension))

    def change(self) -> None:
        self.lake.put(
            some_vectors(self._some(3), self._dimension, seed=self._random.randint(1, 10**6))
        )

    def bring_back(self) -> None:
        """Give pictures that are gone, or changed, the vectors that they had at first."""
        self.lake.put(some_vectors(self._some(3), self._dimension))

    def delete(self) -> None:
        self.lake.delete(self._some(2))

    def gone(self) -> None:
        self.lake.gone(self._some(2))

    def relabel(self) -> None:
        self.lake.relabel(self._some(4), f"label {self._random.random()}")

    def merge_files(self) -> None:
        self.lake.merge_files()

    # What happens to the index.

    def build(self) -> None:
        self._took(self._build(n_shards=2))

    def refit(self) -> None:
        self._took(self._build(n_shards=1, refit_pca=True))

    def _build(self, **options: Any) -> Report:
        config = BuildConfig(
            features=self.lake.uri,
            index=self.index,
            metric=self._metric,
            n_trees=2,
            max_shrink=1,
            **options,
        )
        return build_index.run(self._spark, config)

    def compact(self) -> None:
        newest = self._random.choice([1, 2, 10])
        config = CompactIndexConfig(index=self.index, keep_snapshots=newest, grace_hours=0)
        before = self.snapshots[self.published or 0]
        report = compact_index.run(self._spark, config)
        self._took(report, before)

    def go_back(self) -> None:
        number = self._random.choice(sorted(list_index(self.index).manifests))
        publish_index.run(PublishConfig(index=self.index, snapshot=number))
        self.published = number

    def forget(self) -> None:
        ids = self._some(2)
        self.lake.delete(ids)
        rows = self.snapshots[self.published or 0]
        report = forget.run(self._spark, ForgetConfig(index=self.index, ids=",".join(ids)))
        after = {name: row for name, row in rows.items() if name not in ids}
        self._took(report, after)
        for image_id in ids:
            for path in Path(self.index).rglob("*"):
                assert not path.is_file() or image_id.encode() not in path.read_bytes()

    def crash(self) -> None:
        """Let one of the jobs die between two writes: what is published stays."""
        job = self._random.choice([self.build, self.compact, self.refit])
        self._random.choice([self.add, self.change, self.gone])()
        with suppress(Crash), dying_before_write(self._random.randint(0, 6)):
            job()

    def _took(self, report: Report, rows: Rows | None = None) -> None:
        assert report.exit_code == 0
        number = report.details.get("snapshot_id")
        if number is None:
            return  # nothing was forgotten
        assert isinstance(number, int)
        self.published = number
        self.snapshots[number] = self._rows() if rows is None else rows

    # What must hold.

    def check(self) -> None:
        assert newest_published(self.index) == self.published, self.steps
        there = sorted(list_index(self.index).manifests)
        for number in {self.published, *there[-2:]} & set(self.snapshots):
            self._check_snapshot(number)

    def _check_snapshot(self, number: int | None) -> None:
        rows, opened = self.snapshots[number or 0], pool3.open(self.index, snapshot=number)
        told = f"snapshot {number} after {self.steps}"
        assert len(opened) == len(rows), told
        if not rows:
            return
        query = rows[self._random.choice(sorted(rows))][0]
        hits = opened.search(query, k=len(rows) + 5, search_k=10**6, rerank=10**4)
        assert sorted(hits.ids) == sorted(rows), told
        matrix = np.stack([rows[name][0] for name in hits.ids]).astype(np.float64)
        expected = true_distances(matrix, query.astype(np.float64), self._metric)
        np.testing.assert_allclose(hits.distances, expected, rtol=3e-3, atol=2e-2, err_msg=told)
        frame = hits.to_pandas()
        assert list(frame["meta.label"]) == [rows[name][1] for name in hits.ids], told

    def step(self) -> None:
        to_table = [
            self.add, self.change, self.bring_back, self.delete, self.gone, self.relabel,
            self.merge_files,
        ]  # fmt: skip
        to_index = [self.compact, self.go_back, self.forget, self.crash, self.refit]
        steps = [*self._random.sample(to_table, 2), self.build, self._random.choice(to_index)]
        for step in steps:
            self.steps.append(step.__name__)
            step()
        self.check()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("seed", "n_steps"),
    [(1, 1), *(pytest.param(seed, 6, marks=pytest.mark.slow) for seed in range(2, 6))],
)
def test_no_picture_is_wrong_lost_or_resurrected(
    spark: SparkSession, tmp_path: Path, seed: int, n_steps: int
) -> None:
    life = Life(spark, tmp_path, seed)
    for _ in range(n_steps):
        life.step()
    life.build()
    life.check()
