"""What can happen in a story of `hma demo`, as values."""

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


class Unplug(NamedTuple):
    """A device (`0000:97:00.0`) is gone from the PCI bus."""

    address: str


class Nvml(NamedTuple):
    """The driver library answers otherwise from now on: keys of the state of `hma.cli.nvml_stand_in`."""

    words: str
    changes: Mapping[str, str | int]


class NvmlHang(NamedTuple):
    """A function of the driver library does not come back for one GPU, in state D where that can be had; `NvmlBack` ends it."""

    function: str
    gpu: int


class NvmlBack(NamedTuple):
    """What hangs in the driver comes back."""


class NvmlEvent(NamedTuple):
    """The driver tells an XID of a GPU to those who listen to the library's events."""

    gpu: int
    xid: int


class Dcgm(NamedTuple):
    """The DCGM host engine is otherwise from now on: keys of `hma.cli.dcgm_stand_in.DcgmState`."""

    words: str
    keys: Mapping[str, object]


class DcgmViolation(NamedTuple):
    """DCGM notifies that a policy was violated: a DCGM_POLICY_COND bit, a GPU, and the value that goes with it."""

    words: str
    condition: int
    gpu: int
    value: int


class Await(NamedTuple):
    """The agent says this within `limit_s`, or has said it since the last thing that happened. One that `needs_library` is left
    out without the driver library."""

    kind: str
    wanted: Mapping[str, object] = {}
    limit_s: float = 15.0
    needs_library: bool = False


class Calm(NamedTuple):
    """Nothing of this kind is said for so long."""

    kind: str
    seconds: float


DeviceBeat = Nvml | NvmlHang | NvmlBack | NvmlEvent | Dcgm | DcgmViolation
Beat = Say | Kernel | Noise | Smi | Unplug | Await | Calm | DeviceBeat


@dataclass(frozen=True, slots=True)
class Scenario:
    """One story. `rows` is laid over the catalogue as an operator would; `explain` names what is explained at the end.

    It must end with the verdict `ends`, for which the codes `because` and no others count (empty = whichever). Without a
    library, one that `needs_library` cannot be played; the others leave out what the library would say.
    """

    name: str
    title: str
    beats: tuple[Beat, ...]
    ends: Mapping[str, object]
    explain: str = "node"
    rows: str = ""
    checks: Mapping[str, str] = field(default_factory=dict)
    because: tuple[str, ...] = ()
    needs_library: bool = False

    @property
    def with_dcgm(self) -> bool:
        """Whether there is a DCGM host engine on the node."""
        return any(isinstance(beat, Dcgm | DcgmViolation) for beat in self.beats)
