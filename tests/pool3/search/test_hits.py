from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import pool3
from pool3.search.hits import Hit

VECTORS = np.random.default_rng(0).normal(size=(30, 12)).astype(np.float32)


def metadata_of(uris: list[str]) -> pa.Table:
    return pa.table(
        {
            "uri": uris,
            "width": pa.array(range(len(uris)), pa.int32()),
            "format": ["JPEG"] * len(uris),
            "thumbnail": pa.array([b"bytes"] * len(uris), pa.binary()),
            "distance": [f"d{n}" for n in range(len(uris))],
            "meta": [{"label": f"label {n}", "price": None} for n in range(len(uris))],
        }
    )


@pytest.fixture
def gallery(tmp_path) -> list[str]:
    """Thirty pictures, of which two are not there and one is none."""
    uris = []
    for number in range(30):
        path = tmp_path / f"{number}.png"
        if number not in (4, 5):
            Image.new("RGB", (30, 20), (number * 8, 60, 200)).save(path)
        uris.append(str(path))
    Path(uris[6]).write_bytes(b"not a picture")
    return uris


@pytest.fixture
def hits(make_index, gallery):
    index = pool3.open(make_index(VECTORS, n_shards=4, metadata=metadata_of(gallery)))
    return index.search(VECTORS[3], k=12)


def test_hits_are_a_sequence(hits):
    assert len(hits) == len(list(hits)) == len(hits.ids) == len(hits.distances) == 12
    assert hits[0] == Hit(1, "id000003", hits.distances[0])
    assert hits[-1].rank == 12
    assert [hit.rank for hit in hits[2:5]] == [3, 4, 5]
    assert [hit.image_id for hit in hits] == hits.ids
    assert list(hits.distances) == sorted(hits.distances)
    assert "12, nearest 'id000003'" in repr(hits)
    with pytest.raises(IndexError):
        hits[12]


def test_a_table_of_the_hits(hits, gallery):
    frame = hits.to_pandas()
    assert list(frame.columns) == [
        *("rank", "image_id", "distance", "uri", "width", "format", "meta.distance", "meta"),
    ]
    rows = [int(image_id.removeprefix("id")) for image_id in hits.ids]
    assert frame["rank"].tolist() == list(range(1, 13))
    assert frame["image_id"].tolist() == hits.ids
    assert frame["distance"].tolist() == hits.distances.tolist()
    # Row i of the metadata is about row i of the shard.
    assert frame["uri"].tolist() == hits.uris == [gallery[row] for row in rows]
    assert frame["width"].tolist() == rows
    assert frame["meta.distance"].tolist() == [f"d{row}" for row in rows]
    assert frame["meta"][0]["label"] == "label 3"


def test_without_metadata(make_index):
    hits = pool3.open(make_index(VECTORS)).search(VECTORS[0], k=2)
    assert list(hits.to_pandas().columns) == ["rank", "image_id", "distance"]
    assert hits.uris == hits.ids


def test_a_uri_may_be_missing(make_index):
    metadata = pa.table({"uri": pa.array([None] * 30, pa.string())})
    hits = pool3.open(make_index(VECTORS, metadata=metadata)).search(VECTORS[0], k=2)
    assert hits.uris == hits.ids


def test_the_sheet_survives_unreadable_pictures(make_index, gallery, tmp_path):
    index = pool3.open(make_index(VECTORS, metadata=metadata_of(gallery)))
    hits = index.search(VECTORS[4], k=30)
    hits.save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 24)}
    # Each readable picture is there, in its own colour; the others are not.
    assert {number for number in range(30) if (number * 8, 60, 200) in colours} == (
        set(range(30)) - {4, 5, 6}
    )


def test_shown_in_a_notebook_or_else_in_a_viewer(hits, monkeypatch):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda _self: shown.append("viewer"))
    for name in [name for name in sys.modules if name.split(".")[0] == "IPython"]:
        monkeypatch.delitem(sys.modules, name)
    hits.show()
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=None)
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.display = lambda picture: shown.append(picture.mode)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    hits.show()
    ipython.get_ipython = types.SimpleNamespace  # a terminal's IPython
    hits.show()
    ipython.get_ipython = lambda: None
    hits.show()
    assert shown == ["viewer", "RGB", "viewer", "viewer"]
