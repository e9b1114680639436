"""A p5 node in the making, as every source of GPU checks tells it, lived with the real checks, catalogue and engine.

Rules of this file:
- What is true of the node stands in `World`; what the sources tell of it is made from that, so that they never contradict each
  other by accident. A source in `blind` tells nothing.
- Readings come as the agent gets them: NVML when something happens and once a minute, the PCI bus and the program as often.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from hma.catalogue_file import load_catalogue
from hma.check import Dcgm, DcgmEvents, KernelLine, Lines, Nvml, NvmlEvents, Output, Sample, Tree
from hma.codec import decode, encode
from hma.config import Config, ConfiguredCheck, apply_checks
from hma.engine.correlate import next_due
from hma.engine.step import beginning, step
from hma.gpu import (
    DcgmEngine,
    DcgmGpu,
    DcgmHealth,
    DcgmIncident,
    DcgmViolations,
    FabricManager,
    GpuEvent,
    GpuEvents,
    GpuReadings,
    Link,
)
from hma.loader import find_checks
from hma.model import Action, Instant, NodeFacts, PciDevice, Report, State, Verdict
from hma.reports import report_of
from tests.checks.gpu_samples import LOST, P5, P5_GPUS, down, healthy, lost, missing

POLL_S = 60.0
UTC0 = 1_790_000_000.0
XID = 0x8
BORN = 1_000.0
START = Instant(BORN, UTC0, "boot-1")
CATALOGUE = load_catalogue()
CHECKS = apply_checks(Config(), find_checks())
PLACES = tuple(component[4:] for component in P5_GPUS)
NO_DRIVER = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n"
_KINDS: Mapping[type, tuple[ConfiguredCheck, ...]] = {
    sample: tuple(one for one in CHECKS.values() if isinstance(one.check.source, source))
    for sample, source in ((GpuReadings, Nvml), (GpuEvents, NvmlEvents), (DcgmHealth, Dcgm), (DcgmViolations, DcgmEvents))
} | {
    Lines: (CHECKS["xid"], CHECKS["gpu_init"]),
    Output: (CHECKS["nvidia_smi"], CHECKS["gpu_count_smi"]),
    Tree: (CHECKS["gpu_count_pci"],),
}
ROUTES = ("kernel", "events", "nvml", "smi", "pci", "dcgm")


@dataclass
class World:
    """How the node is. `parts`: what is changed of a GPU; `unlisted`: the driver does not list it; `gone`: it left the bus."""

    state: str = "up"
    up_since: float = BORN - 86_400.0
    parts: dict[int, dict[str, object]] = field(default_factory=dict)
    codes: dict[int, int] = field(default_factory=dict)
    unlisted: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    hung: tuple[int, float] | None = None
    manager: bool = True
    dcgm: str = "up"
    incidents: tuple[DcgmIncident, ...] = ()
    blind: frozenset[str] = frozenset()

    def change(self, number: int, **parts: object) -> None:
        """Change parts of one GPU."""
        self.parts.setdefault(number, {}).update(parts)

    def readings(self, now: float) -> GpuReadings:
        """Return what NVML says."""
        if self.state != "up":
            return down(self.state)
        if self.hung is not None:
            number, since = self.hung
            return down("hung", call="nvmlDeviceGetTemperature", gpu=PLACES[number], call_s=now - since)
        sample = healthy()
        gpus = tuple(gpu._replace(**self.parts.get(gpu.number, {})) for gpu in sample.gpus)  # type: ignore[arg-type]
        sample = sample._replace(gpus=gpus, fabric_manager=FabricManager(self.manager, installed=True))
        for number, code in self.codes.items():
            sample = lost(sample, number, code)
        for number in self.unlisted | self.gone:
            sample = missing(sample, number)
        return sample._replace(driver=sample.driver._replace(up_s=now - self.up_since))

    def program(self) -> Output:
        """Return what nvidia-smi prints."""
        if self.state != "up":
            return Output(9, NO_DRIVER, "")
        for number, code in self.codes.items():
            words = "GPU is lost.  Reboot the system to recover this GPU" if code == LOST else "GPU requires reset"
            text = f"Unable to determine the device handle for GPU{number}: 0000{PLACES[number]}.0: {words}\n"
            return Output(code, text, "")
        listed = [number for number in range(8) if number not in self.unlisted | self.gone]
        if not listed:
            return Output(6, "No devices were found\n", "")
        rows = "".join(
            f"{n}, 0000{PLACES[n].upper()}.0, GPU-509665ad-b600-ac93-3616-d754b23d636{n}, 1650124{n}, H100, 46, 412\n"
            for n in listed
        )
        return Output(0, rows, "")

    def bus(self) -> Tree:
        """Return the list of PCI devices."""
        gone = {f"{PLACES[number]}.0" for number in self.gone}
        lines = "".join(_bus_line(device) for device in P5.pci if device.address not in gone)
        return Tree({"proc/bus/pci/devices": lines}, {})

    def watches(self) -> DcgmHealth:
        """Return what DCGM says."""
        if self.dcgm != "up":
            return DcgmHealth(DcgmEngine(self.dcgm, "bindings"))
        known = tuple(DcgmGpu(number, place) for number, place in enumerate(PLACES))
        return DcgmHealth(DcgmEngine("up", "bindings", version="4.6.0"), known, self.incidents)

    def told(self, now: float) -> Iterator[Sample]:
        """Yield a look by every source that tells how things are."""
        if "nvml" not in self.blind:
            yield self.readings(now)
        if "pci" not in self.blind:
            yield self.bus()
        if "dcgm" not in self.blind:
            yield self.watches()
        # A program that waits for the driver prints nothing until its time is over.
        if "smi" not in self.blind and self.hung is None:
            yield self.program()


def _bus_line(device: PciDevice) -> str:
    _, bus, rest = device.address.split(":")
    slot, _, function = rest.partition(".")
    return f"{bus}{int(slot, 16) * 8 + int(function):02x}\t{device.vendor}{device.device}\t0\n"


def noisy_links(errors: int) -> tuple[Link, ...]:
    """Return the links of a GPU with some errors each."""
    return tuple(Link(number, up=True, crc=errors * 5, replay=errors // 20, recovery=0) for number in range(18))


@dataclass
class Node:
    """The agent on that node; `worst` is the action of the highest rank that any verdict asked for."""

    world: World = field(default_factory=World)
    facts: NodeFacts = P5
    now: Instant = START
    state: State = field(default_factory=lambda: beginning(START))
    worst: Action = Action.NONE
    cordoned: bool = False
    story: list[str] = field(default_factory=list)
    lines: int = 0

    @property
    def verdict(self) -> Verdict:
        """Return what the node is worth now."""
        return self.state.verdict

    @property
    def faults(self) -> list[str]:
        """Return the live faults that count, for a message."""
        return [f"{f.code} {f.component} {f.state.value} {f.inhibited_by and 'inhibited'}" for f in self.state.faults.values()]

    def look(self) -> None:
        """Let every source tell how things are."""
        self.hear(*self.world.told(self.now.mono))

    def hear(self, *samples: Sample) -> None:
        """Give samples to their checks."""
        reports = [report_of(one, s, self.facts) for s in samples for one in _KINDS[type(s)]]
        self._step(tuple(reports))

    def says(self, text: str) -> None:
        """Let the kernel log say something, a moment ago."""
        if "kernel" in self.world.blind:
            return
        self.lines += 1
        self.hear(Lines((KernelLine(self.lines, self.now.mono - 0.002, 4, text),)))

    def xid(self, number: int, gpu: int, text: str = "") -> None:
        """Let the driver tell an XID, by both its routes."""
        body = f", {text}" if text else ""
        self.says(f"NVRM: Xid (PCI:{PLACES[gpu]}): {number}{body}")
        if "events" not in self.world.blind and self.world.state == "up":
            self.hear(GpuEvents((GpuEvent(PLACES[gpu], XID, number, self.now.mono),)))

    def wait(self, seconds: float) -> None:
        """Let time pass, with a look once a minute."""
        until = self.now.mono + seconds
        while self.now.mono < until:
            self._until(min(self.now.mono + POLL_S, until))
            self.look()

    def restart(self) -> None:
        """Restart the agent: all it knows is what it wrote down."""
        self.state = decode(State, encode(self.state))

    def jump(self, seconds: float) -> None:
        """Move the clock of records."""
        self.now = self.now._replace(utc=self.now.utc + seconds)

    def boot(self, cured: bool = True) -> None:
        """Boot the node, which cures what a boot can."""
        number = int(self.now.boot_id.removeprefix("boot-")) + 1
        self.now = Instant(30.0, self.now.utc + 300.0, f"boot-{number}")
        self.facts = replace(self.facts, boot_id=self.now.boot_id)
        if cured:
            self.world = World(up_since=10.0, blind=self.world.blind)
        self._step(())

    def _until(self, mono: float) -> None:
        while (due := next_due(self.state.faults, CATALOGUE, self.now)) is not None and due < mono:
            self._to(due + 0.001)
            self._step(())
        self._to(mono)

    def _to(self, mono: float) -> None:
        passed = max(0.0, mono - self.now.mono)
        self.now = self.now._replace(mono=self.now.mono + passed, utc=self.now.utc + passed)

    def _step(self, reports: tuple[Report, ...]) -> None:
        self._to(self.now.mono + 0.001)  # no two steps are at the same instant
        before = self.verdict
        self.state, _ = step(self.state, reports, CATALOGUE, self.now)
        verdict = self.verdict
        if (verdict.action, verdict.when, verdict.schedulable) != (before.action, before.when, before.schedulable):
            self.story.append(
                f"{self.now.boot_id} {self.now.mono:.1f} {verdict.action.value} {verdict.when} "
                f"{'' if verdict.schedulable else 'cordoned'} {[r.rule for r in verdict.why if r.action is not Action.NONE]}"
            )
        self.worst = max(self.worst, verdict.action, key=lambda action: action.rank)
        self.cordoned = self.cordoned or not verdict.schedulable
