"""The NVLink fabric: states, errors, the health mask bit by bit, and the fabric manager."""

from __future__ import annotations

import pytest

from checks.passive import fabric
from hma.catalogue_file import load_catalogue
from hma.engine.step import beginning, step
from hma.gpu import Fabric, FabricManager, GpuReadings
from hma.model import Action, Instant, NodeFacts, Observation, Report, State, Status
from tests.checks.gpu_samples import (
    G5,
    NO_GPU,
    P5,
    P5_GPUS,
    UNKNOWN_TYPE,
    down,
    fine,
    grey,
    healthy,
    healthy_g5,
    lost,
    missing,
    observe,
    old,
    unread,
    with_gpu,
    wrong,
)

CHECK = fabric.CHECK
ROWS = load_catalogue()
GPU3 = P5_GPUS[3]
ALL_FALSE = 0b10_01_0001_10_10_10_10
"""No subject is bad: two bits 2 = false, configuration 1 = none, partition assigned 1 = true, manager 2 = not connected."""


def at_3(**parts: object) -> GpuReadings:
    """Return a healthy p5 where the fabric of GPU 3 says something else; state 3 where nothing else is said."""
    return with_gpu(healthy(), 3, fabric=Fabric(**{"state": 3, **parts}))  # type: ignore[arg-type]


def manager(*, running: bool, installed: bool | None) -> GpuReadings:
    """Return a healthy p5 with a fabric manager in another state."""
    return healthy()._replace(fabric_manager=FabricManager(running, installed))


def test_healthy_node_is_told_once() -> None:
    seen = observe(CHECK, healthy())
    assert (wrong(seen), grey(seen)) == ([], [])
    assert fine(seen) == [
        ("node", "the fabric manager runs; 4 NVSwitches on the PCI bus"),
        ("node", "8 GPUs have joined the NVLink fabric"),
    ]


@pytest.mark.parametrize(
    ("sample", "found"),
    [
        (at_3(state=1), "FABRIC-NOT-STARTED"),
        (at_3(state=2), "FABRIC-NOT-STARTED"),
        (at_3(state=9), "FABRIC-NOT-STARTED"),
        (at_3(status=27), "FABRIC-FAILED"),
        (at_3(state=1, status=27), "FABRIC-NOT-STARTED"),
        (at_3(summary=1), None),
        (at_3(summary=0), None),
        (at_3(summary=2), "FABRIC-UNHEALTHY"),
        (at_3(summary=3), "FABRIC-DEGRADED"),
        (at_3(summary=9), None),
        # Masks of healthy GPUs: nothing told, the one that was misread elsewhere, all told.
        (at_3(health_mask=0), None),
        (at_3(health_mask=0x80), None),
        (at_3(health_mask=0xAA, summary=1), None),
        (at_3(health_mask=ALL_FALSE, summary=1), None),
        (at_3(health_mask=0b01), "FABRIC-DEGRADED"),
        (at_3(health_mask=0b01 << 2), "FABRIC-DEGRADED"),
        (at_3(health_mask=0b01 << 4), "FABRIC-UNHEALTHY"),
        (at_3(health_mask=0b01 << 6), "FABRIC-DEGRADED"),
        (at_3(health_mask=0b11 << 6), None),
        (at_3(health_mask=1 << 8), None),
        *((at_3(health_mask=value << 8), "FABRIC-UNHEALTHY") for value in range(2, 16)),
        # A partition that is assigned, or not, and a manager that is connected, or not, are no fault of the GPU.
        *((at_3(health_mask=value << 12), None) for value in range(16)),
        # The worse one is told.
        (at_3(health_mask=0b01_01_01, summary=3), "FABRIC-UNHEALTHY"),
    ],
)
def test_state_and_health_of_a_gpu(sample: GpuReadings, found: str | None) -> None:
    assert wrong(observe(CHECK, sample)) == ([(found, GPU3)] if found else [])


def test_failed_and_unhealthy_are_both_told() -> None:
    seen = wrong(observe(CHECK, at_3(status=999, summary=2)))
    assert seen == [("FABRIC-FAILED", GPU3), ("FABRIC-UNHEALTHY", GPU3)]


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (at_3(state=1), "the GPU has not started to join the fabric"),
        (at_3(state=2), "the GPU is still joining the fabric"),
        (at_3(status=27), "joining the fabric ended with NVML error 27"),
        (at_3(health_mask=5 << 8, summary=2), "the fabric is unhealthy: summary says unhealthy, too few NVLinks"),
        (at_3(health_mask=12 << 8), "the fabric is unhealthy: wrong configuration 12"),
        (at_3(health_mask=1, summary=3), "the fabric gives less: summary says limited capacity, degraded bandwidth"),
    ],
)
def test_words_say_what_it_is(sample: GpuReadings, words: str) -> None:
    assert [one.detail for one in observe(CHECK, sample) if one.component == GPU3] == [words]


def test_nothing_is_called_fine_beside_a_fault() -> None:
    assert fine(observe(CHECK, at_3(state=1))) == [("node", "the fabric manager runs; 4 NVSwitches on the PCI bus")]


