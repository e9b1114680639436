"""The agent's side of the journal, with the real child on real disks: it saves, and it goes on where it cannot."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hma.journal import Journal
from hma.journal_copy import COPY_NAME
from hma.journal_records import Commit, Cursor, Snapshot
from hma.loop import Loop, boottime
from hma.model import Fault, FaultKey, State
from hma.recorder import Recorder
from tests.disks import NEEDS, fill, memory_disk, mount
from tests.journal_values import BOOT, event, fault, verdict
from tests.sources.stuck import NEEDS as NEEDS_FREEZER
from tests.sources.stuck import frozen, state


@dataclass
class Owner:
    """An agent: one loop, one recorder, what it was told, and what is true now."""

    state_dir: Path
    pace: float = 1.0
    trace: Path | None = None
    max_events: int = 10_000
    told: list[str] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    live: dict[FaultKey, Fault] = field(default_factory=dict)
    wholes: int = 0

    def __post_init__(self) -> None:
        # A loop whose clock runs faster makes back-off and patience short.
        self.loop = Loop(lambda: boottime() * self.pace)
        self.recorder = Recorder(
            self.loop, self.state_dir, self, keep_s=1e7, max_bytes=1 << 28, trace=self.trace, max_events=self.max_events
        )

    def loaded(self, snapshot: Snapshot) -> None:
        self.told.append("loaded")
        self.snapshots.append(snapshot)
        if snapshot.state is not None:
            self.live = {**snapshot.state.faults, **self.live}

    def trouble(self, text: str) -> None:
        self.told.append(text)

    def recovered(self) -> None:
        self.told.append("recovered")

    def whole(self) -> Commit:
        self.wholes += 1
        return Commit.of(State(verdict(), dict(self.live)), {"kernel": Cursor(BOOT, 7)})

    # -- as an agent would ---------------------------------------------------------------------------------------------

    def until(self, done: Callable[[], object], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"nothing more came after {self.told}"
            self.loop.run_once(0.02)

    def turn(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.loop.run_once(0.02)

    def start(self) -> Snapshot:
        self.recorder.start()
        self.until(lambda: self.snapshots)
        return self.snapshots[0]

    def raises(self, number: int) -> Commit:
        """Return the commit of one more fault."""
        new = fault(number)
        self.live[new.key] = new
        return Commit({new.key: new}, verdict=verdict(), events=(event(number),))

    def saves(self, commit: Commit, seconds: float = 20.0) -> bool:
        answers: list[bool] = []
        self.recorder.commit(commit, answers.append)
        assert not answers, "answered from inside commit"
        self.until(lambda: answers, seconds)
        return answers[0]

    def is_told(self, part: str, seconds: float = 20.0) -> None:
        self.until(lambda: any(part in text for text in self.told), seconds)

    @property
    def pid(self) -> int:
        assert self.recorder.pid is not None
        return self.recorder.pid


@contextlib.contextmanager
def owner(state_dir: Path, pace: float = 1.0, trace: Path | None = None, max_events: int = 10_000) -> Iterator[Owner]:
    one = Owner(state_dir, pace, trace, max_events)
    try:
        yield one
    finally:
        one.recorder.stop(5.0)
        one.loop.close()


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Reap what a stopped recorder leaves to the end of its process, so that no later test meets it."""
    yield
    end = time.monotonic() + 5.0
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] or time.monotonic() < end:
            time.sleep(0.002)


def kept(state_dir: Path) -> tuple[Snapshot, list[str]]:
    """Return what the journal holds, and the ids of all its events."""
    journal = Journal(state_dir / "journal.db")
    try:
        return journal.load(), [saved.id for saved in journal.events(limit=1_000_000)]
    finally:
        journal.close()


def numbered(one: Owner, number: int) -> Commit:
    """Return a commit of one of forty faults, and an event of its own."""
    return replace(one.raises(number % 40), events=(event(number),))


def remembering(acknowledged: set[str], name: str) -> Callable[[bool], None]:
    return lambda durable: acknowledged.add(name) if durable else None


def faults_in(state_dir: Path) -> set[FaultKey]:
    snapshot, _ = kept(state_dir)
    return set(snapshot.state.faults) if snapshot.state else set()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


# -- the daily work -------------------------------------------------------------------------------------------------------


def test_what_was_saved_is_what_the_next_agent_begins_from(state_dir: Path) -> None:
    with owner(state_dir) as one:
        assert one.start() == Snapshot(None)
        assert one.saves(one.raises(1))
        assert one.recorder.lag() == 0.0
    with owner(state_dir) as two:
        snapshot = two.start()
        assert snapshot.state is not None
        assert snapshot.state.faults == one.live
        assert (snapshot.unemitted, snapshot.notes) == ((event(1),), ())
        assert two.told == ["loaded"]


