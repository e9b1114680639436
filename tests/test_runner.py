"""The runner: what is read when, who gets it, and what becomes of checks and sources that misbehave.

Most cases move the clock by hand and answer commands by hand; files, processes and the clock are read for real.
"""

from __future__ import annotations

import itertools
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hma.check import (
    AnyCheck,
    Check,
    ClockState,
    Command,
    Dcgm,
    DcgmEvents,
    Feed,
    Files,
    KernelLine,
    KernelLog,
    NotInstalled,
    Nvml,
    NvmlEvents,
    Output,
    Processes,
    Sample,
    SourceError,
    Stream,
    Tree,
)
from hma.config import ConfiguredCheck
from hma.gpu import DcgmEngine, DcgmHealth, GpuEvent, GpuEvents, GpuReadings, NvmlDriver
from hma.guard_time import arm
from hma.loop import Loop
from hma.model import NodeFacts, Observation, Report, Status
from hma.reports import FLOOD, TEXT_MAX
from hma.runner import GRID_S, OBSERVE_LIMIT_S, REST_S, STRIKES, Runner
from hma.samples import Blind, Same, probe_line
from hma.sources.command import CommandRunner
from tests.sources.stuck import NEEDS, frozen

NODE = NodeFacts(hostname="n1", boot_id="b1")
SOURCE = Files(("proc/x",))
DONE = Output(0, "", "")
NVML, DCGM = Stream(("nvml",), name="nvml probe"), Stream(("dcgm",), name="dcgm probe")
PROBES: Mapping[type, Stream] = {Nvml: NVML, NvmlEvents: NVML, Dcgm: DCGM, DcgmEvents: DCGM}


@pytest.fixture(autouse=True)
def armed() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    arm()
    yield
    signal.signal(signal.SIGALRM, before)


