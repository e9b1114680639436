"""How often, in the same part, by different processes: what makes a repetition, live or read late."""

from __future__ import annotations

import pytest

from hma.catalogue import End, Policy, Times
from hma.engine.occurrences import KEPT, KEPT_UNCOUNTED, added, covered, often_enough
from hma.model import FaultState, Occurrence, Status
from tests.engine.rows import held, node, saw

PENDING, ACTIVE = FaultState.PENDING, FaultState.ACTIVE


# -- times ------------------------------------------------------------------------------------------------------------

ANY = Times(3, 30.0)
UNIT = Times(2, 30.0, same_unit=True)
ACTORS = Times(2, 30.0, distinct_actors=True)
BOTH = Times(2, 30.0, same_unit=True, distinct_actors=True)

OFTEN = [
    ("two of three", ANY, [(0, "", ""), (1, "", "")], False),
    ("three of three", ANY, [(0, "", ""), (1, "", ""), (29.9, "", "")], True),
    ("the third at the edge is too late", ANY, [(0, "", ""), (1, "", ""), (30, "", "")], False),
    ("three in a moving window", ANY, [(0, "", ""), (20, "", ""), (40, "", ""), (49, "", "")], True),
    ("another part each time", UNIT, [(0, "a", ""), (1, "b", "")], False),
    ("the same part, no process known", UNIT, [(0, "a", ""), (1, "b", ""), (2, "a", "")], True),
    ("the same part, the same process", UNIT, [(0, "a", "p1"), (2, "a", "p1")], True),
    ("no part named is no same part", UNIT, [(0, "", ""), (1, "", "")], False),
    ("one process again and again", ACTORS, [(0, "", "p1"), (1, "", "p1"), (2, "", "p1")], False),
    ("two processes", ACTORS, [(0, "", "p1"), (1, "", "p2")], True),
    ("two processes at the edge", ACTORS, [(0, "", "p1"), (30, "", "p2")], False),
    ("no process named is no second process", ACTORS, [(0, "", "p1"), (1, "", "")], False),
    ("two processes in two parts", BOTH, [(0, "a", "p1"), (1, "b", "p2")], False),
    ("two processes in one part", BOTH, [(0, "a", "p1"), (1, "b", "p1"), (2, "a", "p2")], True),
    ("one process twice in one part", BOTH, [(0, "a", "p1"), (1, "a", "p1")], False),
]

often = pytest.mark.parametrize(("times", "seen", "enough"), [row[1:] for row in OFTEN], ids=[row[0] for row in OFTEN])
Sightings = list[tuple[float, str, str]]


@often
def test_fault_counts_once_seen_often_enough(times: Times, seen: Sightings, enough: bool) -> None:
    n = node(Policy("X", "", "card", times=times))
    start = n.mono
    for at, unit, actor in seen:
        n.wait(start + at - n.mono)
        n.see(saw("X", at=n.mono, unit=unit, actor=actor))
    fault = n.fault("X")
    assert (fault is not None and fault.state is ACTIVE) is enough


@often
def test_events_read_hours_later_count_as_if_read_at_once(times: Times, seen: Sightings, enough: bool) -> None:
    n = node(Policy("X", "", "card", times=times))
    n.see(*(saw("X", at=at, unit=unit, actor=actor) for at, unit, actor in seen))
    fault = n.fault("X")
    assert (fault is not None and fault.state is ACTIVE) is enough


def test_repetition_is_forgotten_when_its_time_is_over() -> None:
    n = node(Policy("X", "", "card", times=ANY))
    n.see(saw("X", at=n.mono))
    n.wait(29.9)
    assert n.alive("X").state is PENDING
    n.wait(0.1)
    assert n.fault("X") is None


def test_fine_look_between_two_sightings_does_not_forget_a_repetition() -> None:
    n = node(Policy("X", "flaps", "card", times=ANY, ends=(End("ok", 60.0),)))
    for _ in range(3):
        n.see(saw("X"))
        n.wait(5.0)
        n.see(saw("X", status=Status.OK))
        n.wait(5.0)
    assert n.alive("X").state is ACTIVE


def test_repetition_and_hold_both_have_to_be_met() -> None:
    n = node(held(times=Times(2, 30.0)))
    n.see(saw("X", at=n.mono))
    n.wait(1.0)
    n.see(saw("X", at=n.mono))
    assert n.wait(8.9) == []
    assert n.wait(0.1) == ["fault_active X", "verdict_changed"]


@pytest.mark.parametrize(
    ("times", "limit"), [(None, KEPT_UNCOUNTED), (Times(3, 9.0), 3), (UNIT, KEPT), (ACTORS, KEPT), (Times(200, 9.0), 200)]
)
def test_kept_sightings_are_bounded_and_the_newest(times: Times | None, limit: int) -> None:
    kept: tuple[Occurrence, ...] = ()
    for number in range(1_000):
        kept = added(kept, Occurrence(float(number), f"part {number}", f"pid {number}"), times)
    assert [o.at for o in kept] == [float(n) for n in range(1_000 - limit, 1_000)]


def test_late_read_sighting_does_not_push_out_a_newer_one() -> None:
    kept = added(added((), Occurrence(9.0, "", "p1"), ACTORS), Occurrence(5.0, "", "p1"), ACTORS)
    assert kept == (Occurrence(9.0, "", "p1"),)
    assert often_enough(added(kept, Occurrence(8.0, "", "p2"), ACTORS), ACTORS)


@pytest.mark.parametrize("times", [None, ANY, UNIT, ACTORS, BOTH])
def test_what_was_kept_or_has_been_dropped_is_recognised(times: Times | None) -> None:
    seen = [Occurrence(float(n), f"part {n % 3}", f"pid {n % 2}") for n in range(60)]
    kept: tuple[Occurrence, ...] = ()
    for one in seen:
        kept = added(kept, one, times)
    assert all(covered(kept, one, times) for one in seen)
    assert not covered(kept, Occurrence(60.0, "part 0", "pid 0"), times)


def test_two_looks_at_the_same_instant_are_one_occurrence() -> None:
    n = node(Policy("X", "", "card", times=Times(2, 30.0)))
    n.see(saw("X"), saw("X"))
    assert n.alive("X").state is FaultState.PENDING
