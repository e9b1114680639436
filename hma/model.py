"""The values that pass between the rooms: frozen, comparable, free of every scheduler's and cloud's words.

Rules of this file:
- Times are an `Instant`. Durations are taken on `mono` (CLOCK_BOOTTIME, seconds); `utc` (Unix seconds) is for records and
  for spans that cross a boot; `boot_id` says on which boot `mono` counts.
- A component is `<kind>:<where>`, lower case: `gpu:0000:9b:00`, `nvswitch:0000:05:00`, `fs:/var`, `check:xid`, `host`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

Attrs = tuple[tuple[str, str], ...]
"""Ordered facts about one observation (`("xid", "79")`), as text: for records and people, never for decisions."""


class Status(enum.StrEnum):
    """What one look at one component said."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Action(enum.StrEnum):
    """What a fault is worth, mildest first."""

    NONE = "none"
    RESTART_APP = "restart_app"
    REBOOT = "reboot"
    REPLACE = "replace"

    @property
    def rank(self) -> int:
        """Return the place in the order none < restart_app < reboot < replace."""
        return _RANK[self]

    @property
    def destructive(self) -> bool:
        """Return whether the action ends what runs on the node."""
        return self in (Action.REBOOT, Action.REPLACE)


_RANK = {action: rank for rank, action in enumerate(Action)}


class FaultState(enum.StrEnum):
    """Where a fault stands; see `hma.engine.transitions` for the moves."""

    PENDING = "pending"
    ACTIVE = "active"
    RESOLVED = "resolved"


class Instant(NamedTuple):
    """One moment on three clocks: boottime seconds, Unix seconds, and the boot that the first counts from."""

    mono: float
    utc: float
    boot_id: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What a check saw of one component.

    `at` is the boottime second of the event itself (a kernel line from before the agent started), None for "now".
    `unit` is the part inside the component (`GPC 10 TPC 1`), `actor` the process that was at work (`pid 1240`),
    `cause` a code that the device itself names as the cause. `counter` is a count that the device keeps and that only grows:
    the status is then `ok`, and the row's `grows` says how much of it within what time is a fault.
    """

    code: str
    component: str
    status: Status
    detail: str = ""
    evidence: str = ""
    at: float | None = None
    unit: str = ""
    actor: str = ""
    cause: str = ""
    attrs: Attrs = ()
    counter: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one run of one check; `complete` = every component not named in it is fine."""

    check: str
    observations: tuple[Observation, ...]
    complete: bool = False


class FaultKey(NamedTuple):
    """At most one live fault exists per key."""

    code: str
    component: str


class Echo(NamedTuple):
    """The same event, told by another check: its name, and the boottime second that it gave."""

    route: str
    at: float


