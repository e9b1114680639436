"""The contract between the agent and a check: a check is a source and a pure function.

Rules of this file:
- A source is a value. Two checks with an equal source and interval share one reading.
- `observe` gets the sample, the node's facts and its typed options, and returns observations. It runs no process, opens no
  file, sleeps never, knows no clock and names no action; what a code is worth stands in `catalogue.yaml`.
- A sample that could not be had never reaches `observe`: the runner turns it into one `unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from hma.gpu import DcgmHealth, DcgmViolations, GpuEvents, GpuReadings
from hma.model import NodeFacts, Observation

# -- sources: what to read --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KernelLog:
    """Lines of the kernel log that match `pattern` (a bytes regular expression without nested unbounded repeats).

    Streamed: `observe` is called as soon as lines arrive, with the batch of matching lines, kernel facility only.
    `pattern` must be a cheap necessary condition; `observe` does the real parsing of each line.
    """

    pattern: bytes


@dataclass(frozen=True, slots=True)
class Command:
    """One run of a program: own session, time limit, at most `max_bytes` of each stream kept."""

    argv: tuple[str, ...]
    max_bytes: int = 262_144


@dataclass(frozen=True, slots=True)
class Files:
    """The text of the files that match `globs`, relative to the node's root (`proc/meminfo`, `sys/block/*/stat`).

    Only for kernel file systems (procfs, sysfs), which answer from memory: a path on a disk belongs behind a Command.
    """

    globs: tuple[str, ...]
    max_bytes: int = 65_536


@dataclass(frozen=True, slots=True)
class Processes:
    """The process table, from `proc/<pid>/stat` (never `cmdline`, which can block on a stuck process)."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """The kernel's view of the clock (adjtimex)."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A long-lived child that prints one line per reading; restarted when it dies, abandoned when it hangs.

    Streamed like KernelLog: `observe` gets the new complete lines. No line within `silence_s` is `unknown`. Exit code 69
    (EX_UNAVAILABLE) says that what it reads is not installed here, its last words say what. `name` is for messages.
    """

    argv: tuple[str, ...]
    silence_s: float = 60.0
    max_line: int = 262_144
    name: str = ""


@dataclass(frozen=True, slots=True)
class Nvml:
    """All that the NVIDIA driver library says of the GPUs, read in a child: when something changed, else every minute."""


@dataclass(frozen=True, slots=True)
class NvmlEvents:
    """The events of the NVIDIA driver library (XID, ECC, …) as they happen, from the child of Nvml."""


@dataclass(frozen=True, slots=True)
class Dcgm:
    """What the health watches of a running DCGM host engine say, asked by a child: when it changed, else every minute."""


@dataclass(frozen=True, slots=True)
class DcgmEvents:
    """The policy violations that a running DCGM host engine notifies, from the child of Dcgm."""


Source = KernelLog | Command | Files | Processes | ClockState | Stream | Nvml | NvmlEvents | Dcgm | DcgmEvents
PUSHED = (KernelLog, Stream, Nvml, NvmlEvents, Dcgm, DcgmEvents)
"""The sources that tell, and are not asked: an interval and a time limit have no meaning for them."""
TOLD_ONCE = (KernelLog, Stream, NvmlEvents, DcgmEvents)
"""Those that tell only what happens; Nvml and Dcgm tell how things are."""

# -- samples: what was read -------------------------------------------------------------------------------------------


class KernelLine(NamedTuple):
    """One kernel-log record: sequence number, boottime seconds, level 0-7, text (undecodable bytes escaped)."""

    seq: int
    at: float
    level: int
    text: str


class Lines(NamedTuple):
    """A batch of kernel-log records, oldest first; sample of KernelLog."""

    lines: tuple[KernelLine, ...]


class Output(NamedTuple):
    """What a command printed and how it ended; sample of Command. Negative `returncode` = killed by that signal."""

    returncode: int
    stdout: str
    stderr: str
    truncated: bool = False


class Tree(NamedTuple):
    """File texts by path relative to the node's root, and the error text of those not readable; sample of Files."""

    files: Mapping[str, str]
    errors: Mapping[str, str]


class Process(NamedTuple):
    """One process: state is the letter of proc(5), `age_s` since its start, `wchan` only where state is D."""

    pid: int
    comm: str
    state: str
    ppid: int
    age_s: float
    wchan: str = ""


class Table(NamedTuple):
    """The process table; sample of Processes."""

    processes: tuple[Process, ...]


class Clock(NamedTuple):
    """Kernel clock state: `synchronised` (no STA_UNSYNC), estimated and maximum error in seconds; sample of ClockState."""

    synchronised: bool
    offset_s: float
    max_error_s: float


class Feed(NamedTuple):
    """New complete lines of a stream child; sample of Stream."""

    lines: tuple[str, ...]


Sample = Lines | Output | Tree | Table | Clock | Feed | GpuReadings | GpuEvents | DcgmHealth | DcgmViolations


class SourceError(Exception):
    """A source could not be read; the text says what, where and why, and is shown to people as it is."""


class NotInstalled(SourceError):
    """The program or file that a source needs is not on this node: the check is not applicable, not blind."""


# -- the check --------------------------------------------------------------------------------------------------------

S = TypeVar("S", bound=Sample)
O = TypeVar("O")  # noqa: E741  (the options type of the check)


@dataclass(frozen=True, slots=True)
class NoOptions:
    """The options of a check that has none."""


ANY_NODE = "any node"


def everywhere(node: NodeFacts) -> bool:
    """Apply to every node."""
    return True


@dataclass(frozen=True, slots=True)
class Check(Generic[S, O]):
    """One check. `codes` lists every code it can emit; each must be a row of the catalogue.

    `interval_s` and `timeout_s` do not matter to sources that tell by themselves (PUSHED). `complete` = each run names every
    failing component, so that one no longer named is fine. `optional` = a program that is not here means
    "not applicable", not "unknown".
    """

    name: str
    title: str
    source: Source
    observe: Callable[[S, NodeFacts, O], Iterable[Observation]]
    codes: frozenset[str]
    interval_s: float = 60.0
    timeout_s: float = 20.0
    applies: Callable[[NodeFacts], bool] = everywhere
    needs: str = ANY_NODE
    options: O = field(default_factory=NoOptions)  # type: ignore[assignment]
    complete: bool = False
    optional: bool = False


AnyCheck = Check[Any, Any]
