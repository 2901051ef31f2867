"""How well an index of the gallery finds what is known to look alike.

Recall@5 here: of the variants, the share whose original is among the first five hits when the
variant is the query. The query itself and the other variants of its scene, which are as right, take
no place: with seven variants a scene they alone could fill all five. So each query has one right
answer among pictures of other scenes, and 1.0 can be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pool3 import storage
from pool3.errors import UsageError
from pool3.gallery.drawing import ORIGINAL, PICTURES, Entry
from pool3.images.contact_sheet import Cell, drawn_sheet, fetched_pictures, stacked

K = 5
RIGHT = (34, 150, 84)


@dataclass(frozen=True)
class Answer:
    """One query: the variant asked about, and the nearest other pictures, best first."""

    asked: Entry
    hits: Sequence[tuple[Entry, float]]

    @property
    def found(self) -> bool:
        """Whether the original is among the first `K`, not counting other variants of its scene."""
        ahead = 0
        for hit, _ in self.hits:
            if hit.scene != self.asked.scene:
                ahead += 1
            elif hit.kind == ORIGINAL:
                return ahead < K
        return False


Search = Callable[[str, int], Sequence[tuple[str, float]]]
"""Takes an image_id and k; returns ids and distances, best first."""


def ask(entries: Sequence[Entry], folder: Path, search: Search) -> list[Answer]:
    """Search with every variant of the gallery in `folder`, by its image_id.

    Raises
    ------
    UsageError
        When the index holds a picture that is none of the gallery.
    """
    known = {_uri(folder, entry): entry for entry in entries}
    kinds = len({entry.kind for entry in entries})
    answers = []
    for uri, entry in known.items():
        if entry.kind == ORIGINAL:
            continue
        others = [(found, far) for found, far in search(uri, K + kinds) if found != uri]
        strange = [found for found, _ in others if found not in known]
        if strange:
            raise UsageError(
                f"the index must hold the gallery in {folder} alone; found {strange[0]}"
            )
        answers.append(Answer(entry, [(known[found], far) for found, far in others]))
    return answers


def _uri(folder: Path, entry: Entry) -> str:
    return storage.canonical_uri(folder / PICTURES / entry.name)


def table(answers: Sequence[Answer]) -> str:
    """Return recall@5 by kind of variant, for a person."""
    lines = [f"{'variant':<18}{'queries':>8}{'found':>8}{f'recall@{K}':>11}", "-" * 45]
    kinds = list(dict.fromkeys(answer.asked.kind for answer in answers))
    for kind in kinds:
        lines.append(_line(kind, [answer for answer in answers if answer.asked.kind == kind]))
    lines += ["-" * 45, _line("all", answers), ""]
    lines.append(
        f"recall@{K}: the share of variants whose original is among the first {K} hits when"
    )
    lines.append("the variant is the query; the query itself and the other variants of its scene")
    lines.append("take no place.")
    return "\n".join(lines)


def _line(label: str, answers: Sequence[Answer]) -> str:
    found = sum(answer.found for answer in answers)
    return f"{label:<18}{len(answers):>8}{found:>8}{found / max(len(answers), 1):>11.3f}"


def sheet(answers: Sequence[Answer], folder: Path) -> Image.Image:
    """Draw one query of each kind of variant, each of another scene; right hits are framed."""
    kinds = list(dict.fromkeys(answer.asked.kind for answer in answers))
    scenes = list(dict.fromkeys(answer.asked.scene for answer in answers))
    shown = {kind: scenes[number % len(scenes)] for number, kind in enumerate(kinds)}
    picked = [answer for answer in answers if shown[answer.asked.kind] == answer.asked.scene]
    return stacked(_row(answer, folder) for answer in picked)


def _row(answer: Answer, folder: Path) -> Image.Image:
    shown = answer.hits[:K]
    uris = [_uri(folder, entry) for entry in (answer.asked, *(hit for hit, _ in shown))]
    query, *pictures = fetched_pictures(uris)
    cells = [
        Cell(
            picture,
            f"{rank}  ·  {far:.4f}",
            hit.name,
            frame=RIGHT if hit.scene == answer.asked.scene else None,
        )
        for rank, (picture, (hit, far)) in enumerate(zip(pictures, shown, strict=True), start=1)
    ]
    asked = Cell(query, f"query: {answer.asked.kind}", answer.asked.name)
    return drawn_sheet(asked, cells, columns=K)
