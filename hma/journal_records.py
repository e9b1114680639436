"""What goes into the journal and what comes out of it: values only, so that the agent's process needs no SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from hma.model import Counter, Fault, FaultKey, Past, State, Verdict


class JournalError(Exception):
    """The journal cannot be read or written; one line for people: what, where, the mend."""


class Cursor(NamedTuple):
    """How far a numbered stream (the kernel log) has been read: the last sequence number seen, on which boot."""

    boot_id: str
    seq: int


class Event(NamedTuple):
    """One record of something that happened; `body` is JSON text, `id` unique for ever (saving it twice changes nothing)."""

    id: str
    utc: float
    kind: str
    fault_id: str = ""
    code: str = ""
    component: str = ""
    body: str = "{}"


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction changes. A fault or counter that is None is gone. `full` = no other fault, counter and alias is."""

    faults: Mapping[FaultKey, Fault | None] = field(default_factory=dict)
    history: tuple[Past, ...] = ()
    verdict: Verdict | None = None
    cursors: Mapping[str, Cursor] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    emitted: tuple[str, ...] = ()
    identity: str = ""
    full: bool = False
    counters: Mapping[FaultKey, Counter | None] = field(default_factory=dict)

    @classmethod
    def of(cls, state: State, cursors: Mapping[str, Cursor], identity: str = "") -> Commit:
        """Return the commit that makes `state` all the journal holds to be true now (history is only ever added to)."""
        return cls(
            dict(state.faults), state.history, state.verdict, cursors, state.aliases,
            identity=identity, full=True, counters=dict(state.counters),
        )  # fmt: skip

    @property
    def only_moves(self) -> bool:
        """Return whether nothing but cursors, counters and marks of sent events would change: not worth a disk flush."""
        return not (self.faults or self.history or self.verdict or self.aliases or self.events or self.identity or self.full)


@dataclass(frozen=True, slots=True)
class Moves:
    """What moves without an event: saved now and then, and with whatever else is saved."""

    cursors: Mapping[str, Cursor] = field(default_factory=dict)
    counters: Mapping[FaultKey, Counter] = field(default_factory=dict)

    def since(self, saved: Moves) -> Commit:
        """Return what has moved where `saved` is in the journal."""
        cursors = self.cursors if self.cursors != saved.cursors else {}
        return Commit(cursors=cursors, counters=changed(saved.counters, self.counters))


def changed(before: Mapping[FaultKey, Counter], after: Mapping[FaultKey, Counter]) -> dict[FaultKey, Counter | None]:
    """Return the counters that differ, None for those that are gone."""
    if before is after:
        return {}
    gone: dict[FaultKey, Counter | None] = {key: None for key in before if key not in after}
    return gone | {key: counter for key, counter in after.items() if before.get(key) is not counter}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a start begins from. `state` is None where nothing is recorded: a new node, or all was lost and `notes` says so.

    `unemitted` holds the oldest unsent events, `unemitted_left` how many more there are behind them.
    """

    state: State | None
    cursors: Mapping[str, Cursor] = field(default_factory=dict)
    unemitted: tuple[Event, ...] = ()
    unemitted_left: int = 0
    identity: str = ""
    notes: tuple[str, ...] = ()

    @property
    def new_node(self) -> bool:
        """Return whether nothing was ever recorded of this node: not where it was lost, or could not be read."""
        return self.state is None and not self.notes


class Pruned(NamedTuple):
    """How many records retention removed; `unsent` counts events that no sink has taken."""

    events: int = 0
    unsent: int = 0
    history: int = 0


class Pending:
    """Commits on their way into one: later faults win, events are appended, at most `max_events` of them are kept."""

    def __init__(self, max_events: int) -> None:
        self.max_events = max_events
        self.dropped = 0
        self._events: dict[str, Event] = {}
        self._emitted: dict[str, None] = {}
        self._clear_state()

    def _clear_state(self) -> None:
        self._faults: dict[FaultKey, Fault | None] = {}
        self._counters: dict[FaultKey, Counter | None] = {}
        self._history: dict[str, Past] = {}
        self._verdict: Verdict | None = None
        self._cursors: dict[str, Cursor] = {}
        self._aliases: dict[str, str] = {}
        self._identity = ""
        self._full = False

    @property
    def events(self) -> int:
        """Return how many events are pending."""
        return len(self._events)

    def __bool__(self) -> bool:
        return bool(
            self._faults or self._history or self._verdict or self._cursors or self._aliases
            or self._events or self._emitted or self._identity or self._full or self._counters
        )  # fmt: skip

    def add(self, commit: Commit) -> None:
        """Merge `commit` as the newest."""
        if commit.full:
            # Cursors, pasts, verdict and identity are only ever replaced, by a whole state too.
            self._faults, self._counters, self._aliases, self._full = {}, {}, {}, True
        self._faults.update(commit.faults)
        self._counters.update(commit.counters)
        self._history.update((past.fault_id, past) for past in commit.history)
        self._verdict = commit.verdict or self._verdict
        self._cursors.update(commit.cursors)
        self._aliases.update(commit.aliases)
        self._identity = commit.identity or self._identity
        self.keep_events(commit.events)
        self.mark_emitted(commit.emitted)

    def keep_events(self, events: Iterable[Event]) -> None:
        """Add `events`; beyond the limit the oldest go, and are counted."""
        for event in events:
            self._events.setdefault(event.id, event)
        while len(self._events) > self.max_events:
            del self._events[next(iter(self._events))]
            self.dropped += 1

    def put_back(self, commit: Commit) -> None:
        """Keep the events and marks of a `commit` that failed, as the oldest; its state is the next full commit's."""
        newer = self._events
        self._events = {}
        self.keep_events(commit.events)
        self.keep_events(newer.values())
        self.mark_emitted(commit.emitted)

    def mark_emitted(self, ids: Iterable[str]) -> None:
        """Remember that these events need not be sent again."""
        self._emitted.update(dict.fromkeys(ids))
        while len(self._emitted) > self.max_events:
            del self._emitted[next(iter(self._emitted))]

    def drop_state(self) -> None:
        """Forget all but events and marks: a full commit will carry the state."""
        self._clear_state()

    def take(self, max_events: int) -> Commit:
        """Return what is pending with the oldest `max_events` events, and keep the rest."""
        events = tuple(islice(self._events.values(), max_events))
        for event in events:
            del self._events[event.id]
        # A mark must not overtake its event.
        marks, self._emitted = self._emitted, {i: None for i in self._emitted if i in self._events}
        commit = Commit(
            self._faults, tuple(self._history.values()), self._verdict, self._cursors, self._aliases,
            events, tuple(i for i in marks if i not in self._emitted), self._identity, self._full, self._counters,
        )  # fmt: skip
        self._clear_state()
        return commit