class Occurrence(NamedTuple):
    """One time a fault was seen: boottime second, part, process; the check that told it first, and those that told it after."""

    at: float
    unit: str
    actor: str
    route: str = ""
    echoes: tuple[Echo, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one component, from first sight to its end.

    All its times count on one boot's clock; a fault that outlives a boot has them moved to the new one. `boots` names the first
    and the last boot on which it was seen, `told` the changes that have become a record (each is told once). `routes` names the
    checks that saw it, the first one first; `refuted_by` the codes of second sources that looked for it and found nothing.
    """

    id: str
    code: str
    component: str
    check: str
    state: FaultState
    status: Status
    first_seen: Instant
    last_seen: Instant
    changed: Instant
    count: int = 1
    detail: str = ""
    evidence: str = ""
    attrs: Attrs = ()
    cause: str = ""
    occurrences: tuple[Occurrence, ...] = ()
    ok_since: float | None = None
    inhibited_by: str = ""
    confirmed_by: tuple[str, ...] = ()
    action: Action = Action.NONE
    ended_because: str = ""
    boots: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    refuted_by: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()

    @property
    def key(self) -> FaultKey:
        """Return what makes two faults the same."""
        return FaultKey(self.code, self.component)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a verdict asks for an action: one fault, what its row is worth now, and by which rule."""

    fault_id: str
    code: str
    component: str
    action: Action
    rule: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the node is worth now: may work be placed on it, and what would cure it.

    `when` is `now` or `idle` (the cure can wait until work has left); `awaiting` names what is still out (a confirmation,
    a look after a reboot); `blind` the checks that could not look for long.
    """

    health: Status
    schedulable: bool
    action: Action
    when: str
    since: Instant
    why: tuple[Reason, ...] = ()
    awaiting: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One event worth a record: `kind` is the event's name in snake_case, stable once released."""

    kind: str
    at: Instant
    fault: Fault | None = None
    verdict: Verdict | None = None
    note: str = ""
    attrs: Attrs = ()


class PciDevice(NamedTuple):
    """One function on the PCI bus; ids are lower-case hex without 0x, `address` is `0000:9b:00.0`."""

    address: str
    vendor: str
    device: str
    pci_class: str
    driver: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What an instance type should show; None = not known, never 0."""

    instance_type: str
    accelerator: str | None = None
    gpus: int | None = None
    neuron_devices: int | None = None
    efa: int | None = None
    nvlinks_per_gpu: int | None = None
    pcie_width: int | None = None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the node is, gathered once at start; the metadata service may add its facts later."""

    hostname: str
    boot_id: str
    instance_type: str | None = None
    instance_id: str | None = None
    expected: Expected | None = None
    pci: tuple[PciDevice, ...] = ()
    kernel: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Which route told each fact: `{"instance_type": "imds"}`."""

    @property
    def gpus(self) -> tuple[PciDevice, ...]:
        """Return the NVIDIA display and 3D controllers on the bus (class 0300, 0302)."""
        return tuple(d for d in self.pci if d.vendor == "10de" and d.pci_class[:4] in ("0300", "0302"))

    @property
    def nvswitches(self) -> tuple[PciDevice, ...]:
        """Return the NVSwitch bridges on the bus (class 0680 of NVIDIA)."""
        return tuple(d for d in self.pci if d.vendor == "10de" and d.pci_class[:4] == "0680")

    @property
    def neurons(self) -> tuple[PciDevice, ...]:
        """Return the Amazon Neuron devices on the bus (vendor 1d0f, devices 7064-7067, 7164, 7264, 7364)."""
        return tuple(d for d in self.pci if d.vendor == "1d0f" and d.device in NEURON_DEVICE_IDS)

    @property
    def efas(self) -> tuple[PciDevice, ...]:
        """Return the Elastic Fabric Adapters on the bus (vendor 1d0f, devices efa0-efa3)."""
        return tuple(d for d in self.pci if d.vendor == "1d0f" and d.device.startswith("efa"))


NEURON_DEVICE_IDS = frozenset({"7064", "7065", "7066", "7067", "7164", "7264", "7364"})
"""Inf1 7064-7067, Trn1 7164, Inf2 7264, Trn2 7364 (aws-neuron-driver source, 2.24.7)."""


@dataclass(frozen=True, slots=True)
class Past:
    """A fault that ended, as later decisions need it ("did the same component fail before the reboot?").

    `boot_id` is the boot on which it was last seen. `first_mono` and `last_mono` are its first and last sight, on the clock of
    the boot on which it ended. `consequence` = another fault explained it to the end. `routes` names the checks that told its
    last occurrence.
    """

    fault_id: str
    code: str
    component: str
    boot_id: str
    raised_utc: float
    ended_utc: float
    ended_because: str
    action: Action
    first_mono: float = 0.0
    last_mono: float = 0.0
    consequence: bool = False
    routes: tuple[str, ...] = ()


class Point(NamedTuple):
    """From the boottime second `mono` on, a counter stood at `value`."""

    mono: float
    value: float


@dataclass(frozen=True, slots=True)
class Counter:
    """What is remembered of a count that a device keeps: the points at which it changed, the oldest first and the first of them
    the baseline. `counted` is the value at which its growth last was an occurrence of a fault."""

    boot_id: str
    points: tuple[Point, ...]
    counted: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All the engine remembers. `aliases` maps another name of a component (`GPU-509665ad-…`) to the component; `counters`
    holds what devices count, by the code and the component that it is told of."""

    verdict: Verdict
    faults: Mapping[FaultKey, Fault] = field(default_factory=dict)
    history: tuple[Past, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    counters: Mapping[FaultKey, Counter] = field(default_factory=dict)
