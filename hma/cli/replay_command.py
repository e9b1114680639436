"""`hma replay TRACE`: judges again what an agent once saw, and says whether the verdicts are the same."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from hma.cli.common import FAILED, OK, CliError, settings_of
from hma.cli.shown import short
from hma.engine.step import beginning, step
from hma.model import Change, NodeFacts, Report, State, Verdict
from hma.reporting.log import human_line
from hma.reporting.record import record
from hma.reports import report_of
from hma.settings import Settings
from hma.trace import Judged, Seen, Start, TraceError, read_trace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the trace."""
    parser.add_argument("trace", type=Path, metavar="TRACE", help="a file that an agent wrote with `record: FILE`")


def run(args: argparse.Namespace) -> int:
    """Print the changes of the replay; exit 1 when a verdict differs from the recorded one."""
    settings = settings_of(args)
    replay = Replay(settings)
    try:
        with open(args.trace, encoding="utf-8", errors="replace") as lines:
            for line in replay.play(lines, str(args.trace)):
                print(line)
    except OSError as err:
        raise CliError(f"{args.trace}: cannot be read: {err.strerror}") from err
    except TraceError as err:
        raise CliError(str(err)) from err
    if not replay.judged:
        raise CliError(f"{args.trace}: holds no judgement; was the agent stopped before its first?")
    print(f"{replay.judged} judgements, {replay.verdicts} verdicts, {replay.differing} of them differ from the recorded ones")
    return FAILED if replay.differing else OK


class Replay:
    """Plays one trace; counts judgements, verdicts, and verdicts that came out otherwise."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state: State | None = None
        self._node: NodeFacts | None = None
        self._waiting: list[Report] = []
        self.judged = self.verdicts = self.differing = 0

    def play(self, lines: Iterable[str], name: str) -> Iterator[str]:
        """Yield what changed, as lines for a person."""
        for entry in read_trace(lines, name):
            if isinstance(entry, Start):
                self._begin(entry)
            elif self._state is None or self._node is None:
                raise TraceError(f"{name}: does not begin with a start; is its head missing?")
            elif isinstance(entry, Seen):
                self._waiting += self._look(entry, self._node)
            else:
                yield from self._judge(entry, self._state, self._node)

    def _begin(self, start: Start) -> None:
        self._node = start.node
        # A second start is the same agent with another plan, whose state is known here already.
        if self._state is None or start.state is not None:
            self._state = start.state or beginning(start.at)

    def _look(self, seen: Seen, node: NodeFacts) -> Iterator[Report]:
        for check, sample in seen.samples.items():
            configured = self._settings.checks.get(check)
            if configured is not None:
                yield report_of(configured, sample, node)
        yield from seen.reports

    def _judge(self, entry: Judged, state: State, node: NodeFacts) -> Iterator[str]:
        reports, self._waiting = self._waiting, []
        self._state, changes = step(state, reports, self._settings.catalogue, entry.at)
        self.judged += 1
        yield from (_line(change, node, self._settings) for change in changes)
        verdict = self._state.verdict
        changed = verdict is not state.verdict and _worth(verdict) != _worth(state.verdict)
        if entry.verdict is None and not changed:
            return
        self.verdicts += 1
        if entry.verdict is not None and _worth(entry.verdict) == _worth(verdict):
            return
        recorded = _words(entry.verdict) if entry.verdict is not None else "no change"
        self.differing += 1
        yield f"# here the recorded verdict was: {recorded}; now: {_words(verdict)}"


def _line(change: Change, node: NodeFacts, settings: Settings) -> str:
    return short(human_line(record(change, node, settings.catalogue)).replace("\n", " "), 200)


def _worth(verdict: Verdict) -> tuple[object, ...]:
    return (
        verdict.health,
        verdict.schedulable,
        verdict.action,
        verdict.when,
        {(r.code, r.component, r.action) for r in verdict.why},
    )


def _words(verdict: Verdict) -> str:
    because = ", ".join(sorted(f"{r.code} {r.component}" for r in verdict.why)) or "no fault"
    return f"{verdict.health.value}, action {verdict.action.value} ({because})"
