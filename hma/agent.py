"""The agent: owns the loop and the clock, and calls the rooms in order.

Rules of this file:
- Nothing here waits. The journal, drivers, programs and the metadata service answer later, or never, and the rest goes on.
- It begins from the journal; until that is read, reports wait. A journal that cannot be read makes health unknown, never ok.
- `agent_ready` comes when every check has answered once; after `READY_S` at the latest, naming the rest.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import hma
from hma.check import Command, Output, Sample, SourceError
from hma.engine.step import beginning
from hma.guard_time import arm
from hma.journal_records import Commit, Moves, Snapshot
from hma.judge import Judge, awaited, difference, united
from hma.kernel_watch import CURSOR, KernelWatch
from hma.loop import Loop
from hma.model import Attrs, Change, Instant, Observation, Report, State, Status
from hma.notify import Notifier
from hma.probes import probes_of
from hma.readings import CheckState
from hma.recorder import Recorder
from hma.reporting.api import Api
from hma.reporting.emitter import Emitter, event_of
from hma.reporting.outlet import Outlet
from hma.runner import Runner
from hma.settings import Settings, facts_of
from hma.signals import Signals
from hma.sources.command import CommandRunner
from hma.sources.imds import imds_command, parse_imds
from hma.sources.node import with_imds
from hma.sources.stream import StreamChild
from hma.status import Body, brief_body, check_body, check_rows, journal_body, node_body, state_body
from hma.trace import judged_line, sample_line, start_line
from hma.yamlread import ConfigError

STDOUT = 1
READY_S = 0.4
JOURNAL = "journal"
JOURNAL_LOST = "JOURNAL-LOST"
"""The check that stands behind what the agent itself says of its journal, and its code: while it is live, no node is "ok"."""
GRACE, GRACE_S = 5, 0.02
"""Looks at a kernel log that is still being read when the first verdict is due."""
LOAD_S = 3.0
CURSOR_S = 60.0
STOP_S = 1.0
IMDS_RETRY_S = (30.0, 300.0, 1_800.0)
IMDS_TIMEOUT_S = 5.0
FIXED = ("kernel_log", "state_dir", "run_dir", "record", "node", "log", "journal", "nvml", "dcgm")
"""Settings that a reload does not change: what they name is open."""


class Agent:
    """One agent on one node. `check_config` is the program that looks whether `reread` would find good settings."""

    def __init__(self, settings: Settings, started: float, check_config: Command, reread: Callable[[], Settings]) -> None:
        config = settings.config
        self._settings = settings
        self._started = started
        self._check_config = check_config
        self._reread = reread
        self.loop = Loop()
        self._node = facts_of(config)
        self._notifier = Notifier()
        self._outlet = Outlet(self.loop, STDOUT)
        journal = config.journal
        self._recorder = Recorder(
            self.loop, config.state_dir, self, keep_s=journal.keep_s, max_bytes=journal.max_bytes, trace=config.record
        )
        human = config.log.format == "human" or (config.log.format == "auto" and os.isatty(STDOUT))
        self._emitter = Emitter(self.loop, self._recorder, self._outlet, "human" if human else "json", os.isatty(STDOUT))
        self._programs = dict(config.commands)
        self._commands = CommandRunner(self.loop, self._programs)
        self._judge = Judge(self.loop, self.now, settings.catalogue, self._judged)
        more = partial(StreamChild, programs=self._programs), probes_of(config), self._judge.at_rest
        self._runner = Runner(self.loop, self._commands, config.node.root, self._node, self._reported, *more)
        self._kernel = KernelWatch(self.loop, config.kernel_log, self._node.boot_id, self._runner, self._tell)
        self._api = Api(self.loop, config.run_dir / "agent.sock", self._answer)
        self._checking = self._check_again = False
        self._ready = self._stopping = False
        self._reached = self._saved = Moves()
        self._journal_trouble = ""

    # -- life ----------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until SIGTERM or SIGINT. Raises ApiError when the local API cannot be opened."""
        arm()
        self._api.start()
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._on_hangup}
        signals = Signals(self.loop, handlers)
        self._recorder.start()
        self.loop.call_later(LOAD_S, self._not_loaded)
        self._plan()
        self.loop.call_later(max(0.0, self._started + READY_S - self.loop.clock()), self._be_ready_at_last)
        self._ask_imds(IMDS_RETRY_S)
        self.loop.call_later(CURSOR_S, self._save_cursor)
        self._feed_watchdog()
        try:
            self.loop.run()
        finally:
            self._close()
            signals.close()  # last: who asks twice must not end what is being saved
            self.loop.close()

    def now(self) -> Instant:
        """Return this moment."""
        return Instant(self.loop.clock(), time.clock_gettime(time.CLOCK_REALTIME), self._node.boot_id)

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._notifier.tell("STOPPING=1")
        self._tell("agent_stopping")
        self.loop.stop()

    def _close(self) -> None:
        self._runner.stop()
        self._commands.stop()
        self._kernel.stop()
        self._save_cursor()
        self._api.close()
        # Printed before it is durable, this once: what is printed must be marked in the last commit, or it is told again.
        self._emitter.flush()
        self._recorder.stop(STOP_S)
        self._outlet.close()

    # -- the journal ---------------------------------------------------------------------------------------------------

    def loaded(self, snapshot: Snapshot) -> None:
        """Begin from what the journal holds; where that came too late, add it to what is known by now."""
        if self._judge.state is None:
            self._begin(snapshot)
        else:
            self._add(snapshot, self._judge.state)
        if not self._journal_trouble:
            self._judge_journal(Status.OK, "")

    def trouble(self, text: str) -> None:
        """Say that the journal cannot be written; detection goes on."""
        self._journal_trouble = text
        self._tell("journal_lost", text)
        self._judge_journal(Status.FAILED, text)

    def recovered(self) -> None:
        """Say that the journal can be written again."""
        self._journal_trouble = ""
        self._tell("journal_recovered", "the journal can be written again; nothing is lost that was known in the meantime")
        self._judge_journal(Status.OK, "")

    def whole(self) -> Commit:
        """Return all that is true now."""
        if self._judge.state is None:
            return Commit()
        self._saved = self._reached
        return Commit.of(self._judge.state, self._reached.cursors)

    def _not_loaded(self) -> None:
        if self._judge.state is None:
            text = f"the journal was not read within {LOAD_S:g} s; what was true before is unknown"
            self._judge_journal(Status.FAILED, text)
            self._begin(Snapshot(None, notes=(text,)))

    def _add(self, snapshot: Snapshot, known: State) -> None:
        self._tell("journal_recovered", "the journal could be read late; what it holds counts again")
        for note in snapshot.notes:
            self._tell("journal_lost", note)
        self._emitter.tell_again(snapshot.unemitted)
        if snapshot.state is not None:
            self._trace_start(united(snapshot.state, known))
            self._judge.adopt(snapshot.state)
            self._withdraw()

    def _judge_journal(self, status: Status, detail: str) -> None:
        self._reported((Report(JOURNAL, (Observation(JOURNAL_LOST, "host", status, detail),)),), {})

    def _begin(self, snapshot: Snapshot) -> None:
        state = snapshot.state
        attrs: Attrs = (
            ("version", hma.__version__),
            ("pid", str(os.getpid())),
            ("checks_planned", str(len(self._settings.checks))),
            ("restored_faults", str(len(state.faults) if state else 0)),
            *((("untold_left", str(snapshot.unemitted_left)),) if snapshot.unemitted_left else ()),
        )
        self._tell("agent_started", "nothing is recorded of this node" if snapshot.new_node else "", attrs)
        for note in snapshot.notes:
            self._tell("journal_lost", note)
        for note in self._settings.notes:
            self._tell("check_problem", note)
        self._emitter.tell_again(snapshot.unemitted)
        self._kernel.start(snapshot.cursors.get(CURSOR), first=snapshot.new_node)
        begun = state or beginning(self.now())
        self._trace_start(begun)
        self._judge.begin(begun)
        self._withdraw()

    def _save_cursor(self) -> None:
        self._judge.judge()
        if self._reached != self._saved:
            self._recorder.commit(self._reached.since(self._saved))
            self._saved = self._reached
        self.loop.call_later(CURSOR_S, self._save_cursor)

    # -- reports in, changes out ---------------------------------------------------------------------------------------

    def _reported(self, reports: tuple[Report, ...], samples: Mapping[str, Sample]) -> None:
        if self._settings.config.record is not None:
            self._recorder.trace(sample_line(reports, samples))
        self._judge.take(reports)
        if not self._ready and self._all_looked():
            self.loop.call_later(0.0, self._be_ready)

    def _judged(self, now: Instant, before: State, after: State, changes: tuple[Change, ...]) -> None:
        if self._settings.config.record is not None:
            self._recorder.trace(judged_line(now, after.verdict if after.verdict != before.verdict else None))
        if codes := awaited(before, after, self._judge.catalogue):
            self.loop.call_later(0.0, partial(self._runner.look_now, codes))
        events = tuple(event_of(change, self._node, self._judge.catalogue) for change in changes)
        commit = replace(difference(before, after), events=events)
        # Every line up to here has been judged now, which a cursor that is saved promises.
        self._reached = Moves(self._kernel.cursors, after.counters)
        if not commit.only_moves:
            counters = self._reached.since(self._saved).counters
            self._saved = self._reached
            self._emitter.save(replace(commit, cursors=self._reached.cursors, counters=counters))

    def _tell(self, kind: str, note: str = "", attrs: Attrs = ()) -> None:
        self._say(Change(kind, self.now(), note=note, attrs=attrs))

    def _say(self, change: Change, more: Mapping[str, object] | None = None) -> None:
        self._emitter.save(Commit(events=(event_of(change, self._node, self._judge.catalogue, more),)))

    def _all_looked(self) -> bool:
        return self._judge.state is not None and self._runner.first_runs_done and self._kernel.caught_up

    def _be_ready_at_last(self, tries: int = 0) -> None:
        if self._judge.state is None or (not self._kernel.caught_up and tries < GRACE):
            self.loop.call_later(GRACE_S, partial(self._be_ready_at_last, tries + (self._judge.state is not None)))
        else:
            self._be_ready()

    def _be_ready(self) -> None:
        self._judge.judge()
        state = self._judge.state
        if self._ready or state is None:
            return
        self._ready = True
        waiting = self._runner.waiting_for
        attrs: Attrs = (("after_ms", str(round((self.loop.clock() - self._started) * 1000))),)
        note = f"still out: {', '.join(waiting)}" if waiting else ""
        change = Change("agent_ready", self.now(), verdict=state.verdict, note=note, attrs=attrs)
        self._say(change, {"checks": [brief_body(row) for row in self._check_rows()]})
        self._notifier.tell("READY=1", f"STATUS={state.verdict.health.value}, action {state.verdict.action.value}")

    # -- what the node is ----------------------------------------------------------------------------------------------

    def _ask_imds(self, retries: tuple[float, ...]) -> None:
        if self._settings.config.node.imds:
            self._commands.start(imds_command(), IMDS_TIMEOUT_S, partial(self._on_imds, retries))

    def _on_imds(self, retries: tuple[float, ...], answer: Output | SourceError) -> None:
        try:
            if isinstance(answer, SourceError):
                raise answer
            facts = with_imds(self._node, parse_imds(answer))
        except SourceError:
            # Off EC2 nobody ever answers; on it the service may come up after us.
            if retries:
                self.loop.call_later(retries[0], partial(self._ask_imds, retries[1:]))
            return
        if (facts.instance_type, facts.instance_id) != (self._node.instance_type, self._node.instance_id):
            self._node = facts
            self._plan()
            said = f"{facts.instance_type or 'unknown type'}, {facts.instance_id or 'unknown id'}"
            self._tell("facts_changed", f"the metadata service says: {said}")
        self._node = facts

    def _plan(self) -> None:
        self._trace_start(self._judge.state)
        self._runner.plan(self._settings.checks.values(), self._node, self._settings.disabled)
        self._kernel.patterns_changed()
        self._withdraw()

    def _withdraw(self) -> None:
        """End, as far as their rows allow it, the faults of checks that nobody runs any more: nobody would see them fine."""
        faults = self._judge.state.faults.values() if self._judge.state else ()
        gone = sorted({fault.check for fault in faults} - self._settings.checks.keys() - {JOURNAL})
        if gone:
            self._reported(tuple(Report(name, (), complete=True) for name in gone), {})

    def _trace_start(self, state: State | None) -> None:
        if self._settings.config.record is not None:
            self._recorder.trace(start_line(self.now(), self._node, state))

    # -- reload --------------------------------------------------------------------------------------------------------

    def _on_hangup(self) -> None:
        if self._checking:  # the files may have changed since that child read them
            self._check_again = True
            return
        self._checking = True
        # A child looks at the files first: reading from a disk that is gone blocks for ever, and a mistake costs nothing there.
        self._notifier.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        self._commands.start(self._check_config, 20.0, self._on_checked)

    def _on_checked(self, answer: Output | SourceError) -> None:
        self._checking = False
        if self._check_again:
            self._check_again = False
            self._on_hangup()
            return
        if isinstance(answer, SourceError) or answer.returncode:
            said = str(answer) if isinstance(answer, SourceError) else answer.stderr.strip().replace("hma: ", "")
            self._tell("config_rejected", f"the last good configuration stays: {said}")
        else:
            self._read_again()
        self._notifier.tell("READY=1")

    def _read_again(self) -> None:
        try:
            new = self._reread()
        except ConfigError as err:  # written once more since the child looked
            self._tell("config_rejected", f"the last good configuration stays: {err}")
        else:
            self._take_over(new)

    def _take_over(self, new: Settings) -> None:
        old = self._settings
        kept = [name for name in FIXED if getattr(new.config, name) != getattr(old.config, name)]
        self._settings = replace(new, config=replace(new.config, **{name: getattr(old.config, name) for name in FIXED}))
        self._judge.catalogue = new.catalogue
        # Streams that run hold this very mapping, and find in it what to start next time.
        self._programs.clear()
        self._programs.update(new.config.commands)
        self._plan()
        self._judge.judge()
        self._tell("config_reloaded", f"takes effect after a restart: {', '.join(kept)}" if kept else "")
        for note in new.notes:
            if note not in old.notes:
                self._tell("check_problem", note)

    # -- being asked ---------------------------------------------------------------------------------------------------

    def _answer(self, path: str, _query: Mapping[str, str]) -> tuple[int, Body]:
        state = self._judge.state
        if path == "/v1/status":
            return 200, self._status()
        if path == "/v1/checks":
            return 200, {"checks": [check_body(row) for row in self._check_rows()]}
        if path == "/v1/verdict":
            return 200, {"verdict": state_body(state, self._judge.catalogue)["verdict"]}
        if path == "/v1/faults":
            return 200, {"faults": state_body(state, self._judge.catalogue)["faults"]}
        if path == "/healthz":
            stuck = self._stuck()
            return (503, {"stuck": list(stuck)}) if stuck else (200, {"ready": self._ready})
        return 404, {"error": "offered: /v1/status /v1/checks /v1/verdict /v1/faults /healthz"}

    def _status(self) -> Body:
        return {
            "version": hma.__version__,
            "pid": os.getpid(),
            "uptime_s": round(self.loop.clock() - self._started, 3),
            "node": node_body(self._node),
            **state_body(self._judge.state, self._judge.catalogue),
            "checks": [check_body(row) for row in self._check_rows()],
            "kernel_log": self._kernel.body(),
            "journal": journal_body(self._settings.config.state_dir, self._journal_trouble, self._recorder),
            "children": {"running": self._commands.outstanding, "left_behind": self._commands.abandoned},
            "lines_dropped": self._outlet.dropped,
            "problems": list(self._settings.notes),
        }

    def _check_rows(self) -> tuple[CheckState, ...]:
        faults = self._judge.state.faults if self._judge.state else {}
        return check_rows(self._runner.states, faults, self._settings.streamed)

    def _stuck(self) -> tuple[str, ...]:
        return (*self._runner.stuck(self.loop.clock()), *self._kernel.stuck)

    def _feed_watchdog(self) -> None:
        every = self._notifier.watchdog_s
        if every is None:
            return
        # Only a loop that turns and readings that advance are proof of life.
        if not self._stuck():
            self._notifier.tell("WATCHDOG=1")
        self.loop.call_later(every / 3, self._feed_watchdog)