@pytest.mark.parametrize(
    ("sample", "node", "found"),
    [
        (manager(running=True, installed=True), P5, Status.OK),
        (manager(running=True, installed=None), P5, Status.OK),
        (manager(running=False, installed=True), P5, Status.FAILED),
        (manager(running=False, installed=True), UNKNOWN_TYPE, Status.FAILED),
        # It cannot be seen whether it should run here.
        (manager(running=False, installed=None), P5, None),
        (manager(running=False, installed=False), P5, None),
        (healthy()._replace(fabric_manager=None), P5, None),
        # Without a switch there is nothing to manage.
        (manager(running=False, installed=True), G5, None),
        # It is looked at also while the driver does not answer.
        (down("hung")._replace(fabric_manager=FabricManager(running=False, installed=True)), P5, Status.FAILED),
        (down("hung"), P5, None),
        # An upgrade stops the fabric manager, unloads the driver, and takes its time.
        (down("no_driver"), P5, Status.OK),
        (down("mismatch"), P5, Status.OK),
        (down("no_driver"), G5, None),
    ],
)
def test_fabric_manager(sample: GpuReadings, node: NodeFacts, found: Status | None) -> None:
    seen = [one.status for one in observe(CHECK, sample, node) if one.code == "FABRIC-MANAGER-DOWN"]
    assert seen == ([found] if found else [])


@pytest.mark.parametrize(
    ("sample", "node"),
    [
        (healthy_g5(), G5),
        (old(), UNKNOWN_TYPE),
        (healthy(fabric=Fabric(0))._replace(fabric_manager=None), P5),
        (healthy(mig=True, fabric=Fabric(1))._replace(fabric_manager=None), P5),
    ],
)
def test_gpus_without_a_fabric_say_nothing(sample: GpuReadings, node: NodeFacts) -> None:
    assert observe(CHECK, sample, node) == []


@pytest.mark.parametrize(
    ("sample", "found"),
    [
        (unread(healthy(), 3, "fabric"), GPU3),
        (lost(healthy(), 3), GPU3),
        (missing(healthy(), 3), GPU3),
        (down(), "node"),
        (down("hung"), "node"),
    ],
)
def test_what_could_not_be_looked_at_is_grey(sample: GpuReadings, found: str) -> None:
    seen = observe(CHECK, sample)
    assert [component for component, _ in grey(seen)] == [found]
    assert wrong(seen) == []


@pytest.mark.parametrize(
    ("node", "applies"),
    [
        (P5, True),
        (UNKNOWN_TYPE, True),
        (NO_GPU, False),
        (NodeFacts("n1", "b1", pci=P5.gpus[:1]), False),
        (NodeFacts("n1", "b1", pci=P5.gpus[:2]), True),
        # All but one have left the bus: the type has eight.
        (NodeFacts("n1", "b1", expected=P5.expected, pci=P5.gpus[:1]), True),
    ],
)
def test_one_gpu_alone_has_nothing_to_join(node: NodeFacts, applies: bool) -> None:
    assert CHECK.applies(node) is applies


# -- what it is worth -------------------------------------------------------------------------------------------------


def at(second: float) -> Instant:
    """Return a moment of one boot."""
    return Instant(second, 1_764_000_000 + second, "b1")


def lived(seconds: float, sample: GpuReadings, other: tuple[Observation, ...] = ()) -> State:
    """Return the state of a p5 that says the same for so long, looked at once a minute."""
    state = beginning(at(0))
    for second in range(0, int(seconds) + 1, 60):
        reports = (Report(CHECK.name, tuple(observe(CHECK, sample)), complete=True), Report("other", other))
        state = step(state, reports, ROWS, at(second)).state
    return state


def asking(state: State) -> set[str]:
    """Return the codes that count."""
    return {reason.code for reason in state.verdict.why}


@pytest.mark.parametrize(
    ("sample", "seconds", "action", "codes"),
    [
        (at_3(state=2), 540, Action.NONE, set()),
        (at_3(state=2), 600, Action.REBOOT, {"FABRIC-NOT-STARTED"}),
        (at_3(status=27), 300, Action.NONE, set()),
        (at_3(status=27), 360, Action.REBOOT, {"FABRIC-FAILED"}),
        (manager(running=False, installed=True), 240, Action.NONE, set()),
        (manager(running=False, installed=True), 300, Action.REBOOT, {"FABRIC-MANAGER-DOWN"}),
        # The health mask has been misread elsewhere: told, and no more.
        (at_3(summary=2), 3_600, Action.NONE, {"FABRIC-UNHEALTHY"}),
        (at_3(summary=3), 3_600, Action.NONE, {"FABRIC-DEGRADED"}),
    ],
)
def test_what_lasts_is_worth_a_reboot_once_the_node_is_idle(
    sample: GpuReadings, seconds: float, action: Action, codes: set[str]
) -> None:
    state = lived(seconds, sample)
    assert (state.verdict.action, asking(state)) == (action, codes)
    assert state.verdict.when == ("idle" if action is Action.REBOOT else "now")


def test_gpus_without_a_fabric_manager_are_its_consequence() -> None:
    sample = manager(running=False, installed=True)
    sample = sample._replace(gpus=tuple(gpu._replace(fabric=Fabric(1)) for gpu in sample.gpus))
    links = tuple(Observation("NVLINK-DOWN", place, Status.FAILED) for place in P5_GPUS)
    state = lived(1_200, sample, links)
    assert asking(state) == {"FABRIC-MANAGER-DOWN", "NVLINK-DOWN"}
    assert len(state.faults) == 1 + 3 * 8
    assert state.verdict.action is Action.REBOOT