def test_commits_asked_for_at_once_are_few_transactions_and_answered_in_order(state_dir: Path) -> None:
    answers: list[int] = []
    with owner(state_dir) as one:
        one.start()
        for number in range(200):
            one.recorder.commit(one.raises(number), lambda durable, n=number: answers.append(n if durable else -1))  # type: ignore[misc]
        assert answers == []
        assert one.recorder.lag() > 0.0
        one.until(lambda: len(answers) == 200)
    assert answers == list(range(200))
    _, events = kept(state_dir)
    assert events == [f"event-{n}" for n in range(200)]
    assert one.recorder._number < 10


def test_commit_before_the_journal_was_read_is_laid_on_what_it_holds(state_dir: Path) -> None:
    with owner(state_dir) as one:
        one.start()
        assert one.saves(one.raises(1))
    with owner(state_dir) as two:
        answers: list[bool] = []
        two.recorder.start()
        two.recorder.commit(two.raises(2), answers.append)
        two.until(lambda: answers)
        assert (answers, two.wholes) == ([True], 1)
    assert faults_in(state_dir) == {fault(1).key, fault(2).key}


def test_printed_events_are_not_told_again(state_dir: Path) -> None:
    with owner(state_dir) as one:
        one.start()
        one.saves(one.raises(1))
        one.saves(one.raises(2))
        one.recorder.mark_emitted(["event-1"])
        assert one.recorder.lag() == 0.0, "marks are not urgent"
        one.turn(1.2)
    with owner(state_dir) as two:
        assert [event.id for event in two.start().unemitted] == ["event-2"]


def test_backlog_larger_than_one_message_is_answered_when_the_last_of_it_is_durable(state_dir: Path) -> None:
    with owner(state_dir) as one:
        one.start()
        assert one.saves(Commit(events=tuple(event(n) for n in range(5_000))))
        assert one.recorder._number == 3
    assert len(kept(state_dir)[1]) == 5_000


def test_stop_saves_what_is_left(state_dir: Path) -> None:
    answers: list[bool] = []
    with owner(state_dir) as one:
        one.start()
        for number in range(3):
            one.recorder.commit(one.raises(number), answers.append)
        one.recorder.mark_emitted(["event-0"])
        one.recorder.stop(5.0)
        assert answers == [True] * 3
    snapshot, _ = kept(state_dir)
    assert snapshot.state is not None
    assert (snapshot.state.faults, [left.id for left in snapshot.unemitted]) == (one.live, ["event-1", "event-2"])


def test_stop_before_the_journal_was_read_tells_that_nothing_was_saved(state_dir: Path) -> None:
    answers: list[bool] = []
    with owner(state_dir) as one:
        one.recorder.start()
        one.recorder.commit(one.raises(1), answers.append)
        one.recorder.stop(5.0)
        assert answers == [False]
    assert kept(state_dir)[0].state is None


def test_idle_recorder_has_no_timer(state_dir: Path) -> None:
    with owner(state_dir, pace=50) as one:
        one.start()
        one.saves(one.raises(1))
        one.recorder.mark_emitted(["event-1"])
        one.turn(0.5)
        assert one.loop._until_next_timer() is None


def test_trace_is_written_beside_the_journal(state_dir: Path, tmp_path: Path) -> None:
    with owner(state_dir, trace=tmp_path / "trace") as one:
        one.start()
        for number in range(3):
            one.recorder.trace(f"line {number} \udcff\n{{".replace("\n", " "))
        one.turn(0.4)
        one.recorder.trace("last")
    assert (tmp_path / "trace").read_bytes() == b"line 0 \xff {\nline 1 \xff {\nline 2 \xff {\nlast\n"
    assert one.recorder.trace_dropped == 0


def test_trace_that_floods_is_cut_and_counted_and_holds_no_commit_up(state_dir: Path, tmp_path: Path) -> None:
    with owner(state_dir, trace=tmp_path / "trace") as one:
        one.start()
        for _ in range(10_000):
            one.recorder.trace("x" * 100)
        assert one.saves(one.raises(1), seconds=1.0)
    lines = (tmp_path / "trace").read_bytes().count(b"\n")
    assert lines + one.recorder.trace_dropped == 10_000
    assert one.recorder.trace_dropped > 5_000


