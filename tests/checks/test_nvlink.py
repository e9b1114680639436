"""NVLinks: which are down against the instance type, what their counters say, and bit error rates."""

from __future__ import annotations

import pytest

from checks.passive import nvlink
from hma.catalogue_file import load_catalogue
from hma.engine.step import beginning, step
from hma.gpu import Fabric, GpuReadings, Link
from hma.model import Action, Expected, FaultState, Instant, NodeFacts, Report, State, Status
from tests.checks.gpu_samples import (
    G5,
    NO_GPU,
    P5,
    P5_GPUS,
    UNKNOWN_TYPE,
    counters,
    down,
    fine,
    grey,
    healthy,
    lost,
    missing,
    observe,
    old,
    unread,
    with_gpu,
    wrong,
)

CHECK = nvlink.CHECK
ROWS = load_catalogue()
HALF = NodeFacts("n1", "b1", "p3.8xlarge", expected=Expected("p3.8xlarge", gpus=8), pci=P5.pci)
"""A type whose number of links nobody knows."""
GPU3 = P5_GPUS[3]


def links(count: int = 18, off: tuple[int, ...] = (), unknown: tuple[int, ...] = ()) -> tuple[Link, ...]:
    """Return `count` links, of which those in `off` are down and of those in `unknown` nothing is known."""
    states = {**dict.fromkeys(off, False), **dict.fromkeys(unknown)}
    return tuple(Link(number, up=states.get(number, True)) for number in range(count))


def at_3(**parts: object) -> GpuReadings:
    """Return a healthy p5 with parts of GPU 3 replaced."""
    return with_gpu(healthy(), 3, **parts)


def test_healthy_node_is_told_gpu_by_gpu() -> None:
    seen = observe(CHECK, healthy())
    assert fine(seen) == [(place, "18 of 18 NVLinks up") for place in P5_GPUS]
    assert (wrong(seen), grey(seen)) == ([], [])
    assert len(seen) == 8 * 4


@pytest.mark.parametrize(
    ("sample", "node", "found"),
    [
        (at_3(links=links(off=(7,))), P5, [("NVLINK-DOWN", GPU3)]),
        (at_3(links=links(off=tuple(range(18)))), P5, [("NVLINK-DOWN", GPU3)]),
        (at_3(links=links(16)), P5, [("NVLINK-DOWN", GPU3)]),
        (healthy(links=links(off=(0, 1))), P5, [("NVLINK-DOWN", place) for place in P5_GPUS]),
        # A link that cannot tell is not down.
        (at_3(links=links(unknown=(7,))), P5, []),
        (at_3(links=links(off=(6,), unknown=(7,))), P5, [("NVLINK-DOWN", GPU3)]),
        # More links than the board connects.
        (at_3(links=links(20, off=(18, 19))), P5, []),
        # MIG hides links, and a GPU divided by it is not asked.
        (at_3(links=links(off=(7,)), mig=True), P5, []),
        (at_3(links=None, mig=True), P5, []),
        # A fabric that is up changes nothing, one that is coming up does.
        (at_3(links=links(off=(7,)), fabric=None), P5, [("NVLINK-DOWN", GPU3)]),
        (at_3(links=links(off=(7,)), fabric=Fabric(0)), P5, [("NVLINK-DOWN", GPU3)]),
        (at_3(links=links(off=(7,)), fabric=Fabric(1)), P5, []),
        (at_3(links=links(off=(7,)), fabric=Fabric(2)), P5, []),
        # Nobody knows how many there should be, or the driver shows none at all: told, and no more.
        (at_3(links=links(off=(7,))), UNKNOWN_TYPE, [("NVLINK-INACTIVE", GPU3)]),
        (at_3(links=links(6, off=(2,))), HALF, [("NVLINK-INACTIVE", GPU3)]),
        (at_3(links=()), P5, [("NVLINK-INACTIVE", GPU3)]),
        (at_3(links=None), P5, [("NVLINK-INACTIVE", GPU3)]),
        (at_3(links=()), UNKNOWN_TYPE, []),
        (healthy(links=None), UNKNOWN_TYPE, []),
        # One GPU alone is connected to nothing.
        (healthy(1, links=links(off=tuple(range(18)))), UNKNOWN_TYPE, []),
    ],
)
def test_links_are_judged_by_the_instance_type(sample: GpuReadings, node: NodeFacts, found: list[tuple[str, str]]) -> None:
    assert wrong(observe(CHECK, sample, node)) == found