class Hand:
    """A clock that stands until it is moved."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Asked:
    """A command that waits for its answer."""

    command: Command
    timeout_s: float
    at: float
    done: Callable[[Output | SourceError], None]


@dataclass
class FakeCommands:
    """Takes commands down; tests answer them."""

    clock: Callable[[], float]
    asked: list[Asked] = field(default_factory=list)

    def start(self, command: Command, timeout_s: float, done: Callable[[Output | SourceError], None]) -> None:
        """Take the command down."""
        self.asked.append(Asked(command, timeout_s, self.clock(), done))


class FakeStream:
    """A stream that prints what tests say."""

    def __init__(self, on_feed: Callable[[Feed], None], on_error: Callable[[SourceError], None]) -> None:
        self.feed, self.fail = on_feed, on_error
        self.calls: list[str] = []
        self.out = True

    def start(self) -> None:
        """Take it down."""
        self.calls.append("start")

    def stop(self) -> None:
        """Take it down."""
        self.calls.append("stop")


class Bench:
    """A runner on a loop whose clock is moved by hand."""

    def __init__(self, root: Path, node: NodeFacts = NODE) -> None:
        self.clock = Hand()
        self.loop = Loop(self.clock)
        self.commands = FakeCommands(self.clock)
        self.streams: list[FakeStream] = []
        self.reported: list[tuple[float, tuple[Report, ...], Mapping[str, Sample]]] = []
        self.faults = True
        self.runner = Runner(
            self.loop, self.commands, root, node, self._report, self._stream, PROBES, lambda _: not self.faults
        )

    def _report(self, reports: tuple[Report, ...], samples: Mapping[str, Sample]) -> None:
        self.reported.append((self.clock.now, reports, samples))

    def _stream(
        self, loop: Loop, source: Stream, on_feed: Callable[[Feed], None], on_error: Callable[[SourceError], None]
    ) -> FakeStream:
        assert loop is self.loop
        assert isinstance(source, Stream)
        self.streams.append(FakeStream(on_feed, on_error))
        return self.streams[-1]

    def plan(self, *checks: AnyCheck, disabled: Iterable[str] = ()) -> None:
        """Plan checks as they come."""
        self.runner.plan([ConfiguredCheck(c, c.interval_s, c.timeout_s, c.options) for c in checks], NODE, disabled)

    def advance(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + step)
            self.loop.run_once(0.0)

    @property
    def first_runs(self) -> str:
        """Return whose first answers are not in yet."""
        return "done" if self.runner.first_runs_done else " ".join(self.runner.waiting_for)

    def reports(self, name: str) -> list[Report]:
        """Return all reports of one check so far."""
        return [report for _, reports, _ in self.reported for report in reports if report.check == name]

    def last(self, name: str) -> dict[str, Status]:
        """Return what the last report of a check says, by code."""
        return {seen.code: seen.status for seen in self.reports(name)[-1].observations}

    def state(self, name: str) -> tuple[str, str]:
        """Return status and reason of a check."""
        return self.runner.states[name].status, self.runner.states[name].reason


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "x").write_text("1\n")
    one = Bench(tmp_path)
    yield one
    one.runner.stop()
    one.loop.close()


Observe = Callable[[Any, NodeFacts, Any], Iterable[Observation]]


def fine(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
    """See one component that is fine."""
    return [Observation("A", "host", Status.OK, "all well")]


def bad(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
    """See one component that failed."""
    return [Observation("A", "host", Status.FAILED, "broken")]


def nowhere(node: NodeFacts) -> bool:
    """Apply to no node."""
    return False


def check(name: str, source: Any = SOURCE, observe: Observe = fine, **more: Any) -> AnyCheck:
    """Return a check of the code A."""
    return Check(name, name.title(), source, observe, frozenset({"A"}), **more)


WORKS = {"A": Status.OK, "BLIND": Status.OK, "CHECK-BROKEN": Status.OK}
IS_BROKEN = {"BLIND": Status.UNKNOWN, "CHECK-BROKEN": Status.FAILED}

# -- when ---------------------------------------------------------------------------------------------------------------


def test_everything_is_read_at_once_then_on_the_grid(bench: Bench) -> None:
    bench.plan(check("ten", Command(("a",)), interval_s=10.0), check("sixty", Command(("b",)), interval_s=60.0))
    assert [(one.command.argv, one.at) for one in bench.commands.asked] == [(("a",), 1_000.0), (("b",), 1_000.0)]
    bench.advance(200.0)
    a = [one.at for one in bench.commands.asked if one.command.argv == ("a",)][1:]
    b = [one.at for one in bench.commands.asked if one.command.argv == ("b",)][1:]
    assert len(a) == 20
    assert len(b) in (3, 4)
    assert {round(later - before) for before, later in itertools.pairwise(a)} == {10}
    assert set(b) <= set(a)


def test_phase_is_the_nodes_own_and_within_the_grid(tmp_path: Path) -> None:
    phases = {Bench(tmp_path, NodeFacts(hostname=f"ip-10-1-0-{n}", boot_id="b")).runner.phase_s for n in range(50)}
    assert len(phases) > 40
    assert all(0.0 <= phase < GRID_S for phase in phases)


@pytest.mark.parametrize("interval_s", [0.1, 0.3, 1.0, 7.0, 10.0, 60.0, 86_400.0])
@pytest.mark.parametrize("hostname", ["a", "n1", "ip-10-1-2-3", "compute-dy-17"])
def test_no_step_of_the_grid_is_taken_twice(tmp_path: Path, interval_s: float, hostname: str) -> None:
    """The clock stands exactly on each step, where a product and a sum of the same numbers round differently."""
    bench = Bench(tmp_path, NodeFacts(hostname=hostname, boot_id="b"))
    bench.plan(check("a", Command(("a",)), interval_s=interval_s))
    for _ in range(500):
        bench.clock.now = next(due for due, _, timer in sorted(bench.loop._timers) if timer.call is not None)
        bench.loop.run_once(0.0)
    times = [one.at for one in bench.commands.asked][1:]
    bench.loop.close()
    assert len(times) == 500
    assert min(later - before for before, later in itertools.pairwise(times)) > 0.5 * interval_s


def test_late_loop_skips_what_it_missed(bench: Bench) -> None:
    bench.plan(check("a", Command(("a",)), interval_s=10.0))
    bench.advance(3_600.0, step=3_600.0)
    assert len(bench.commands.asked) == 2
    bench.advance(10.0)
    assert len(bench.commands.asked) == 3


def test_loop_that_stands_is_noticed(bench: Bench) -> None:
    bench.plan(check("a", Command(("a",)), interval_s=10.0, timeout_s=5.0), check("f", SOURCE, interval_s=10.0))
    for _ in range(6):
        bench.commands.asked[-1].done(DONE)
        bench.advance(10.0)
    assert bench.runner.stuck(bench.clock.now) == ()
    command, files = bench.runner.stuck(bench.clock.now + 60.0)
    assert ("('a',)" in command, "proc/x" in files) == (True, True)


def test_command_that_is_never_answered_for_is_noticed_though_the_loop_turns(bench: Bench) -> None:
    bench.plan(check("a", Command(("a",)), interval_s=10.0, timeout_s=5.0), check("f", SOURCE, interval_s=10.0))
    bench.advance(30.0)
    assert bench.runner.stuck(bench.clock.now) == ()
    bench.advance(1.0)
    (command,) = bench.runner.stuck(bench.clock.now)
    assert "('a',)" in command
    bench.commands.asked[-1].done(SourceError("no answer in 5 s"))
    assert bench.runner.stuck(bench.clock.now) == ()


@pytest.mark.parametrize(("complete", "status"), [(False, ("not applicable", "needs a fan")), (True, ("ok", ""))])
def test_check_that_finds_nothing_of_its_kind_is_not_applicable(bench: Bench, complete: bool, status: tuple[str, str]) -> None:
    bench.plan(check("a", SOURCE, lambda *_: (), complete=complete, needs="a fan"))
    assert bench.state("a") == status
    assert bench.last("a") == {"BLIND": Status.OK, "CHECK-BROKEN": Status.OK}


def test_lines_of_a_stream_that_say_nothing_are_no_sign_that_the_check_does_not_apply(bench: Bench) -> None:
    bench.plan(check("a", Stream(("a",)), lambda *_: ()))
    bench.streams[0].feed(Feed(("rubbish",)))
    assert bench.state("a") == ("ok", "")


def test_stop_ends_all_readings(bench: Bench) -> None:
    bench.plan(check("a", Command(("a",)), interval_s=10.0), check("s", Stream(("s",))))
    bench.runner.stop()
    bench.commands.asked[0].done(DONE)
    bench.advance(100.0)
    assert len(bench.commands.asked) == 1
    assert bench.reported == []
    assert bench.streams[0].calls == ["start", "stop"]
    assert bench.runner.stuck(bench.clock.now) == ()


# -- who gets what -------------------------------------------------------------------------------------------------------


def test_equal_sources_share_one_reading(bench: Bench) -> None:
    a, b = (check(name, Command(("nvidia-smi", "-q")), interval_s=30.0) for name in ("a", "b"))
    bench.plan(a, b, check("c", Command(("nvidia-smi", "-q")), interval_s=60.0), check("d", Command(("x",)), interval_s=30.0))
    assert [one.command.argv for one in bench.commands.asked] == [("nvidia-smi", "-q"), ("nvidia-smi", "-q"), ("x",)]
    output = Output(0, "text", "")
    bench.commands.asked[0].done(output)
    ((at, reports, samples),) = bench.reported
    assert (at, [report.check for report in reports], samples) == (1_000.0, ["a", "b"], {"a": output, "b": output})


def test_timeout_is_the_checks(bench: Bench) -> None:
    bench.plan(check("a", Command(("a",)), timeout_s=7.0))
    assert bench.commands.asked[0].timeout_s == 7.0


def test_check_gets_sample_node_and_options(bench: Bench) -> None:
    got: list[object] = []

    def look(sample: Tree, node: NodeFacts, options: int) -> Iterable[Observation]:
        got.append((sample, node, options))
        return ()

    bench.plan(check("a", observe=look, options=17))
    assert got == [(Tree({"proc/x": "1\n"}, {}), NODE, 17)]


@pytest.mark.parametrize(
    ("source", "part"), [(Processes(), "processes"), (ClockState(), "max_error_s"), (Files(("proc/stat",)), "files")]
)
def test_real_sources_are_read(source: Any, part: str) -> None:
    bench = Bench(Path("/"))
    bench.plan(check("a", source))
    bench.loop.close()
    assert bench.state("a") == ("ok", "all well")
    assert hasattr(bench.reported[0][2]["a"], part)


def test_report_says_what_was_seen_and_that_the_check_sees_and_works(bench: Bench) -> None:
    bench.plan(check("a", observe=bad, complete=True))
    (report,) = bench.reports("a")
    assert report.observations == (
        Observation("A", "host", Status.FAILED, "broken"),
        Observation("BLIND", "check:a", Status.OK),
        Observation("CHECK-BROKEN", "check:a", Status.OK),
    )
    assert report.complete
    assert bench.state("a") == ("failed", "A host: broken")


def test_check_that_says_unknown_is_blind_and_not_complete(bench: Bench) -> None:
    unknown = Observation("A", "host", Status.UNKNOWN, "no permission")
    bench.plan(check("a", observe=lambda *_: [unknown], complete=True))
    (report,) = bench.reports("a")
    assert report.observations[1] == Observation("BLIND", "check:a", Status.UNKNOWN, "host: no permission")
    assert not report.complete


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((Status.OK,), ("ok", "d0")),
        ((Status.OK, Status.UNKNOWN), ("unknown", "c1: d1")),
        ((Status.UNKNOWN, Status.DEGRADED), ("degraded", "A c1: d1")),
        ((Status.DEGRADED, Status.FAILED, Status.FAILED), ("failed", "A c1: d1 (+1 more)")),
    ],
)
def test_state_is_the_worst_that_was_seen(bench: Bench, statuses: tuple[Status, ...], expected: tuple[str, str]) -> None:
    seen = [Observation("A", f"c{n}", status, f"d{n}") for n, status in enumerate(statuses)]
    bench.plan(check("a", observe=lambda *_: seen))
    assert bench.state("a") == expected


# -- sources that fail ---------------------------------------------------------------------------------------------------


def test_source_error_makes_every_check_on_it_unknown(bench: Bench) -> None:
    bench.plan(check("a", Command(("x",))), check("b", Command(("x",)), optional=True), check("c"))
    bench.commands.asked[0].done(SourceError("x: no answer in 20 s"))
    for name in ("a", "b"):
        assert bench.state(name) == ("unknown", "x: no answer in 20 s")
        assert bench.last(name) == {"BLIND": Status.UNKNOWN}
        assert bench.reports(name)[-1].observations[0].detail == "x: no answer in 20 s"
    assert bench.last("c") == WORKS


def test_missing_program_is_not_applicable_only_where_it_is_optional(bench: Bench) -> None:
    bench.plan(check("a", Command(("x",))), check("b", Command(("x",)), optional=True))
    bench.commands.asked[0].done(NotInstalled("x: not found in PATH"))
    assert bench.state("a") == ("unknown", "x: not found in PATH")
    assert bench.state("b") == ("not applicable", "x: not found in PATH")
    assert bench.last("a") == {"BLIND": Status.UNKNOWN}
    assert bench.reports("b") == []


def test_blindness_ends_when_the_program_is_found_missing(bench: Bench) -> None:
    bench.plan(check("b", Command(("x",)), optional=True))
    bench.commands.asked[0].done(SourceError("hangs"))
    bench.commands.asked[0].done(NotInstalled("gone"))
    assert bench.last("b") == {"BLIND": Status.OK}
    bench.commands.asked[0].done(NotInstalled("gone"))
    assert len(bench.reports("b")) == 2


def test_recovered_source_is_seen_again(bench: Bench) -> None:
    bench.plan(check("a", Command(("x",))))
    bench.commands.asked[0].done(SourceError("hangs"))
    bench.commands.asked[0].done(DONE)
    assert (bench.state("a"), bench.last("a")) == (("ok", "all well"), WORKS)


def test_reader_with_a_bug_costs_its_checks_only(bench: Bench) -> None:
    bench.plan(check("a", Files(("proc/x\0",))), check("b"))
    assert bench.state("a")[0] == "unknown"
    assert "ValueError: " in bench.state("a")[1]
    assert bench.last("b") == WORKS


def test_missing_root_is_unknown(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "absent")
    bench.plan(check("a", optional=True))
    bench.loop.close()
    assert bench.state("a")[0] == "unknown"


# -- checks that misbehave -----------------------------------------------------------------------------------------------


def crash(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
    """Raise."""
    raise KeyError("temperature")


def crash_late(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
    """Raise after the first observation."""
    yield Observation("A", "host", Status.FAILED, "half")
    raise RuntimeError


def leave(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
    """End the program."""
    raise SystemExit(3)


class Skipped(BaseException):
    """Like pytest's own, and what some frameworks raise to cancel."""


