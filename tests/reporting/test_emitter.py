"""A change is printed once it is durable; a journal that does not answer holds nobody up; nothing is printed twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator

import pytest

from hma.catalogue import Catalogue
from hma.journal_records import Commit
from hma.loop import Loop
from hma.model import Change, Instant, NodeFacts
from hma.reporting.emitter import PATIENCE_S, Emitter, event_of
from hma.reporting.outlet import Outlet

NODE = NodeFacts("n1", "boot-1")


class Saver:
    """A journal that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Commit, Callable[[bool], None] | None]] = []
        self.marked: list[str] = []

    def commit(self, commit: Commit, saved: Callable[[bool], None] | None = None) -> None:
        self.asked.append((commit, saved))

    def mark_emitted(self, ids: Iterable[str]) -> None:
        self.marked += ids

    def answer(self, durable: bool) -> None:
        for _, saved in self.asked:
            assert saved is not None
            saved(durable)
        self.asked.clear()


class Desk:
    """An emitter that prints into a pipe, with a clock moved by hand."""

    def __init__(self) -> None:
        self.mono = 50.0
        self.loop = Loop(lambda: self.mono)
        self.saver = Saver()
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        self._outlet = Outlet(self.loop, write)
        os.close(write)
        self.emitter = Emitter(self.loop, self.saver, self._outlet, "json")

    def change(self, kind: str) -> Commit:
        change = Change(kind, Instant(self.mono, 1_790_000_000.0, "boot-1"))
        return Commit(events=(event_of(change, NODE, Catalogue.of(()), {"more": [1]}),))

    def printed(self) -> list[str]:
        try:
            text = os.read(self._read, 65_536).decode()
        except BlockingIOError:
            return []
        return [json.loads(line)["msg"] for line in text.splitlines()]

    def close(self) -> None:
        self._outlet.close()
        self.loop.close()
        os.close(self._read)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


@pytest.mark.parametrize("durable", [True, False])
def test_change_is_printed_when_the_journal_has_answered_and_marked_when_printed(desk: Desk, durable: bool) -> None:
    commit = desk.change("a")
    desk.emitter.save(commit)
    assert (desk.printed(), desk.saver.marked) == ([], [])
    desk.saver.answer(durable)
    assert (desk.printed(), desk.saver.marked) == (["a"], [commit.events[0].id])
    assert desk.loop._until_next_timer() is None, "nothing is left to wake up for"


def test_journal_that_does_not_answer_holds_nobody_up_and_its_late_answer_prints_nothing_again(desk: Desk) -> None:
    desk.emitter.save(desk.change("a"))
    desk.mono += PATIENCE_S - 0.01
    desk.loop.run_once(0.0)
    assert desk.printed() == []
    desk.mono += 0.02
    desk.loop.run_once(0.0)
    assert desk.printed() == ["a"]
    desk.saver.answer(True)
    assert desk.printed() == []


def test_changes_that_keep_coming_hold_up_none_of_them(desk: Desk) -> None:
    for number in range(10):
        desk.emitter.save(desk.change(f"c{number}"))
        desk.mono += PATIENCE_S / 4
        desk.loop.run_once(0.0)
    assert desk.printed() == [f"c{number}" for number in range(7)]
    desk.emitter.flush()
    assert desk.printed() == ["c7", "c8", "c9"]


def test_order_is_kept(desk: Desk) -> None:
    for kind in ("a", "b", "c"):
        desk.emitter.save(desk.change(kind))
    desk.saver.answer(True)
    assert desk.printed() == ["a", "b", "c"]


def test_commit_without_events_is_saved_and_not_waited_for(desk: Desk) -> None:
    desk.emitter.save(Commit(identity="x"))
    assert desk.saver.asked == [(Commit(identity="x"), None)]
    desk.mono += 10
    desk.loop.run_once(0.0)
    assert desk.printed() == []


def test_events_of_an_earlier_run_are_told_with_all_their_keys(desk: Desk) -> None:
    event = desk.change("old").events[0]
    desk.emitter.tell_again([event])
    assert (desk.printed(), desk.saver.marked, desk.saver.asked) == (["old"], [event.id], [])
    assert json.loads(event.body)["more"] == [1]