def test_trace_that_cannot_be_written_is_no_trouble_of_the_journal(state_dir: Path) -> None:
    with owner(state_dir, trace=Path("/proc/no/such/place")) as one:
        one.start()
        one.recorder.trace("line")
        one.until(lambda: one.recorder.trace_trouble)
        assert "/proc/no/such/place cannot be written: No such file or directory" in one.recorder.trace_trouble
        assert one.saves(one.raises(1))
        assert one.told == ["loaded"]


# -- the child and its agent ----------------------------------------------------------------------------------------------


def test_agents_process_holds_no_database() -> None:
    script = "import sys, hma.recorder; print({'sqlite3', '_sqlite3', 'hma.journal', 'hma.journal_read'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_child_holds_nothing_of_the_agent(state_dir: Path, tmp_path: Path) -> None:
    with socket.socket() as port, open(tmp_path / "lock", "w") as lock:
        port.bind(("127.0.0.1", 0))
        for fd in (port.fileno(), lock.fileno()):
            os.set_inheritable(fd, True)  # as a library may have left one
        with owner(state_dir) as one:
            one.start()
            held = [str(entry.readlink()) for entry in Path(f"/proc/{one.pid}/fd").iterdir()]
            assert len([name for name in held if name.startswith("socket:")]) == 3
            others = {name for name in held if not name.startswith("socket:")}
            assert {Path(name).parent for name in others} == {state_dir}
            assert os.getsid(one.pid) == one.pid
            assert Path(f"/proc/{one.pid}/cwd").readlink() == Path("/")
            assert Path(f"/proc/{one.pid}/comm").read_text() == "hma-journal\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_child_outlives_a_signal_meant_for_the_agent(state_dir: Path, number: int) -> None:
    with owner(state_dir) as one:
        one.start()
        os.kill(one.pid, number)
        assert one.saves(one.raises(1))
        assert one.told == ["loaded"]


