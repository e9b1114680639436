"""`hma events`: what happened on this node, from the journal; works without an agent."""

from __future__ import annotations

import argparse
import json
import time

from hma.cli.common import OK, CliError, settings_of
from hma.fields import Unfit, duration
from hma.journal import Journal, JournalError
from hma.reporting.log import human_line
from hma.yamlread import Scalar, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the choices of events."""
    parser.add_argument("--since", metavar="AGO", help="only what is younger, as in 90s, 2h, 7d")
    parser.add_argument(
        "--kind", action="append", default=[], metavar="EVENT", help="only this event, as in fault_active; repeatable"
    )
    parser.add_argument("--code", default="", help="only this code, as in XID-79")
    parser.add_argument("--component", default="", help="only this component, as in gpu:0000:9b:00")
    parser.add_argument("--fault", default="", metavar="ID", help="only this fault")
    parser.add_argument("--limit", type=int, default=200, metavar="N", help="the newest N (default: 200)")
    parser.add_argument("--json", action="store_true", help="print the records as they were told, one a line")


def run(args: argparse.Namespace) -> int:
    """Print the chosen events, oldest first."""
    if args.limit < 1:
        raise CliError(f"--limit {args.limit}: not a number of events; write 1 or more")
    since = time.clock_gettime(time.CLOCK_REALTIME) - _ago(args.since) if args.since else None
    state_dir = settings_of(args).config.state_dir
    try:
        journal = Journal.open_readonly(state_dir / "journal.db")
        try:
            events = journal.events(since, args.kind, args.code, args.component, args.fault, args.limit)
            notes = journal.notes
        finally:
            journal.close()
    except JournalError as err:
        raise CliError(str(err)) from err
    for event in events:
        print(event.body if args.json else _line(event.body))
    for note in notes:
        print(f"# {note}")
    return OK


def _line(body: str) -> str:
    record = json.loads(body)
    shown = human_line({**record, "ts": f"{record['ts'][:10]}T{record['ts'][11:]}"})
    return f"{record['ts'][:10]} " + "\n".join(map(printable, shown.split("\n")))


def _ago(text: str) -> float:
    try:
        return duration(Scalar(text))
    except Unfit as err:
        fault = err.faults[0]
        raise CliError(f"--since {text}: {fault.text}; {fault.mend}") from None
