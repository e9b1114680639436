"""One event told by two checks is one event, in whichever order they come; two events told by both are two."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hma.catalogue import End, Policy, Times
from hma.engine.occurrences import ECHO_S, KEPT_UNCOUNTED, added, covered, echoed
from hma.model import Action, Fault, FaultState, Observation, Occurrence, Status, Verdict
from tests.engine.rows import CARD, Node, node, report, saw

KERNEL, DRIVER = "xid", "nvml_events"
Telling = tuple[str, float]
"""Which check told an event, and the time that it gave."""


def rows() -> Node:
    return node(
        Policy("X", "an event", "card", Action.REBOOT, ends=(End("by", code="RESET"), End("boot"))),
        Policy("X-OFTEN", "twice", "card", counts="X", times=Times(2, 60.0), ends=(End("quiet", 600.0),)),
        Policy("RESET", "the device's word", "card", raised_by="never"),
    )


def tell(n: Node, tellings: Iterable[Telling]) -> None:
    """Let each check tell its events, one step each."""
    for route, at in tellings:
        n.mono = max(n.mono, at)
        n.see(saw("X", at=at), check=route)


def once(tellings: Iterable[Telling]) -> Fault:
    """Return the fault after these tellings, which are told twice, with a restart between."""
    n = rows()
    told = list(tellings)
    tell(n, told)
    before, changes = counts(n), len(n.changes)
    n.restart()
    tell(n, told)
    assert (counts(n), len(n.changes)) == (before, changes), "delivered again"
    return n.alive("X")


def counts(n: Node) -> tuple[object, ...]:
    return (n.alive("X").count, n.alive("X").last_seen, n.alive("X-OFTEN").state)


@pytest.mark.parametrize(
    ("tellings", "count"),
    [
        ([(KERNEL, 0.0), (DRIVER, 0.3)], 1),
        ([(DRIVER, 0.3), (KERNEL, 0.0)], 1),
        ([(KERNEL, 0.0), (DRIVER, ECHO_S)], 1),
        ([(KERNEL, 0.0), (DRIVER, ECHO_S + 0.1)], 2),
        ([(KERNEL, 0.0), (KERNEL, 1.0)], 2),
        ([(DRIVER, 0.0), (DRIVER, 1.0)], 2),
        ([(KERNEL, 0.0), (KERNEL, 1.0), (DRIVER, 0.3), (DRIVER, 1.3)], 2),
        ([(DRIVER, 0.3), (DRIVER, 1.3), (KERNEL, 0.0), (KERNEL, 1.0)], 2),
        ([(KERNEL, 0.0), (DRIVER, 0.3), (DRIVER, 1.3), (KERNEL, 1.0)], 2),
        ([(KERNEL, 0.0), (KERNEL, 4.0), (DRIVER, 3.0), (DRIVER, 7.0)], 2),
        ([(KERNEL, 0.0), (KERNEL, 1.0), (DRIVER, 0.5)], 2),
        ([(KERNEL, 0.0), (DRIVER, 0.2), (DRIVER, 0.4)], 2),
        ([(DRIVER, 1.0), (KERNEL, 0.0), (KERNEL, 1.0), (DRIVER, 2.0)], 2),
        ([(KERNEL, 0.0), (DRIVER, 0.2), ("dcgm", 0.4)], 1),
        ([("dcgm", 0.4), (DRIVER, 0.2), (KERNEL, 0.0), (KERNEL, 2.0), (DRIVER, 2.2)], 2),
    ],
)
def test_tellings_match_one_to_one(tellings: list[Telling], count: int) -> None:
    fault = once((route, 1_000.0 + at) for route, at in tellings)
    assert fault.count == count
    assert len(fault.occurrences) == count
    assert fault.routes == tuple(dict.fromkeys(route for route, _ in tellings))
    assert fault.check == tellings[0][0]


def test_repetition_counts_events_and_not_tellings() -> None:
    n = rows()
    tell(n, [(KERNEL, 1_000.0), (DRIVER, 1_000.2)])
    assert n.alive("X-OFTEN").state is FaultState.PENDING
    tell(n, [(DRIVER, 1_001.2)])
    assert n.alive("X-OFTEN").state is FaultState.ACTIVE
    tell(n, [(KERNEL, 1_001.0)])
    assert n.alive("X-OFTEN").count == 2


def test_echo_adds_what_the_first_telling_did_not_know() -> None:
    n = rows()
    n.see(Observation("X", CARD, Status.FAILED, "error 13", at=1_000.2, attrs=(("xid", "13"),)), check=DRIVER)
    line = Observation(
        "X", CARD, Status.FAILED, "graphics exception", "NVRM: Xid 13", 1_000.0, "GPC 1", "pid 7", "X-1",
        (("xid", "0"), ("pid", "7")),
    )  # fmt: skip
    n.see(line, check=KERNEL)
    fault = n.alive("X")
    assert (fault.detail, fault.evidence, fault.cause) == ("error 13", "NVRM: Xid 13", "X-1")
    assert fault.attrs == (("xid", "13"), ("pid", "7"))
    assert fault.occurrences[0][:3] == (1_000.2, "GPC 1", "pid 7")


def test_events_of_different_parts_or_processes_are_no_echo() -> None:
    n = rows()
    n.see(saw("X", at=1_000.0, unit="GPC 1"), check=KERNEL)
    n.see(saw("X", at=1_000.0, unit="GPC 2"), check=DRIVER)
    assert n.alive("X").count == 2


def test_echo_keeps_no_ended_fault_alive() -> None:
    n = rows()
    tell(n, [(KERNEL, 1_000.0)])
    n.wait(1.0)
    n.see(saw("RESET", status=Status.OK, at=1_000.5), check=KERNEL)
    tell(n, [(DRIVER, 1_000.3)])
    assert n.fault("X") is None
    n.restart()
    tell(n, [(DRIVER, 1_000.3)])
    assert n.fault("X") is None


def test_echo_in_the_step_in_which_the_fault_ends_is_none_of_a_new_one() -> None:
    n = rows()
    n.wait(2.0)
    lines = report(saw("X", at=1_000.0), saw("RESET", status=Status.OK, at=1_000.5), check=KERNEL)
    n.take(lines, report(saw("X", at=1_001.0), check=DRIVER))
    assert n.fault("X") is None


def test_what_a_check_told_before_all_that_is_kept_of_it_is_known() -> None:
    kept: tuple[Occurrence, ...] = ()
    for number in range(KEPT_UNCOUNTED):
        kept = added(kept, Occurrence(float(number), "", "", KERNEL), None)
    told = echoed(kept, KEPT_UNCOUNTED + 1, Occurrence(3.0, "", "", DRIVER), None)
    assert told is not None
    assert covered(told, Occurrence(2.0, "", "", DRIVER), None), "the driver tells its events in their order"
    assert not covered(told, Occurrence(4.0, "", "", DRIVER), None)
    assert not covered(kept, Occurrence(2.0, "", "", DRIVER), None)


def test_new_event_after_the_end_is_new() -> None:
    n = rows()
    tell(n, [(KERNEL, 1_000.0), (DRIVER, 1_000.3)])
    n.wait(1.0)
    n.see(saw("RESET", status=Status.OK, at=1_000.5), check=KERNEL)
    tell(n, [(DRIVER, 1_002.0), (KERNEL, 1_001.9)])
    assert n.alive("X").count == 1


def test_nothing_of_this_boot_is_the_echo_of_another() -> None:
    n = node(Policy("X", "an event", "card", ends=(End("quiet", 600.0),)))
    tell(n, [(KERNEL, 1_000.0)])
    n.utc -= 100.0  # the clock of records was set back: the fault's last sight is taken to be now
    n.reboot(down_s=0.0)
    tell(n, [(DRIVER, n.mono + 1.0)])
    assert n.alive("X").count == 2


def test_more_than_is_kept() -> None:
    events = [1_000.0 + 0.1 * number for number in range(2 * KEPT_UNCOUNTED)]
    fault = once([*((KERNEL, at) for at in events), *((DRIVER, at + 0.5) for at in events)])
    assert fault.count == len(events)


# -- generated --------------------------------------------------------------------------------------------------------


@st.composite
def told_twice(draw: st.DrawFn) -> tuple[list[Telling], list[Telling]]:
    """Draw what two checks tell of the same events, each in its order; the second later, by up to `ECHO_S`."""
    first, second, delay = 1_000.0, 0.0, 0.0
    kernel, driver = [], []
    for gap in draw(st.lists(st.floats(0.01, 12.0), min_size=1, max_size=10)):
        first += gap
        # A delay that shrinks by more than the gap would turn the order round.
        delay = draw(st.floats(max(0.0, delay - gap + 0.001), ECHO_S - 0.001))
        second = first + delay
        kernel.append((KERNEL, round(first, 3)))
        driver.append((DRIVER, round(second, 3)))
    return kernel, driver


def merged(draw: st.DataObject, kernel: list[Telling], driver: list[Telling]) -> list[Telling]:
    """Draw one way in which the two interleave."""
    left, right, order = list(kernel), list(driver), []
    while left and right:
        order.append((left if draw.draw(st.booleans()) else right).pop(0))
    return [*order, *left, *right]


@given(told_twice(), st.data())
def test_any_interleaving_counts_each_event_once(told: tuple[list[Telling], list[Telling]], data: st.DataObject) -> None:
    kernel, driver = told
    assert all(one[1] <= other[1] for one, other in pairwise(driver))
    assert once(merged(data, kernel, driver)).count == len(kernel)


def verdicts(tellings: list[Telling], resets: list[float]) -> list[tuple[object, ...]]:
    """Return what the verdict is at every whole second, with `resets` of the device on the way."""
    n, seen = rows(), []
    last = 1_000.0 + 12 * 10 + 20
    happenings = [*((at, saw("X", at=at), route) for route, at in tellings)]
    happenings += [(at, saw("RESET", status=Status.OK, at=at), KERNEL) for at in resets]
    for second in range(1_000, int(last)):
        n.wait(second - n.mono)
        due = [one for one in happenings if second - 1 < one[0] <= second]
        n.take(*(report(o, check=check) for _, o, check in due))
        seen.append(said(n.state.verdict))
    return seen


def said(verdict: Verdict) -> tuple[object, ...]:
    return (verdict.health, verdict.schedulable, verdict.action, verdict.awaiting, [why.code for why in verdict.why])


def apart(times: list[float]) -> list[float]:
    """Return the times without those that follow another too soon: a reset takes longer than an echo may be late."""
    kept: list[float] = []
    for at in sorted(times):
        if not kept or at - kept[-1] > 2 * ECHO_S:
            kept.append(at)
    return kept


@given(told_twice(), st.lists(st.floats(1_000.0, 1_130.0), max_size=4).map(apart))
def test_echo_never_changes_the_verdict(told: tuple[list[Telling], list[Telling]], resets: list[float]) -> None:
    kernel, driver = told
    assert verdicts([*kernel, *driver], resets) == verdicts(kernel, resets)
