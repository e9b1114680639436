"""What the commands share: the options of where things are, and errors that a person can read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from hma.settings import Settings, load_settings
from hma.yamlread import printable

OK, FAILED, UNKNOWN, USAGE = 0, 1, 2, 3
"""Exit codes: all is well; something failed (or is degraded); it is not known; what was asked for cannot be done."""


class CliError(Exception):
    """A command cannot go on; the text is one line for the person who gave it (what, where, the mend)."""

    def __init__(self, text: str, code: int = USAGE) -> None:
        super().__init__(text)
        self.code = code


class Parser(argparse.ArgumentParser):
    """argparse, with our exit code for wrong usage: its own 2 means "unknown" here."""

    def error(self, message: str) -> None:  # type: ignore[override]  # it does not return
        """Print the usage and the mistake, and exit with 3."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which configuration counts."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration file (default: $HMA_CONFIG, /etc/hma/config.yaml)"
    )
    parser.add_argument("--root", metavar="DIR", help="where the node's file system is mounted (node.root)")
    parser.add_argument("--state-dir", metavar="DIR", help="where the journal is (state_dir)")
    parser.add_argument("--run-dir", metavar="DIR", help="where lock and socket are (run_dir)")
    parser.add_argument("--kernel-log", metavar="FILE", help="what to read the kernel log from (kernel_log)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set any key of the configuration, as in node.imds=false",
    )


def overrides(args: argparse.Namespace) -> dict[str, str]:
    """Return the settings given on the command line, by dotted key. Raises CliError for one without a value."""
    places = {"node.root": args.root, "state_dir": args.state_dir, "run_dir": args.run_dir, "kernel_log": args.kernel_log}
    given = {key: str(Path(text).absolute()) for key, text in places.items() if text}
    for item in args.set:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise CliError(f"--set {item}: not of the form KEY=VALUE, as in node.imds=false")
        given[key] = value
    return given


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the settings; raises ConfigError or CliError."""
    return load_settings(args.config, overrides(args))


def tell_notes(settings: Settings) -> None:
    """Say on stderr what is not as it should be and stops nothing: above all, checks of other packages that are broken."""
    for note in settings.notes:
        sys.stderr.write(f"hma: {printable(note)}\n")


def same_places(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the options that make another command see the same configuration."""
    config = ("--config", str(args.config.absolute())) if args.config else ()
    return (*config, *(word for key, value in overrides(args).items() for word in ("--set", f"{key}={value}")))


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as text in columns, the last one as long as it is."""
    kept = [tuple(map(str, row)) for row in rows]
    if not kept:
        return ""
    widths = [max(len(row[column]) for row in kept) for column in range(len(kept[0]) - 1)]
    lines = ("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in kept)
    return "\n".join(line.rstrip() for line in lines)
