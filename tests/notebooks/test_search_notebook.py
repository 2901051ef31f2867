"""The notebook runs from its first cell to its last, on a small index of drawn scenes."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import nbformat
import numpy as np
import pyarrow as pa
import pytest
from nbclient import NotebookClient

from pool3.decode import decode_resized
from pool3.engines import load_engine
from pool3.gallery.drawing import draw_gallery
from pool3.models.sources import load_model

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOK = REPOSITORY / "notebooks" / "search.ipynb"
build_index = runpy.run_path(str(REPOSITORY / "tests" / "pool3" / "conftest.py"))["build_index"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of two drawn scenes with their variants, with the seeded model in it."""
    folder = tmp_path_factory.mktemp("demo")
    names = [entry.name for entry in draw_gallery(folder, n_scenes=2)]
    paths = [folder / "pictures" / name for name in names]
    model = load_model("seeded")
    pictures = [
        decode_resized(path.read_bytes(), size=model.input_size, resize=model.resize)
        for path in paths
    ]
    engine = load_engine(model.graph, threads=len(os.sched_getaffinity(0)))
    vectors = engine(np.stack([picture.rgb for picture in pictures]))
    copy = f"models/{model.model_id}"
    model.write(str(folder / "index" / copy))
    ids = [str(path) for path in paths]
    metadata = pa.table({"uri": ids, "width": [picture.width for picture in pictures]})
    return build_index(
        folder / "index",
        vectors,
        ids=ids,
        n_shards=2,
        metadata=metadata,
        model=(model.model_id, copy),
    )


def test_the_committed_notebook_carries_no_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 10
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_every_cell_runs_and_shows_what_it_promises(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL3_DEMO_INDEX", str(index))
    monkeypatch.setenv("POOL3_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    done = client.execute()
    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    printed = "".join(output.get("text", "") for output in outputs)
    for query in ("bytes", "PngImageFile", "ndarray"):
        assert f"{query} True" in printed
    for error in ("UsageError", "NotFound", "PictureError"):
        assert f"{error}: " in printed
    assert (tmp_path / "look-alikes.png").is_file()
