"""Changes on their way out: written to the journal first, then printed, then marked as printed.

Rules of this file:
- A change is printed once it is durable. A journal that does not answer within `PATIENCE_S` holds nobody up: the change is
  printed all the same, and its id lets a reader recognise the second telling that a crash may bring.
- What a sink has not taken stays "not emitted" in the journal and is told again at the next start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

from hma.catalogue import Catalogue
from hma.journal_records import Commit, Event
from hma.loop import Loop, Timer
from hma.model import Change, NodeFacts
from hma.reporting.log import make_logger
from hma.reporting.outlet import Outlet
from hma.reporting.record import event_id, record

PATIENCE_S = 0.25


class Saver(Protocol):
    """What is needed of `hma.recorder.Recorder`."""

    def commit(self, commit: Commit, saved: Callable[[bool], None] | None = None) -> None:
        """Save; `saved` is told whether it is durable."""

    def mark_emitted(self, ids: Iterable[str]) -> None:
        """Note that these events were printed."""


def event_of(change: Change, node: NodeFacts, catalogue: Catalogue, more: Mapping[str, object] | None = None) -> Event:
    """Return the journal's event of `change`; `more` are keys of its record that no Change can carry."""
    body = {**record(change, node, catalogue), **(more or {})}
    fault = change.fault
    return Event(
        id=event_id(change),
        utc=change.at.utc,
        kind=change.kind,
        fault_id=fault.id if fault else "",
        code=fault.code if fault else "",
        component=fault.component if fault else "",
        body=json.dumps(body, ensure_ascii=False, separators=(",", ":")),
    )


class Emitter:
    """Saves commits with their events and prints the events, in order."""

    def __init__(self, loop: Loop, saver: Saver, outlet: Outlet, form: str, colour: bool = False) -> None:
        self._loop = loop
        self._saver = saver
        self._outlet = outlet
        self._log = make_logger(self._write, form, colour)
        self._printing = ""
        self._waiting: dict[str, Event] = {}

    def save(self, commit: Commit) -> None:
        """Save `commit`, then print its events."""
        for event in commit.events:
            self._waiting.setdefault(event.id, event)
        ids = tuple(event.id for event in commit.events)
        if not ids:
            self._saver.commit(commit)
            return
        late = self._loop.call_later(PATIENCE_S, partial(self._print_waiting, ids))
        self._saver.commit(commit, partial(self._saved, late, ids))

    def tell_again(self, events: Iterable[Event]) -> None:
        """Print events of an earlier run that nobody has taken; they are in the journal already."""
        for event in events:
            self._print(event)

    def flush(self) -> None:
        """Print all that waits for the journal."""
        self._print_waiting(tuple(self._waiting))

    def _saved(self, late: Timer, ids: tuple[str, ...], _durable: bool) -> None:
        late.cancel()
        self._print_waiting(ids)

    def _print_waiting(self, ids: tuple[str, ...]) -> None:
        for id_ in ids:
            event = self._waiting.pop(id_, None)
            if event is not None:
                self._print(event)

    def _print(self, event: Event) -> None:
        self._printing = event.id
        self._log.emit(**json.loads(event.body))

    def _write(self, line: str) -> None:
        self._outlet.write(line, partial(self._saver.mark_emitted, (self._printing,)))
