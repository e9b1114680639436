"""`hma explain [node|FAULT|CODE|COMPONENT]`: the way from the raw line to the verdict, from the journal and the catalogue."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from hma.cli.common import OK, CliError, settings_of
from hma.cli.story import Known, node_story, row_story, told_story
from hma.journal import Journal, JournalError
from hma.journal_records import Event
from hma.model import Fault
from hma.settings import Settings
from hma.yamlread import nearest, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to explain."""
    parser.add_argument(
        "what", nargs="?", default="node", metavar="WHAT",
        help="node (default), a fault's id, a code (XID-79) or a component (gpu:0000:9b:00)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print the explanation."""
    settings = settings_of(args)
    for line in explain(args.what, settings):
        print(printable(line))
    return OK


def explain(what: str, settings: Settings) -> Iterable[str]:
    """Return the lines that explain `what`; raises CliError when nothing is known of it."""
    try:
        known = _known(settings)
    except CliError as err:
        if what.upper() not in settings.catalogue:
            raise
        # What a code is worth can be read anywhere, also where no agent has run yet.
        return (*row_story(settings.catalogue[what.upper()]), "", f"# {err}")
    if what == "node":
        return node_story(known)
    found = list(_stories(what, known))
    code = what.upper()
    if code in known.catalogue:
        return (*row_story(known.catalogue[code]), "", *(found or [f"no fault of {code} is on record here"]))
    if not found:
        names = {*known.catalogue.rows, *(f.id for f in known.faults), *(f.component for f in known.faults), "node"}
        near = nearest(code, names) or nearest(what, names)
        mend = f"did you mean {near}?" if near else "hma events lists what there is"
        raise CliError(f"{what}: no fault, code or component of this name is known; {mend}")
    return found


def _stories(what: str, known: Known) -> Iterator[str]:
    """Yield the stories of all faults on record that `what` names, oldest first."""
    told: dict[str, list[Event]] = {}
    for event in known.events:
        if what in (event.fault_id, event.component) or what.upper() == event.code:
            told.setdefault(event.fault_id, []).append(event)
    live = {f.id: f for f in known.faults if what in (f.id, f.component) or what.upper() == f.code}
    first = True
    for fault_id in (*told, *(id_ for id_ in live if id_ not in told)):
        if not fault_id:
            continue
        yield from () if first else ("",)
        first = False
        yield from told_story(fault_id, told.get(fault_id, []), live.get(fault_id), known)


def _known(settings: Settings) -> Known:
    path = settings.config.state_dir / "journal.db"
    try:
        journal = Journal.open_readonly(path)
        try:
            truth, events, notes = journal.truth(), journal.events(limit=5_000), journal.notes
        finally:
            journal.close()
    except JournalError as err:
        raise CliError(str(err)) from err
    faults: tuple[Fault, ...] = truth.faults
    return Known(settings.catalogue, truth.verdict, faults, events, notes)
