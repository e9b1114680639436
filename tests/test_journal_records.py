"""Commits that become one mean the same as one after the other, and no more is kept than was agreed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hma.journal_records import Commit, Cursor, Event, Moves, Pending, Snapshot
from hma.model import Fault, FaultKey, State, Verdict
from tests.journal_values import BOOT, KEYS, commit, counter, event, fault, past, verdict


@dataclass
class Store:
    """What the journal does with commits, in dictionaries."""

    faults: dict[FaultKey, Fault] = field(default_factory=dict)
    history: set[str] = field(default_factory=set)
    aliases: dict[str, str] = field(default_factory=dict)
    cursors: dict[str, Cursor] = field(default_factory=dict)
    verdict: Verdict | None = None
    identity: str = ""
    events: dict[str, bool] = field(default_factory=dict)

    def commit(self, one: Commit) -> None:
        if one.full:
            self.faults, self.aliases = {}, {}
        for key, live in one.faults.items():
            if live is None:
                self.faults.pop(key, None)
            else:
                self.faults[key] = live
        self.history |= {ended.fault_id for ended in one.history}
        self.aliases |= one.aliases
        self.cursors |= one.cursors
        self.verdict = one.verdict or self.verdict
        self.identity = one.identity or self.identity
        for new in one.events:
            self.events.setdefault(new.id, False)
        for mark in one.emitted:
            if mark in self.events:
                self.events[mark] = True


COMMITS = st.builds(
    Commit,
    faults=st.dictionaries(st.sampled_from(KEYS), st.none() | st.builds(fault, st.integers(1, 3))),
    history=st.lists(st.builds(past, st.integers(1, 4)), max_size=2).map(tuple),
    verdict=st.none() | st.builds(verdict, st.integers(1, 9)),
    cursors=st.dictionaries(st.sampled_from("ab"), st.builds(Cursor, st.just(BOOT), st.integers(0, 9)), max_size=2),
    aliases=st.dictionaries(st.sampled_from("xyz"), st.sampled_from("pq"), max_size=2),
    events=st.lists(st.builds(event, st.integers(1, 9)), max_size=3).map(tuple),
    emitted=st.lists(st.integers(1, 9).map("event-{}".format), max_size=2).map(tuple),
    identity=st.sampled_from(("", "i-1", "i-2")),
    full=st.booleans(),
)


@given(st.lists(COMMITS, max_size=6), st.integers(1, 5))
def test_merged_commits_leave_what_single_ones_leave(commits: list[Commit], at_once: int) -> None:
    singly, merged, pending = Store(), Store(), Pending(1000)
    for one in commits:
        # A mark comes after its event, as it does in life.
        known = {**singly.events, **{new.id: False for new in one.events}}
        told = Commit(
            **{
                **{name: getattr(one, name) for name in Commit.__slots__},
                "emitted": tuple(i for i in one.emitted if i in known),
            }
        )
        singly.commit(told)
        pending.add(told)
    while pending:
        merged.commit(pending.take(at_once))
    assert merged == singly
    assert list(merged.events) == list(singly.events)


def test_oldest_events_go_first_and_are_counted() -> None:
    pending = Pending(3)
    pending.add(Commit(events=tuple(event(n) for n in range(5))))
    assert (pending.events, pending.dropped) == (3, 2)
    assert [kept.id for kept in pending.take(10).events] == ["event-2", "event-3", "event-4"]


def test_event_given_twice_is_kept_once() -> None:
    pending = Pending(3)
    pending.add(Commit(events=(event(1),)))
    pending.add(Commit(events=(event(1), event(2))))
    assert [kept.id for kept in pending.take(10).events] == ["event-1", "event-2"]


def test_mark_does_not_overtake_its_event() -> None:
    pending = Pending(10)
    pending.add(Commit(events=(event(1), event(2))))
    pending.mark_emitted(["event-1", "event-2", "event-0"])
    first = pending.take(1)
    assert ([kept.id for kept in first.events], first.emitted) == (["event-1"], ("event-1", "event-0"))
    assert pending.take(1).emitted == ("event-2",)
    assert not pending


def test_events_of_a_failed_commit_come_back_as_the_oldest() -> None:
    pending = Pending(3)
    pending.add(Commit({fault(1).key: fault(1)}, events=(event(1), event(2)), emitted=("event-1",)))
    failed = pending.take(10)
    pending.add(Commit(events=(event(3), event(4))))
    pending.put_back(failed)
    again = pending.take(10)
    assert [kept.id for kept in again.events] == ["event-2", "event-3", "event-4"]
    assert again.faults == {}
    assert pending.dropped == 1


def test_forgotten_state_leaves_events_and_marks() -> None:
    pending = Pending(3)
    pending.add(commit(fault(1), events=(event(1),), full=True))
    pending.mark_emitted(["event-1"])
    pending.drop_state()
    assert pending.take(10) == Commit(events=(event(1),), emitted=("event-1",))


def test_marks_are_bounded_too() -> None:
    pending = Pending(2)
    pending.mark_emitted(["a", "b", "c"])
    assert pending.take(1).emitted == ("b", "c")


@pytest.mark.parametrize(
    ("one", "only_moves"),
    [
        (Commit(), True),
        (Commit(cursors={"kernel": Cursor(BOOT, 7)}), True),
        (Commit(emitted=("event-1",)), True),
        (Commit(counters={KEYS[0]: counter(1.0)}), True),
        (Commit(events=(event(1),)), False),
        (Commit({fault(1).key: None}), False),
        (Commit(verdict=verdict()), False),
        (Commit(history=(past(1),)), False),
        (Commit(aliases={"a": "b"}), False),
        (Commit(identity="i-1"), False),
        (Commit(full=True), False),
    ],
)
def test_only_moves_are_not_worth_a_flush(one: Commit, only_moves: bool) -> None:
    assert one.only_moves is only_moves


def test_whole_state_says_that_nothing_else_is_live() -> None:
    live = fault(1)
    state = State(verdict(), {live.key: live}, (past(1),), {"a": "b"}, {KEYS[1]: counter(2.0)})
    whole = Commit.of(state, {"kernel": Cursor(BOOT, 7)}, "i-1")
    assert whole.full
    assert whole.counters == {KEYS[1]: counter(2.0)}
    assert (whole.faults, whole.history, whole.identity) == ({live.key: live}, (past(1),), "i-1")


def test_event_is_what_its_columns_say() -> None:
    assert Event._fields == ("id", "utc", "kind", "fault_id", "code", "component", "body")


def test_moves_say_what_is_not_saved_yet() -> None:
    first = Moves({"kernel": Cursor(BOOT, 7)}, {KEYS[0]: counter(1.0), KEYS[1]: counter(1.0)})
    assert first.since(Moves()) == Commit(cursors=first.cursors, counters=dict(first.counters))
    later = Moves(first.cursors, {KEYS[0]: first.counters[KEYS[0]], KEYS[1]: counter(1.0, 2.0)})
    assert later.since(first) == Commit(counters={KEYS[1]: counter(1.0, 2.0)})
    assert later.since(later) == Commit()
    assert Moves(first.cursors).since(first) == Commit(counters={KEYS[0]: None, KEYS[1]: None})


def test_pending_counters_merge_and_a_whole_state_replaces_them() -> None:
    pending = Pending(3)
    pending.add(Commit(counters={KEYS[0]: counter(1.0), KEYS[1]: counter(1.0)}))
    pending.add(Commit(counters={KEYS[0]: counter(1.0, 2.0)}))
    assert pending
    assert pending.take(1).counters == {KEYS[0]: counter(1.0, 2.0), KEYS[1]: counter(1.0)}
    pending.add(Commit(counters={KEYS[0]: None}))
    pending.add(Commit(full=True, counters={KEYS[1]: counter(3.0)}))
    assert pending.take(1).counters == {KEYS[1]: counter(3.0)}


@pytest.mark.parametrize(
    ("snapshot", "new"),
    [
        (Snapshot(None), True),
        (Snapshot(None, notes=("the journal was damaged; nothing could be saved",)), False),
        (Snapshot(None, notes=("the journal was not read within 3 s",)), False),
        (Snapshot(State(verdict())), False),
        (Snapshot(State(verdict()), notes=("one row was damaged",)), False),
    ],
)
def test_node_is_new_only_where_nothing_was_ever_recorded(snapshot: Snapshot, new: bool) -> None:
    assert snapshot.new_node is new
