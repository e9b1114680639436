"""What both ways to a DCGM host engine (its Python bindings, its program dcgmi) have in common.

Rules of this file:
- The host engine is shared with others. We only ever add: a health watch that is on stays on, and a policy that somebody has
  set is not touched, only listened to.
- Policies: every condition that cannot be true of a healthy GPU. Not power: there is no limit that fits two types of GPU (an
  H100 at half load draws more than the 250 W that others set), and the driver tells what power does to the clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from hma.gpu import DcgmGpu, DcgmIncident
from hma.sources.probe import Worker

TIMEOUT = -11
NOT_CONNECTED = -21
"""Of dcgmReturn_t."""

DBE = 0x1
PCI = 0x2
PAGES = 0x4
THERMAL = 0x8
POWER = 0x10
NVLINK = 0x20
XID = 0x40
"""Of dcgmPolicyCondition_t."""
CONDITIONS = {DBE: "DBE", PCI: "PCIe", PAGES: "retired pages", THERMAL: "thermal", POWER: "power", NVLINK: "NVLink", XID: "XID"}

OURS = DBE | PCI | PAGES | THERMAL | NVLINK | XID
MAX_PAGES = 60
"""Above it: NVIDIA replaces boards from 60 retired pages on, and the health watch of DCGM fails at 63."""
MAX_TEMPERATURE_C = 100
"""Above it: the hardware slows down at 87 to 95 degrees, so that a GPU beyond 100 is no longer held by that."""

INCIDENTS_MAX = 512
MESSAGE_MAX = 400
VIOLATIONS_MAX = 4_096


class Told(NamedTuple):
    """A violation as it arrived: `gpu` is the number that DCGM gives the GPU, -1 where it was not told; `counted` says that
    `value` is a count that is told again and again while it stands."""

    condition: int
    value: float
    at: float
    gpu: int = -1
    field: int = 0
    counted: bool = False


class Trouble(Exception):
    """The host engine could not be asked; `state` and `code` as in hma.gpu.DcgmEngine, the text is for people."""

    def __init__(self, state: str, code: int, text: str) -> None:
        super().__init__(text)
        self.state = state
        self.code = code


class Route(Protocol):
    """One way to the host engine. All but `version` raise Trouble; after one, `close` and begin with `open` again."""

    @property
    def name(self) -> str:
        """`bindings` or `dcgmi`, as DcgmEngine has it."""

    @property
    def poll_s(self) -> float:
        """How often the health may be asked for."""

    @property
    def version(self) -> str:
        """The version of DCGM as far as this route tells it."""

    def open(self, worker: Worker) -> None:
        """Connect and switch the health watches on."""

    def gpus(self, worker: Worker) -> tuple[DcgmGpu, ...]:
        """Return the GPUs that the host engine knows."""

    def listen(self, worker: Worker, gpus: Sequence[DcgmGpu], told: Callable[[Told], None]) -> str:
        """Have violations told from now on (from another thread); return a note for people, or ""."""

    def deaf(self) -> str:
        """Return why violations are no longer told, "" while they are."""

    def health(self, worker: Worker) -> tuple[DcgmIncident, ...]:
        """Return what the health watches say now."""

    def close(self, worker: Worker) -> None:
        """Let go of the host engine; raises nothing."""


def state_of(code: int) -> str:
    """Return the state of the host engine that a dcgmReturn_t stands for."""
    return {NOT_CONNECTED: "no_engine", TIMEOUT: "hung"}.get(code, "failed")


def pci_address(bus_id: str) -> str:
    """Return `0000:9b:00` for `00000000:9B:00.0`, "" for what is no address."""
    domain, _, rest = bus_id.strip().lower().partition(":")
    bus, _, device = rest.partition(":")
    number = device.partition(".")[0]
    return f"{domain[-4:].rjust(4, '0')}:{bus}:{number}" if domain and bus and number else ""


def foreign(condition: int) -> str:
    """Return the note for people on a policy that somebody else has set."""
    missing = ", ".join(name for bit, name in CONDITIONS.items() if bit & OURS & ~condition)
    return f"somebody else has set the policy: no word of {missing}" if missing else ""
