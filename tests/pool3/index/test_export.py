from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import pool3
from pool3 import storage
from pool3.errors import InvalidIndex, UsageError
from pool3.index.export import export_index
from pool3.index.format.manifest import Manifest
from pool3.models import read_model

ROWS = 240
VECTORS = np.random.default_rng(7).normal(size=(ROWS, 140)).astype(np.float32)
LABELS = [f"l{row % 4}" if row % 5 else None for row in range(ROWS)]


@pytest.fixture
def whole(make_index: Callable[..., Path]) -> Path:
    metadata = pa.table({"label": LABELS, "width": list(range(ROWS))})
    return make_index(VECTORS, n_shards=3, metadata=metadata, n_trees=5)


def stored(root: Path, manifest: Manifest, kind: str) -> dict[str, bytes]:
    """Return what the shards of an index store for each image_id."""
    by_id = {}
    for shard in manifest.shards:
        ids = pa.ipc.open_file(str(root / shard.files["ids"].path)).read_all().to_pydict()
        rows = (
            np.load(root / shard.files["vectors"].path)
            if kind == "vectors"
            else np.array(ids["digest"], dtype=np.uint64)
        )
        by_id |= {name: row.tobytes() for name, row in zip(ids["image_id"], rows, strict=True)}
    return by_id


@pytest.mark.parametrize("metric", ["angular", "euclidean", "dot"])
def test_an_export_answers_as_the_whole_index_for_its_rows(
    make_index: Callable[..., Path], tmp_path: Path, metric: str
) -> None:
    metadata = pa.table({"label": LABELS, "width": list(range(ROWS))})
    root = make_index(VECTORS, n_shards=3, metadata=metadata, metric=metric)
    manifest = export_index(root, tmp_path / "part", where="label = 'l1' OR width < 20")
    exported, index = pool3.open(tmp_path / "part"), pool3.open(root)
    chosen = [row for row in range(ROWS) if LABELS[row] == "l1" or row < 20]
    assert len(exported) == manifest.rows == len(chosen)
    for query in VECTORS[::31]:
        expected = index.search(query, k=ROWS, search_k=10**6, rerank=ROWS)
        wanted = [hit for hit in expected if int(hit.image_id[2:]) in chosen]
        hits = exported.search(query, k=ROWS, search_k=10**6, rerank=ROWS)
        assert hits.ids == [hit.image_id for hit in wanted]
        assert hits.distances.tolist() == [hit.distance for hit in wanted]
        frame = hits.to_pandas()
        assert [f"id{width:06d}" for width in frame["width"]] == hits.ids
        assert [label or None for label in frame["label"].fillna("")] == [
            LABELS[width] for width in frame["width"]
        ]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_vectors_and_digests_are_copied_bit_for_bit(
    make_index: Callable[..., Path], tmp_path: Path, dtype: str
) -> None:
    # 0.9999 rounds to 1.0 as float16, so that a second scaling would halve the row.
    vectors = np.where(VECTORS > 1.5, np.float32(0.99999), VECTORS * 1e-4)
    root = make_index(vectors, n_shards=4, vectors_dtype=dtype)
    whole = pool3.open(root).manifest
    exported = export_index(root, tmp_path / "part", sample=0.5)
    for kind in ("vectors", "digest"):
        before = stored(root, whole, kind)
        after = stored(tmp_path / "part", exported, kind)
        assert len(after) == ROWS // 2
        assert after.items() <= before.items()


def test_a_sample_is_of_its_size_and_the_same_for_the_same_seed(
    make_index: Callable[..., Path], tmp_path: Path
) -> None:
    roots = [make_index(VECTORS, n_shards=n, n_trees=2) for n in (1, 4)]

    def sampled(name: str, root: Path, **options: float) -> set[str]:
        export_index(root, tmp_path / name, **options)  # type: ignore[arg-type]
        index = pool3.open(tmp_path / name)
        return set(index.search(VECTORS[0], k=ROWS, search_k=10**6).ids)

    once = sampled("once", roots[0], sample=0.25, seed=3)
    assert len(once) == ROWS // 4
    assert sampled("again", roots[1], sample=0.25, seed=3) == once
    assert sampled("other", roots[1], sample=0.25, seed=4) != once
    assert sampled("more", roots[1], sample=0.5, seed=3) > once
    assert len(sampled("one", roots[1], sample=1e-9)) == 1


def test_the_manifest_of_an_export(whole: Path, tmp_path: Path) -> None:
    before = pool3.open(whole).manifest
    manifest = export_index(whole, tmp_path / "part", where="width >= 200", snapshot=1)
    assert pool3.open(tmp_path / "part").manifest == manifest
    assert (manifest.snapshot_id, manifest.parent, manifest.base) == (1, None, None)
    assert manifest.recall is not None
    assert (manifest.rows, manifest.counts, len(manifest.shards)) == (40, {"indexed": 40}, 1)
    assert manifest.reduction.file is not None
    assert before.reduction.file is not None
    assert manifest.reduction.file.sha256 == before.reduction.file.sha256
    assert (manifest.table, manifest.n_trees) == (before.table, before.n_trees)
    files = {path for path in (tmp_path / "part").rglob("*") if path.is_file()}
    named = {tmp_path / "part" / file.path for file in manifest.files()}
    assert {path.suffix for path in files - named} == {".json"}


def test_to_and_from_a_bucket(whole: Path, s3_bucket: str, tmp_path: Path) -> None:
    export_index(whole, f"{s3_bucket}/part", sample=0.5)
    export_index(f"{s3_bucket}/part", tmp_path / "back", where="label IS NOT NULL")
    assert 0 < len(pool3.open(tmp_path / "back")) < len(pool3.open(f"{s3_bucket}/part")) == 120


def test_wrong_arguments_write_nothing(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for options, words in (
        ({"sample": 0}, "sample must be above 0 and at most 1; found 0"),
        ({"sample": 1.5}, "found 1.5"),
        ({"sample": float("nan")}, "found nan"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"where": "label = 'nowhere'"}, "found none of 240"),
        ({"where": "colour = 'red'"}, "colour"),
        ({"snapshot": 9}, "no snapshot 9"),
    ):
        with pytest.raises(UsageError, match=words):
            export_index(whole, out, **options)  # type: ignore[arg-type]
    assert not out.exists()
    with pytest.raises(InvalidIndex, match="is not an index"):
        export_index(tmp_path, out)


def test_nothing_is_overwritten(whole: Path, tmp_path: Path, s3_bucket: str) -> None:
    (tmp_path / "notes.txt").write_text("dear diary")
    with pytest.raises(UsageError, match=r"must be empty; found .*notes\.txt"):
        export_index(whole, tmp_path)
    for inside in (whole, whole / "part"):
        with pytest.raises(UsageError, match="must be outside"):
            export_index(whole, inside)
    storage.put(f"{s3_bucket}/part/notes.txt", b"dear diary")
    with pytest.raises(UsageError, match="must be empty"):
        export_index(whole, f"{s3_bucket}/part")
    (tmp_path / "empty").mkdir()
    assert export_index(whole, tmp_path / "empty").rows == ROWS


def test_the_model_comes_along(demo_folder: Path, tmp_path: Path) -> None:
    picture = next((demo_folder / "build" / "demo" / "pictures").iterdir())
    part = tmp_path / "part"
    where = f"image_id = '{picture}'"
    manifest = export_index(demo_folder / "build" / "demo" / "index", part, where=where)
    assert manifest.model is not None
    assert read_model(str(part / manifest.model)).model_id == manifest.model_id
    assert pool3.open(part).search(image_id=str(picture)).ids == [str(picture)]