@pytest.mark.parametrize(
    ("sample", "found"),
    [
        (at_3(links=links(off=(7,)), fabric=Fabric(2)), GPU3),
        (unread(healthy(), 3, "links"), GPU3),
        (lost(healthy(), 3), GPU3),
        (missing(healthy(), 3), GPU3),
        (down(), "node"),
        (down("hung"), "node"),
    ],
)
def test_what_could_not_be_looked_at_is_grey(sample: GpuReadings, found: str) -> None:
    seen = observe(CHECK, sample)
    assert [component for component, _ in grey(seen)] == [found]
    assert (wrong(seen), found not in dict(fine(seen))) == ([], True)


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ({"links": "Unknown Error"}, (Status.UNKNOWN, "17 of 18 NVLinks up, of the rest nothing is known: Unknown Error")),
        ({}, (Status.OK, "17 of 18 NVLinks up")),
    ],
)
def test_link_whose_state_could_not_be_read_is_grey_and_one_that_cannot_tell_is_not(
    errors: dict[str, str], told: tuple[Status, str]
) -> None:
    seen = observe(CHECK, with_gpu(healthy(), 3, links=links(unknown=(5,)), errors=errors))
    assert [(o.status, o.detail) for o in seen if o.code == "NVLINK-DOWN" and o.component == P5_GPUS[3]] == [told]


def test_fabric_that_comes_up_is_named_as_the_reason() -> None:
    ((_, why),) = grey(observe(CHECK, at_3(links=links(off=(7,)), fabric=Fabric(2))))
    assert why == "17 of 18 NVLinks up while the fabric is coming up (state 2); see fabric"


def test_links_that_are_down_are_named() -> None:
    (seen,) = (one for one in observe(CHECK, at_3(links=links(off=(3, 7)))) if one.component == GPU3)
    assert seen.detail == "16 of 18 NVLinks up; down: 3, 7"
    assert dict(seen.attrs) == {"up": "16", "expected": "18", "down": "3 7"}


def test_old_gpu_has_as_many_links_as_its_type() -> None:
    node = NodeFacts("n1", "b1", "p3.16xlarge", expected=Expected("p3.16xlarge", gpus=8, nvlinks_per_gpu=6), pci=P5.pci)
    assert wrong(observe(CHECK, old(), node)) == []
    assert wrong(observe(CHECK, old(links=links(6, off=(5,))), node)) == [("NVLINK-DOWN", place) for place in P5_GPUS]


@pytest.mark.parametrize(("node", "applies"), [(P5, True), (UNKNOWN_TYPE, True), (G5, False), (NO_GPU, False)])
def test_types_without_nvlink_are_left_alone(node: NodeFacts, applies: bool) -> None:
    assert CHECK.applies(node) is applies


# -- counters ---------------------------------------------------------------------------------------------------------


def test_counters_are_told_also_when_they_are_zero() -> None:
    seen = counters(observe(CHECK, healthy()))
    assert seen == {(code, place): 0 for code in ("NVLINK-REPLAY", "NVLINK-RECOVERY", "NVLINK-CRC") for place in P5_GPUS}


def test_counters_are_summed_over_the_links_of_a_gpu() -> None:
    errors = (Link(0, up=True, crc=5, replay=0, recovery=1), Link(1, up=True, crc=7, replay=2, recovery=None))
    seen = observe(CHECK, at_3(links=(*errors, *links()[2:])))
    assert {code: value for (code, place), value in counters(seen).items() if place == GPU3} == {
        "NVLINK-CRC": 12,
        "NVLINK-REPLAY": 2,
        "NVLINK-RECOVERY": 1,
    }
    details = {one.code: one.detail for one in seen if one.component == GPU3}
    assert details["NVLINK-CRC"] == "12 CRC errors since the driver was loaded (link 0: 5, link 1: 7)"
    assert details["NVLINK-REPLAY"] == "2 replays since the driver was loaded (link 1: 2)"


def test_fifth_generation_counts_what_was_recovered_and_what_was_not() -> None:
    fifth = tuple(Link(number, up=True, recovery_failed=1, recovery_ok=2) for number in range(18))
    seen = counters(observe(CHECK, at_3(links=fifth)))
    assert {code: value for (code, place), value in seen.items() if place == GPU3} == {
        "NVLINK-RECOVERY": 36,
        "NVLINK-RECOVERY-FAILED": 18,
    }


def test_counters_of_a_gpu_with_mig_are_told() -> None:
    assert ("NVLINK-CRC", GPU3) in counters(observe(CHECK, at_3(mig=True)))


