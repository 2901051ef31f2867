"""Draws a gallery on disk: scenes, their variants, and a file with the ground truth.

``FOLDER/pictures/`` contains only pictures, so that it can be listed like a data lake;
``FOLDER/truth.csv`` is beside it. The name of a picture has its scene and its kind:
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
    """A picture of the gallery: file `name`, `scene`, `kind` (`ORIGINAL` or that of a variant)."""

    name: str
    scene: str
    kind: str


def draw_gallery(folder: Path, *, n_scenes: int) -> list[Entry]:
    """Draw scenes and their variants into a folder, and write their ground truth.

    Parameters
    ----------
    folder
        Created if it does not exist. Obsolete pictures of an older gallery are removed.
    n_scenes
        How many scenes.

    Raises
    ------
    UsageError
        If `n_scenes` is below 1, or the folder cannot be written or contains files of another
        origin.
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
    """Return the names in the folder of pictures; all must be listed in the older ground truth."""
    pictures, truth = folder / PICTURES, folder / TRUTH
    existing = {path.name for path in pictures.iterdir()} if pictures.is_dir() else set()
    drawn = {entry.name for entry in read_truth(truth)} if truth.is_file() else set()
    others = sorted(existing - drawn)
    if others:
        raise UsageError(
            f"{pictures} must hold nothing but a drawn gallery; found {others[0]}: name another "
            "--output, nothing was written"
        )
    return existing


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
    """Read a ground truth that `draw_gallery` wrote.

    Raises
    ------
    UsageError
        If the file is missing or has other columns.
    """
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the ground truth of a gallery cannot be read: {path}: {error}"
        ) from error
    if not rows or tuple(rows[0]) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise UsageError(
            f"{path} must be the {TRUTH} of a gallery, with the columns {', '.join(COLUMNS)}; "
            "it is not one"
        )
    return [Entry(*row) for row in rows[1:]]
