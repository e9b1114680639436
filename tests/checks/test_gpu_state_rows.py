"""Clocks, heat, power, PCIe, modes and leftovers, minute by minute through the engine: what flickers is no fault, what holds is
one, not being able to look ends none, and a healthy look does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pytest

from checks.passive import clocks, gpu_pcie, gpu_power, gpu_processes, gpu_temperature, gsp, mig, persistence
from hma.check import AnyCheck
from hma.gpu import Clocks, GpuProcess, GpuReadings, Heat, Pcie, Power
from hma.model import Action, NodeFacts
from tests.checks.gpu_samples import P5, P5_GPUS, UNKNOWN_TYPE, down, healthy, lost, unread, with_gpu
from tests.checks.host_node import SHIPPED, HostNode

GPU = P5_GPUS[3]
MINUTE_S = 60.0
PCIE = Pcie(generation=5, width=16, max_generation=5, max_width=16, replays=0)
HEAT = Heat(gpu_c=46, memory_c=58, margin_c=41, slowdown_c=89, shutdown_c=92, memory_max_c=95)
STUCK = GpuProcess(4_711, 60 << 30, "python3", "D", 4_700, 3_600.0, "slurm job 77")


class Story(NamedTuple):
    """One fault of GPU 3: its code, the check that sees it, and the part of the reading that shows it."""

    code: str
    check: AnyCheck
    part: str
    value: object
    component: str = GPU
    node: NodeFacts = P5

    @property
    def sick(self) -> GpuReadings:
        """Return the node while it lasts."""
        return with_gpu(healthy(), 3, **{self.part: self.value})


STORIES = (
    Story(clocks.HW_SLOWDOWN, clocks.CHECK, "clocks", Clocks(0x8)),
    Story(clocks.HW_THERMAL, clocks.CHECK, "clocks", Clocks(0x48)),
    Story(clocks.POWER_BRAKE, clocks.CHECK, "clocks", Clocks(0x88)),
    Story(clocks.SW_THERMAL, clocks.CHECK, "clocks", Clocks(0x20)),
    Story(gpu_temperature.SLOWDOWN, gpu_temperature.CHECK, "heat", HEAT._replace(gpu_c=89)),
    Story(gpu_temperature.SHUTDOWN, gpu_temperature.CHECK, "heat", HEAT._replace(gpu_c=91, slowdown_c=None, margin_c=None)),
    Story(gpu_temperature.MEMORY, gpu_temperature.CHECK, "heat", HEAT._replace(memory_c=96)),
    Story(gpu_power.LIMIT_LOW, gpu_power.CHECK, "power", Power(90.0, 350.0, 700.0)),
    Story(gpu_pcie.WIDTH, gpu_pcie.CHECK, "pcie", PCIE._replace(width=8)),
    Story(gpu_pcie.REDUCED, gpu_pcie.CHECK, "pcie", PCIE._replace(width=8), node=UNKNOWN_TYPE),
    Story(gpu_pcie.GENERATION, gpu_pcie.CHECK, "pcie", PCIE._replace(generation=1)),
    Story(persistence.OFF, persistence.CHECK, "persistence", False),
    Story(mig.PENDING, mig.CHECK, "mig_pending", True),
    Story(gsp.OFF, gsp.CHECK, "gsp", False),
    Story(gpu_processes.LEFT, gpu_processes.CHECK, "processes", (STUCK,)),
    Story(gpu_processes.HELD, gpu_processes.CHECK, "memory_used_bytes", 70 << 30),
)
IDS = [story.code for story in STORIES]


class Watch:
    """A node whose readings one check looks at, a minute apart."""

    def __init__(self, check: AnyCheck, facts: NodeFacts = P5) -> None:
        self._check = check
        self._facts = facts
        self._node = HostNode()

    def look(self, *samples: GpuReadings) -> Watch:
        """Take in readings, one a minute."""
        for sample in samples:
            seen = self._check.observe(sample, self._facts, self._check.options)
            self._node.see(seen, check=self._check.name, complete=True, after=MINUTE_S)
        return self

    @property
    def active(self) -> list[tuple[str, str]]:
        """Return code and component of each fault that counts."""
        return self._node.active

    @property
    def asks(self) -> Action:
        """Return what the node asks for."""
        return self._node.verdict.action


def minutes(story: Story) -> int:
    """Return after how many sick looks, a minute apart, the fault counts."""
    return int(SHIPPED[story.code].hold_s // MINUTE_S) + 1


def counted(story: Story) -> Watch:
    """Return the watch of a node on which the fault counts."""
    watch = Watch(story.check, story.node).look(*[story.sick] * (minutes(story) + 1))
    assert (story.code, story.component) in watch.active
    return watch


@pytest.mark.parametrize("story", STORIES, ids=IDS)
def test_fault_counts_when_it_held_and_ends_when_it_is_gone(story: Story) -> None:
    watch = counted(story)
    watch.look(*[healthy()] * 3)
    assert watch.active == []


@pytest.mark.parametrize("story", STORIES, ids=IDS)
def test_flicker_never_counts(story: Story) -> None:
    watch = Watch(story.check, story.node)
    for _ in range(30):
        watch.look(story.sick, healthy())
        assert watch.active == []


@pytest.mark.parametrize("story", STORIES, ids=IDS)
@pytest.mark.parametrize("blind", [down("no_driver"), down("hung"), lost(healthy(), 3)], ids=["no driver", "hung", "lost"])
def test_not_being_able_to_look_ends_nothing(story: Story, blind: GpuReadings) -> None:
    before = counted(story)
    active = before.active
    assert before.look(*[blind] * 30).active == active


@pytest.mark.parametrize("story", STORIES, ids=IDS)
def test_nothing_of_it_repairs_a_node(story: Story) -> None:
    assert counted(story).asks is Action.NONE


def test_power_that_cannot_be_read_counts_and_ends() -> None:
    watch = Watch(gpu_power.CHECK).look(*[unread(healthy(), 3, "power")] * 7)
    assert watch.active == [(gpu_power.UNREADABLE, GPU)]
    assert watch.look(healthy()).active == []


def test_limit_stays_low_while_power_cannot_be_read() -> None:
    low = with_gpu(healthy(), 3, power=Power(90.0, 350.0, 700.0))
    watch = Watch(gpu_power.CHECK).look(*[low] * 12, *[unread(healthy(), 3, "power")] * 3)
    assert watch.active == [(gpu_power.LIMIT_LOW, GPU)]


@pytest.mark.parametrize(
    ("code", "check", "change"),
    [
        (mig.MIXED, mig.CHECK, {"mig": True, "mig_pending": True}),
        (gsp.MIXED, gsp.CHECK, {"gsp": False, "gsp_default": False}),
    ],
)
def test_difference_lasts_until_all_are_known_to_be_alike(code: str, check: AnyCheck, change: dict[str, bool]) -> None:
    watch = Watch(check).look(*[with_gpu(healthy(), 3, **change)] * 12)
    assert watch.active == [(code, "node")]
    assert watch.look(*[lost(healthy(), 3)] * 5).active == [(code, "node")]
    assert watch.look(healthy()).active == []


# -- counters ---------------------------------------------------------------------------------------------------------


def times(name: str, seconds: Iterable[float]) -> list[GpuReadings]:
    """Return readings in which GPU 3 was held down for so long in all."""
    return [with_gpu(healthy(), 3, clocks=Clocks(0, **{name: round(value * 1e9)})) for value in seconds]


def replays(counts: Iterable[int]) -> list[GpuReadings]:
    """Return readings in which the link of GPU 3 has repeated so many packets."""
    return [with_gpu(healthy(), 3, pcie=PCIE._replace(replays=count)) for count in counts]


@pytest.mark.parametrize(
    ("check", "readings", "codes"),
    [
        (clocks.CHECK, times("hw_thermal_ns", range(0, 50, 5)), []),
        (clocks.CHECK, times("hw_thermal_ns", range(0, 100, 10)), [clocks.HW_THERMAL_TIME]),
        (clocks.CHECK, times("hw_brake_ns", range(0, 100, 10)), [clocks.POWER_BRAKE_TIME]),
        (clocks.CHECK, times("sw_thermal_ns", range(0, 200, 20)), []),
        (clocks.CHECK, times("sw_thermal_ns", range(0, 400, 40)), [clocks.SW_THERMAL_TIME]),
        (clocks.CHECK, times("thermal_ns", range(0, 400, 40)), [clocks.SW_THERMAL_TIME]),
        (clocks.CHECK, times("power_ns", range(0, 600, 60)), []),
        (gpu_pcie.CHECK, replays(range(0, 500, 50)), []),
        (gpu_pcie.CHECK, replays(range(0, 800, 80)), [gpu_pcie.REPLAY]),
        (gpu_pcie.CHECK, replays([10**9] * 9), []),  # the first sight is what the growth is counted from
        (gpu_pcie.CHECK, replays([10**9, 0, 10, 20]), []),  # the driver was loaded again
    ],
)
def test_counter_counts_by_its_growth(check: AnyCheck, readings: list[GpuReadings], codes: list[str]) -> None:
    assert Watch(check).look(*readings).active == [(code, GPU) for code in codes]


def test_counter_that_stands_still_ends_its_fault() -> None:
    watch = Watch(gpu_pcie.CHECK).look(*replays([0, 200, 400]))
    assert watch.active == [(gpu_pcie.REPLAY, GPU)]
    assert watch.look(*replays([400] * 16)).active == []