# -- bit errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "bad"),
    [
        # mantissa << 8 | exponent
        (0, False),
        (15 << 8 | 255, False),
        (15 << 8 | 238, False),
        (1 << 8 | 12, False),
        (2 << 8 | 12, True),
        (10 << 8 | 13, False),
        (11 << 8 | 13, True),
        (1 << 8 | 11, True),
        (4 << 8 | 1, True),
    ],
)
def test_bit_error_rate_above_one_in_a_million_millions_is_told(raw: int, bad: bool) -> None:
    for sick in (Link(0, up=True, effective_ber=raw), Link(0, up=True, symbol_ber=raw)):
        assert wrong(observe(CHECK, at_3(links=(sick, *links()[1:])))) == ([("NVLINK-BER", GPU3)] if bad else [])


def test_bit_error_rate_is_shown_with_its_link() -> None:
    sick = (Link(0, up=True, effective_ber=1 << 8 | 11), *links()[1:])
    (seen,) = (one for one in observe(CHECK, at_3(links=sick)) if one.code == "NVLINK-BER")
    assert (seen.detail, dict(seen.attrs)) == ("bit error rate link 0: effective 1e-11", {"links": "0"})


# -- what it is worth -------------------------------------------------------------------------------------------------


def at(second: float) -> Instant:
    """Return a moment of one boot."""
    return Instant(second, 1_764_000_000 + second, "b1")


def lived(*looks: tuple[float, GpuReadings]) -> State:
    """Return the state of a p5 after these looks."""
    state = beginning(at(0))
    for second, sample in looks:
        report = Report(CHECK.name, tuple(observe(CHECK, sample)), complete=True)
        state = step(state, (report,), ROWS, at(second)).state
    return state


SICK = at_3(links=links(off=(7,)))
COMING_UP = at_3(links=links(off=(7,)), fabric=Fabric(2))


@pytest.mark.parametrize(
    ("looks", "action", "active"),
    [
        (((0, SICK), (10, SICK)), Action.NONE, set()),
        (((0, SICK), (60, SICK)), Action.NONE, {"NVLINK-DOWN"}),
        (((0, SICK), (60, SICK), (599, SICK)), Action.NONE, {"NVLINK-DOWN"}),
        (((0, SICK), (60, SICK), (600, SICK)), Action.REBOOT, {"NVLINK-DOWN", "NVLINK-DOWN-LASTS"}),
        (((0, SICK), (300, healthy()), (360, SICK), (660, SICK)), Action.NONE, {"NVLINK-DOWN"}),
        (((0, SICK), (600, SICK), (660, healthy())), Action.NONE, set()),
        (((0, COMING_UP), (600, COMING_UP)), Action.NONE, set()),
        # What cannot be looked at any more has not come up.
        (((0, SICK), (600, SICK), (660, down()), (1200, down())), Action.REBOOT, {"NVLINK-DOWN", "NVLINK-DOWN-LASTS"}),
    ],
)
def test_link_that_stays_down_is_worth_a_reboot(
    looks: tuple[tuple[float, GpuReadings], ...], action: Action, active: set[str]
) -> None:
    state = lived(*looks)
    assert (state.verdict.action, state.verdict.when) == (action, "idle" if action is Action.REBOOT else "now")
    assert {fault.code for fault in state.faults.values() if fault.state is FaultState.ACTIVE} == active


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        # Counted since the driver was loaded, before anybody looked: no fault, however many.
        (Link(0, up=True, crc=90_000, replay=500, recovery=9), Link(0, up=True, crc=90_000, replay=500, recovery=9), set()),
        (Link(0, up=True, crc=0, replay=0, recovery=0), Link(0, up=True, crc=5_999, replay=9, recovery=0), set()),
        (Link(0, up=True, crc=0), Link(0, up=True, crc=6_000), {"NVLINK-CRC"}),
        (Link(0, up=True, replay=3), Link(0, up=True, replay=13), {"NVLINK-REPLAY"}),
        (Link(0, up=True, recovery=3), Link(0, up=True, recovery=4), {"NVLINK-RECOVERY"}),
        (Link(0, up=True, recovery_ok=0), Link(0, up=True, recovery_ok=1), {"NVLINK-RECOVERY"}),
        (Link(0, up=True, recovery_failed=0), Link(0, up=True, recovery_failed=1), {"NVLINK-RECOVERY-FAILED"}),
        # The driver was loaded again.
        (Link(0, up=True, crc=90_000), Link(0, up=True, crc=7), set()),
    ],
)
def test_only_the_growth_of_a_counter_is_told(first: Link, then: Link, told: set[str]) -> None:
    looks = tuple(at_3(links=(link, *links()[1:])) for link in (first, then))
    state = lived((0, looks[0]), (60, looks[1]))
    assert {fault.code for fault in state.faults.values()} == told
    assert state.verdict.action is Action.NONE
