"""One step: every change told once, in order, whatever restarts, backlogs and clocks do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hma.codec import decode, encode
from hma.engine.correlate import next_due
from hma.engine.step import HISTORY_KEPT, beginning, step
from hma.model import Action, Change, Fault, Instant, Observation, Report, State, Status
from hma.reporting.record import event_id
from tests.engine.rows import ROWS, UTC0, Node, report, saw

RESET = saw("CARD-RESET", status=Status.OK)


def test_beginning_knows_nothing_and_asks_for_nothing() -> None:
    verdict = beginning(Instant(1.0, UTC0, "boot-1")).verdict
    assert (verdict.health, verdict.schedulable, verdict.action) == (Status.UNKNOWN, True, Action.NONE)


def test_step_without_news_tells_nothing_and_keeps_the_state() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono))
    before = n.state
    n.mono, n.utc = n.mono + 500.0, n.utc + 500.0
    assert n.take() == []
    assert n.state == before


def test_same_arguments_give_the_same_step() -> None:
    n = Node()
    reports = (report(saw("CARD-1", at=n.mono), saw("CARD-2", at=n.mono)), report(saw("STATE", "disk:a"), check="disks"))
    assert step(n.state, reports, ROWS, n.now) == step(n.state, reports, ROWS, n.now)


# -- told once --------------------------------------------------------------------------------------------------------


def test_life_of_a_fault_is_told_once() -> None:
    n = Node()
    assert n.see(saw("CARD-1", at=n.mono)) == ["fault_active CARD-1", "verdict_changed"]
    for _ in range(3):
        n.wait(1.0)
        assert n.see(saw("CARD-1", at=n.mono)) == []
    assert n.see(RESET) == ["fault_resolved CARD-1", "verdict_changed"]
    assert n.changes[-2].note == "CARD-RESET"
    assert n.see(RESET) == []


def test_what_is_told_carries_the_fault_as_it_is_then() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono))
    active, verdict = n.changes
    assert active.fault is not None
    assert (active.fault.action, active.fault.evidence, active.at) == (Action.REBOOT, "line of CARD-1", n.now)
    assert verdict.verdict == n.state.verdict


def test_consequence_is_told_as_one_and_raises_no_alarm() -> None:
    n = Node()
    told = n.see(saw("CARD-1", at=n.mono), saw("CARD-2", at=n.mono))
    assert told == ["fault_active CARD-1", "fault_inhibited CARD-2", "verdict_changed"]
    assert n.changes[1].note == f"a consequence of fault {n.alive('CARD-1').id}"


def test_consequence_that_shows_again_without_its_cause_becomes_an_alarm() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono), saw("CARD-2", at=n.mono))
    n.wait(1.0)
    n.see(RESET)
    n.wait(30.0)
    assert n.see(saw("CARD-2", at=n.mono)) == ["fault_active CARD-2", "verdict_changed"]
    n.see(saw("CARD-1", at=n.mono))
    assert n.alive("CARD-2").inhibited_by
    n.see(RESET)
    n.wait(30.0)
    assert n.see(saw("CARD-2", at=n.mono)) == ["verdict_changed"], "each of the two is told once of a fault"


def test_confirmation_is_told_once() -> None:
    n = Node()
    n.see(saw("CARD-3", at=n.mono), saw("COUNT", "node"))
    told = n.wait(5.0)
    n.see(saw("COUNT", "node", Status.OK))
    n.see(saw("COUNT", "node"))
    told += n.wait(5.0)
    assert told.count("fault_confirmed CARD-3") == 1
    assert [c.note for c in n.changes if c.kind == "fault_confirmed" and c.fault and c.fault.code == "CARD-3"] == [
        f"by fault {next(c.fault.id for c in n.changes if c.fault and c.fault.code == 'COUNT')}"
    ]


def test_pending_fault_is_not_told_even_when_it_is_forgotten() -> None:
    n = Node()
    n.see(saw("COUNT", "node", Status.OK))
    assert n.see(saw("COUNT", "node")) == []
    assert n.see(saw("COUNT", "node", Status.OK)) == []
    assert n.state.history == ()


def test_ends_are_told_before_beginnings_and_the_verdict_last() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono))
    n.wait(1.0)
    told = n.see(saw("CARD-RESET", status=Status.OK, at=n.mono - 0.5), saw("STATE", "disk:a"))
    assert told == ["fault_resolved CARD-1", "fault_active STATE"], "the node asks for the same as before"


def test_second_reason_for_the_same_verdict_is_no_change_of_it() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono))
    assert n.see(saw("CARD-1", "card:1", at=n.mono)) == ["fault_active CARD-1"]
    assert len(n.state.verdict.why) == 2


def test_waiting_for_a_second_source_is_told_when_it_begins_and_ends() -> None:
    n = Node()
    n.see(saw("CARD-4", at=n.mono))
    n.see(saw("COUNT", "node"))
    assert n.wait(5.0) == ["fault_active COUNT", "verdict_changed"]
    n.see(saw("COUNT", "node"))
    assert n.wait(19.5) == []
    assert n.wait(0.5) == ["verdict_changed"]
    assert n.wait(10.0) == []


# -- restarts ---------------------------------------------------------------------------------------------------------


def a_whole_life() -> Node:
    n = Node()
    n.see(saw("CARD-1", at=n.mono), saw("CARD-2", at=n.mono), saw("CARD-3", "card:1", at=n.mono))
    n.see(saw("COUNT", "node"), saw("STATE", "disk:a"), saw("BLIND", "check:x", Status.UNKNOWN))
    n.see(saw("CARD-4", at=n.mono, actor="pid 1"), Observation("CARD-IDENTITY", "card:0", Status.OK, attrs=(("uuid", "u"),)))
    n.wait(6.0)
    n.see(saw("STATE", "disk:a", Status.OK))
    return n


def test_restart_changes_nothing() -> None:
    n = a_whole_life()
    before = n.state
    n.restart()
    assert n.state == before
    assert n.take() == []
    assert n.state == before


def test_state_written_by_an_older_version_is_read() -> None:
    n = a_whole_life()
    data = encode(n.state)
    for _, fault in data["faults"]:
        del fault["boots"], fault["told"]
    n.state = decode(State, data)
    assert n.state.verdict.action is Action.REPLACE
    n.take()
    assert n.state.verdict.action is Action.REPLACE


def test_crash_before_the_commit_tells_the_same_again() -> None:
    n = Node()
    before, kernel = n.state, saw("CARD-1", at=n.mono)
    first = step(before, (report(kernel),), ROWS, n.now).changes[0]
    n.mono, n.utc = n.mono + 3.0, n.utc + 3.0
    again = step(before, (report(kernel),), ROWS, n.now).changes[0]
    assert event_id(first) == event_id(again)


def test_crash_after_the_commit_tells_nothing_again() -> None:
    n = Node()
    ring = [saw("CARD-1", at=n.mono), saw("CARD-2", at=n.mono + 1.0), saw("CARD-RESET", status=Status.OK, at=n.mono + 2.0)]
    ring.append(saw("CARD-4", at=n.mono + 3.0, actor="pid 1"))
    n.mono += 5.0
    n.see(*ring)
    n.restart()
    before = n.state
    assert n.see(*ring) == []
    assert n.state == before


# -- a batch or one by one --------------------------------------------------------------------------------------------

EVENTS = [
    (0, "CARD-1", Status.FAILED, ""), (1, "CARD-2", Status.FAILED, ""), (2, "CARD-RESET", Status.OK, ""),
    (3, "CARD-2", Status.FAILED, ""), (20, "CARD-4", Status.FAILED, "pid 1"), (45, "CARD-4", Status.FAILED, "pid 2"),
    (46, "CARD-3", Status.FAILED, ""), (50, "CARD-RESET", Status.OK, ""), (70, "CARD-1", Status.FAILED, ""),
    (95, "CARD-4", Status.FAILED, "pid 3"), (98, "CARD-2", Status.FAILED, ""),
]  # fmt: skip


def events() -> list[Observation]:
    return [saw(code, status=status, at=1_000.0 + at, actor=actor) for at, code, status, actor in EVENTS]


def lived(told: list[Change]) -> list[tuple[str, str]]:
    return sorted((c.kind, c.fault.id) for c in told if c.fault and c.kind in ("fault_active", "fault_resolved"))


def timeless(fault: Fault) -> tuple[object, ...]:
    return (
        fault.id,
        fault.state,
        fault.first_seen.mono,
        fault.last_seen.mono,
        fault.count,
        fault.occurrences,
        fault.inhibited_by,
    )


def test_log_read_late_and_at_once_gives_the_faults_of_one_read_as_it_came() -> None:
    live, late = Node(), Node()
    for event in events():
        assert event.at is not None
        live.wait(event.at - live.mono)
        live.see(event)
    late.wait(98.0)
    late.see(*events())
    assert {k: timeless(f) for k, f in late.state.faults.items()} == {k: timeless(f) for k, f in live.state.faults.items()}
    # What was quiet before the late reader came is not told by it: history, not news.
    assert set(lived(late.changes)) <= set(lived(live.changes))
    assert late.state.verdict.action is live.state.verdict.action


# -- time alone -------------------------------------------------------------------------------------------------------


def first_faults(n: Node) -> None:
    n.see(saw("CARD-3", at=n.mono), saw("COUNT", "node"), saw("CARD-4", at=n.mono, actor="pid 1"))


def fine_and_blind(n: Node) -> None:
    n.see(saw("STATE", "disk:a"))
    n.see(saw("STATE", "disk:a", Status.OK), saw("BLIND", "check:x", Status.UNKNOWN), saw("CARD-2", at=n.mono))


@pytest.mark.parametrize("story", [first_faults, fine_and_blind])
def test_stepping_when_due_is_as_good_as_stepping_all_the_time(story: Callable[[Node], None]) -> None:
    lazy, eager = Node(), Node()
    story(lazy)
    story(eager)
    told = lazy.wait(120.0)
    often: list[str] = []
    for _ in range(240):
        eager.mono, eager.utc = eager.mono + 0.5, eager.utc + 0.5
        often += eager.take()
    assert (lazy.state, told) == (eager.state, often)
    assert told


def test_instants_that_are_due_are_few() -> None:
    n = Node()
    first_faults(n)
    due = []
    while (at := next_due(n.state.faults, ROWS, n.now)) is not None:
        n.mono, before = at, n.state
        n.take()
        due.append((at - 1_000.0, n.state != before))
    assert due == [(5.0, True), (30.0, True), (40.0, True)]


# -- memory -----------------------------------------------------------------------------------------------------------


def test_history_is_bounded() -> None:
    n = Node()
    for number in range(HISTORY_KEPT + 50):
        n.see(saw("CARD-1", f"card:{number}", at=n.mono))
        n.see(saw("CARD-RESET", f"card:{number}", Status.OK, at=n.mono))
    assert len(n.state.history) == HISTORY_KEPT
    assert n.state.history[-1].component == f"card:{HISTORY_KEPT + 49}"


@pytest.mark.parametrize("code", ["CARD-1", "CARD-4"])
def test_storm_of_one_code_is_one_fault_and_costs_little(code: str) -> None:
    n = Node(mono=5_000.0)
    storm = tuple(saw(code, at=4_990.0 + i / 1_000, unit=f"part {i % 72}", actor=f"pid {i % 7}") for i in range(2_000))
    assert sum(line.startswith("fault_active") for line in n.see(*storm)) == (1 if code == "CARD-1" else 2)
    assert n.alive(code).count == 2_000
    assert len(str(encode(n.state))) < 20_000


def test_reports_of_a_foreign_check_cannot_touch_the_faults_of_another() -> None:
    n = Node()
    n.see(saw("STATE", "disk:a"), check="disks", complete=True)
    before = n.state
    n.take(Report("foreign", (), complete=True))
    assert n.state == before
