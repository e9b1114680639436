"""A count that a device keeps: its growth within the row's time is the fault, whatever comes between the looks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hma.catalogue import End, Grows, Policy, Times
from hma.engine.counters import KEPT, grown, joined, looked
from hma.model import Counter, FaultKey, FaultState, Instant, Observation, Point, Status
from tests.engine.rows import CARD, HOURS, UTC0, Node, node, saw

MINUTE = Grows(10, 60.0)


def counted(value: float, status: Status = Status.OK, code: str = "TALLY", component: str = CARD) -> Observation:
    return Observation(code, component, status, f"{value:g} replays", counter=value)


def growing(grows: Grows | None = MINUTE, **rules: object) -> Node:
    ends = rules.pop("ends", (End("ok", 30.0), End("boot")))
    return node(Policy("TALLY", "counts", "card", grows=grows, ends=ends, **rules))  # type: ignore[arg-type]


def look(n: Node, *values: float, every_s: float = 20.0) -> list[str]:
    """Read the counter again and again; return what was told."""
    told: list[str] = []
    for value in values:
        told += n.wait(every_s)
        told += n.see(counted(value))
    return [line for line in told if line.startswith("fault")]


# -- what is a fault --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ((500,), False),  # the first sight is the baseline, whatever it says
        ((500, 500, 500), False),
        ((500, 509), False),
        ((500, 510), True),
        ((500, 500, 500, 500, 510), True),
        ((500, 504, 507, 510), True),  # 60 s between the first and the last
        ((500, 504, 504, 507, 510), False),  # +6 within the last 60 s
        ((500, 20), False),  # the driver was loaded again
        ((500, 20, 29), False),
        ((500, 20, 30), True),
        ((0, 0, 10), True),
    ],
)
def test_growth_within_the_time_is_the_fault(values: tuple[float, ...], fault: bool) -> None:
    assert bool(look(growing(), *values)) is fault


def test_growth_is_degraded_and_says_how_much() -> None:
    n = growing()
    look(n, 500, 537)
    assert (n.alive("TALLY").status, n.alive("TALLY").detail) == (Status.DEGRADED, "537 replays, +37 within 60 s")


def test_status_of_its_own_stands_where_it_grew() -> None:
    n = growing()
    n.see(counted(0, Status.FAILED))
    assert n.fault("TALLY") is None, "without growth it is fine, whatever the check thought"
    n.wait(20.0)
    n.see(counted(10, Status.FAILED))
    assert n.alive("TALLY").status is Status.FAILED


def test_counter_without_a_rule_is_what_its_status_says() -> None:
    n = growing(None)
    n.see(counted(0))
    n.see(counted(10_000))
    assert n.state.faults == {}
    n.see(counted(10_000, Status.FAILED))
    assert n.alive("TALLY").detail == "10000 replays"
    assert n.state.counters == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_value_that_is_no_number_says_nothing(value: float) -> None:
    n = growing()
    look(n, 500, value, 505)
    assert (n.state.faults, n.state.counters[FaultKey("TALLY", CARD)].points[-1].value) == ({}, 505.0)


def test_components_count_for_themselves() -> None:
    n = growing()
    n.see(counted(0), counted(100, component="card:1"))
    n.wait(20.0)
    n.see(counted(5), counted(110, component="card:1"))
    assert list(n.state.faults) == [FaultKey("TALLY", "card:1")]


def test_not_being_able_to_look_changes_nothing() -> None:
    n = growing()
    look(n, 500, 510)
    before = n.state
    n.see(counted(0, Status.UNKNOWN), saw("TALLY", CARD, Status.UNKNOWN))
    assert n.state == before
    assert look(n, 510) == [], "and afterwards it is no new baseline"


def test_two_looks_at_one_moment_are_one_point() -> None:
    n = growing()
    n.see(counted(0), counted(4))
    n.see(counted(9))
    assert n.state.counters[FaultKey("TALLY", CARD)].points == (Point(n.mono, 9.0),)


# -- how it goes on and ends ------------------------------------------------------------------------------------------


def test_fault_ends_once_the_growth_is_past() -> None:
    n = growing()
    assert look(n, 500, 510, 510, 510) == ["fault_active TALLY"], "still within the minute"
    assert look(n, 510, 510, 510) == ["fault_resolved TALLY"]


def test_quiet_time_begins_at_the_last_change_and_not_at_the_last_look() -> None:
    n = growing(Grows(10, HOURS), ends=(End("quiet", 50.0),))
    assert look(n, 0, 10, 10, 10) == ["fault_active TALLY"]
    assert look(n, 10) == ["fault_resolved TALLY"]
    assert look(n, 10, 10) == [], "the same growth is not told twice"
    assert look(n, 11) == ["fault_active TALLY"], "but what goes on growing is"


def test_hold_needs_growth_that_lasts() -> None:
    n = growing(hold_s=100.0)
    assert look(n, 0, 10, 10, 10, 10, 10, 10) == []
    assert look(n, 20, 30, 40, 50, 60, 70, 80) == ["fault_active TALLY"]


def test_repetition_counts_growths_and_not_looks() -> None:
    n = growing(times=Times(2, HOURS))
    assert look(n, 0, 10, 10) == [], "seen twice, grown once"
    assert look(n, 14) == [], "a little more is the same growth"
    assert n.alive("TALLY").detail == "14 replays, +14 within 60 s"
    assert n.alive("TALLY").count == 1
    assert look(n, 24) == ["fault_active TALLY"]
    assert n.alive("TALLY").count == 2


def test_row_that_counts_another_is_fed_by_growth() -> None:
    n = node(
        Policy("TALLY", "counts", "card", grows=MINUTE, ends=(End("ok"),)),
        Policy("TALLY-OFTEN", "again", "card", counts="TALLY", times=Times(2, HOURS), ends=(End("quiet", HOURS),)),
    )
    look(n, 0, 5, 5, 5, 5)
    assert n.state.faults == {}, "a counter that is fine is no sighting"
    assert look(n, 15, 15, 15, 15) == ["fault_active TALLY", "fault_resolved TALLY"]
    assert sorted(look(n, 25)) == ["fault_active TALLY", "fault_active TALLY-OFTEN"]


def test_growth_of_an_hour_ago_is_forgotten_but_its_value_is_the_baseline() -> None:
    n = growing()
    look(n, 0, 9)
    n.wait(HOURS)
    assert look(n, 18) == []
    assert look(n, 19) == ["fault_active TALLY"]


def test_what_grew_while_nobody_looked_is_told_late() -> None:
    n = growing()
    look(n, 0)
    n.wait(HOURS)
    assert look(n, 10) == ["fault_active TALLY"]


def test_counter_that_stands_still_ends_no_other_fault() -> None:
    n = node(
        Policy("TALLY", "counts", "card", grows=MINUTE),
        Policy("X", "", "card", ends=(End("by", code="TALLY"),)),
    )
    n.see(saw("X"))
    assert look(n, 0, 0) == []
    assert sorted(look(n, 10)) == ["fault_active TALLY", "fault_resolved X"]


# -- boots and restarts -----------------------------------------------------------------------------------------------


def test_boot_begins_anew() -> None:
    n = growing()
    look(n, 500)
    n.reboot()
    assert n.state.counters == {}
    assert look(n, 520, 525) == []


def test_restart_keeps_the_baseline() -> None:
    n = growing()
    look(n, 500, 504)
    n.restart()
    assert look(n, 509) == []
    n.restart()
    assert look(n, 510) == ["fault_active TALLY"]


def test_counter_that_stands_still_leaves_the_state_as_it_is() -> None:
    n = growing()
    look(n, 500, 501)
    before = n.state
    look(n, 501, 501)
    assert n.state.counters is before.counters


# -- what is kept -----------------------------------------------------------------------------------------------------

CHANGES = st.lists(st.tuples(st.floats(0.1, 40.0), st.integers(0, 30)), max_size=60)


@given(CHANGES, st.sampled_from([20.0, 60.0, 400.0, HOURS]))
def test_growth_is_exact_with_few_changes_and_never_too_large(changes: list[tuple[float, int]], within_s: float) -> None:
    now, value = 1_000.0, 0
    counter = looked(None, float(value), Instant(now, UTC0, "b"), within_s)
    every = [Point(now, float(value))]
    for gap, more in changes:
        now, value = now + gap, value + more
        counter = looked(counter, float(value), Instant(now, UTC0, "b"), within_s)
        every.append(Point(now, float(value)))
        before = [point for point in every if point.mono <= now - within_s]
        exact = value - (before[-1] if before else every[0]).value
        growth = grown(counter, now, within_s)
        assert 0 <= growth <= exact
        assert len(counter.points) <= KEPT
        if len({point.value for point in every}) <= KEPT:
            assert growth == exact


def test_look_that_comes_late_changes_nothing() -> None:
    counter = Counter("b", (Point(10.0, 5.0), Point(20.0, 8.0)))
    assert looked(counter, 6.0, Instant(15.0, UTC0, "b"), 60.0) is counter
    assert looked(counter, 9.0, Instant(15.0, UTC0, "b"), 60.0) is counter


def test_steady_growth_is_measured_within_a_few_looks_of_the_time() -> None:
    counter = None
    for number in range(600):
        counter = looked(counter, float(number), Instant(60.0 * number, UTC0, "b"), HOURS)
    assert counter is not None
    assert 50 <= grown(counter, 60.0 * 599, HOURS) <= 60


def test_joined_counters_know_what_either_saw() -> None:
    older = Counter("b", (Point(1.0, 5.0), Point(9.0, 8.0)), counted=8.0)
    assert joined(older, Counter("b", (Point(20.0, 11.0),))) == Counter("b", (*older.points, Point(20.0, 11.0)), 8.0)
    assert joined(older, begun := Counter("b", (Point(20.0, 2.0),))) == begun, "it fell meanwhile"
    assert joined(older, begun := Counter("c", (Point(20.0, 11.0),))) == begun, "another boot"


def test_pending_growth_is_pending() -> None:
    n = growing(hold_s=100.0)
    look(n, 0, 10)
    assert n.alive("TALLY").state is FaultState.PENDING
