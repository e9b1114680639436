"""Readings: what the runner reads again and again, when each is due, by whom, and the sources that answer at once.

Rules of this file:
- Only kernel files and system calls are read here, which answer from memory; what may wait belongs to `hma.sources.command`.
- The clock is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from hma.check import ClockState, Command, Feed, Files, Output, Processes, Sample, SourceError, Stream
from hma.loop import Loop
from hma.model import Report
from hma.sources.clock import read_clock
from hma.sources.files import read_files
from hma.sources.processes import read_processes

SPARE_S = 5.0


@dataclass(frozen=True, slots=True)
class CheckState:
    """What is known of one check: `status` is one of ok, degraded, failed, unknown, waiting, not applicable, disabled."""

    name: str
    status: str
    reason: str = ""
    at: float = 0.0
    duration_s: float = 0.0
    runs: int = 0
    interval_s: float = 0.0

    def told(self, status: str, reason: str, now: float, duration_s: float, interval_s: float) -> CheckState:
        """Return the state after one more look."""
        return CheckState(self.name, status, reason, now, duration_s, self.runs + 1, interval_s)


class Commands(Protocol):
    """What the runner needs of `hma.sources.command.CommandRunner`."""

    def start(self, command: Command, timeout_s: float, done: Callable[[Output | SourceError], None]) -> None:
        """Start one run and answer through `done`."""


class Streaming(Protocol):
    """What the runner needs of `hma.sources.stream.StreamChild`."""

    @property
    def out(self) -> bool:
        """Return whether its child lives."""

    def start(self) -> None:
        """Begin, or begin again."""

    def stop(self) -> None:
        """Ask the child to go."""


MakeStream = Callable[[Loop, Stream, Callable[[Feed], None], Callable[[SourceError], None]], Streaming]
Reported = Callable[[tuple[Report, ...], Mapping[str, Sample]], None]


class Reading(NamedTuple):
    """One source, read every `interval_s` with an answer within `timeout_s`, whoever shares it."""

    source: object
    interval_s: float
    timeout_s: float

    def due_after(self, now: float, phase_s: float) -> float:
        """Return the next step of the grid that is shifted by `phase_s`."""
        # A hair later than now: the product below and the clock round differently, and a step must not be taken twice.
        steps = int((now + 1e-6 - phase_s) // self.interval_s) + 1
        return steps * self.interval_s + phase_s

    def answered_by(self, now: float) -> float:
        """Return by when it has been answered again, if all of ours works: two intervals and a timeout."""
        return now + 2 * self.interval_s + self.timeout_s + SPARE_S


def read(source: object, root: Path, now: float) -> Sample:
    """Return what `source` says at `now`; raises SourceError."""
    if isinstance(source, Files):
        return read_files(source, root)
    if isinstance(source, Processes):
        return read_processes(root, now)
    if isinstance(source, ClockState):
        return read_clock()
    raise SourceError(f"{type(source).__name__}: the agent knows no such source")
