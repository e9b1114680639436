"""The engine on a loop: reports that arrive in one turn are judged together, and time alone is judged when it is due.

Rules of this file:
- Nothing is judged before `begin`: what arrives earlier waits, so that a start never begins from "healthy".
- One timer at most: for the next instant at which time alone can move a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from hma.catalogue import Catalogue
from hma.engine.correlate import next_due
from hma.engine.counters import joined
from hma.engine.step import step
from hma.journal_records import Commit, changed
from hma.loop import Loop, Timer
from hma.model import Change, Fault, FaultKey, Instant, Report, State

Judged = Callable[[Instant, State, State, tuple[Change, ...]], None]
MAX_WAITING = 10_000
"""Reports kept while the journal is still being read; a node cannot make more in the seconds that may take."""


class Judge:
    """Holds the engine's state; `judged` is told of each step: when, the state before, the state after, the changes."""

    def __init__(self, loop: Loop, now: Callable[[], Instant], catalogue: Catalogue, judged: Judged) -> None:
        self._loop = loop
        self._now = now
        self._judged = judged
        self._waiting: list[Report] = []
        self._turn: Timer | None = None
        self._due: Timer | None = None
        self.catalogue = catalogue
        self.state: State | None = None

    def begin(self, state: State) -> None:
        """Go on from `state`."""
        self.state = state
        self.judge()

    def adopt(self, older: State) -> None:
        """Add what an earlier life knew and this one began without, because the journal could not be read in time."""
        assert self.state is not None
        self.state = united(older, self.state)
        self.judge()

    def at_rest(self, checks: Collection[str]) -> bool:
        """Return whether a good word of `checks` that was told once already can change nothing if it is told again.

        It can where it ends one of their own faults, where it may refute or be waited for, or where a row ends by it.
        """
        faults = self.state.faults.values() if self.state is not None else None
        return faults is not None and not any(self._concerns(fault, checks) for fault in faults)

    def _concerns(self, fault: Fault, checks: Collection[str]) -> bool:
        row = self.catalogue[fault.code]
        return fault.check in checks or row.confirm is not None or any(end.kind == "by" for end in row.ends)

    def take(self, reports: Iterable[Report]) -> None:
        """Judge `reports` in this turn of the loop, together with what else arrives in it."""
        self._waiting += reports
        del self._waiting[:-MAX_WAITING]
        if self.state is not None and self._turn is None:
            self._turn = self._loop.call_later(0.0, self.judge)

    def judge(self) -> None:
        """Judge now what has arrived, if only the time."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        before = self.state
        if before is None:
            return
        reports, self._waiting = self._waiting, []
        now = self._now()
        self.state, changes = step(before, reports, self.catalogue, now)
        self._set_due(now)
        self._judged(now, before, self.state, changes)

    def _set_due(self, now: Instant) -> None:
        assert self.state is not None
        at = next_due(self.state.faults, self.catalogue, now)
        if self._due is not None and self._due.at == at and self._due.call is not None and at > now.mono:
            return
        if self._due is not None:
            self._due.cancel()
        self._due = None if at is None else self._loop.call_at(at, self.judge)


def awaited(before: State, after: State, catalogue: Catalogue) -> frozenset[str]:
    """Return the codes that may confirm or refute what this step found."""
    new = [catalogue[key.code].confirm for key in after.faults if key not in before.faults]
    return frozenset(code for confirm in new if confirm is not None for code in confirm.by)


def united(older: State, newer: State) -> State:
    """Return `newer` with all that only `older` knows; a fault of both goes on, last seen by the newer."""
    faults = dict(newer.faults)
    for key, fault in older.faults.items():
        again = faults.get(key)
        faults[key] = fault if again is None else replace(fault, last_seen=again.last_seen, status=again.status)
    known = {past.fault_id for past in older.history}
    history = (*older.history, *(past for past in newer.history if past.fault_id not in known))
    counters = {**older.counters, **newer.counters}
    for key in older.counters.keys() & newer.counters.keys():
        counters[key] = joined(older.counters[key], newer.counters[key])
    return State(newer.verdict, faults, history, {**older.aliases, **newer.aliases}, counters)


def difference(before: State, after: State) -> Commit:
    """Return what the journal has to learn to hold `after` where it holds `before`."""
    if before is after:
        return Commit()
    faults: dict[FaultKey, Fault | None] = {key: None for key in before.faults if key not in after.faults}
    faults |= {key: fault for key, fault in after.faults.items() if before.faults.get(key) is not fault}
    known = {past.fault_id for past in before.history}
    return Commit(
        faults={key: fault for key, fault in faults.items() if fault is None or before.faults.get(key) != fault},
        history=tuple(past for past in after.history if past.fault_id not in known),
        verdict=after.verdict if after.verdict != before.verdict else None,
        aliases={name: place for name, place in after.aliases.items() if before.aliases.get(name) != place},
        counters=changed(before.counters, after.counters),
    )
