"""Runs the checks: reads each source when it is due, hands the sample to every check that shares it, reports what they saw.

Rules of this file:
- One reading per (source, interval, timeout), whoever shares it; all readings fall on one time grid of the node, shifted
  by a phase of its own, so that the node wakes seldom and a fleet never wakes together.
- Whatever goes wrong with a source or a check becomes that check's `unknown`, with the reason; nothing is raised from here.
- A check gets `OBSERVE_LIMIT_S` of processor time per sample. One that loops, crashes, floods or returns rubbish is BROKEN
  until it answers again; after `STRIKES` in a row it rests for `REST_S`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from hma.check import (
    AnyCheck,
    ClockState,
    Command,
    Feed,
    Files,
    KernelLine,
    KernelLog,
    Lines,
    NotInstalled,
    Output,
    Processes,
    Sample,
    SourceError,
    Stream,
)
from hma.guard_time import Overrun, limited
from hma.loop import Loop, Timer
from hma.model import NodeFacts, Observation, Report, Status
from hma.sources.clock import read_clock
from hma.sources.files import read_files
from hma.sources.processes import read_processes
from hma.sources.stream import StreamChild

BLIND = "BLIND"
BROKEN = "CHECK-BROKEN"
OBSERVE_LIMIT_S = 0.1
FLOOD = 2_000
STRIKES = 3
REST_S = 600.0
GRID_S = 10.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A check as the operator wants it run."""

    check: AnyCheck
    interval_s: float
    timeout_s: float
    options: object


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


class Commands(Protocol):
    """What the runner needs of `hma.sources.command.CommandRunner`."""

    def start(self, command: Command, timeout_s: float, done: Callable[[Output | SourceError], None]) -> None:
        """Start one run and answer through `done`."""


Reported = Callable[[tuple[Report, ...], Mapping[str, Sample]], None]


