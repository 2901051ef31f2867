"""The console script ``pool3``: look into an index and search it, without Spark.

Nothing heavy is imported before the arguments are known to be right.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pool3.errors import NotFound, PictureError, Pool3Error, StorageError, UsageError

if TYPE_CHECKING:
    from pool3.hits import Hits
    from pool3.search import Index

SHEET_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")

DESCRIPTION = "Finds the pictures that look like this one, in an index that build-index made."
EPILOG = """\
examples:
  pool3 info s3://lake/index
  pool3 search s3://lake/index photo.jpg -k 5
  pool3 search s3://lake/index photo.jpg --sheet look-alikes.png
  pool3 search build/demo/index --image-id /lake/a.jpg --json

exit status: 0 done, 1 it failed, 2 the arguments are wrong
"""
SEARCH_EPILOG = """\
examples:
  pool3 search s3://lake/index photo.jpg
  pool3 search s3://lake/index s3://lake/photos/a.jpg -k 5 --sheet look-alikes.png
  pool3 search s3://lake/index --image-id s3://lake/photos/a.jpg --json

A picture goes through the index's own copy of its model, which needs TensorFlow:
pip install 'pool3[tensorflow]'. A search by --image-id uses the stored vector and
needs no model; the picture finds itself first.
"""
INFO_EPILOG = """\
examples:
  pool3 info s3://lake/index
  pool3 info build/demo/index --json
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=88, max_help_position=24)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of ``pool3`` with its commands."""
    parser = _Parser(
        prog="pool3", description=DESCRIPTION, epilog=EPILOG, formatter_class=_Formatter
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_search(commands)
    info = commands.add_parser(
        "info",
        help="say what an index holds",
        description="Say what an index holds: its rows, metric, model, snapshot.",
        epilog=INFO_EPILOG,
        formatter_class=_Formatter,
    )
    info.add_argument("index", metavar="INDEX", help="path or uri of the index")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add_search(commands: Any) -> None:
    search = commands.add_parser(
        "search",
        help="find the pictures that look like one",
        description="Find the pictures of an index that look like one picture.",
        epilog=SEARCH_EPILOG,
        formatter_class=_Formatter,
    )
    search.add_argument("index", metavar="INDEX", help="path or uri of the index")
    search.add_argument(
        "picture", metavar="PICTURE", nargs="?", help="path or uri of the picture to search with"
    )
    search.add_argument(
        "--image-id", metavar="ID", help="search with this picture of the index instead"
    )
    search.add_argument("-k", type=int, default=10, metavar="N", help="how many hits (default: 10)")
    search.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help="also draw a contact sheet, as PNG, JPEG or WebP by its ending",
    )
    search.add_argument("--json", action="store_true", help="print one JSON object")


def run() -> NoReturn:
    """Run the console script."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command line; returns the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="pool3: %(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name may not fit the terminal's encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = arg_parser().parse_args(argv)
        print((_info if arguments.command == "info" else _search)(arguments))  # noqa: T201
    except Pool3Error as error:
        print(f"pool3: {_printable(str(error))}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _info(arguments: argparse.Namespace) -> str:
    from pool3.search import open_index  # noqa: PLC0415

    facts = open_index(arguments.index).info()
    if arguments.json:
        return json.dumps(facts)
    shown = {name: value for name, value in facts.items() if value is not None}
    width = max(map(len, shown))
    return "\n".join(
        f"{name.replace('_', ' '):<{width}}  {_readable(value)}" for name, value in shown.items()
    )


def _readable(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{count:,} {name}" for name, count in value.items())
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else _printable(str(value))


def _search(arguments: argparse.Namespace) -> str:
    _check_search(arguments)
    from pool3.search import open_index  # noqa: PLC0415

    index = open_index(arguments.index)
    hits = _hits(index, arguments)
    if arguments.sheet is not None:
        _save(hits, arguments.sheet)
    return _as_json(index, arguments, hits) if arguments.json else _as_table(hits)


def _check_search(arguments: argparse.Namespace) -> None:
    if (arguments.picture is None) == (arguments.image_id is None):
        raise UsageError(
            "search takes either a PICTURE or --image-id, exactly one of them; "
            "see pool3 search --help"
        )
    if arguments.k < 1:
        raise UsageError(f"-k must be at least 1; found {arguments.k}")
    sheet = arguments.sheet
    if sheet is not None and sheet.suffix.lower() not in SHEET_ENDINGS:
        raise UsageError(f"--sheet must end in {', '.join(SHEET_ENDINGS)}; found {sheet}")
    if sheet is not None and not sheet.absolute().parent.is_dir():
        raise UsageError(f"--sheet {sheet} needs the folder {sheet.parent}; create it first")


def _hits(index: Index, arguments: argparse.Namespace) -> Hits:
    if arguments.image_id is not None:
        return index.search(image_id=arguments.image_id, k=arguments.k)
    from pool3.query_pictures import fetched_picture  # noqa: PLC0415

    try:
        picture = fetched_picture(arguments.picture)
    except (NotFound, PictureError) as error:
        raise UsageError(f"{arguments.picture} cannot be searched with: {error}") from error
    return index.search(picture, k=arguments.k)


def _save(hits: Hits, sheet: Path) -> None:
    try:
        hits.save(sheet)
    except OSError as error:
        raise StorageError("denied", f"{sheet} cannot be written: {error}") from error


def _as_json(index: Index, arguments: argparse.Namespace, hits: Hits) -> str:
    found = [
        {"rank": hit.rank, "distance": hit.distance, "image_id": hit.image_id, "uri": uri}
        for hit, uri in zip(hits, hits.uris, strict=True)
    ]
    return json.dumps(
        {
            "index": index.uri,
            "snapshot_id": hits.snapshot_id,
            "metric": index.metric,
            "picture": arguments.picture,
            "image_id": arguments.image_id,
            "hits": found,
        }
    )


def _as_table(hits: Hits) -> str:
    lines = [f"{'rank':>4}  {'distance':>10}  image_id"]
    for hit, uri in zip(hits, hits.uris, strict=True):
        elsewhere = "" if uri == hit.image_id else f"  ({_printable(uri)})"
        lines.append(f"{hit.rank:>4}  {hit.distance:>10.4f}  {_printable(hit.image_id)}{elsewhere}")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Return text that can neither break a table nor steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


if __name__ == "__main__":
    run()