def test_child_ends_with_the_agent_after_all_it_was_told(state_dir: Path) -> None:
    """An agent that is killed right after it has sent a commit, without reading the answer."""
    script = """
import os, signal, sys
from pathlib import Path
from tests.test_recorder import Owner
one = Owner(Path(sys.argv[1]))
one.start()
print(one.pid, flush=True)
for number in range(50):
    one.recorder.commit(one.raises(number))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script, str(state_dir)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    end = time.monotonic() + 5
    while state(int(done.stdout)) not in {"", "Z"}:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert fault(0).key in faults_in(state_dir)


def test_lost_child_is_replaced_and_gets_all_that_is_true_now(state_dir: Path) -> None:
    with owner(state_dir, pace=5) as one:
        one.start()
        assert one.saves(one.raises(1))
        os.kill(one.pid, signal.SIGKILL)
        one.is_told("the journal's process was killed by SIGKILL; it is started again")
        assert not one.saves(one.raises(2)), "said to be durable while nobody could save it"
        one.is_told("recovered")
        assert (one.wholes, one.snapshots) == (1, [Snapshot(None)])
        assert one.saves(one.raises(3))
        assert one.recorder.lag() == 0.0
    snapshot, events = kept(state_dir)
    assert snapshot.state is not None
    assert (snapshot.state.faults, events) == (one.live, ["event-1", "event-2", "event-3"])


def test_child_that_cannot_even_begin_says_why_and_is_tried_less_and_less(state_dir: Path, tmp_path: Path) -> None:
    with owner(state_dir, pace=10) as one:
        argv = list(one.recorder._argv)
        one.recorder._argv = (*argv[:6], "raise SystemExit('ImportError: no module named _sqlite3')", *argv[7:])
        one.recorder.start()
        one.is_told("the journal's process ended with status 1 (ImportError: no module named _sqlite3); it is started again")
        one.until(lambda: one.recorder._delay >= 8.0)
        assert len(one.told) == 1, "told again and again"
        one.recorder._argv = tuple(argv)
        one.is_told("recovered")
        assert one.told[1:] == ["loaded", "recovered"]


@pytest.mark.parametrize("line", [b'{"saved": 1, "no', b"{}", b"[1]", b"null", b"\xff{", b""])
def test_line_that_is_none_of_the_journals_is_kept_for_its_last_words(state_dir: Path, line: bytes) -> None:
    """Standard error of the child comes the same way, and may cut a message in two."""
    with owner(state_dir) as one:
        one.start()
        one.recorder._heard(line)
        assert one.saves(one.raises(1))


def test_child_that_has_let_go_of_us_and_lives_is_not_replaced(state_dir: Path) -> None:
    """As one that hangs in its last close of a file: it still holds the journal."""
    with owner(state_dir, pace=10) as one:
        argv = list(one.recorder._argv)
        one.recorder._argv = (*argv[:6], "import os, time; os.closerange(0, 3); time.sleep(1.5)", *argv[7:])
        one.recorder.start()
        lost, began = one.pid, time.monotonic()
        one.recorder._argv = tuple(argv)
        one.is_told("the journal's process has closed its channel; it is started again")
        one.until(lambda: one.recorder.pid)
        assert time.monotonic() - began > 1.0
        assert state(lost) == ""
        one.is_told("recovered")


def test_child_that_cannot_be_started_is_trouble(state_dir: Path) -> None:
    with owner(state_dir, pace=10) as one:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            one.recorder.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert one.told == ["the journal's process cannot be started: Too many open files; mend: free memory or process ids"]
        assert not one.saves(one.raises(1))
        one.is_told("recovered")
    assert faults_in(state_dir) == {fault(1).key}


def test_second_agent_is_told_so_and_writes_when_the_first_has_gone(state_dir: Path) -> None:
    with owner(state_dir) as one, owner(state_dir, pace=5) as two:
        one.start()
        assert one.saves(one.raises(1))
        snapshot = two.start()
        assert snapshot.state is not None
        assert snapshot.state.faults == one.live
        two.is_told("another process keeps the journal locked; mend: stop the second agent")
        assert not two.saves(two.raises(2))
        assert one.saves(one.raises(3))
        one.recorder.stop(5.0)
        two.is_told("recovered")
    assert faults_in(state_dir) == set(two.live)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_the_child_is_killed_a_hundred_times(state_dir: Path) -> None:
    chance, acknowledged, numbers = random.Random(7), set[str](), itertools.count()
    with owner(state_dir, pace=20) as one:
        one.start()
        for _ in range(100):
            if chance.random() < 0.8:  # the others are killed while they open the journal, or take all that is true
                one.until(lambda: one.saves(one.raises(50)))
            one.until(lambda: one.recorder.pid)
            victim, at = one.pid, time.monotonic() + chance.uniform(0.0, 0.1)
            while time.monotonic() < at:
                number = next(numbers)
                one.recorder.commit(numbered(one, number), remembering(acknowledged, f"event-{number}"))
                one.loop.run_once(chance.choice((0.0, 0.0, 0.002)))
            if one.recorder.pid == victim:
                os.kill(victim, signal.SIGKILL)
                one.until(lambda gone=victim: one.recorder.pid != gone)  # type: ignore[misc]
        one.until(lambda: one.saves(one.raises(50)))
    snapshot, events = kept(state_dir)
    assert snapshot.notes == ()
    assert len(acknowledged) > 1000
    assert acknowledged <= set(events)
    assert len(events) == len(set(events))
    assert snapshot.state is not None
    assert snapshot.state.faults == one.live


# -- disks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.needs(*NEEDS)
def test_full_disk_is_trouble_once_and_all_is_saved_when_there_is_room_again(tmp_path: Path) -> None:
    with memory_disk(tmp_path / "disk") as disk, owner(disk / "state", pace=10) as one:
        one.start()
        assert one.saves(one.raises(0))
        filler = fill(disk)
        numbers = itertools.count(1)
        saved = 0
        while one.saves(numbered(one, next(numbers))):
            saved += 1
        one.is_told("is full: database or disk is full")
        one.turn(1.0)
        assert not one.saves(numbered(one, next(numbers)))
        troubles = [text for text in one.told if "is full" in text]
        assert len(troubles) == 1, "told at every attempt"
        filler.unlink()
        one.is_told("recovered")
        assert one.saves(one.raises(41))
        assert one.recorder.lag() == 0.0
        one.recorder.stop(5.0)
        snapshot, events = kept(disk / "state")
        assert snapshot.state is not None
        assert snapshot.state.faults == one.live
        assert len(events) == len(set(events)) == saved + 4  # those refused, and the first and last


@pytest.mark.needs(*NEEDS)
def test_read_only_disk_at_the_start_tells_what_is_known_and_heals(tmp_path: Path) -> None:
    with memory_disk(tmp_path / "disk") as disk:
        with owner(disk / "state") as one:
            one.start()
            assert one.saves(one.raises(1))
        mount("-o", "remount,ro", str(disk))
        with owner(disk / "state", pace=5) as two:
            snapshot = two.start()
            assert snapshot.state is not None
            assert snapshot.state.faults == one.live
            two.is_told("is read-only")
            assert not two.saves(two.raises(2))
            mount("-o", "remount,rw", str(disk))
            two.is_told("recovered")
            assert two.told[0] == "loaded"
            assert two.saves(two.raises(3))
        assert faults_in(disk / "state") == {fault(n).key for n in (1, 2, 3)}


@pytest.mark.needs(*NEEDS)
def test_journal_that_comes_to_light_late_is_heard_before_it_is_written(tmp_path: Path) -> None:
    """The state directory lies on a disk that is mounted after the agent was started, over an empty read-only one."""
    with memory_disk(tmp_path / "real") as real:
        with owner(real / "state") as one:
            one.start()
            assert one.saves(one.raises(1))
        with memory_disk(tmp_path / "place") as place:
            mount("-o", "remount,ro", str(place))
            with owner(place / "state", pace=5) as two:
                assert two.start() == Snapshot(None)
                two.is_told("is read-only")
                assert not two.saves(two.raises(2))
                mount("--bind", str(real), str(place))
                try:
                    two.is_told("recovered")
                    assert two.told.count("loaded") == 2
                    two.recorder.stop(5.0)
                finally:
                    subprocess.run(["umount", str(place)], check=True)
        assert faults_in(real / "state") == {fault(1).key, fault(2).key}


def test_journal_damaged_while_the_child_is_away_is_told_and_begun_from_the_copy(state_dir: Path) -> None:
    with owner(state_dir, pace=5) as one:
        one.start()
        assert one.saves(one.raises(1))
        one.until(lambda: b"XID-79" in (state_dir / COPY_NAME).read_bytes())
        os.kill(one.pid, signal.SIGKILL)
        (state_dir / "journal.db").write_bytes(b"nonsense")
        one.is_told("recovered")
        assert any("is damaged: no SQLite header; it was moved to" in text for text in one.told)
        assert len(one.snapshots) == 1
    assert faults_in(state_dir) == {fault(1).key}


@pytest.mark.slow
@pytest.mark.needs(*NEEDS_FREEZER)
@pytest.mark.parametrize("gone", ["journal.db", "*"])
def test_journal_removed_while_it_is_in_use_is_noticed_and_begun_anew_with_all_that_is_true(state_dir: Path, gone: str) -> None:
    with owner(state_dir) as one:
        one.start()
        assert one.saves(one.raises(1))
        for path in {*state_dir.glob(gone), *state_dir.glob(f"{gone}-*")}:
            path.unlink()
        assert not one.saves(one.raises(2))
        one.is_told("journal.db was removed or replaced while it was in use")
        one.is_told("recovered")
        assert one.saves(one.raises(3))
    assert faults_in(state_dir) == {fault(number).key for number in (1, 2, 3)}


def test_frozen_disk_is_trouble_after_patience_and_costs_the_child_only(tmp_path: Path) -> None:
    with frozen(tmp_path) as disk:
        disk.thaw()
        with owner(disk.place / "state", max_events=100) as one:
            one.start()
            assert one.saves(one.raises(1))
            disk.freeze()
            began = time.monotonic()
            assert not one.saves(one.raises(2))
            assert 4.5 < time.monotonic() - began < 7.0
            assert f"state directory {disk.place}/state does not answer" in one.told[-1]
            child = one.pid
            assert state(child) == "D"
            for number in range(3, 203):
                one.recorder.commit(numbered(one, number))
            assert one.recorder.dropped > 0
            assert one.recorder.lag() > 4.5
            one.turn(2.0)
            assert one.pid == child, "a second child was started beside a stuck one"
            assert not one.saves(one.raises(39), seconds=0.5), "a commit waited for a disk that is gone"
            disk.thaw()
            one.is_told("recovered")
            assert one.saves(one.raises(38))
            assert one.pid == child
        snapshot, events = kept(disk.place / "state")
        assert snapshot.state is not None
        assert snapshot.state.faults == one.live
        assert events[-1] == "event-38"
        assert len(events) == len(set(events)) > 100


@pytest.mark.slow
@pytest.mark.needs(*NEEDS_FREEZER)
def test_stuck_child_is_left_behind_and_still_writes_what_it_was_told(tmp_path: Path) -> None:
    with frozen(tmp_path) as disk:
        disk.thaw()
        with owner(disk.place / "state", pace=5) as one:
            one.start()
            assert one.saves(one.raises(1))
            disk.freeze()
            assert not one.saves(one.raises(2))
            child = one.pid
            began = time.monotonic()
            one.recorder.stop(5.0)
            assert time.monotonic() - began < 0.5
            assert state(child) == "D"
        with owner(disk.place / "state", pace=5) as two:
            two.recorder.start()
            two.is_told("does not answer")
            assert two.snapshots == [], "a journal that cannot be read was taken for an empty one"
            two.recorder.commit(two.raises(3))
            disk.thaw()
            two.is_told("recovered")
            two.until(lambda: state(child) in {"", "Z"})
        assert faults_in(disk.place / "state") == {fault(n).key for n in (1, 2, 3)}
