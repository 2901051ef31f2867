"""Command line of the gallery: ``python -m pool3.gallery draw`` and ``score``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from pool3.errors import Pool3Error, UsageError
from pool3.gallery import scoring
from pool3.gallery.drawing import PICTURES, TRUTH, draw_gallery, read_truth
from pool3.search.index import open_index

EXAMPLES = """\
examples:
  python -m pool3.gallery draw --output build/gallery --scenes 40
  python -m pool3.gallery score --index build/index --truth build/gallery/truth.csv
"""


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of both commands."""
    parser = argparse.ArgumentParser(
        prog="python -m pool3.gallery",
        description="A gallery of drawn pictures with known near-duplicates.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    draw = commands.add_parser("draw", help="draw scenes and their variants into a folder")
    draw.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help=f"gets {PICTURES}/ and, beside it, {TRUTH}: each picture's scene and kind",
    )
    draw.add_argument("--scenes", type=int, default=40, metavar="N", help="default: 40")
    score = commands.add_parser("score", help="measure recall@5 of an index of the gallery")
    score.add_argument("--index", required=True, metavar="INDEX", help="index of the pictures")
    score.add_argument(
        "--truth", type=Path, required=True, metavar="FILE", help=f"the gallery's {TRUTH}"
    )
    score.add_argument(
        "--sheet",
        type=Path,
        metavar="PNG",
        help="where the contact sheet goes (default: contact-sheet.png beside the truth)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    arguments = arg_parser().parse_args(argv)
    try:
        if arguments.command == "draw":
            _draw(arguments.output, arguments.scenes)
        else:
            truth = arguments.truth
            _score(arguments.index, truth, arguments.sheet or truth.parent / "contact-sheet.png")
    except Pool3Error as error:
        _print(str(error), sys.stderr)
        return error.exit_code
    return 0


def _draw(output: Path, n_scenes: int) -> None:
    entries = draw_gallery(output, n_scenes=n_scenes)
    _print(f"drew {len(entries)} pictures of {n_scenes} scenes in {output / PICTURES}")
    _print(f"what they show: {output / TRUTH}")


def _score(index_uri: str, truth: Path, sheet_path: Path) -> None:
    entries = read_truth(truth)
    index = open_index(index_uri)

    def search(image_id: str, k: int) -> list[tuple[str, float]]:
        hits = index.search(image_id=image_id, k=k)
        return list(zip(hits.ids, hits.distances.tolist(), strict=True))

    answers = scoring.search_variants(entries, truth.parent, search)
    sheet = scoring.sheet(answers, truth.parent)
    try:
        sheet_path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(sheet_path)
    except (OSError, ValueError) as error:
        raise UsageError(f"the contact sheet cannot be written to {sheet_path}: {error}") from error
    _print(scoring.table(answers))
    _print(f"\ncontact sheet: {sheet_path}")


def _print(line: str, file: TextIO | None = None) -> None:
    print(line, file=file or sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
