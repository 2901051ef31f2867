"""A gallery on disk: drawn scenes, their variants, and the truth about them.

``FOLDER/pictures/`` holds pictures and nothing else, so that it can be listed as a data lake is;
``FOLDER/truth.csv`` stands beside it. A picture's name tells its scene and its kind:
``007-balloons--crop.png``.
"""

from __future__ import annotations

import csv
import io
import logging
from dataclasses import dataclass
from pathlib import Path

from pool3.errors import UsageError
from pool3.gallery.scenes import draw_scene, kind_of
from pool3.gallery.variants import VARIANT_SUFFIXES, png, variants

log = logging.getLogger(__name__)

COLUMNS = ("name", "scene", "kind")
ORIGINAL = "original"
TRUTH = "truth.csv"
PICTURES = "pictures"


@dataclass(frozen=True)
class Entry:
    """What is known of one picture: file `name`, `scene`, `kind` (`ORIGINAL` or of a variant)."""

    name: str
    scene: str
    kind: str


def draw_gallery(folder: Path, *, n_scenes: int) -> list[Entry]:
    """Draw scenes and their variants into a folder, and write the truth about them.

    Parameters
    ----------
    folder
        Created if need be. Pictures of an older gallery that are not drawn again are removed.
    n_scenes
        How many scenes.

    Raises
    ------
    UsageError
        When `n_scenes` is below 1, the folder cannot be written, or holds files that no gallery
        put there.
    """
    if n_scenes < 1:
        raise UsageError(f"a gallery needs at least 1 scene; found {n_scenes}")
    entries = [
        _entry(seed, kind) for seed in range(n_scenes) for kind in (ORIGINAL, *VARIANT_SUFFIXES)
    ]
    names = {entry.name for entry in entries}
    try:
        for leftover in _older_pictures(folder) - names:
            (folder / PICTURES / leftover).unlink()
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        (folder / TRUTH).write_text(_as_csv(entries), encoding="utf-8")
        for seed in range(n_scenes):
            _draw_files(folder / PICTURES, seed)
    except OSError as error:
        raise UsageError(f"the gallery cannot be written to {folder}: {error}") from error
    return entries


def _older_pictures(folder: Path) -> set[str]:
    """Return the names in the pictures' folder, all of which an older gallery must own."""
    pictures, truth = folder / PICTURES, folder / TRUTH
    found = {path.name for path in pictures.iterdir()} if pictures.is_dir() else set()
    owned = {entry.name for entry in read_truth(truth)} if truth.is_file() else set()
    strangers = sorted(found - owned)
    if strangers:
        raise UsageError(
            f"{pictures} must hold nothing but a drawn gallery; found {strangers[0]}: name another "
            "--output, nothing was written"
        )
    return found


def _entry(seed: int, kind: str) -> Entry:
    scene = f"{seed:03d}-{kind_of(seed)}"
    return Entry(f"{scene}--{kind}{VARIANT_SUFFIXES.get(kind, '.png')}", scene, kind)


def _draw_files(pictures: Path, seed: int) -> None:
    image = draw_scene(seed)
    (pictures / _entry(seed, ORIGINAL).name).write_bytes(png(image))
    for kind, data in variants(image).items():
        (pictures / _entry(seed, kind).name).write_bytes(data)


def _as_csv(entries: list[Entry]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows((entry.name, entry.scene, entry.kind) for entry in entries)
    return text.getvalue()


def read_truth(path: Path) -> list[Entry]:
    """Read what `draw_gallery` wrote.

    Raises
    ------
    UsageError
        When the file is missing or is none of these.
    """
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError) as error:
        raise UsageError(f"the truth about a gallery cannot be read: {path}: {error}") from error
    if not rows or tuple(rows[0]) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise UsageError(
            f"{path} must be the {TRUTH} of a gallery, with the columns {', '.join(COLUMNS)}; "
            "it is not one"
        )
    return [Entry(*row) for row in rows[1:]]
