"""`hma docs --into DIR`: writes the pages that are made from the catalogue and from the engine's table."""

from __future__ import annotations

import argparse
from pathlib import Path

from hma.cli.common import OK, CliError
from hma.cli.pages import pages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where the pages go."""
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="the folder of the pages")


def run(args: argparse.Namespace) -> int:
    """Write every generated page."""
    for name, text in pages().items():
        place = args.into / name
        try:
            place.write_text(text, encoding="utf-8")
        except OSError as err:
            raise CliError(f"{place}: cannot be written: {err.strerror}") from err
        print(place)
    return OK
