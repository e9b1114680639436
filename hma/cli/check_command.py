"""`hma check [NAME…]`: runs checks once, in this process, without journal and without agent."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from hma.check import DcgmEvents, NvmlEvents, Output, Sample, SourceError
from hma.cli.common import CliError, settings_of, tell_notes
from hma.cli.shown import checks_text, exit_code, faults_text, verdict_text
from hma.engine.step import beginning
from hma.fields import listing
from hma.guard_time import arm
from hma.judge import Judge
from hma.kernel_watch import KernelWatch
from hma.loop import Loop
from hma.model import Attrs, Change, Instant, NodeFacts, Report, State
from hma.probes import probes_of
from hma.runner import Runner
from hma.settings import Settings, facts_of
from hma.sources.command import CommandRunner
from hma.sources.imds import imds_command, parse_imds
from hma.sources.node import with_imds
from hma.sources.stream import StreamChild
from hma.status import Body, check_body, check_rows, state_body
from hma.yamlread import nearest

IMDS_S = 3.0
SPARE_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which checks, and the form of the answer."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="checks to run (default: all)")
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Run the checks and print what they say."""
    settings = settings_of(args)
    wanted = _wanted(args.names, settings)
    once = Once(settings, wanted)
    once.run()
    body = once.body()
    if args.json:
        print(json.dumps(body, indent=2, ensure_ascii=False))
    else:
        print(f"{checks_text(body['checks'])}\n\n{faults_text(body['faults'])}\n\n{verdict_text(body['verdict'])}")
    tell_notes(settings)
    return exit_code(row["status"] for row in body["checks"])


def _wanted(names: list[str], settings: Settings) -> tuple[str, ...]:
    known = {*settings.checks, *settings.disabled}
    unknown = [name for name in names if name not in known]
    if unknown:
        near = nearest(unknown[0], known)
        raise CliError(
            f"{', '.join(unknown)}: no such check; {f'did you mean {near}?' if near else f'known: {listing(known)}'}"
        )
    off = [name for name in names if name in settings.disabled]
    if off:
        raise CliError(f"{', '.join(off)}: switched off in the configuration; set checks.{off[0]}.enabled=true")
    return tuple(names) or tuple(settings.checks)


class Once:
    """One run of the checks `wanted`, judged as the agent would judge it on its first day."""

    def __init__(self, settings: Settings, wanted: tuple[str, ...]) -> None:
        self._settings = settings
        self._wanted = wanted
        self._limit_s = 0.0
        self.loop = Loop()
        config = settings.config
        self._commands = CommandRunner(self.loop, config.commands)
        self._node = self._facts()
        self._judge = Judge(self.loop, self._now, settings.catalogue, _unheard)
        streams = partial(StreamChild, programs=config.commands)
        root, probes = config.node.root, probes_of(config, "--peek")
        self._runner = Runner(self.loop, self._commands, root, self._node, self._reported, streams, probes)
        self._kernel = KernelWatch(self.loop, config.kernel_log, self._node.boot_id, self._runner, _untold)

    def run(self) -> None:
        """Return when every check has answered, or its time is over."""
        arm()
        chosen = [one for name, one in self._settings.checks.items() if name in self._wanted]
        self._judge.begin(beginning(self._now()))
        self._runner.plan(chosen, self._node, self._settings.disabled if len(chosen) == len(self._settings.checks) else ())
        self._limit_s = max((one.timeout_s for one in chosen), default=0.0) + SPARE_S
        until = self.loop.clock() + self._limit_s
        wanted = bool(self._runner.kernel_pattern_sources)
        if wanted:
            self._kernel.start(None)
        # An agent is ready without them; who asks by hand wants to know whether they can listen at all.
        listening = [one.check.name for one in chosen if isinstance(one.check.source, NvmlEvents | DcgmEvents)]
        while not (self._answered(listening) and (self._kernel.caught_up or not wanted)) and self.loop.clock() < until:
            self.loop.run_once(0.2)
        self._judge.judge()
        self._runner.stop()
        self._kernel.stop()
        self._commands.stop()

    def _answered(self, listening: Iterable[str]) -> bool:
        return self._runner.first_runs_done and all(self._runner.states[name].status != "waiting" for name in listening)

    def body(self) -> Body:
        """Return verdict, faults and checks as data."""
        state = self._judge.state
        rows = check_rows(self._runner.states, state.faults if state else {}, self._settings.streamed)
        late = f"no answer within {self._limit_s:g} s"
        rows = tuple(replace(row, status="unknown", reason=late) if row.status == "waiting" else row for row in rows)
        return {**state_body(state, self._settings.catalogue), "checks": [check_body(row) for row in rows]}

    def _now(self) -> Instant:
        return Instant(self.loop.clock(), time.clock_gettime(time.CLOCK_REALTIME), self._node.boot_id)

    def _reported(self, reports: tuple[Report, ...], _samples: Mapping[str, Sample]) -> None:
        self._judge.take(reports)

    def _facts(self) -> NodeFacts:
        config = self._settings.config
        facts = facts_of(config)
        if config.node.imds and facts.instance_type is None:
            answers: list[Output | SourceError] = []
            self._commands.start(imds_command(), IMDS_S, answers.append)
            until = self.loop.clock() + IMDS_S + 3.0
            while not answers and self.loop.clock() < until:
                self.loop.run_once(0.2)
            with contextlib.suppress(SourceError, IndexError):
                facts = with_imds(facts, parse_imds(_output(answers[0])))
        return facts


def _output(answer: Output | SourceError) -> Output:
    if isinstance(answer, SourceError):
        raise answer
    return answer


def _unheard(now: Instant, before: State, after: State, changes: tuple[Change, ...]) -> None:
    """Do nothing: nobody keeps a record of a run by hand."""


def _untold(kind: str, note: str, attrs: Attrs) -> None:
    """Do nothing: what is wrong with the kernel log stands in the table, as the reason of its checks."""
