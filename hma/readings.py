"""Readings: what the runner reads again and again, when each is due, and the sources that answer at once.

Rules of this file:
- Only kernel files and system calls are read here, which answer from memory; what may wait belongs to `hma.sources.command`.
- The clock is an argument.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hma.check import ClockState, Files, Processes, Sample, SourceError
from hma.sources.clock import read_clock
from hma.sources.files import read_files
from hma.sources.processes import read_processes

SPARE_S = 5.0


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
