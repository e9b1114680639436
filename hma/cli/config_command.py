"""`hma config validate|show`: what is wrong with the configuration, and what is in force."""

from __future__ import annotations

import argparse

from hma.cli.common import OK, settings_of, tell_notes
from hma.config import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is wanted."""
    parser.add_argument("what", choices=("validate", "show"), help="look for mistakes; or print every value in force, as YAML")


def run(args: argparse.Namespace) -> int:
    """Check or print the configuration; a mistake raises ConfigError with all of them."""
    settings = settings_of(args)
    tell_notes(settings)
    if args.what == "show":
        print(show(settings.config, settings.checks), end="")
        return OK
    print(f"the configuration is good: {len(settings.checks)} checks on, {len(settings.catalogue.rows)} catalogue rows")
    return OK