class Runner:
    """Schedules the planned checks on `loop` and gives their reports, with the samples they came from, to `reported`."""

    def __init__(
        self, loop: Loop, commands: Commands, root: Path, node: NodeFacts, reported: Reported, make_stream: type[StreamChild]
    ) -> None:
        self._loop = loop
        self._commands = commands
        self._root = root
        self._node = node
        self._reported = reported
        self._make_stream = make_stream
        self._plan: dict[str, Planned] = {}
        self._patterns: dict[str, re.Pattern[bytes]] = {}
        self._timers: list[Timer] = []
        self._streams: list[StreamChild] = []
        self._strikes: dict[str, int] = {}
        self._resting: dict[str, float] = {}
        self._first: set[str] = set()
        self.states: dict[str, CheckState] = {}
        self.last_progress: dict[object, float] = {}
        self.phase_s = zlib.crc32(node.hostname.encode()) % 1000 / 1000 * GRID_S

    # -- planning ------------------------------------------------------------------------------------------------------

    def plan(self, planned: Iterable[Planned], node: NodeFacts, disabled: Iterable[str] = ()) -> None:
        """Take over a plan (at start, on reload, when facts arrived) and begin every reading at once."""
        self.stop()
        self._node = node
        self._plan = {p.check.name: p for p in planned}
        keep = self.states
        self.states = {name: CheckState(name, "disabled", "switched off in the configuration") for name in disabled}
        for name, item in self._plan.items():
            self.states[name] = keep.get(name) or CheckState(
                name, "waiting", "first run is under way", interval_s=item.interval_s
            )
        applying = [p for p in self._plan.values() if self._applies(p)]
        self._patterns = {
            p.check.name: re.compile(p.check.source.pattern, re.MULTILINE)
            for p in applying
            if isinstance(p.check.source, KernelLog)
        }
        self._first = {p.check.name for p in applying if not isinstance(p.check.source, KernelLog | Stream)}
        groups: dict[tuple[Any, float, float], list[Planned]] = {}
        for item in applying:
            self._settle_streamed(item)
            groups.setdefault((item.check.source, item.interval_s, item.timeout_s), []).append(item)
        for (source, interval_s, timeout_s), group in groups.items():
            self._begin(source, interval_s, timeout_s, tuple(group))

    def stop(self) -> None:
        """Stop scheduling; children that still run are the command runner's."""
        for timer in self._timers:
            timer.cancel()
        for stream in self._streams:
            stream.stop()
        self._timers, self._streams = [], []
        self.last_progress.clear()

    @property
    def kernel_pattern_sources(self) -> tuple[bytes, ...]:
        """Return the patterns of the kernel-log checks that apply."""
        return tuple(self._plan[name].check.source.pattern for name in self._patterns)  # type: ignore[union-attr]

    @property
    def first_runs_done(self) -> bool:
        """Return whether every polled check has answered at least once."""
        return not self._first

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """Return the names of the checks whose first answer is still out."""
        return tuple(sorted(self._first))

    def stuck(self, now: float) -> tuple[str, ...]:
        """Return the readings that made no progress for two intervals and a timeout: the loop itself is wrong then."""
        return tuple(str(key) for key, due in self.last_progress.items() if now > due)

    def _applies(self, item: Planned) -> bool:
        check = item.check
        try:
            applies = bool(limited(OBSERVE_LIMIT_S, partial(check.applies, self._node)))
        except (Exception, Overrun) as err:
            self._say(check.name, "unknown", f"its applies() failed: {_told(err)}", 0.0)
            return False
        if not applies:
            self._say(check.name, "not applicable", f"needs {check.needs}", 0.0)
        return applies

    def _settle_streamed(self, item: Planned) -> None:
        if isinstance(item.check.source, KernelLog):
            self._say(item.check.name, "ok", "nothing found in the kernel log", 0.0)

    def _begin(self, source: object, interval_s: float, timeout_s: float, group: tuple[Planned, ...]) -> None:
        if isinstance(source, KernelLog):
            return
        if isinstance(source, Stream):
            stream = self._make_stream(
                self._loop, source, partial(self._on_stream, group), partial(self._failed, group, started=None)
            )
            self._streams.append(stream)
            stream.start()
            return
        self._due(source, interval_s, timeout_s, group)

    def _due(self, source: object, interval_s: float, timeout_s: float, group: tuple[Planned, ...]) -> None:
        now = self._loop.clock()
        following = _next_on_grid(now, interval_s, self.phase_s)
        timer = self._loop.call_at(following, partial(self._due, source, interval_s, timeout_s, group))
        self._timers = [t for t in self._timers if t.call is not None and t.at > now] + [timer]
        self.last_progress[(source, interval_s, timeout_s)] = following + interval_s + timeout_s + 5.0
        if isinstance(source, Command):
            self._commands.start(source, timeout_s, partial(self._on_output, group, now))
            return
        try:
            sample = self._read(source, now)
        except SourceError as err:
            self._failed(group, err, started=now)
            return
        self._observed(group, sample, now)

    def _read(self, source: object, now: float) -> Sample:
        if isinstance(source, Files):
            return read_files(source, self._root)
        if isinstance(source, Processes):
            return read_processes(self._root, now)
        if isinstance(source, ClockState):
            return read_clock()
        raise SourceError(f"{type(source).__name__}: the agent knows no such source")

    # -- samples in ----------------------------------------------------------------------------------------------------

    def on_kernel_lines(self, lines: tuple[KernelLine, ...]) -> None:
        """Give matching kernel lines to the checks whose pattern they match."""
        by_check: dict[str, list[KernelLine]] = {}
        for line in lines:
            raw = line.text.encode(errors="replace")
            for name, pattern in self._patterns.items():
                if pattern.search(raw):
                    by_check.setdefault(name, []).append(line)
        reports: list[Report] = []
        samples: dict[str, Sample] = {}
        for name, own in by_check.items():
            sample = Lines(tuple(own))
            reports += self._observe(self._plan[name], sample, None)
            samples[name] = sample
        if reports:
            self._reported(tuple(reports), samples)

    def on_kernel_log_lost(self, error: SourceError) -> None:
        """Say that the kernel log cannot be read: every check on it is blind."""
        self._failed(tuple(self._plan[name] for name in self._patterns), error, started=None)

    def on_kernel_log_readable(self) -> None:
        """Say that the kernel log can be read (again)."""
        told = tuple(Report(name, (_seeing(name),)) for name in self._patterns)
        for name in self._patterns:
            if self.states[name].status in ("unknown", "waiting"):
                self._say(name, "ok", "nothing found in the kernel log", 0.0)
        if told:
            self._reported(told, {})

    def _on_output(self, group: tuple[Planned, ...], started: float, answer: Output | SourceError) -> None:
        if isinstance(answer, SourceError):
            self._failed(group, answer, started=started)
        else:
            self._observed(group, answer, started)

    def _on_stream(self, group: tuple[Planned, ...], feed: Feed) -> None:
        self._observed(group, feed, None)

    def _observed(self, group: tuple[Planned, ...], sample: Sample, started: float | None) -> None:
        reports = [report for item in group for report in self._observe(item, sample, started)]
        self._first -= {item.check.name for item in group}
        self._reported(tuple(reports), {item.check.name: sample for item in group})

    def _failed(self, group: tuple[Planned, ...], error: SourceError, started: float | None) -> None:
        reports: list[Report] = []
        for item in group:
            name = item.check.name
            self._first.discard(name)
            if isinstance(error, NotInstalled) and item.check.optional:
                self._say(name, "not applicable", str(error), started)
                continue
            self._say(name, "unknown", str(error), started)
            reports.append(Report(name, (_blind(name, str(error)),)))
        if reports:
            self._reported(tuple(reports), {})

    # -- one check -----------------------------------------------------------------------------------------------------

    def _observe(self, item: Planned, sample: Sample, started: float | None) -> tuple[Report, ...]:
        name = item.check.name
        if self._resting.get(name, 0.0) > self._loop.clock():
            return ()
        try:
            seen = limited(OBSERVE_LIMIT_S, partial(_collect, item, sample, self._node))
        except Overrun:
            return self._broken(item, f"took longer than {OBSERVE_LIMIT_S:g} s over one sample", started)
        except Exception as err:
            return self._broken(item, _told(err), started)
        self._strikes.pop(name, None)
        status, reason = _summary(seen)
        self._say(name, status, reason, started)
        told = (_seeing(name), Observation(BROKEN, f"check:{name}", Status.OK))
        if status == Status.UNKNOWN:
            told = (_blind(name, reason), told[1])
        return (Report(name, (*seen, *told), item.check.complete and status != Status.UNKNOWN),)

    def _broken(self, item: Planned, reason: str, started: float | None) -> tuple[Report, ...]:
        name = item.check.name
        strikes = self._strikes[name] = self._strikes.get(name, 0) + 1
        if strikes >= STRIKES:
            self._resting[name] = self._loop.clock() + REST_S
            reason += f"; {strikes} times in a row, so it rests for {REST_S:g} s"
            self._strikes[name] = 0
        self._say(name, "unknown", f"the check itself is broken: {reason}", started)
        return (Report(name, (Observation(BROKEN, f"check:{name}", Status.FAILED, reason), _blind(name, reason))),)

    def _say(self, name: str, status: str, reason: str, started: float | None) -> None:
        now = self._loop.clock()
        before = self.states.get(name) or CheckState(name, "waiting")
        planned = self._plan.get(name)
        self.states[name] = replace(
            before,
            status=status,
            reason=reason,
            at=now,
            duration_s=now - started if started else 0.0,
            runs=before.runs + 1,
            interval_s=planned.interval_s if planned else 0.0,
        )


