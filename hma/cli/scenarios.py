"""The stories that `hma demo` plays: what happens to the simulated node, what the agent must make of it, and why.

Rules of this file:
- A story is data. Kernel lines and program outputs are real formats; only the GPU is missing.
- Each story says how it must end. One that ends otherwise is a failed demo (exit 1), so the demo is a test as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Say(NamedTuple):
    """A sentence of the narrator."""

    text: str


class Kernel(NamedTuple):
    """One line in the kernel log; facility 0 is the kernel itself."""

    text: str
    facility: int = 0


class Noise(NamedTuple):
    """A flood of ordinary kernel lines with one other line in the middle of it."""

    lines: int
    hidden: str


STUCK = "stuck"


class Smi(NamedTuple):
    """`nvidia-smi` answers otherwise from now on: a state of `hma.cli.stand_ins`, or STUCK in the kernel (state D)."""

    state: str


class Await(NamedTuple):
    """The agent says this within `limit_s`."""

    kind: str
    wanted: Mapping[str, object] = {}
    limit_s: float = 15.0


class Calm(NamedTuple):
    """Nothing of this kind is said for so long."""

    kind: str
    seconds: float


Beat = Say | Kernel | Noise | Smi | Await | Calm


@dataclass(frozen=True, slots=True)
class Scenario:
    """One story. `rows` is laid over the catalogue as an operator would; `explain` names what is explained at the end."""

    name: str
    title: str
    beats: tuple[Beat, ...]
    ends: Mapping[str, object]
    explain: str = "node"
    rows: str = ""
    checks: Mapping[str, str] = field(default_factory=dict)


GPU = "0000:97:00"
_PREFIX = f"NVRM: Xid (PCI:{GPU})"
_OFF_BUS = f"{_PREFIX}: 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
_OUT_OF_RANGE = (
    f"{_PREFIX}: 13, pid=1240, name=python3, Graphics SM Warp Exception on (GPC 10, TPC 1, SM {{}}): Out Of Range Address"
)
_PAGE_FAULT = (
    f"{_PREFIX}: 31, pid=1240, name=python3, Ch 0000003b, intr 10000000. MMU Fault: ENGINE GRAPHICS HUBCLIENT_SCC faulted "
    "@ 0x0_04687000. Fault is of type FAULT_PDE ACCESS_TYPE_READ"
)
_QUICK = {"nvidia_smi": "{interval: 2s, timeout: 1s}", "gpu_count_smi": "{interval: 2s, timeout: 1s}"}

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="gpu-off-the-bus",
        title="a GPU falls off the bus: said by the kernel, confirmed by nvidia-smi, then judged",
        checks=_QUICK,
        beats=(
            Say("The kernel says that GPU 4 does not answer any more. That is strong, and it is one source."),
            Kernel(_OFF_BUS),
            Await("fault_active", {"code": "XID-79", "component": f"gpu:{GPU}"}),
            Await("verdict_changed", {"schedulable": False}),
            Say("New work is kept away at once; the repair waits for a second source. nvidia-smi looks next."),
            Smi(f"lost {GPU}"),
            Await("fault_confirmed", {"code": "XID-79"}),
            Await("verdict_changed", {"action": "replace"}),
            Say("Two routes agree: the verdict is replace. (Had none agreed in two minutes: the milder reboot.)"),
        ),
        ends={"action": "replace", "schedulable": False, "health": "failed"},
        explain="XID-79",
    ),
    Scenario(
        name="user-error",
        title="a program's own mistakes (XID 13, 31, 43) must never repair a healthy node",
        beats=(
            Say("A training job reads out of bounds: one cause, many lines, and the channel is torn down after it."),
            Kernel(_OUT_OF_RANGE.format(1)),
            Kernel(_PAGE_FAULT),
            Kernel(f"{_PREFIX}: 43, pid=1240, name=python3, Ch 00000008"),
            Await("verdict_changed", {"health": "degraded", "schedulable": True, "action": "none"}),
            Say("The job is restarted with the same bug, three times over."),
            *(Kernel(_OUT_OF_RANGE.format(sm)) for sm in (0, 1, 0)),
            Calm("verdict_changed", 3.0),
            Say("Counted, shown and explained; the node stays in service, because a reboot would cure nothing here."),
        ),
        ends={"action": "none", "schedulable": True},
        explain="XID-13",
    ),
    Scenario(
        name="contained-ecc",
        title="a contained memory error (XID 94) costs the program that met it, not the node",
        beats=(
            Say("An uncorrectable memory error hits one process, and the hardware contains it."),
            Kernel(f"{_PREFIX}: 94, pid=1240, name=python3, Contained: SM (0x1). RST: No, D-RST: No"),
            Await("fault_active", {"code": "XID-94"}),
            Await("verdict_changed", {"action": "restart_app", "schedulable": True}),
            Say("The program has to be started again; the node stays in service. Now a row waits to be remapped."),
            Kernel(
                f"{_PREFIX}: 63, pid=1240, name=python3, Row Remapper: New row marked for remapping, reset gpu to activate."
            ),
            Await("verdict_changed", {"action": "reboot", "when": "idle"}),
            Say("That reboot waits until work has left by itself: no job is ended for it."),
        ),
        ends={"action": "reboot", "when": "idle"},
        explain="XID-94",
    ),
    Scenario(
        name="flood",
        title="200,000 lines of noise with one real fault in the middle, and one forged by a program",
        beats=(
            Say("A program writes the very line of a dead GPU into the kernel log. It cannot forge the kernel's facility."),
            Kernel(_OFF_BUS, facility=1),
            Await("spoof_suspected"),
            Say("Now a driver goes wild: 200,000 lines as fast as the log takes them, and one of them matters."),
            Noise(
                200_000,
                f"{_PREFIX}: 119, pid=2291, name=nvidia-smi, Timeout after 6s of waiting for RPC response from GPU4 GSP!",
            ),
            Await("fault_active", {"code": "XID-119"}, 60.0),
            Await("verdict_changed", {"action": "reboot"}),
        ),
        ends={"action": "reboot", "schedulable": False},
        explain="XID-119",
    ),
    Scenario(
        name="blind",
        title="nvidia-smi hangs: the agent says that it cannot look, and judges nothing by it",
        checks=_QUICK,
        rows="BLIND: {hold: 4s}\n",
        beats=(
            Say("nvidia-smi does not come back. (The row BLIND holds for 4 s here, so that the show is short.)"),
            Smi(STUCK),
            Await("fault_active", {"code": "BLIND"}, 30.0),
            Calm("verdict_changed", 2.0),
            Say("Not being able to look proves nothing: the node stays in service. Everything else goes on being watched:"),
            Kernel(f"{_PREFIX}: 48, pid=1240, name=python3, DBE (double bit error) on GPU"),
            Await("fault_active", {"code": "XID-48"}),
            Await("verdict_changed", {"action": "reboot"}),
            Say("And when nvidia-smi answers again, the blindness ends by itself."),
            Smi("healthy"),
            Await("fault_resolved", {"code": "BLIND"}, 30.0),
        ),
        ends={"action": "reboot", "schedulable": False},
        explain="BLIND",
    ),
)
