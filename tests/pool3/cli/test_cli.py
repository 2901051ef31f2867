from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pool3.cli.commands import main
from pool3.search.pictures import PictureModel

VECTORS = np.eye(6, 4, dtype=np.float32) + np.linspace(0.1, 0.6, 24, dtype=np.float32).reshape(6, 4)
METADATA = pa.table({"label": ["a", "b", None] * 2, "width": [3, None, 5, 6, 7, 8]})
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(len(VECTORS)):
        Image.new("RGB", (30, 20), (40 * number, 90, 10)).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.fixture
def index(folder: Path, make_index: Callable[..., Path]) -> str:
    ids = [str(folder / f"{number}.png") for number in range(len(VECTORS))]
    return str(make_index(VECTORS, ids=ids, n_shards=2, metadata=METADATA))


def test_help_loads_nothing_heavy() -> None:
    script = """if True:
        import sys
        from pool3.cli.commands import main
        try:
            main(["search", "--help"])
        except SystemExit:
            heavy = {"numpy", "pandas", "pyarrow", "PIL", "annoy", "obstore", "tensorflow"}
            print(sorted(heavy & set(sys.modules)), file=sys.stderr)
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"


def test_a_search_by_id_is_a_table_best_first(index: str, folder: Path, capsys: Captured) -> None:
    assert main(["search", index, "--image-id", str(folder / "2.png"), "-k", "3"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["rank", "distance", "image_id"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert rows[0].split() == ["1", "0.0000", str(folder / "2.png")]


def test_json_is_one_object_with_the_same_hits(index: str, folder: Path, capsys: Captured) -> None:
    wanted = str(folder / "2.png")
    assert main(["search", index, "--image-id", wanted, "-k", "2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["snapshot_id"] == 1
    assert (answer["image_id"], answer["picture"]) == (wanted, None)
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2]
    assert answer["hits"][0]["image_id"] == answer["hits"][0]["uri"] == wanted
    assert answer["hits"][0]["distance"] == pytest.approx(0, abs=1e-9)


def test_a_search_by_picture_asks_the_model(
    index: str, folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def vectors(_: PictureModel, pictures: list[Image.Image]) -> np.ndarray:
        seen.extend(picture.getpixel((0, 0)) for picture in pictures)
        return VECTORS[4:5]

    monkeypatch.setattr(PictureModel, "vectors", vectors)
    sheet = folder / "sheet.png"
    assert main(["search", index, str(folder / "4.png"), "-k", "2", "--sheet", str(sheet)]) == 0
    assert seen == [(160, 90, 10)]
    assert str(folder / "4.png") in capsys.readouterr().out.splitlines()[1]
    with Image.open(sheet) as drawn:
        assert drawn.width > 500


def test_info_says_what_the_index_holds(index: str, capsys: Captured) -> None:
    assert main(["info", index]) == 0
    shown = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert shown["rows"].strip() == "6"
    assert shown["metric"].strip() == "angular"
    assert main(["info", index, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 6


def test_hits_that_pass_with_their_columns(index: str, folder: Path, capsys: Captured) -> None:
    search = ["search", index, "--image-id", str(folder / "0.png")]
    assert (
        main([*search, "--where", "label IS NULL OR width = 3", "--columns", "width, label"]) == 0
    )
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["rank", "distance", "width", "label", "image_id"]
    assert rows[0].split() == ["1", "0.0000", "3", "a", str(folder / "0.png")]
    assert sorted(row.split()[-1] for row in rows) == [str(folder / f"{n}.png") for n in (0, 2, 5)]
    assert main([*search, "--distinct", "label", "--columns", "label,width", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["where"], answer["distinct"]) == (None, "label")
    columns = [hit["columns"] for hit in answer["hits"]]
    assert columns[0] == {"label": "a", "width": 3}
    assert sorted(str(found["label"]) for found in columns) == ["None", "None", "a", "b"]


def test_info_prints_recall_as_a_small_table_and_draws_it(
    index: str, folder: Path, capsys: Captured
) -> None:
    manifest = next(Path(index).rglob("manifest.json"))
    value = json.loads(manifest.read_text())
    value["recall"] = {
        "samples": 1000,
        "rows": 6,
        "points": [point(0.1, 0.80, 20), point(0.3, 0.96, 50), point(0.2, 0.97, 50)],
    }
    for shard in value["shards"]:
        shard["search_k"] = [100]
    manifest.write_text(json.dumps(value))
    assert main(["info", index]) == 0
    lines = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert lines[0] == "recall, measured with 1,000 samples of 6 rows"
    assert lines[1].split()[0] == "aim"
    cells = [line.split() for line in lines[2:6]]
    assert cells[0] == ["0.90", "0.20", "200", "50", "0.9800", "0.9800", "0.9700"]
    assert cells[1] == ["0.95", *cells[0][1:]]
    assert cells[2] == ["0.99", "not", "reached"]
    assert cells[3] == ["best", *cells[0][1:]]
    plot = folder / "recall.png"
    assert main(["info", index, "--plot", str(plot)]) == 0
    with Image.open(plot) as drawn:
        assert drawn.width > 300
    assert json.loads(_info_json(index, capsys))["recall"]["at_10"]["low"] == 0.97


def point(ms: float, low: float, rerank: int) -> dict[str, object]:
    return {
        "level": 0,
        "search_k": 200,
        "rerank": rerank,
        "ms": ms,
        "recall": {"1": low + 0.01, "10": low + 0.01},
        "low": {"1": low, "10": low},
    }


def _info_json(index: str, capsys: Captured) -> str:
    capsys.readouterr()
    assert main(["info", index, "--json"]) == 0
    return capsys.readouterr().out


def test_export_makes_an_index_of_what_passes(index: str, folder: Path, capsys: Captured) -> None:
    part = str(folder / "part")
    assert main(["export", index, "--output", part, "--where", "label = 'a'"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["rows", "2"]
    assert main(["search", part, "--image-id", str(folder / "3.png")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    half = str(folder / "half")
    assert (
        main(["export", index, "--output", half, "--sample", "0.5", "--seed", "4", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["rows"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["serch"], "serch"),
        (["search", "INDEX"], "either a PICTURE or --image-id"),
        (["search", "INDEX", "0.png", "--image-id", "x"], "exactly one"),
        (["search", "INDEX", "0.png", "-k", "0"], "-k must be at least 1; found 0"),
        (["search", "INDEX", "0.png", "-k", "many"], "many"),
        (["search", "INDEX", "0.png", "--sheet", "a.exe"], "a.exe"),
        (["search", "INDEX", "0.png", "--sheet", "none/a.png"], "none"),
        (["search", "INDEX", "gone.png"], "gone.png"),
        (["search", "INDEX", "notes.txt"], "not_an_image"),
        (["search", "INDEX", "--image-id", "gone.png"], "gone.png"),
        (["search", "nowhere", "0.png"], "nowhere"),
        (["search", "INDEX", "--image-id", "0.png", "--where", "label = "], "where"),
        (["search", "INDEX", "--image-id", "0.png", "--where", "colour = 'red'"], "colour"),
        (["search", "INDEX", "--image-id", "0.png", "--columns", "colour"], "colour"),
        (["search", "INDEX", "--image-id", "0.png", "--distinct", "colour"], "colour"),
        (["search", "INDEX", "--image-id", "0.png", "--recall", "2"], "recall"),
        (["info", "nowhere"], "nowhere"),
        (["info", "INDEX", "--plot", "a.exe"], "--plot must end in"),
        (["info", "INDEX", "--plot", "none/a.png"], "none"),
        (["info", "INDEX", "--plot", "a.png"], "build the index again"),
        (["export", "INDEX"], "--output"),
        (["export", "INDEX", "--output", "."], "must be empty"),
        (["export", "INDEX", "--output", "part", "--sample", "2"], "sample must be above 0"),
        (["export", "INDEX", "--output", "part", "--where", "width > 99"], "found none of 6"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    arguments: list[str],
    words: str,
    index: str,
    folder: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    (folder / "notes.txt").write_text("dear diary")
    before = sorted(path.name for path in folder.iterdir())
    assert main([index if argument == "INDEX" else argument for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.startswith("pool3: ")
    assert len(captured.err.splitlines()) == 1
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_name_cannot_steer_the_terminal(
    make_index: Callable[..., Path], capsys: Captured
) -> None:
    index = make_index(VECTORS[:1], ids=["a\x1b[2J\nb\u202e.png"])
    assert main(["search", str(index), "--image-id", "a\x1b[2J\nb\u202e.png"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(r"a\x1b[2J\nb\u202e.png")