def _collect(item: Planned, sample: Sample, node: NodeFacts) -> tuple[Observation, ...]:
    seen: list[Observation] = []
    for observation in item.check.observe(sample, node, item.options):
        if not isinstance(observation, Observation):
            raise TypeError(f"returned {type(observation).__name__} where an Observation belongs")
        if observation.code not in item.check.codes:
            raise ValueError(f"emitted the code {observation.code[:60]!r}, which it does not declare")
        seen.append(observation)
        if len(seen) > FLOOD:
            raise ValueError(f"emitted more than {FLOOD} observations from one sample")
    return tuple(seen)


def _summary(seen: tuple[Observation, ...]) -> tuple[str, str]:
    for status in (Status.FAILED, Status.DEGRADED, Status.UNKNOWN):
        found = [o for o in seen if o.status is status]
        if found:
            more = f" (+{len(found) - 1} more)" if len(found) > 1 else ""
            return status.value, f"{found[0].code} {found[0].component}: {found[0].detail}{more}"
    return Status.OK.value, next((o.detail for o in seen if o.detail), "")


def _blind(name: str, reason: str) -> Observation:
    return Observation(BLIND, f"check:{name}", Status.UNKNOWN, reason)


def _seeing(name: str) -> Observation:
    return Observation(BLIND, f"check:{name}", Status.OK)


def _told(err: BaseException) -> str:
    return f"{type(err).__name__}: {err}"[:300] if str(err) else type(err).__name__


def _next_on_grid(now: float, interval_s: float, phase_s: float) -> float:
    steps = int((now - phase_s) // interval_s) + 1
    return steps * interval_s + phase_s