def skip(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
    """Raise what `except Exception` does not catch."""
    raise Skipped("no fan")


def spin(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
    """Loop for ever."""
    while True:
        pass


def spin_at_the_end(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
    """Return rubbish, then loop when that is refused."""
    try:
        yield None  # type: ignore[misc]
    finally:
        while True:
            pass


def backtrack(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
    """Take exponential time inside the regular-expression engine."""
    re.match(r"^(\w+\s?)+:$", "a" * 40)
    return ()


def flood(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
    """Emit without end."""
    while True:
        yield Observation("A", "host", Status.FAILED)


def seen(**fields: Any) -> Observation:
    """Return an observation, right but for these fields, as a check without types may make it."""
    return Observation(**{"code": "A", "component": "host", "status": Status.OK, **fields})


def returning(*seen: Any) -> Observe:
    """Return an observe that returns these."""
    return lambda *_: seen


MISBEHAVIOUR = {
    "crashes": (crash, "KeyError: 'temperature'"),
    "crashes late": (crash_late, "RuntimeError"),
    "exits": (leave, "SystemExit: 3"),
    "raises what is no Exception": (skip, "Skipped: no fan"),
    "loops": (spin, "took longer than 0.1 s over one sample"),
    "loops at the end": (spin_at_the_end, "took longer than 0.1 s over one sample"),
    "hangs in a regex": (backtrack, "took longer than 0.1 s over one sample"),
    "floods": (flood, f"ValueError: emitted more than {FLOOD} observations from one sample"),
    "none": (lambda *_: None, "TypeError: 'NoneType' object is not iterable"),
    "text": (returning("failed"), "TypeError: returned str where an Observation belongs"),
    "undeclared": (
        returning(Observation("B", "host", Status.OK)),
        "ValueError: emitted the code 'B', which it does not declare",
    ),
    "no status": (
        returning(seen(status="failed")),
        "TypeError: an Observation of the code 'A' with a field of the wrong type",
    ),
    "number": (
        returning(seen(detail=7)),
        "TypeError: an Observation of the code 'A' with a field of the wrong type",
    ),
    "attrs": (
        returning(seen(attrs=(("xid", 79),))),
        "TypeError: an Observation of the code 'A' with a field of the wrong type",
    ),
    "time": (
        returning(seen(at=float("nan"))),
        "ValueError: an Observation of the code 'A' at no time",
    ),
    "nowhere": (returning(Observation("A", "", Status.OK)), "ValueError: an Observation of the code 'A' without a component"),
    "novel": (returning(Observation("A", "host", Status.OK, "x" * (TEXT_MAX + 1))), "or of more than 65536 bytes"),
    "half a character": (returning(Observation("A", "host", Status.OK, "\ud800")), "UnicodeEncodeError: "),
}


@pytest.mark.parametrize(("observe", "said"), MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
def test_misbehaving_check_costs_itself_and_says_so(bench: Bench, observe: Observe, said: str) -> None:
    began = time.monotonic()
    bench.plan(check("a", observe=observe), check("b"))
    assert time.monotonic() - began < 2.0
    assert bench.last("a") == IS_BROKEN
    assert said in bench.reports("a")[0].observations[0].detail
    assert bench.state("a")[0] == "unknown"
    assert bench.state("a")[1].startswith("the check itself is broken: ")
    assert bench.last("b") == WORKS


def test_broken_check_rests_after_strikes_and_tries_again(bench: Bench) -> None:
    looks: list[float] = []

    def look(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
        looks.append(bench.clock.now)
        raise KeyError

    bench.plan(check("a", observe=look, interval_s=10.0), check("b", interval_s=10.0))
    bench.advance(5 * 10.0)
    assert len(looks) == STRIKES
    assert bench.state("a")[1].endswith(f"{STRIKES} times in a row, so it rests for {REST_S:g} s")
    bench.advance(REST_S + 4 * 10.0)
    assert len(looks) in (2 * STRIKES, 2 * STRIKES - 1)
    assert looks[STRIKES] - looks[STRIKES - 1] >= REST_S
    assert len(bench.reports("b")) > 60


def test_check_that_answers_again_is_well_and_begins_anew_to_count(bench: Bench) -> None:
    answers = iter([crash, crash, fine, crash, crash, fine])

    def look(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
        return next(answers)(sample, node, options)

    bench.plan(check("a", observe=look, interval_s=10.0))
    bench.advance(49.0 + bench.runner.phase_s % 1)
    assert [report.observations[0].code for report in bench.reports("a")][:6] == ["CHECK-BROKEN"] * 2 + ["A"] + [
        "CHECK-BROKEN"
    ] * 2 + ["A"]
    assert bench.last("a") == WORKS


def explode(node: NodeFacts) -> bool:
    """Raise."""
    raise AttributeError("no such fact")


def spin_on(node: NodeFacts) -> bool:
    """Loop for ever."""
    while True:
        pass


@pytest.mark.parametrize(("applies", "said"), [(explode, "AttributeError: no such fact"), (spin_on, "Overrun")])
def test_check_whose_applies_fails_is_broken_and_does_not_run(
    bench: Bench, applies: Callable[[NodeFacts], bool], said: str
) -> None:
    bench.plan(check("a", Command(("a",)), applies=applies), check("b"))
    assert bench.last("a") == IS_BROKEN
    assert f"its applies() failed: {said}" in bench.state("a")[1]
    assert bench.commands.asked == []
    assert bench.last("b") == WORKS


@pytest.mark.parametrize("pattern", [b"(", b"*"])
def test_check_whose_pattern_is_none_is_broken(bench: Bench, pattern: bytes) -> None:
    bench.plan(check("a", KernelLog(pattern)), check("b", KernelLog(b"x")))
    assert bench.last("a") == IS_BROKEN
    assert bench.runner.kernel_pattern_sources == (b"x",)


def test_check_that_does_not_apply_says_nothing_but_that_it_is_not_blind(bench: Bench) -> None:
    bench.plan(check("a", Command(("a",)), applies=nowhere, needs="an NVSwitch"))
    assert bench.state("a") == ("not applicable", "needs an NVSwitch")
    assert bench.commands.asked == []
    assert bench.last("a") == {"BLIND": Status.OK, "CHECK-BROKEN": Status.OK}


# -- the first runs ------------------------------------------------------------------------------------------------------


def test_first_runs_are_done_when_every_polled_check_has_answered(bench: Bench) -> None:
    bench.plan(
        check("a", Command(("a",))),
        check("b", Command(("b",))),
        check("c", Command(("c",)), optional=True),
        check("kernel", KernelLog(b"x")),
        check("stream", Stream(("s",))),
        check("files"),
        check("elsewhere", Command(("d",)), applies=nowhere),
    )
    assert bench.first_runs == "a b c"
    assert bench.state("a") == ("waiting", "first run is under way")
    answers: tuple[Output | SourceError, ...] = (DONE, SourceError("x"), NotInstalled("x"))
    for asked, answer in zip(bench.commands.asked, answers, strict=True):
        asked.done(answer)
    assert bench.first_runs == "done"


# -- a new plan ----------------------------------------------------------------------------------------------------------


def test_reload_keeps_states_until_the_next_answer(bench: Bench) -> None:
    bench.plan(check("a", Command(("a",)), bad), check("gone", Command(("g",))))
    bench.commands.asked[0].done(DONE)
    bench.plan(check("a", Command(("a",)), bad, interval_s=30.0), check("new", Command(("n",))))
    assert bench.state("a") == ("failed", "A host: broken")
    assert bench.state("new") == ("waiting", "first run is under way")
    assert "gone" not in bench.runner.states
    assert [one.command.argv for one in bench.commands.asked[2:]] == [("a",), ("n",)]


def test_answer_to_the_old_plan_is_not_heard(bench: Bench) -> None:
    bench.plan(check("a", Command(("a",)), bad))
    bench.plan(check("a", Command(("a",))))
    bench.commands.asked[0].done(DONE)
    assert bench.reports("a") == []
    assert not bench.runner.first_runs_done
    bench.commands.asked[1].done(DONE)
    assert bench.last("a") == WORKS


def test_old_timers_are_gone_after_a_reload(bench: Bench) -> None:
    for _ in range(5):
        bench.plan(check("a", Command(("a",)), interval_s=10.0))
    bench.advance(100.0)
    assert len(bench.commands.asked) == 5 + 10


def test_disabled_check_is_said_to_be_and_does_not_run(bench: Bench) -> None:
    bench.plan(check("a", Command(("a",))), disabled=["b"])
    assert bench.state("b") == ("disabled", "switched off in the configuration")
    bench.plan(check("b", Command(("b",))), disabled=["a"])
    assert bench.state("a")[0] == "disabled"
    assert bench.state("b")[0] == "waiting"


def test_switching_a_blind_check_off_ends_its_blindness(bench: Bench) -> None:
    bench.plan(check("a", Command(("a",))))
    bench.commands.asked[0].done(SourceError("hangs"))
    bench.plan(disabled=["a"])
    assert bench.last("a") == {"BLIND": Status.OK, "CHECK-BROKEN": Status.OK}
    assert bench.state("a")[0] == "disabled"


# -- the kernel log ------------------------------------------------------------------------------------------------------


def lines(*texts: str) -> tuple[KernelLine, ...]:
    """Return kernel lines."""
    return tuple(KernelLine(n, 0.0, 4, text) for n, text in enumerate(texts))


def echo(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
    """See every line."""
    return [Observation("A", "host", Status.FAILED, line.text) for line in sample.lines]


def test_lines_go_to_the_checks_whose_pattern_they_match(bench: Bench) -> None:
    bench.plan(
        check("xid", KernelLog(rb"^NVRM: Xid"), echo),
        check("oom", KernelLog(rb"Out of memory|oom-kill"), echo),
        check("any", KernelLog(rb"e"), echo),
        check("other", KernelLog(rb"never"), echo),
    )
    bench.reported.clear()
    bench.runner.on_kernel_lines(lines("NVRM: Xid 79", "x NVRM: Xid 13", "Out of memory", r"oom-kill \xff"))
    ((_, reports, samples),) = bench.reported
    seen = {report.check: [o.detail for o in report.observations if o.code == "A"] for report in reports}
    assert seen == {"xid": ["NVRM: Xid 79"], "oom": ["Out of memory", r"oom-kill \xff"], "any": ["Out of memory"]}
    assert set(samples) == {"xid", "oom", "any"}
    bench.runner.on_kernel_lines(lines("nothing"))
    assert len(bench.reported) == 1


def test_kernel_checks_wait_until_the_log_is_read(bench: Bench) -> None:
    bench.plan(check("a", KernelLog(b"x"), echo))
    assert bench.state("a") == ("waiting", "the kernel log has not been read yet")
    bench.runner.on_kernel_log_readable()
    assert bench.state("a") == ("ok", "nothing found in the kernel log")
    assert bench.last("a") == {"BLIND": Status.OK}


def test_unreadable_log_blinds_every_check_on_it_also_after_a_reload(bench: Bench) -> None:
    bench.plan(check("a", KernelLog(b"x"), echo), check("files"))
    bench.runner.on_kernel_log_lost(SourceError("/dev/kmsg: Operation not permitted"))
    bench.plan(check("a", KernelLog(b"x"), echo), check("b", KernelLog(b"y"), echo))
    for name in ("a", "b"):
        assert bench.state(name) == ("unknown", "/dev/kmsg: Operation not permitted")
        assert bench.last(name) == {"BLIND": Status.UNKNOWN}
    assert bench.runner.states.keys() == {"a", "b"}
    bench.runner.on_kernel_log_readable()
    for name in ("a", "b"):
        assert (bench.state(name)[0], bench.last(name)) == ("ok", {"BLIND": Status.OK})


def test_reload_keeps_what_was_found_in_the_log(bench: Bench) -> None:
    bench.plan(check("a", KernelLog(b"x"), echo))
    bench.runner.on_kernel_log_readable()
    bench.runner.on_kernel_lines(lines("x"))
    bench.plan(check("a", KernelLog(b"x"), echo), check("new", KernelLog(b"y"), echo))
    assert bench.state("a") == ("failed", "A host: x")
    assert bench.state("new") == ("ok", "nothing found in the kernel log")


def test_readable_log_does_not_mend_a_broken_check(bench: Bench) -> None:
    bench.plan(check("a", KernelLog(b"x"), crash))
    bench.runner.on_kernel_lines(lines("x"))
    bench.runner.on_kernel_log_readable()
    assert bench.state("a")[0] == "unknown"
    assert bench.last("a") == IS_BROKEN
    assert bench.runner.states["a"].reason == "the check itself is broken: KeyError: 'temperature'"


def test_pattern_that_takes_for_ever_costs_its_check_only(bench: Bench) -> None:
    bench.plan(check("a", KernelLog(rb"^(\w+\s?)+:$"), echo), check("b", KernelLog(rb"aaa"), echo))
    bench.runner.on_kernel_lines(lines("a" * 40))
    assert bench.last("a") == IS_BROKEN
    assert bench.reports("a")[-1].observations[0].detail.startswith(f"its pattern took longer than {OBSERVE_LIMIT_S:g} s")
    assert bench.last("b")["A"] is Status.FAILED
    assert bench.runner.kernel_pattern_sources == (rb"aaa",)
    bench.runner.on_kernel_lines(lines("a" * 40))
    assert (len(bench.reports("a")), len(bench.reports("b"))) == (1, 2)


# -- streams -------------------------------------------------------------------------------------------------------------


def test_stream_is_shared_whatever_the_interval_and_feeds_arrive_at_once(bench: Bench) -> None:
    bench.plan(check("a", Stream(("s",)), interval_s=10.0), check("b", Stream(("s",)), interval_s=60.0))
    (stream,) = bench.streams
    assert (stream.calls, bench.state("a")[0]) == (["start"], "waiting")
    stream.feed(Feed(("1", "2")))
    assert bench.last("a") == bench.last("b") == WORKS
    assert bench.reported[-1][2] == {"a": Feed(("1", "2")), "b": Feed(("1", "2"))}
    stream.fail(SourceError("s: no line within 60 s"))
    assert bench.state("b") == ("unknown", "s: no line within 60 s")
    assert bench.last("a") == {"BLIND": Status.UNKNOWN}


def test_reload_leaves_a_stream_running_and_gives_its_lines_to_the_new_plan(bench: Bench) -> None:
    bench.plan(check("a", Stream(("s",))), check("t", Stream(("t",))))
    bench.plan(check("b", Stream(("s",))))
    assert [stream.calls for stream in bench.streams] == [["start", "start"], ["start", "stop"]]
    bench.streams[0].feed(Feed(("x",)))
    assert (bench.reports("a"), bench.last("b")) == ([], WORKS)
    bench.streams[1].feed(Feed(("x",)))
    assert bench.reports("t") == []


@pytest.mark.parametrize(("out", "made"), [(True, 1), (False, 2)])
def test_stream_planned_again_is_the_same_while_its_child_is_out(bench: Bench, out: bool, made: int) -> None:
    bench.plan(check("a", Stream(("s",))))
    bench.streams[0].out = out
    bench.plan()
    bench.plan(check("a", Stream(("s",))))
    assert len(bench.streams) == made
    assert bench.streams[-1].calls[-1] == "start"


# -- for real ------------------------------------------------------------------------------------------------------------


# -- probes -----------------------------------------------------------------------------------------------------------

UP = GpuReadings(NvmlDriver("up", gpu_count=8))
XID = GpuEvents((GpuEvent("0000:9b:00", 8, 79, 5.0),))


def test_one_child_serves_every_check_on_it_each_with_its_own_samples(bench: Bench) -> None:
    got: list[tuple[str, Sample]] = []

    def taking(name: str) -> Observe:
        def observe(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
            got.append((name, sample))
            return ()

        return observe

    bench.plan(
        check("readings", Nvml(), taking("readings")),
        check("more", Nvml(), taking("more")),
        check("events", NvmlEvents(), taking("events")),
    )
    (stream,) = bench.streams
    stream.feed(Feed((probe_line(UP), probe_line(XID))))
    assert got == [("readings", UP), ("more", UP), ("events", XID)]


def test_probe_that_cannot_look_blinds_the_checks_on_that_sample_only(bench: Bench) -> None:
    bench.plan(check("readings", Nvml()), check("events", NvmlEvents()))
    (stream,) = bench.streams
    stream.feed(Feed((probe_line(UP), probe_line(Blind("GpuEvents", "no driver")))))
    assert (bench.state("readings"), bench.state("events")) == (("ok", "all well"), ("unknown", "no driver"))


def test_blindness_that_is_a_fault_already_is_none_of_its_own(bench: Bench) -> None:
    bench.plan(check("events", NvmlEvents()))
    bench.streams[0].feed(Feed((probe_line(Blind("GpuEvents", "the driver does not answer (no_driver)", told=True)),)))
    assert bench.state("events") == ("unknown", "the driver does not answer (no_driver)")
    assert bench.last("events") == {"BLIND": Status.OK, "CHECK-BROKEN": Status.OK}


@pytest.mark.parametrize("line", ["garbage", '{"GpuReadings": {}}', probe_line(Feed(("x",)))[:-2]])
def test_what_a_probe_prints_and_nobody_can_read_blinds_all_checks_on_it(bench: Bench, line: str) -> None:
    bench.plan(check("readings", Nvml()), check("events", NvmlEvents()))
    bench.streams[0].feed(Feed((line,)))
    assert [bench.state(name)[0] for name in ("readings", "events")] == ["unknown", "unknown"]
    assert "nvml probe: printed what is no reading" in bench.state("events")[1]


def test_what_is_said_beside_a_count_is_what_people_read(bench: Bench) -> None:
    seen = (Observation("A", "gpu:1", Status.OK, "0 errors", counter=0), Observation("A", "node", Status.OK, "8 GPUs"))
    bench.plan(check("ecc", Nvml(), lambda *_: seen), check("replays", Nvml(), lambda *_: seen[:1]))
    bench.streams[0].feed(Feed((probe_line(UP),)))
    assert [bench.state(name) for name in ("ecc", "replays")] == [("ok", "8 GPUs"), ("ok", "0 errors")]


def test_flood_of_what_nobody_can_read_is_one_blindness_a_piece(bench: Bench) -> None:
    bench.plan(check("readings", Nvml()))
    bench.streams[0].feed(Feed(("x",) * 32_000))
    assert len(bench.reported) == 1
    bench.streams[0].feed(Feed((probe_line(UP),)))
    assert bench.state("readings")[0] == "ok"


def test_sample_that_nobody_asked_for_is_left(bench: Bench) -> None:
    bench.plan(check("readings", Nvml()))
    bench.streams[0].feed(Feed((probe_line(XID),)))
    assert bench.state("readings")[0] == "waiting"


def test_lost_probe_blinds_its_checks_and_no_other(bench: Bench) -> None:
    bench.plan(check("readings", Nvml()), check("events", NvmlEvents()), check("dcgm", Dcgm()))
    nvml, _ = bench.streams
    nvml.fail(SourceError("nvml probe: killed by SIGSEGV"))
    assert [bench.state(name)[0] for name in ("readings", "events", "dcgm")] == ["unknown", "unknown", "waiting"]


def test_library_that_is_not_installed_makes_its_checks_not_applicable(bench: Bench) -> None:
    bench.plan(check("dcgm", Dcgm(), optional=True))
    bench.streams[0].fail(NotInstalled("no DCGM bindings and no dcgmi"))
    assert bench.state("dcgm") == ("not applicable", "no DCGM bindings and no dcgmi")
    assert bench.runner.first_runs_done


def test_first_reading_is_waited_for_and_events_are_not(bench: Bench) -> None:
    bench.plan(check("readings", Nvml()), check("events", NvmlEvents()))
    assert bench.runner.waiting_for == ("readings",)
    bench.streams[0].feed(Feed((probe_line(UP),)))
    assert bench.runner.first_runs_done


@pytest.mark.parametrize("complete", [True, False])
def test_reading_without_anything_of_its_kind_is_not_applicable(bench: Bench, complete: bool) -> None:
    bench.plan(check("pages", Nvml(), lambda *_: [], complete=complete))
    bench.streams[0].feed(Feed((probe_line(UP),)))
    assert bench.state("pages")[0] == "not applicable"


def test_reading_of_which_a_part_is_unknown_is_no_blindness_and_complete_for_the_rest(bench: Bench) -> None:
    def partly(sample: Sample, node: NodeFacts, options: object) -> Iterable[Observation]:
        yield Observation("A", "node", Status.OK)
        yield Observation("A", "gpu:0000:9b:00", Status.UNKNOWN, "lost")

    bench.plan(check("ecc", Nvml(), partly, complete=True))
    bench.streams[0].feed(Feed((probe_line(UP),)))
    ((_, (report,), _),) = bench.reported
    assert report.complete
    assert [(o.code, o.status) for o in report.observations[2:]] == [("BLIND", Status.OK), ("CHECK-BROKEN", Status.OK)]
    assert bench.state("ecc") == ("unknown", "gpu:0000:9b:00: lost")


def test_driver_that_does_not_answer_is_a_fault_of_one_check_and_no_blindness_of_twenty(bench: Bench) -> None:
    bench.plan(check("ecc", Nvml(), lambda *_: [Observation("A", "node", Status.UNKNOWN, "no driver")], complete=True))
    bench.streams[0].feed(Feed((probe_line(UP),)))
    ((_, (report,), _),) = bench.reported
    assert not report.complete
    assert [(o.code, o.status) for o in report.observations[1:]] == [("BLIND", Status.OK), ("CHECK-BROKEN", Status.OK)]
    assert bench.state("ecc") == ("unknown", "node: no driver")


def test_host_engine_that_does_not_answer_is_blindness(bench: Bench) -> None:
    bench.plan(check("dcgm", Dcgm(), lambda *_: [Observation("A", "node", Status.UNKNOWN, "hung")], complete=True))
    bench.streams[0].feed(Feed((probe_line(DcgmHealth(DcgmEngine("hung", "bindings"))),)))
    ((_, (report,), _),) = bench.reported
    assert not report.complete
    assert report.observations[1].status is Status.UNKNOWN


SAME = probe_line(Same("GpuReadings"))


def counted(seen: list[Sample], status: Status = Status.OK) -> Observe:
    """Return an observer that takes its samples down and finds one component in a status."""

    def observe(sample: Any, node: NodeFacts, options: Any) -> Iterable[Observation]:
        seen.append(sample)
        return [Observation("A", "node", status, "as told")]

    return observe


@pytest.mark.parametrize(
    ("status", "faults", "looks"),
    [(Status.OK, False, 1), (Status.OK, True, 3), (Status.FAILED, False, 3), (Status.UNKNOWN, False, 3)],
)
def test_reading_that_is_the_last_one_again_is_looked_at_only_where_something_is_or_was_wrong(
    bench: Bench, status: Status, faults: bool, looks: int
) -> None:
    seen: list[Sample] = []
    bench.plan(check("ecc", Nvml(), counted(seen, status)))
    bench.faults = faults
    runs = bench.runner.states["ecc"].runs
    bench.streams[0].feed(Feed((probe_line(UP), SAME, SAME)))
    assert seen == [UP] * looks
    assert bench.runner.states["ecc"].runs - runs == 3
    assert bench.state("ecc") == (status.value, "as told" if status is Status.OK else bench.state("ecc")[1])


def test_word_that_all_is_the_same_is_nothing_before_there_was_a_reading(bench: Bench) -> None:
    bench.plan(check("ecc", Nvml()))
    bench.faults = False
    bench.streams[0].feed(Feed((SAME,)))
    assert bench.state("ecc")[0] == "waiting"


def test_new_plan_looks_at_the_last_reading_with_its_own_facts(bench: Bench) -> None:
    seen: list[Sample] = []
    bench.plan(check("ecc", Nvml(), counted(seen)))
    bench.faults = False
    bench.streams[0].feed(Feed((probe_line(UP), SAME)))
    bench.plan(check("ecc", Nvml(), counted(seen)), check("more", Nvml(), counted(seen)))
    bench.streams[0].feed(Feed((SAME, SAME)))
    assert seen == [UP] * 3
    assert bench.state("more") == ("ok", "as told")


def test_files_are_looked_at_at_once_when_a_fault_waits_for_their_code(bench: Bench) -> None:
    seen: list[Sample] = []
    bench.plan(check("x", SOURCE, counted(seen), interval_s=600.0), check("other", Command(("a",)), interval_s=600.0))
    bench.runner.look_now(frozenset({"B"}))
    assert len(seen) == 1
    bench.runner.look_now(frozenset({"A", "C"}))
    assert (len(seen), len(bench.commands.asked)) == (2, 1)
    bench.runner.look_now(frozenset())
    assert len(seen) == 2


def test_file_that_says_the_same_as_before_is_looked_at_only_where_something_is_wrong(bench: Bench, tmp_path: Path) -> None:
    seen: list[Sample] = []
    bench.plan(check("x", SOURCE, counted(seen), interval_s=10.0))
    bench.faults = False
    bench.advance(60.0)
    assert len(seen) == 1
    assert bench.runner.states["x"].at > 1_040.0
    (tmp_path / "proc" / "x").write_text("2\n")
    bench.advance(20.0)
    assert len(seen) == 2
    bench.faults = True
    bench.advance(20.0)
    assert len(seen) == 4


@pytest.mark.needs(*NEEDS)
def test_child_in_state_d_leaves_the_other_checks_their_schedule(tmp_path: Path) -> None:
    loop = Loop()
    commands = CommandRunner(loop)
    heard: list[tuple[float, str, str]] = []

    def reported(reports: tuple[Report, ...], samples: Mapping[str, Sample]) -> None:
        heard.extend((loop.clock(), report.check, report.observations[-1].detail) for report in reports)

    with frozen(tmp_path) as disk:
        runner = Runner(loop, commands, Path("/"), NODE, reported)
        checks = (
            check("stuck", Command(disk.writer), interval_s=1.0, timeout_s=0.3),
            check("echo", Command(("echo", "x")), interval_s=0.2, timeout_s=5.0),
            check("files", Files(("proc/loadavg",)), interval_s=0.2),
        )
        runner.plan([ConfiguredCheck(c, c.interval_s, c.timeout_s, None) for c in checks], NODE)
        until = loop.clock() + 5.0
        while loop.clock() < until:
            loop.run_once(0.1)
        blind = [detail for _, name, detail in heard if name == "stuck"]
        assert "and was left behind" in blind[-1] or "has not ended" in blind[-1]
        # One child, though a second run that was due within its limit may have been given the same answer.
        assert len({detail for detail in blind if "and was left behind" in detail}) == 1
        assert runner.states["stuck"].status == "unknown"
        for name in ("echo", "files"):
            times = [at for at, who, _ in heard if who == name]
            assert len(times) > 20
            assert max(later - before for before, later in itertools.pairwise(times)) < 0.6
        began = time.monotonic()
        runner.stop()
        disk.thaw()
        give_up = loop.clock() + 10.0
        while commands.abandoned and loop.clock() < give_up:
            loop.run_once(0.1)
        commands.stop()
        assert time.monotonic() - began < 5.0
    loop.close()
