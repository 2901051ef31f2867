"""An index in a bucket: cached, read by ranges, expired, and written by several at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import pool3
from pool3 import storage
from pool3.errors import CacheFull, InvalidIndex, SnapshotExpired, UsageError
from pool3.index.snapshots.files import IndexFiles
from pool3.index.snapshots.publication import manifest_uri, newest_published, read_manifest
from pool3.storage.removal import delete_objects
from tests.conftest import REPOSITORY, upload
from tests.small_index import open_with

ROWS = 300
VECTORS = np.random.default_rng(5).normal(size=(ROWS, 150)).astype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POOL3_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def here(make_index: Callable[..., Path]) -> Path:
    metadata = pa.table({"label": [f"l{row % 3}" for row in range(ROWS)]})
    return make_index(VECTORS, n_shards=3, metadata=metadata)


@pytest.fixture
def there(here: Path, s3_bucket: str) -> str:
    upload(here, f"{s3_bucket}/index")
    return f"{s3_bucket}/index"


def answers(index: pool3.Index) -> list[tuple[list[str], list[float]]]:
    answers = [index.search(query, k=7) for query in VECTORS[::29]]
    answers.append(index.search(image_id="id000017", k=3))
    return [(hits.ids, hits.distances.tolist()) for hits in answers]


def sizes(index: pool3.Index) -> tuple[int, int]:
    files = IndexFiles(index.uri, index.manifest)
    return files.required_bytes, files.vector_bytes


def cached_bytes(cache: Path) -> int:
    return sum(path.stat().st_size for path in (cache / "objects").rglob("*") if path.is_file())


def test_answers_are_the_same_wherever_vectors_are(here: Path, there: str, cache: Path) -> None:
    local = pool3.open(here)
    needed, vectors = sizes(local)
    expected = answers(local)
    ranged = pool3.open(there, cache_max_bytes=needed + vectors - 1)
    assert answers(ranged) == expected
    assert cached_bytes(cache) == needed
    assert ranged.search(VECTORS[3], k=2).to_pandas()["label"].tolist()[0] == "l0"
    whole = pool3.open(there, cache_max_bytes=needed + vectors)
    assert answers(whole) == expected
    assert cached_bytes(cache) == needed + vectors


def test_without_room_for_the_trees_nothing_is_downloaded(there: str, cache: Path) -> None:
    needed, _ = sizes(pool3.open(there, cache_max_bytes=10**9))
    message = f"have {needed} bytes.*cache_max_bytes.*allows {needed - 1}"
    before = cached_bytes(cache)
    with pytest.raises(UsageError, match=message):
        pool3.open(there, cache_max_bytes=needed - 1)
    assert cached_bytes(cache) == before


def test_an_open_index_keeps_its_files_and_a_closed_one_makes_room(
    there: str, s3_bucket: str, make_index: Callable[..., Path], cache: Path
) -> None:
    first = pool3.open(there)
    expected = answers(first)
    upload(make_index(VECTORS[::-1] * 2, metric="euclidean"), f"{s3_bucket}/other")
    limit = sum(sizes(first))
    with pytest.raises(CacheFull, match="close other readers"):
        pool3.open(f"{s3_bucket}/other", cache_max_bytes=limit)
    assert answers(first) == expected
    del first
    other = pool3.open(f"{s3_bucket}/other", cache_max_bytes=limit)
    assert len(other) == ROWS
    assert cached_bytes(cache) <= limit


def test_vectors_are_read_by_ranges_where_others_hold_the_cache(
    there: str, s3_bucket: str, make_index: Callable[..., Path], cache: Path
) -> None:
    first = pool3.open(there)
    used = cached_bytes(cache)
    directory = make_index(VECTORS[::-1] * 2, metric="euclidean", n_shards=4)
    upload(directory, f"{s3_bucket}/other")
    expected = answers(pool3.open(directory))
    needed, vectors = sizes(pool3.open(directory))
    limit = used + needed + vectors // 2
    assert answers(pool3.open(f"{s3_bucket}/other", cache_max_bytes=limit)) == expected
    assert cached_bytes(cache) <= limit
    assert len(first) == ROWS


def test_a_reader_of_an_expired_snapshot_gets_an_error(there: str) -> None:
    needed, vectors = sizes(pool3.open(there))
    gone = [stored.uri for stored in storage.list_objects(there) if "vectors" in stored.uri]
    ranged = pool3.open(there, cache_max_bytes=needed + vectors - 1)
    delete_objects(gone)
    with pytest.raises(InvalidIndex, match=r"vectors.npy is missing.*damaged") as caught:
        ranged.search(VECTORS[0])
    assert not isinstance(caught.value, SnapshotExpired)
    delete_objects([manifest_uri(there, 1)])
    with pytest.raises(SnapshotExpired, match=r"snapshot 1 of .* has expired.*index\.refresh\(\)"):
        ranged.search(VECTORS[0])


def test_opening_an_expired_snapshot(
    here: Path, there: str, make_index: Callable[..., Path]
) -> None:
    manifest = read_manifest(there, 1)
    make_index(VECTORS * 2, into=here)
    upload(here, there)
    delete_objects([manifest_uri(there, 1)])
    with pytest.raises(SnapshotExpired, match=r"snapshot 1 of .* has expired; the newest is 2"):
        pool3.open(there, snapshot=1)
    with pytest.raises(InvalidIndex, match="there is no snapshot 3"):
        pool3.open(there, snapshot=3)
    delete_objects([f"{there}/{file.path}" for file in manifest.files()])
    with pytest.raises(SnapshotExpired, match="gone"):
        open_with(there, manifest)
    assert pool3.open(there).snapshot_id == 2


RACE = """if True:
    import sys
    from dataclasses import replace
    from pool3.errors import AlreadyExists
    from pool3.index.snapshots.publication import publish, read_manifest, write_manifest
    uri, run_id = sys.argv[1:]
    manifest = replace(read_manifest(uri, 1), snapshot_id=2, parent=1, run_id=run_id)
    print("ready", flush=True)
    sys.stdin.readline()
    for step in (
        lambda: write_manifest(uri, manifest),
        lambda: publish(uri, 2, by=run_id, why="raced"),
    ):
        try:
            step()
            print("won", flush=True)
        except AlreadyExists as error:
            print("lost", str(error), flush=True)
        sys.stdin.readline()
"""


def test_of_writers_that_race_one_wins_and_nothing_is_damaged(there: str) -> None:
    runs = ["run-a", "run-b", "run-c"]
    processes = {
        run_id: subprocess.Popen(
            [sys.executable, "-c", RACE, there, run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        for run_id in runs
    }
    try:
        assert set(_next_lines(processes).values()) == {"ready"}
        wrote = _next_lines(processes, go=True)
        winners = [run_id for run_id, line in wrote.items() if line == "won"]
        assert len(winners) == 1
        assert all("run this one again" in line for line in wrote.values() if line != "won")
        assert read_manifest(there, 2).run_id == winners[0]
        published = _next_lines(processes, go=True)
        assert "won" in published.values()
        assert all("published a snapshot" in line for line in published.values() if line != "won")
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    assert newest_published(there) == 2
    assert len(answers(pool3.open(there))) > 1


def _next_lines(processes: dict[str, subprocess.Popen[str]], *, go: bool = False) -> dict[str, str]:
    for process in processes.values() if go else ():
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    lines = {}
    for run_id, process in processes.items():
        assert process.stdout is not None
        lines[run_id] = process.stdout.readline().strip()
    return lines
