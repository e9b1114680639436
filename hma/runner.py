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
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from types import MappingProxyType

from hma.check import (
    ANY_NODE,
    PUSHED,
    TOLD_ONCE,
    Command,
    Feed,
    Files,
    KernelLine,
    KernelLog,
    Lines,
    NotInstalled,
    Output,
    Sample,
    SourceError,
    Stream,
)
from hma.config import ConfiguredCheck as Planned
from hma.guard_time import Overrun, limited
from hma.loop import Loop, Timer
from hma.model import NodeFacts, Report
from hma.probes import PROBED, SAMPLES, Probes
from hma.readings import CheckState, Commands, MakeStream, Reading, Reported, Streaming, read
from hma.reports import blind, broken, report_of, seeing, summary, told, working
from hma.samples import Blind, ProbeError, Same, read_probe_line
from hma.sources.stream import StreamChild

OBSERVE_LIMIT_S = 0.1
QUIET = "nothing found in the kernel log"
STRIKES = 3
REST_S = 600.0
GRID_S = 10.0
OWN = 2  # observations that `report_of` adds to what the check saw


class Runner:
    """Schedules the planned checks on `loop` and gives their reports, with the samples they came from, to `reported`."""

    def __init__(
        self,
        loop: Loop,
        commands: Commands,
        root: Path,
        node: NodeFacts,
        reported: Reported,
        make_stream: MakeStream = StreamChild,
        probes: Probes = MappingProxyType({}),
        at_rest: Callable[[Collection[str]], bool] = lambda _: False,
    ) -> None:
        self._loop = loop
        self._commands = commands
        self._root = root
        self._node = node
        self._reported = reported
        self._make_stream = make_stream
        self._probes = probes
        self._at_rest = at_rest
        self._held: dict[object, Sample] = {}
        self._polled: dict[Reading, tuple[Planned, ...]] = {}
        self._plan: dict[str, Planned] = {}
        self._patterns: dict[str, re.Pattern[bytes]] = {}
        self._kernel_log: SourceError | bool = False
        self._plans = 0
        self._timers: list[Timer] = []
        self._streams: dict[Stream, Streaming] = {}
        self._streamed: dict[Stream, tuple[Planned, ...]] = {}
        self._strikes: dict[str, int] = {}
        self._resting: dict[str, float] = {}
        self._first: set[str] = set()
        self.states: dict[str, CheckState] = {}
        self._progress: dict[Reading, float] = {}
        self.phase_s = zlib.crc32(node.hostname.encode()) % 1000 / 1000 * GRID_S

    # -- planning ------------------------------------------------------------------------------------------------------

    def plan(self, planned: Iterable[Planned], node: NodeFacts, disabled: Iterable[str] = ()) -> None:
        """Take over a plan (at start, on reload, when facts arrived) and begin every reading at once.

        Streams that go on are left running, and what commands still out answer to the plan before is not heard any more.
        """
        self._forget_timers()
        self._plans += 1
        self._node = node
        self._plan = {p.check.name: p for p in planned}
        keep = self.states
        self.states = {name: CheckState(name, "disabled", "switched off in the configuration") for name in disabled}
        for name, item in self._plan.items():
            waiting = CheckState(name, "waiting", "first run is under way", interval_s=item.interval_s)
            before = keep.get(name, waiting)
            self.states[name] = waiting if before.status in ("disabled", "not applicable") else before
        self._settle(disabled)
        applying = [p for p in self._plan.values() if self._applies(p)]
        kernel = [p for p in applying if isinstance(p.check.source, KernelLog)]
        self._patterns = {p.check.name: pattern for p in kernel if (pattern := self._pattern(p)) is not None}
        self._settle_kernel()
        self._first = {p.check.name for p in applying if not isinstance(p.check.source, TOLD_ONCE)}
        polled: dict[Reading, list[Planned]] = {}
        streamed: dict[Stream, list[Planned]] = {}
        for item in applying:
            source = item.check.source
            child = self._probes.get(type(source)) if isinstance(source, PROBED) else source
            if isinstance(child, Stream):
                streamed.setdefault(child, []).append(item)
            elif not isinstance(source, PUSHED):
                polled.setdefault(Reading(source, item.interval_s, item.timeout_s), []).append(item)
        self._stream({source: tuple(group) for source, group in streamed.items()})
        self._polled = {reading: tuple(group) for reading, group in polled.items()}
        for reading, items in self._polled.items():
            self._due(reading, items)

    def look_now(self, codes: Collection[str]) -> None:
        """Look at the kernel files behind these codes without waiting for their turn."""
        for reading, group in self._polled.items() if codes else ():
            if isinstance(reading.source, Files) and any(not item.check.codes.isdisjoint(codes) for item in group):
                self._look(reading, group, self._loop.clock())

    def stop(self) -> None:
        """Stop scheduling and streams; commands that still run are the command runner's."""
        self._forget_timers()
        self._plans += 1
        self._stream({})

    def _forget_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = []
        self._progress.clear()

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
        """Return whose first answer is still out."""
        return tuple(sorted(self._first))

    def stuck(self, now: float) -> tuple[str, ...]:
        """Return the readings that made no progress for two intervals and a timeout: something of ours is wrong then."""
        return tuple(str(reading.source) for reading, by in self._progress.items() if now > by)

    def _applies(self, item: Planned) -> bool:
        check = item.check
        try:
            applies = bool(limited(OBSERVE_LIMIT_S, partial(check.applies, self._node)))
        except BaseException as err:  # noqa: BLE001  (somebody else's code: it may raise anything)
            self._reported(self._broken(item, f"its applies() failed: {told(err)}", None), {})
            return False
        if not applies:
            self._say(check.name, "not applicable", f"needs {check.needs}", None)
            self._settle((check.name,))
        return applies

    def _settle(self, names: Iterable[str]) -> None:
        """End what was said of checks that say nothing any more."""
        reports = tuple(Report(name, (seeing(name), working(name))) for name in names)
        if reports:
            self._reported(reports, {})

    def _pattern(self, item: Planned) -> re.Pattern[bytes] | None:
        assert isinstance(item.check.source, KernelLog)
        try:
            return re.compile(item.check.source.pattern, re.MULTILINE)
        except re.error as err:
            self._reported(self._broken(item, f"its pattern is none: {err}", None), {})
            return None

    def _settle_kernel(self) -> None:
        """Give kernel-log checks that are new in the plan the state that the log has."""
        new = tuple(name for name in self._patterns if self.states[name].status == "waiting")
        if isinstance(self._kernel_log, SourceError):
            self._failed(tuple(self._plan[name] for name in new), self._kernel_log, started=None)
            return
        for name in new:
            status, reason = ("ok", QUIET) if self._kernel_log else ("waiting", "the kernel log has not been read yet")
            self._say(name, status, reason, None)

    def _stream(self, wanted: dict[Stream, tuple[Planned, ...]]) -> None:
        self._streamed = wanted
        for source, child in self._streams.items():
            if source not in wanted:
                child.stop()
        # One that is still on its way out is kept: planned again, it waits for its own end before it starts anew.
        self._streams = {source: child for source, child in self._streams.items() if source in wanted or child.out}
        for source in wanted:
            if source not in self._streams:
                calls = partial(self._on_stream, source), partial(self._on_stream_lost, source)
                self._streams[source] = self._make_stream(self._loop, source, *calls)
            self._streams[source].start()

    def _due(self, reading: Reading, group: tuple[Planned, ...]) -> None:
        now = self._loop.clock()
        timer = self._loop.call_at(reading.due_after(now, self.phase_s), partial(self._due, reading, group))
        self._timers = [t for t in self._timers if t.call is not None and t.at > now] + [timer]
        if isinstance(reading.source, Command):
            # Starting is no progress, an answer is: a run that is never answered for has to be noticed.
            self._progress.setdefault(reading, reading.answered_by(now))
            self._commands.start(reading.source, reading.timeout_s, partial(self._on_output, self._plans, reading, group, now))
            return
        self._progress[reading] = reading.answered_by(now)
        self._look(reading, group, now)

    def _look(self, reading: Reading, group: tuple[Planned, ...], now: float) -> None:
        try:
            sample = read(reading.source, self._root, now)
        except SourceError as err:
            self._failed(group, err, started=now)
        except Exception as err:  # noqa: BLE001  (a reader that is wrong about a file costs its checks, not the node)
            self._failed(group, SourceError(f"{type(reading.source).__name__}: {told(err)}"), started=now)
        else:
            again = self._held.get(reading) == sample
            self._held[reading] = sample
            if not (again and self._nothing_new(group)):
                self._observed(group, sample, now)

    # -- samples in ----------------------------------------------------------------------------------------------------

    def on_kernel_lines(self, lines: tuple[KernelLine, ...]) -> None:
        """Give matching kernel lines to the checks whose pattern they match."""
        raw = tuple((line, line.text.encode(errors="replace")) for line in lines)
        reports: list[Report] = []
        samples: dict[str, Sample] = {}
        slow: list[str] = []
        for name, pattern in self._patterns.items():
            try:
                own = limited(OBSERVE_LIMIT_S, partial(_matching, pattern, raw))
            except Overrun:
                slow.append(name)
                continue
            if own:
                samples[name] = Lines(own)
                reports += self._observe(self._plan[name], samples[name], None)
        for name in slow:  # tried on every line there is, it would hold up all others each time
            del self._patterns[name]
            reason = f"its pattern took longer than {OBSERVE_LIMIT_S:g} s, and is not tried again until the next reload"
            reports += self._broken(self._plan[name], reason, None)
        if reports:
            self._reported(tuple(reports), samples)

    def on_kernel_log_lost(self, error: SourceError) -> None:
        """Say that the kernel log cannot be read: every check on it is blind."""
        self._kernel_log = error
        self._failed(tuple(self._plan[name] for name in self._patterns), error, started=None)

    def on_kernel_log_readable(self) -> None:
        """Say that the kernel log can be read (again)."""
        self._kernel_log = True
        whole = tuple(name for name in self._patterns if name not in self._strikes)
        for name in whole:
            if self.states[name].status in ("unknown", "waiting"):
                self._say(name, "ok", QUIET, None)
        if whole:
            self._reported(tuple(Report(name, (seeing(name),)) for name in whole), {})

    def _on_output(
        self, plan: int, reading: Reading, group: tuple[Planned, ...], started: float, answer: Output | SourceError
    ) -> None:
        if plan != self._plans:
            return
        self._progress[reading] = reading.answered_by(self._loop.clock())
        if isinstance(answer, SourceError):
            self._failed(group, answer, started=started)
        else:
            self._observed(group, answer, started)

    def _on_stream(self, source: Stream, feed: Feed) -> None:
        group = self._streamed.get(source, ())
        plain = tuple(item for item in group if isinstance(item.check.source, Stream))
        if plain:
            self._observed(plain, feed, None)
        if len(plain) == len(group):
            return
        for line in feed.lines:
            try:
                self._on_probe(group, read_probe_line(line))
            except ProbeError as err:
                # The rest is left out: where a library prints garbage, it may print much of it.
                self._failed(group, SourceError(f"{source.name}: {err}"), started=None)
                return

    def _on_probe(self, group: tuple[Planned, ...], said: Sample | Blind | Same) -> None:
        kind = said.of if isinstance(said, Blind | Same) else type(said).__name__
        own = tuple(item for item in group if SAMPLES.get(type(item.check.source)) == kind)
        if isinstance(said, Blind) and said.told:
            for item in own:
                self._say(item.check.name, "unknown", said.text, None)
            self._settle(item.check.name for item in own)
        elif isinstance(said, Blind):
            self._failed(own, SourceError(said.text), started=None)
        elif isinstance(said, Same):
            if kind in self._held and not self._nothing_new(own):
                self._observed(own, self._held[kind], None)
        else:
            self._held[kind] = said
            self._observed(own, said, None)

    def _nothing_new(self, group: tuple[Planned, ...]) -> bool:
        """Return whether a sample that is the last one again changes nothing: all was well, and no fault waits for a good word.
        It is then only noted that its checks have looked."""
        names = {item.check.name for item in group}
        if not self._first.isdisjoint(names):
            return False  # a new plan, or new facts: what was said before was said by other rules
        states = [self.states[name] for name in names]
        if not all(state.status in ("ok", "not applicable") for state in states) or not self._at_rest(names):
            return False
        for state in states:
            self._say(state.name, state.status, state.reason, None)
        return True

    def _on_stream_lost(self, source: Stream, error: SourceError) -> None:
        self._failed(self._streamed.get(source, ()), error, started=None)

    def _observed(self, group: tuple[Planned, ...], sample: Sample, started: float | None) -> None:
        reports = [report for item in group for report in self._observe(item, sample, started)]
        self._first -= {item.check.name for item in group}
        if reports:
            self._reported(tuple(reports), {item.check.name: sample for item in group})

    def _failed(self, group: tuple[Planned, ...], error: SourceError, started: float | None) -> None:
        reports: list[Report] = []
        for item in group:
            name = item.check.name
            self._first.discard(name)
            if isinstance(error, NotInstalled) and item.check.optional:
                was_blind = self.states[name].status == "unknown"
                self._say(name, "not applicable", str(error), started)
                reports += [Report(name, (seeing(name),))] if was_blind else []
                continue
            self._say(name, "unknown", str(error), started)
            reports.append(Report(name, (blind(name, str(error)),)))
        if reports:
            self._reported(tuple(reports), {})

    # -- one check -----------------------------------------------------------------------------------------------------

    def _observe(self, item: Planned, sample: Sample, started: float | None) -> tuple[Report, ...]:
        name = item.check.name
        if name in self._resting and self._resting[name] > self._loop.clock():
            return ()
        if self._resting.pop(name, None):
            del self._strikes[name]
        try:
            report = limited(OBSERVE_LIMIT_S, partial(report_of, item, sample, self._node))
        except Overrun:
            return self._broken(item, f"took longer than {OBSERVE_LIMIT_S:g} s over one sample", started)
        except BaseException as err:  # noqa: BLE001  (somebody else's code: it may raise anything)
            return self._broken(item, told(err), started)
        self._strikes.pop(name, None)
        seen = report.observations[:-OWN]
        source = item.check.source
        if seen or isinstance(source, TOLD_ONCE) or (item.check.complete and not isinstance(source, PUSHED)):
            self._say(name, *summary(seen), started)
        else:
            # It looked, and there is nothing of its kind here: that is not the same as `ok`.
            needs = item.check.needs
            self._say(name, "not applicable", f"needs {needs}" if needs != ANY_NODE else "nothing of its kind is here", started)
        return (report,)

    def _broken(self, item: Planned, reason: str, started: float | None) -> tuple[Report, ...]:
        name = item.check.name
        strikes = self._strikes[name] = self._strikes.get(name, 0) + 1
        if strikes >= STRIKES:
            self._resting[name] = self._loop.clock() + REST_S
            reason += f"; {strikes} times in a row, so it rests for {REST_S:g} s"
        self._say(name, "unknown", f"the check itself is broken: {reason}", started)
        return (Report(name, (broken(name, reason), blind(name, reason))),)

    def _say(self, name: str, status: str, reason: str, started: float | None) -> None:
        now, planned = self._loop.clock(), self._plan.get(name)
        before = self.states.get(name) or CheckState(name, "waiting")
        interval_s = planned.interval_s if planned else 0.0
        self.states[name] = before.told(status, reason, now, now - started if started else 0.0, interval_s)


def _matching(pattern: re.Pattern[bytes], raw: tuple[tuple[KernelLine, bytes], ...]) -> tuple[KernelLine, ...]:
    return tuple(line for line, text in raw if pattern.search(text))
