"""The command `hma`: each command is imported when it is given, so that the agent's process holds none of the others."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import hma
from hma.cli.common import USAGE, CliError, Parser, add_places
from hma.yamlread import ConfigError

COMMANDS = {
    "agent": "watch this node until stopped; one line per change",
    "check": "run checks once and show what they say (exit 0 ok, 1 failed, 2 unknown, 3 usage)",
    "status": "ask the running agent (exit codes as of check)",
    "events": "list what happened, from the journal",
    "explain": "say why: from the raw line to the verdict",
    "replay": "judge a recorded trace again",
    "config": "validate or show the configuration",
    "demo": "play a fault as a story, on a simulated node",
    "docs": "write the generated pages of the documentation",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a terminal's character set lacks, and what no text may hold (half a surrogate pair), is shown escaped.
            stream.reconfigure(errors="backslashreplace")
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        parser = _parser(given)
        args = parser.parse_args(given)
        if "run" not in args:
            parser.print_help()
            return USAGE
        code = args.run(args)
        sys.stdout.flush()
    except CliError as err:
        return _say(str(err), err.code)
    except ConfigError as err:
        return _say(str(err), USAGE)
    except BrokenPipeError:
        # Whoever read us (`head`) has seen enough; the interpreter must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except OSError as err:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _say(f"{err.filename or 'standard output'}: {err.strerror or err}", USAGE)
    except KeyboardInterrupt:
        return 128 + 2
    return int(code)


def _open_closed_streams() -> None:
    """Put /dev/null where we were started without stdin, stdout or stderr.

    The next file that is opened would get the free number, and what we print would be written into it.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (as long as the process)
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = Parser(prog="hma", description="Health monitoring agent for accelerator nodes.")
    parser.add_argument("--version", action="version", version=f"hma {hma.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=Parser)
    named = next((word for word in given if not word.startswith("-")), "")
    for name, about in COMMANDS.items():
        sub = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        if name == named:
            module = import_module(f"hma.cli.{name}_command")
            if name not in ("docs", "demo"):
                add_places(sub)
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


def _say(text: str, code: int) -> int:
    sys.stderr.write("".join(f"hma: {line}\n" for line in text.splitlines()))
    return code


if __name__ == "__main__":
    sys.exit(main())
