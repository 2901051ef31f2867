"""The command line of ``pool3``: its commands, their options and help texts.

Imports nothing heavy, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from pool3.errors import UsageError

DESCRIPTION = "Finds the pictures that look like this one, in an index that build-index made."
EPILOG = """\
examples:
  pool3 info s3://lake/index
  pool3 search s3://lake/index photo.jpg -k 5
  pool3 search s3://lake/index photo.jpg --sheet look-alikes.png
  pool3 search build/demo/index --image-id /lake/a.jpg --json
  pool3 export s3://lake/index --where "label = 'tram'" --output trams

exit status: 0 done, 1 it failed, 2 the arguments are wrong
"""
SEARCH_EPILOG = """\
examples:
  pool3 search s3://lake/index photo.jpg
  pool3 search s3://lake/index s3://lake/photos/a.jpg -k 5 --sheet look-alikes.png
  pool3 search s3://lake/index --image-id s3://lake/photos/a.jpg --json
  pool3 search s3://lake/index photo.jpg --where "label = 'tram' AND width > 400" \\
      --distinct content_sha256 --columns label,width

A picture goes through the index's own copy of its model, which needs OpenVINO
or TensorFlow: pip install '.[openvino]' in a clone of pool3. A search by --image-id
uses the stored vector and needs no model; the picture finds itself first.

--where compares columns of the index (=, !=, <, <=, >, >=, IN (...), IS NULL,
IS NOT NULL) and joins with AND, OR, NOT; strings stand in single quotes.
"""
INFO_EPILOG = """\
examples:
  pool3 info s3://lake/index
  pool3 info build/demo/index --json
  pool3 info build/demo/index --plot recall.png
"""
EXPORT_EPILOG = """\
examples:
  pool3 export s3://lake/index --output trams --where "label = 'tram'"
  pool3 export s3://lake/index --output small --sample 0.01

The same --seed gives the same sample. Vectors are copied as they are, trees are
built anew, and the model comes along, so that the new index needs nothing else.
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=88, max_help_position=24)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def arg_parser() -> argparse.ArgumentParser:
    """Return the parser of ``pool3`` with all its commands."""
    parser = _Parser(
        prog="pool3", description=DESCRIPTION, epilog=EPILOG, formatter_class=_Formatter
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_search(commands)
    _add_info(commands)
    _add_export(commands)
    return parser


def _add_command(commands: Any, name: str, help_text: str, description: str, epilog: str) -> Any:
    command = commands.add_parser(
        name,
        help=help_text,
        description=description,
        epilog=epilog,
        formatter_class=_Formatter,
    )
    command.add_argument("index", metavar="INDEX", help="path or uri of the index")
    return command


def _add_search(commands: Any) -> None:
    search = _add_command(
        commands,
        "search",
        "find the pictures that look like one",
        "Find the pictures of an index that look like one picture.",
        SEARCH_EPILOG,
    )
    search.add_argument(
        "picture", metavar="PICTURE", nargs="?", help="path or uri of the picture to search with"
    )
    search.add_argument(
        "--image-id", metavar="ID", help="search with this picture of the index instead"
    )
    search.add_argument("-k", type=int, default=10, metavar="N", help="how many hits (default: 10)")
    search.add_argument("--where", metavar="EXPR", help="only pictures for which this is true")
    search.add_argument("--distinct", metavar="COLUMN", help="one hit a value of this column")
    search.add_argument(
        "--recall",
        type=float,
        metavar="R",
        help="which share of the true neighbours to find, above 0 and at most 1 (default: 0.95)",
    )
    search.add_argument(
        "--columns",
        type=_column_names,
        default=(),
        metavar="A,B",
        help="also show these columns of the index",
    )
    search.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help="also draw a contact sheet, as PNG, JPEG or WebP by its ending",
    )
    search.add_argument("--json", action="store_true", help="print one JSON object")


def _column_names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _add_info(commands: Any) -> None:
    info = _add_command(
        commands,
        "info",
        "say what an index holds",
        "Say what an index holds: its rows, metric, model, snapshot, and its recall.",
        INFO_EPILOG,
    )
    info.add_argument(
        "--plot", type=Path, metavar="FILE", help="also draw recall against time, as a PNG"
    )
    info.add_argument("--json", action="store_true", help="print one JSON object")


def _add_export(commands: Any) -> None:
    export = _add_command(
        commands,
        "export",
        "make a small index of a part of one",
        "Make an index of some rows of an index, complete in itself.",
        EXPORT_EPILOG,
    )
    export.add_argument(
        "--output", required=True, metavar="DIR", help="the new index; nothing may stand there yet"
    )
    export.add_argument("--where", metavar="EXPR", help="only pictures for which this is true")
    export.add_argument(
        "--sample", type=float, metavar="F", help="this share of them, above 0 and at most 1"
    )
    export.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed draws others (default: 0)"
    )
    export.add_argument("--json", action="store_true", help="print one JSON object")
