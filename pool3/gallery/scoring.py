"""Measures how well an index of the gallery finds the known near-duplicates.

Recall@5 is the share of variants whose original is among the first five hits when the variant is
the query. The query itself and the other variants of its scene do not count as hits: they are
correct as well, and with seven variants per scene they could fill all five places. So each query
has one correct answer among pictures of other scenes, and a recall of 1.0 is possible.
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
CORRECT = (34, 150, 84)


@dataclass(frozen=True)
class Answer:
    """The result of one query: the variant and its nearest other pictures, best first."""

    query: Entry
    hits: Sequence[tuple[Entry, float]]

    @property
    def is_correct(self) -> bool:
        """Whether the original is among the first `K` hits, other variants not counted."""
        ahead = 0
        for hit, _ in self.hits:
            if hit.scene != self.query.scene:
                ahead += 1
            elif hit.kind == ORIGINAL:
                return ahead < K
        return False


Search = Callable[[str, int], Sequence[tuple[str, float]]]
"""Takes an image_id and k; returns ids and distances, best first."""


def search_variants(entries: Sequence[Entry], folder: Path, search: Search) -> list[Answer]:
    """Search with each variant of the gallery in `folder`, by its image_id.

    Raises
    ------
    UsageError
        If the index contains a picture that is not in the gallery.
    """
    by_uri = {_uri(folder, entry): entry for entry in entries}
    kinds = len({entry.kind for entry in entries})
    answers = []
    for uri, entry in by_uri.items():
        if entry.kind == ORIGINAL:
            continue
        hits = [(hit, distance) for hit, distance in search(uri, K + kinds) if hit != uri]
        others = [hit for hit, _ in hits if hit not in by_uri]
        if others:
            raise UsageError(
                f"the index must contain only the gallery in {folder}; found {others[0]}"
            )
        answers.append(Answer(entry, [(by_uri[hit], distance) for hit, distance in hits]))
    return answers


def _uri(folder: Path, entry: Entry) -> str:
    return storage.canonical_uri(folder / PICTURES / entry.name)


def table(answers: Sequence[Answer]) -> str:
    """Return recall@5 by kind of variant, for a person."""
    lines = [f"{'variant':<18}{'queries':>8}{'found':>8}{f'recall@{K}':>11}", "-" * 45]
    kinds = list(dict.fromkeys(answer.query.kind for answer in answers))
    for kind in kinds:
        lines.append(_line(kind, [answer for answer in answers if answer.query.kind == kind]))
    lines += ["-" * 45, _line("all", answers), ""]
    lines.append(
        f"recall@{K}: the share of variants whose original is among the first {K} hits when"
    )
    lines.append("the variant is the query; the query itself and the other variants of its scene")
    lines.append("take no place.")
    return "\n".join(lines)


def _line(label: str, answers: Sequence[Answer]) -> str:
    correct = sum(answer.is_correct for answer in answers)
    return f"{label:<18}{len(answers):>8}{correct:>8}{correct / max(len(answers), 1):>11.3f}"


def sheet(answers: Sequence[Answer], folder: Path) -> Image.Image:
    """Draw one query of each kind of variant, of different scenes; frame the correct hits."""
    kinds = list(dict.fromkeys(answer.query.kind for answer in answers))
    scenes = list(dict.fromkeys(answer.query.scene for answer in answers))
    scene_of = {kind: scenes[number % len(scenes)] for number, kind in enumerate(kinds)}
    chosen = [answer for answer in answers if scene_of[answer.query.kind] == answer.query.scene]
    return stacked(_row(answer, folder) for answer in chosen)


def _row(answer: Answer, folder: Path) -> Image.Image:
    hits = answer.hits[:K]
    uris = [_uri(folder, entry) for entry in (answer.query, *(hit for hit, _ in hits))]
    query_picture, *pictures = fetched_pictures(uris)
    cells = [
        Cell(
            picture,
            f"{rank}  ·  {distance:.4f}",
            hit.name,
            frame=CORRECT if hit.scene == answer.query.scene else None,
        )
        for rank, (picture, (hit, distance)) in enumerate(zip(pictures, hits, strict=True), start=1)
    ]
    query = Cell(query_picture, f"query: {answer.query.kind}", answer.query.name)
    return drawn_sheet(query, cells, columns=K)
