"""The console script ``pool3``: show, search and export an index, without Spark.

Imports nothing heavy before the arguments are checked.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pool3.cli.parser import arg_parser
from pool3.cli.text import hits_json, hits_text, info_text, printable
from pool3.errors import NotFound, PictureError, Pool3Error, StorageError, UsageError

if TYPE_CHECKING:
    from pool3.index.format.manifest import Manifest
    from pool3.search.hits import Hits
    from pool3.search.index import Index

SHEET_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
PLOT_ENDINGS = (".png", ".svg", ".pdf")


def run() -> NoReturn:
    """Run the console script."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command line; return the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="pool3: %(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):  # the encoding of a terminal may lack a character
        sys.stdout.reconfigure(errors="backslashreplace")
    commands = {"info": _info, "search": _search, "export": _export}
    try:
        arguments = arg_parser().parse_args(argv)
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            print(commands[arguments.command](arguments))  # noqa: T201
    except Pool3Error as error:
        print(f"pool3: {printable(str(error))}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    print(f"pool3: {printable(str(message))}", file=sys.stderr)  # noqa: T201


def _info(arguments: argparse.Namespace) -> str:
    if arguments.plot is not None:
        _check_output("--plot", arguments.plot, PLOT_ENDINGS)
    from pool3 import storage  # noqa: PLC0415
    from pool3.index.snapshots.publication import read_manifest  # noqa: PLC0415
    from pool3.index.snapshots.snapshot import published_snapshot  # noqa: PLC0415
    from pool3.search.info import index_info  # noqa: PLC0415

    root = storage.canonical_uri(arguments.index)
    manifest = read_manifest(root, published_snapshot(root))  # opens no shard: these are large
    if arguments.plot is not None:
        _plot(root, manifest, arguments.plot)
    info = index_info(root, manifest)
    return json.dumps(info) if arguments.json else info_text(info, manifest.recall)


def _plot(root: str, manifest: Manifest, path: Path) -> None:
    if manifest.recall is None:
        raise UsageError(
            f"--plot draws the measured recall, and snapshot {manifest.snapshot_id} of {root} has "
            "none; build the index again"
        )
    from pool3.index.recall.plot import plot_recall  # noqa: PLC0415

    try:
        plot_recall(manifest.recall, path)
    except OSError as error:
        raise StorageError("denied", f"{path} cannot be written: {error.strerror}") from error


def _search(arguments: argparse.Namespace) -> str:
    _check_search(arguments)
    from pool3.search.index import open_index  # noqa: PLC0415

    index = open_index(arguments.index)
    hits = _search_index(index, arguments)
    if arguments.sheet is not None:
        _save_sheet(hits, arguments.sheet)
    if not arguments.json:
        return hits_text(hits, arguments.columns)
    request = {
        "index": index.uri,
        "snapshot_id": hits.snapshot_id,
        "metric": index.metric,
        "picture": arguments.picture,
        "image_id": arguments.image_id,
        "where": arguments.where,
        "distinct": arguments.distinct,
    }
    return hits_json(hits, arguments.columns, request)


def _check_search(arguments: argparse.Namespace) -> None:
    if (arguments.picture is None) == (arguments.image_id is None):
        raise UsageError(
            "search takes either a PICTURE or --image-id, exactly one of them; "
            "see pool3 search --help"
        )
    if arguments.k < 1:
        raise UsageError(f"-k must be at least 1; found {arguments.k}")
    if arguments.sheet is not None:
        _check_output("--sheet", arguments.sheet, SHEET_ENDINGS)


def _check_output(option: str, path: Path, endings: Sequence[str]) -> None:
    if path.suffix.lower() not in endings:
        raise UsageError(f"{option} must end in {', '.join(endings)}; found {path}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{option} {path} needs the folder {path.parent}; create it first")


def _search_index(index: Index, arguments: argparse.Namespace) -> Hits:
    options = {
        "k": arguments.k,
        "where": arguments.where,
        "distinct": arguments.distinct,
        "recall": arguments.recall,
        "columns": arguments.columns or None,
    }
    if arguments.image_id is not None:
        return index.search(image_id=arguments.image_id, **options)
    from pool3.images.open import fetched_picture  # noqa: PLC0415

    try:
        picture = fetched_picture(arguments.picture)
    except (NotFound, PictureError) as error:
        raise UsageError(f"{arguments.picture} cannot be searched with: {error}") from error
    return index.search(picture, **options)


def _save_sheet(hits: Hits, sheet: Path) -> None:
    try:
        hits.save(sheet)
    except OSError as error:
        raise StorageError("denied", f"{sheet} cannot be written: {error}") from error


def _export(arguments: argparse.Namespace) -> str:
    from pool3.index.export import export_index  # noqa: PLC0415

    manifest = export_index(
        arguments.index,
        arguments.output,
        where=arguments.where,
        sample=arguments.sample,
        seed=arguments.seed,
    )
    summary = {
        "output": arguments.output,
        "rows": manifest.rows,
        "n_shards": len(manifest.shards),
        "bytes": manifest.bytes,
    }
    if arguments.json:
        return json.dumps(summary)
    return info_text(summary, manifest.recall)


if __name__ == "__main__":
    run()
