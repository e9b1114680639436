"""Reports of one turn are judged together, and time alone is judged when it is due."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hma.catalogue import Catalogue, Confirm, End, Policy
from hma.codec import decode, encode
from hma.engine.step import beginning
from hma.journal_records import Commit
from hma.judge import MAX_WAITING, Judge, awaited, difference, united
from hma.loop import Loop
from hma.model import Action, Change, Counter, FaultKey, Instant, Observation, Point, Report, State, Status
from tests.journal_values import BOOT, counter

CATALOGUE = Catalogue.of(
    (
        Policy("HELD", "held", "host", Action.REBOOT, hold_s=5.0, ends=(End("ok"),)),
        Policy("NOW", "at once", "host", Action.REBOOT, ends=(End("quiet", 60.0),)),
        Policy("ASKS", "asks others", "host", Action.REBOOT, confirm=Confirm(("NOW",), 60.0, Action.NONE)),
        Policy("WAITS", "for a word", "host", Action.REBOOT, ends=(End("by", code="NOW"),)),
    )
)


class Hands:
    """A loop whose clock is moved by hand, and what the judge said."""

    def __init__(self) -> None:
        self.mono = 100.0
        self.loop = Loop(lambda: self.mono)
        self.said: list[tuple[Instant, State, State, tuple[Change, ...]]] = []
        self.judge = Judge(self.loop, self.now, CATALOGUE, lambda *step: self.said.append(step))

    def now(self) -> Instant:
        return Instant(self.mono, 1_790_000_000.0 + self.mono, "boot-1")

    def turn(self, seconds: float = 0.0) -> list[list[str]]:
        """Move the clock, turn the loop, and return the kinds of changes of each step made."""
        self.mono += seconds
        before = len(self.said)
        self.loop.run_once(0.0)
        return [[change.kind for change in changes] for *_, changes in self.said[before:]]


def seen(code: str, status: Status = Status.FAILED) -> Report:
    return Report("test", (Observation(code, "host", status),))


def test_reports_before_the_journal_is_read_wait() -> None:
    hands = Hands()
    hands.judge.take([seen("NOW")])
    assert hands.turn() == []
    hands.judge.begin(beginning(hands.now()))
    assert [[change.kind for change in changes] for *_, changes in hands.said] == [["fault_active", "verdict_changed"]]
    hands.loop.close()


def test_reports_of_one_turn_are_one_step() -> None:
    hands = Hands()
    hands.judge.begin(beginning(hands.now()))
    hands.judge.take([seen("NOW")])
    hands.judge.take([seen("HELD")])
    assert hands.turn() == [["fault_active", "verdict_changed"]]
    hands.loop.close()


def test_time_alone_moves_a_fault_when_it_is_due_and_not_before() -> None:
    hands = Hands()
    hands.judge.begin(beginning(hands.now()))
    hands.judge.take([seen("HELD")])
    assert hands.turn() == [["verdict_changed"]]
    assert hands.turn(4.9) == []
    assert hands.turn(0.1) == [["fault_active", "verdict_changed"]]
    assert hands.turn(3600.0) == []
    hands.loop.close()


def test_difference_laid_over_what_the_journal_holds_is_the_state_after() -> None:
    hands = Hands()
    hands.judge.begin(beginning(hands.now()))
    held: dict[object, object] = {}
    for reports, seconds in ([seen("NOW"), seen("HELD")], 1.0), ([], 6.0), ([seen("HELD", Status.OK)], 1.0), ([], 120.0):
        hands.judge.take(reports)
        hands.turn(seconds)
        hands.judge.judge()
    for _, before, after, _ in hands.said:
        commit = difference(before, after)
        assert commit == decode(Commit, encode(commit))
        for key, fault in commit.faults.items():
            held[key] = fault
            if fault is None:
                del held[key]
        assert held == dict(after.faults)
        assert commit.verdict == (None if before.verdict == after.verdict else after.verdict)
    assert sum(len(difference(before, after).history) for _, before, after, _ in hands.said) == 2
    assert difference(after, after) == Commit()
    hands.loop.close()


def test_state_read_late_is_added_to_what_is_known_and_heals_nothing() -> None:
    hands = Hands()
    hands.judge.begin(beginning(hands.now()))
    hands.judge.take([seen("NOW")])
    hands.turn()
    older = hands.judge.state
    assert older is not None
    late = Hands()
    late.mono = 130.0
    late.judge.begin(beginning(late.now()))
    late.judge.take([Report("test", (Observation("HELD", "host", Status.OK),))])
    late.turn()
    assert late.judge.state is not None
    assert late.judge.state.verdict.health is Status.OK
    late.judge.adopt(older)
    assert dict(late.judge.state.faults) == dict(older.faults)
    assert (late.judge.state.verdict.health, late.judge.state.verdict.action) == (Status.FAILED, Action.REBOOT)
    for hand in (hands, late):
        hand.loop.close()


def test_fault_known_to_both_keeps_its_id_and_its_last_sight() -> None:
    first, second = Hands(), Hands()
    second.mono = 140.0
    for hands in (first, second):
        hands.judge.begin(beginning(hands.now()))
        hands.judge.take([seen("NOW")])
        hands.turn()
        hands.loop.close()
    assert first.judge.state is not None
    assert second.judge.state is not None
    (fault,) = united(first.judge.state, second.judge.state).faults.values()
    assert (fault.id, fault.last_seen.mono) == (next(iter(first.judge.state.faults.values())).id, 140.0)


def test_what_waits_for_the_journal_is_bounded_and_the_newest_stays() -> None:
    hands = Hands()
    hands.judge.take([seen("NOW")] * (MAX_WAITING + 5))
    hands.judge.take([seen("HELD")])
    hands.judge.begin(beginning(hands.now()))
    state = hands.judge.state
    assert state is not None
    assert {fault.code: fault.count for fault in state.faults.values()} == {"NOW": MAX_WAITING - 1, "HELD": 1}
    hands.loop.close()


def test_counters_known_to_both_go_on_where_the_older_began() -> None:
    hands = Hands()
    key, only = FaultKey("TALLY", "card:0"), FaultKey("TALLY", "card:1")
    begun = beginning(hands.now())
    older = replace(begun, counters={key: counter(5.0, 8.0), only: counter(1.0)})
    newer = replace(begun, counters={key: Counter(BOOT, (Point(90.0, 9.0),))})
    assert united(older, newer).counters == {
        key: Counter(BOOT, (*counter(5.0, 8.0).points, Point(90.0, 9.0))),
        only: counter(1.0),
    }
    hands.loop.close()


def test_difference_names_the_counters_that_changed_and_those_that_are_gone() -> None:
    hands = Hands()
    same, moved, gone = (FaultKey("TALLY", f"card:{number}") for number in range(3))
    before = replace(beginning(hands.now()), counters={same: counter(1.0), moved: counter(2.0), gone: counter(3.0)})
    after = replace(before, counters={same: before.counters[same], moved: counter(2.0, 4.0)})
    assert difference(before, after).counters == {moved: counter(2.0, 4.0), gone: None}
    assert difference(before, after).only_moves
    hands.loop.close()


@pytest.mark.parametrize(
    ("code", "checks", "at_rest"),
    [
        ("", {"test"}, True),
        ("HELD", {"other"}, True),
        ("NOW", {"other", "more"}, True),
        ("NOW", {"other", "test"}, False),
        ("ASKS", {"other"}, False),
        ("WAITS", {"other"}, False),
    ],
)
def test_word_that_was_told_once_may_matter_again_only_to_some_faults(code: str, checks: set[str], at_rest: bool) -> None:
    hands = Hands()
    assert not hands.judge.at_rest(checks)
    hands.judge.begin(beginning(hands.now()))
    hands.judge.take([seen(code)] if code else [])
    hands.turn()
    assert hands.judge.at_rest(checks) is at_rest
    hands.loop.close()


def test_step_names_the_codes_that_its_new_faults_wait_for_once() -> None:
    hands = Hands()
    hands.judge.begin(beginning(hands.now()))
    for reports in ([seen("HELD")], [seen("ASKS")], [seen("ASKS")]):
        hands.judge.take(reports)
        hands.turn(1.0)
    asked = [awaited(before, after, CATALOGUE) for _, before, after, _ in hands.said]
    assert [codes for codes in asked if codes] == [frozenset({"NOW"})]
    hands.loop.close()
