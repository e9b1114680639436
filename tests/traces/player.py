"""Plays a trace with the checks, the catalogue and the engine of today, and lets what was seen last go on for a while.

Rules of this file:
- Time comes from the trace, and after its end from here: the last readings are read again once a minute, as the probe does;
  between them the engine is asked whenever time alone would change something, as the agent does.
- A reading that is read again is the same but for its clock, and for the checksum of the InfoROM, which is looked at once an
  hour. What happened (kernel lines, events, violations) does not happen again.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hma.check import Feed, Lines, Sample
from hma.config import ConfiguredCheck
from hma.engine.correlate import next_due
from hma.engine.step import beginning, step
from hma.gpu import DcgmViolations, Gpu, GpuEvents, GpuReadings
from hma.model import Action, Fault, Instant, NodeFacts, Report, State, Verdict
from hma.reports import report_of
from hma.settings import Settings
from hma.trace import Seen, Start, read_trace

HERE = Path(__file__).parent
ENDINGS = (".jsonl", ".jsonl.gz")
POLL_S = 60.0
HAPPENED = (Lines, Feed, GpuEvents, DcgmViolations)
SOON = 0.001
NEVER = Instant(0.0, 0.0, "")


def traces() -> dict[str, Path]:
    """Return the traces that are kept here, by name."""
    return {path.name.removesuffix(ending): path for ending in ENDINGS for path in HERE.glob(f"*{ending}")}


def lines_of(path: Path) -> list[str]:
    """Return the lines of a trace, packed or not."""
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return text.decode().splitlines(keepends=True)


@dataclass(slots=True)
class Player:
    """One node in the making; `highest` is the action of the highest rank that any verdict asked for."""

    settings: Settings
    state: State | None = None
    node: NodeFacts | None = None
    highest: Action = Action.NONE
    now: Instant = NEVER
    last: dict[str, Sample] = field(default_factory=dict)
    waiting: list[Report] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """Return what the node is worth now."""
        assert self.state is not None
        return self.state.verdict

    @property
    def faults(self) -> list[str]:
        """Return the live faults in words."""
        assert self.state is not None
        return [fault_words(fault) for fault in self.state.faults.values()]

    def play(self, lines: Iterable[str], name: str) -> None:
        """Play what was recorded."""
        for entry in read_trace(lines, name):
            if isinstance(entry, Start):
                self.node = entry.node
                self.state = entry.state or self.state or beginning(entry.at)
            elif isinstance(entry, Seen):
                self._see(entry.samples)
                self.waiting += entry.reports
            else:
                self._step(entry.at)

    def go_on(self, seconds: float) -> None:
        """Let that much time pass, in which the last readings stay as they were."""
        began, last = self.now, dict(self.last)
        for passed in _minutes(seconds):
            self._until(_later(began, passed))
            aged: dict[int, Sample] = {id(sample): _aged(sample, passed) for sample in last.values()}
            self._see({name: aged[id(sample)] for name, sample in last.items() if not isinstance(sample, HAPPENED)})
            self._step(_later(began, passed))

    def _see(self, read: Mapping[str, Sample]) -> None:
        assert self.node is not None
        for name, sample in read.items():
            configured: ConfiguredCheck | None = self.settings.checks.get(name)
            if configured is not None:
                self.last[name] = sample
                self.waiting.append(report_of(configured, sample, self.node))

    def _until(self, then: Instant) -> None:
        """Ask the engine whenever time alone moves something before `then`."""
        assert self.state is not None
        while (due := next_due(self.state.faults, self.settings.catalogue, self.now)) is not None and due < then.mono:
            self._step(_later(self.now, due - self.now.mono + SOON))

    def _step(self, now: Instant) -> None:
        assert self.state is not None
        reports, self.waiting, self.now = self.waiting, [], now
        self.state, _ = step(self.state, reports, self.settings.catalogue, now)
        self.highest = max(self.highest, self.state.verdict.action, key=lambda action: action.rank)


def _minutes(seconds: float) -> Iterator[float]:
    passed = 0.0
    while passed < seconds:
        passed = min(passed + POLL_S, seconds)
        yield passed


def _later(then: Instant, passed: float) -> Instant:
    return Instant(then.mono + passed, then.utc + passed, then.boot_id)


def _aged(sample: Sample, passed: float) -> Sample:
    if not isinstance(sample, GpuReadings):
        return sample
    driver = sample.driver._replace(up_s=sample.driver.up_s + passed)
    return sample._replace(driver=driver, gpus=tuple(_as_later(gpu) for gpu in sample.gpus))


def _as_later(gpu: Gpu) -> Gpu:
    return gpu if gpu.inforom is None else gpu._replace(inforom=gpu.inforom._replace(valid=None))


# -- in words ---------------------------------------------------------------------------------------------------------


def verdict_words(verdict: Verdict) -> str:
    """Return `failed cordoned reboot idle`: health, whether work may be placed here, what would cure it and when."""
    placed = "schedulable" if verdict.schedulable else "cordoned"
    cure = verdict.action.value if verdict.action is Action.NONE else f"{verdict.action.value} {verdict.when}"
    return f"{verdict.health.value} {placed} {cure}"


def fault_words(fault: Fault) -> str:
    """Return `XID-79 gpu:0000:97:00 active replace`; a consequence is `inhibited`."""
    state = "inhibited" if fault.inhibited_by else fault.state.value
    return f"{fault.code} {fault.component} {state} {fault.action.value}"
