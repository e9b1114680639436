"""A day of a node, minute by minute, with every check that is told what GPUs do: quiet where it is well, and never growing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from hma.catalogue_file import load_catalogue
from hma.check import Dcgm, DcgmEvents, KernelLine, Lines, Nvml, NvmlEvents, Output, Sample
from hma.codec import encode
from hma.config import Config, ConfiguredCheck, apply_checks
from hma.engine.step import beginning, step
from hma.gpu import Clocks, DcgmEngine, DcgmGpu, DcgmHealth, DcgmViolations, Ecc, Gpu, GpuEvent, GpuEvents, GpuReadings, Link
from hma.loader import find_checks
from hma.model import Action, Change, Instant, NodeFacts, State, Status, Verdict
from hma.reports import report_of
from tests.checks.gpu_samples import G5, P5, P5_GPUS, UNKNOWN_TYPE, healthy, healthy_g5, lost, with_gpu

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
UTC0 = 1_790_000_000.0
CATALOGUE = load_catalogue()
CHECKS = apply_checks(Config(), find_checks())
XID = 0x8
HW_THERMAL = 0x48
PLACES = tuple(component[4:] for component in P5_GPUS)

At = Callable[[float, random.Random], Iterator[Sample]]
"""What a node has to say at a second of the day: samples, each for all checks of its kind."""


class Size(NamedTuple):
    """How much the engine remembers: things, and their text in a journal."""

    faults: int
    occurrences: int
    history: int
    counters: int
    points: int
    aliases: int
    text: int


def size_of(state: State) -> Size:
    """Measure a state."""
    occurrences = sum(1 + len(one.echoes) for fault in state.faults.values() for one in fault.occurrences)
    points = sum(len(counter.points) for counter in state.counters.values())
    text = len(json.dumps(encode(state)))
    return Size(len(state.faults), occurrences, len(state.history), len(state.counters), points, len(state.aliases), text)


@dataclass
class Day:
    """A day that has been lived: its verdicts and changes, and how large the state was at the end of each hour."""

    state: State
    verdicts: list[Verdict] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)


def live(node: NodeFacts, at: At, every_s: float = MINUTE) -> Day:
    """Live a day on a node."""
    chance = random.Random(20)
    day = Day(beginning(_instant(0.0)))
    passed = 0.0
    while passed < DAY:
        passed += every_s
        samples = tuple(at(passed, chance))
        reports = [report_of(one, sample, node) for sample in samples for one in _listeners(sample)]
        day.state, changes = step(day.state, reports, CATALOGUE, _instant(passed))
        day.changes += changes
        day.verdicts += [change.verdict for change in changes if change.verdict is not None]
        if passed % HOUR == 0:
            day.sizes.append(size_of(day.state))
    return day


def _instant(passed: float) -> Instant:
    return Instant(HOUR + passed, UTC0 + passed, "b1")


_KINDS: Mapping[type, tuple[ConfiguredCheck, ...]] = {
    sample: tuple(one for one in CHECKS.values() if isinstance(one.check.source, source))
    for sample, source in ((GpuReadings, Nvml), (GpuEvents, NvmlEvents), (DcgmHealth, Dcgm), (DcgmViolations, DcgmEvents))
} | {Lines: (CHECKS["xid"],), Output: (CHECKS["nvidia_smi"], CHECKS["gpu_count_smi"])}


def _listeners(sample: Sample) -> tuple[ConfiguredCheck, ...]:
    return _KINDS[type(sample)]


def _line(passed: float, text: str) -> Lines:
    return Lines((KernelLine(int(passed), HOUR + passed - 1, 4, text),))


def assert_bounded(day: Day, after_hours: int) -> None:
    """Check that nothing has become more than it was after some hours, but for what comes and goes and for longer numbers."""
    before, after = day.sizes[after_hours - 1], day.sizes[-1]
    more = {name: (then, now) for name, then, now in zip(Size._fields, _roomy(before), after, strict=True) if now > then}
    assert not more, f"what was after {after_hours} h and is now: {more}"


def _roomy(size: Size) -> Size:
    """Return the size with room for what comes and goes, and for longer numbers in the same text."""
    return size._replace(occurrences=size.occurrences * 21 // 20, text=size.text * 5 // 4)


# -- a node that is well ----------------------------------------------------------------------------------------------


def _at_work(gpu: Gpu, passed: float, chance: random.Random) -> Gpu:
    """Return a GPU as it is at work: warmer and cooler, and with the errors that every link and memory has now and then."""
    assert gpu.heat
    assert gpu.power
    assert gpu.power.limit_w
    assert gpu.pcie
    minutes = int(passed / MINUTE)
    warmth = chance.randrange(-8, 9)
    links = None if gpu.links is None else tuple(_noisy(link, minutes) for link in gpu.links)
    margin = None if gpu.heat.margin_c is None else gpu.heat.margin_c - warmth
    return gpu._replace(
        ecc=Ecc(True, True, minutes // 10, 0, 1_000 + minutes // 10, 0, sram_threshold=None if gpu.links is None else False),
        clocks=Clocks(
            reasons=chance.choice((0, 0x4)),
            power_ns=minutes * 20 * 10**9,
            thermal_ns=minutes * 10**9,
            sw_thermal_ns=minutes * 10**9,
            hw_thermal_ns=minutes * 10**8,
            hw_brake_ns=minutes * 10**8,
        ),
        heat=gpu.heat._replace(gpu_c=46 + warmth, memory_c=None if gpu.heat.memory_c is None else 58 + warmth, margin_c=margin),
        power=gpu.power._replace(draw_w=gpu.power.limit_w * chance.uniform(0.1, 1.0)),
        memory_used_bytes=chance.randrange(0, 2**30),
        pcie=gpu.pcie._replace(replays=minutes // 3),
        links=links,
    )


def _noisy(link: Link, minutes: int) -> Link:
    return link._replace(crc=minutes * 5, replay=(minutes + 7 * link.number) // 120)


def well(sample: GpuReadings, node: NodeFacts) -> At:
    """Return the day of a node that is at work and well."""
    listed = "".join(
        f"{gpu.number}, 0000{gpu.pci.upper()}.0, {gpu.uuid}, {gpu.serial}, {gpu.name}, {{}}, {{:.2f}}\n" for gpu in sample.gpus
    )
    known = tuple(DcgmGpu(gpu.number, gpu.pci, gpu.uuid) for gpu in sample.gpus)
    health = DcgmHealth(DcgmEngine("up", "bindings", version="4.6.0", address="localhost:5555"), known)

    def at(passed: float, chance: random.Random) -> Iterator[Sample]:
        driver = sample.driver._replace(up_s=passed)
        yield sample._replace(driver=driver, gpus=tuple(_at_work(gpu, passed, chance) for gpu in sample.gpus))
        yield GpuEvents()
        yield health
        yield DcgmViolations()
        values = [chance.randrange(30, 60) for _ in sample.gpus for _ in (0, 1)]
        yield Output(0, listed.format(*values), "")

    return at


@pytest.mark.parametrize(
    ("node", "sample", "every_s"),
    [(P5, healthy(), MINUTE), (G5, healthy_g5(), 2 * MINUTE), (UNKNOWN_TYPE, healthy(), 2 * MINUTE)],
    ids=["p5", "g5", "type that is in no table"],
)
def test_healthy_node_is_well_all_day_and_remembers_no_more_than_after_an_hour(
    node: NodeFacts, sample: GpuReadings, every_s: float
) -> None:
    day = live(node, well(sample, node), every_s)
    assert [(verdict.health, verdict.action, verdict.schedulable) for verdict in day.verdicts] == [
        (Status.OK, Action.NONE, True)
    ]
    assert [change for change in day.changes if change.fault is not None] == []
    assert not day.state.faults
    assert_bounded(day, after_hours=1)


# -- a node whose users make errors -----------------------------------------------------------------------------------

_ERRORS = (
    (13, "Graphics SM Warp Exception on (GPC {unit}, TPC 1, SM 0): Out Of Range Address"),
    (31, "Ch 00000007, intr 00000000. MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_0 faulted"),
    (43, "Ch 00000008"),
    (45, "Ch 00000008"),
)


def _badly_used(passed: float, chance: random.Random) -> Iterator[Sample]:
    """Tell of errors of other processes on two GPUs every time, by both routes."""
    for _ in range(2):
        place, pid = chance.choice(PLACES[:2]), chance.randrange(1_000, 4_000_000)
        number, text = chance.choice(_ERRORS)
        body = f"pid={pid}, name=python3, {text.format(unit=chance.randrange(8))}"
        yield _line(passed, f"NVRM: Xid (PCI:{place}): {number}, {body}")
        yield GpuEvents((GpuEvent(place, XID, number, HOUR + passed - 0.9),))


def test_errors_of_users_never_ask_for_anything_and_do_not_pile_up() -> None:
    day = live(P5, _badly_used)
    assert {(verdict.action, verdict.schedulable) for verdict in day.verdicts} == {(Action.NONE, True)}
    codes = {f"XID-{number}" for number, _ in _ERRORS} | {"XID-13-REPEAT", "XID-31-REPEAT"}
    assert {key.code for key in day.state.faults} <= codes
    assert_bounded(day, after_hours=12)


# -- a node that is sick ----------------------------------------------------------------------------------------------

DEAD, FLAPPING = 4, 2


def _sick(passed: float, chance: random.Random) -> Iterator[Sample]:
    """After an hour a GPU is lost, for the rest of the day; another is held down by heat and has a bad link, on and off."""
    samples = well(healthy(), P5)(passed, chance)
    readings = next(samples)
    assert isinstance(readings, GpuReadings)
    minutes = int(passed / MINUTE)
    if minutes > 60:
        readings = lost(_flapping(readings, minutes), DEAD)
        yield from _words_of_the_driver(passed, minutes)
    yield readings
    yield from samples


def _flapping(readings: GpuReadings, minutes: int) -> GpuReadings:
    gpu = readings.gpus[FLAPPING]
    assert gpu.clocks
    assert gpu.links
    hot = minutes // 30 % 2 == 0
    clocks = gpu.clocks._replace(reasons=HW_THERMAL if hot else 0, hw_thermal_ns=minutes * 30 * 10**9)
    bad = gpu.links[5]._replace(up=minutes // 20 % 2 == 0, crc=minutes * 20_000, recovery=minutes, replay=minutes * 10)
    return with_gpu(readings, FLAPPING, clocks=clocks, links=(*gpu.links[:5], bad, *gpu.links[6:]))


def _words_of_the_driver(passed: float, minutes: int) -> Iterator[Sample]:
    gone, flapping = PLACES[DEAD], PLACES[FLAPPING]
    if minutes % 10 == 2:
        yield _line(passed, f"NVRM: Xid (PCI:{gone}): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.")
        yield GpuEvents((GpuEvent(gone, XID, 79, HOUR + passed - 0.9),))
        registers = "0x200000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0"
        text = f"pid='<unknown>', name=<unknown>, NVLink: fatal error detected on link 5({registers})"
        yield _line(passed + 0.2, f"NVRM: Xid (PCI:{flapping}): 74, {text}")
    if minutes % 90 == 0:
        was, now = ("0x0 (None)", "0x1 (GPU Reset Required)")[:: 1 if minutes % 180 else -1]
        yield _line(passed, f"NVRM: Xid (PCI:{flapping}): 154, GPU recovery action changed from {was} to {now}")


def test_sick_node_says_so_all_day_and_does_not_pile_up() -> None:
    day = live(P5, _sick, 2 * MINUTE)
    assert (day.verdicts[0].health, day.verdicts[0].since.mono) == (Status.OK, HOUR + 2 * MINUTE)
    assert day.verdicts[1].since.mono > 2 * HOUR, "it was well for an hour"
    assert {verdict.action for verdict in day.verdicts[-1:]} == {Action.REPLACE}
    codes = {key.code for key in day.state.faults if key.component == P5_GPUS[DEAD]}
    assert codes == {"XID-79", "NVML-GPU-LOST"}
    told = [change for change in day.changes if change.fault is not None and change.fault.component == P5_GPUS[DEAD]]
    assert len(told) <= 4, [(change.kind, change.fault and change.fault.code) for change in told]
    assert_bounded(day, after_hours=6)
