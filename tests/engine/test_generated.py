"""Generated histories: longer than anyone writes down, on two components, with backlogs and clocks that jump."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from hma.codec import decode, encode
from hma.engine.correlate import next_due
from hma.engine.step import beginning, step
from hma.model import Fault, Instant, Observation, Report, State, Status
from tests.engine.invariants import Witness, delivered_again, every_end_ends, look_at, time_is_due, unknown_is_grey
from tests.engine.rows import HOURS, ROWS, UTC0, saw, tally

YEAR = 365 * 24 * HOURS
COMPONENTS = {"COUNT": "node", "STATE": "disk:a", "BLIND": "check:disks"}
EVENTS = ("CARD-1", "CARD-2", "CARD-3", "CARD-4", "CARD-RESET")
EVERY_CARD = ("card:0", "card:1")


class Happening(NamedTuple):
    """What comes next, after `wait_s`: reports, a new boot, a restart of the agent; `jump_s` moves the clock of records."""

    wait_s: float
    reports: tuple[Report, ...]
    boot: bool = False
    restart: bool = False
    jump_s: float = 0.0


WAITS = st.one_of(st.sampled_from([0.5, 1.0, 5.0, 15.0, 20.0, 30.0, 60.0]), st.floats(0.01, 120.0))


@st.composite
def polled(draw: st.DrawFn) -> Observation:
    code = draw(st.sampled_from(["COUNT", "STATE", "BLIND"]))
    status = draw(st.sampled_from([Status.OK, Status.UNKNOWN] if code == "BLIND" else list(Status)))
    return saw(code, COMPONENTS[code], status)


@st.composite
def counted(draw: st.DrawFn) -> Observation:
    """Draw a look at a counter, which now and then is a smaller one than before."""
    status = draw(st.sampled_from([Status.OK, Status.OK, Status.DEGRADED, Status.UNKNOWN]))
    return tally(draw(st.integers(0, 12)), draw(st.sampled_from(EVERY_CARD)), status)


@st.composite
def event(draw: st.DrawFn) -> Observation:
    """Draw a kernel line of up to a minute ago: `at` is an age until the history is lived."""
    code = draw(st.sampled_from(EVENTS))
    return saw(
        code,
        draw(st.sampled_from(EVERY_CARD)),
        Status.OK if code == "CARD-RESET" else draw(st.sampled_from([Status.FAILED, Status.DEGRADED])),
        at=draw(st.floats(0.0, 60.0)),
        actor=draw(st.sampled_from(["", "pid 1", "pid 2"])),
        cause=draw(st.sampled_from(["", "CARD-1"])) if code == "CARD-4" else "",
    )


@st.composite
def report(draw: st.DrawFn) -> Report:
    observations = tuple(draw(st.lists(st.one_of(polled(), counted(), event()), max_size=4)))
    return Report(draw(st.sampled_from(["test", "disks", "driver"])), observations, draw(st.booleans()))


@st.composite
def happening(draw: st.DrawFn, boots: bool = True, jumps: bool = True) -> Happening:
    reports = tuple(draw(st.lists(report(), max_size=2)))
    jump = draw(st.sampled_from([0.0, 0.0, 0.0, HOURS, -HOURS, YEAR, -YEAR])) if jumps else 0.0
    boot = boots and draw(st.integers(0, 9)) == 0
    return Happening(draw(WAITS), reports, boot, draw(st.booleans()), jump)


class Lived:
    """A history while it is lived, and what it told."""

    def __init__(self) -> None:
        self.now = Instant(1_000.0, UTC0, "boot-1")
        self.state = beginning(self.now)
        self.witness = Witness()
        self.told: list[tuple[str, str]] = []
        self._newest = 0.0

    def live(self, one: Happening, *, look: bool = True) -> None:
        """Let one thing happen."""
        self.wait(one.wait_s, look)
        self.to(self.now.mono + 0.001)  # no two steps are at the same instant
        self.now = self.now._replace(utc=self.now.utc + one.jump_s)
        if one.boot:
            boot = int(self.now.boot_id.removeprefix("boot-")) + 1
            self.now = Instant(25.0, self.now.utc + 40.0, f"boot-{boot}")
            self.witness.ring, self._newest = (), 0.0
        if one.restart:
            assert decode(State, encode(self.state)) == self.state
        reports = tuple(self._timed(r) for r in one.reports)
        self.to(max(self.now.mono, self._newest))
        if look:
            unknown_is_grey(self.state, reports, ROWS, self.now)
        self.step(reports, look)

    def _timed(self, report: Report) -> Report:
        """Turn ages into times: whoever was awake has read the log, so no event is older than the step before."""
        observations = []
        for o in report.observations:
            if o.at is None:
                observations.append(o)
                continue
            self._newest = max(self.now.mono - o.at, self._newest + 0.0001)
            observations.append(saw(o.code, o.component, o.status, at=self._newest, actor=o.actor, cause=o.cause))
        return Report(report.check, tuple(observations), report.complete)

    def step(self, reports: tuple[Report, ...], look: bool = False) -> None:
        self.witness.saw(reports, self.now, ROWS)
        self._newest = self.now.mono
        self.state, changes = step(self.state, reports, ROWS, self.now)
        self.told += [(c.kind, c.fault.id if c.fault else "") for c in changes]
        self.witness.told(changes)
        if look:
            look_at(self.state, changes, self.witness, ROWS, self.now)

    def wait(self, seconds: float, look: bool = False) -> None:
        until = self.now.mono + seconds
        while (due := next_due(self.state.faults, ROWS, self.now)) is not None and due <= until:
            self.to(due)
            self.step((), look)
        self.to(until)

    def to(self, mono: float) -> None:
        """Let the clocks go on, and nothing happen."""
        self.now = self.now._replace(mono=mono, utc=self.now.utc + mono - self.now.mono)


@given(st.lists(happening(), max_size=25))
@settings(max_examples=150)
def test_invariants_hold_after_every_step(history: list[Happening]) -> None:
    lived = Lived()
    for one in history:
        lived.live(one)
        time_is_due(lived.state, ROWS, lived.now)
    delivered_again(lived.state, lived.witness, ROWS, lived.now)
    every_end_ends(lived.state, ROWS, lived.now)


@given(st.lists(happening(boots=False), max_size=25))
@settings(max_examples=100)
def test_clock_of_records_decides_nothing_within_a_boot(history: list[Happening]) -> None:
    jumping, steady = Lived(), Lived()
    for one in history:
        jumping.live(one, look=False)
        steady.live(one._replace(jump_s=0.0), look=False)
        assert timeless(jumping.state) == timeless(steady.state)
        assert jumping.told == steady.told


def timeless(state: State) -> tuple[object, ...]:
    """Return a state without its times of records."""
    verdict = (state.verdict.health, state.verdict.action, state.verdict.why, state.verdict.awaiting, state.verdict.since.mono)
    return (verdict, [_without_utc(fault) for fault in state.faults.values()], [past.fault_id for past in state.history])


def _without_utc(fault: Fault) -> tuple[object, ...]:
    moments = (fault.first_seen.mono, fault.last_seen.mono, fault.changed.mono, fault.ok_since)
    return (fault.id, fault.state, fault.count, fault.action, fault.inhibited_by, fault.confirmed_by, fault.told, moments)


@given(st.lists(happening(), max_size=20), st.integers(0, 19))
@settings(max_examples=75)
def test_restart_anywhere_changes_nothing_that_follows(history: list[Happening], at: int) -> None:
    straight, restarted = Lived(), Lived()
    for number, one in enumerate(history):
        straight.live(one, look=False)
        if number == at:
            restarted.state = decode(State, encode(restarted.state))
        restarted.live(one, look=False)
    assert (straight.state, straight.told) == (restarted.state, restarted.told)


@given(st.lists(event(), max_size=12), st.floats(0.01, 5.0))
@settings(max_examples=100)
def test_events_of_one_report_count_as_they_would_one_by_one(events: list[Observation], gap_s: float) -> None:
    together, apart = Lived(), Lived()
    log = []
    for number, o in enumerate(events):
        log.append(saw(o.code, o.component, o.status, at=1_000.0 + (number + 1) * gap_s, actor=o.actor, cause=o.cause))
        apart.wait(gap_s)
        apart.to(apart.now.mono + 0.001)  # no two steps are at the same instant
        apart.step((Report("test", (log[-1],)),))
    together.wait(apart.now.mono - 1_000.0)
    together.step((Report("test", tuple(log)),))
    assert [f.id for f in together.state.faults.values()] == [f.id for f in apart.state.faults.values()]
