"""The command line of the library: ``pool3 search``, ``pool3 info``, ``pool3 export``."""

from __future__ import annotations

from typing import NoReturn


def run() -> NoReturn:
    """Run the command line of this process; the entry point of the console script."""
    # Imported here, so that importing this package stays cheap.
    from pool3.cli.commands import run as run_command  # noqa: PLC0415

    run_command()
