"""Commands on a real loop with real programs; the worst of them on file systems that really do not answer."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hma.check import Command, NotInstalled, Output, SourceError
from hma.loop import Loop
from hma.sources import command as module
from hma.sources.command import CommandRunner
from tests.sources.stuck import NEEDS, NEEDS_FUSE, frozen, silent, state

Answer = Output | SourceError
PATIENCE_S = 20.0


class Bench:
    """A loop and a runner on it."""

    def __init__(self, environ: dict[str, str] | None = None, programs: dict[str, str] | None = None) -> None:
        self.loop = Loop()
        self.runner = CommandRunner(self.loop, programs or {}, environ)

    def until(self, reached: Callable[[], bool]) -> None:
        """Turn the loop until something holds."""
        give_up = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < give_up
            self.loop.run_once(0.05)

    def run(self, *argv: str, timeout_s: float = 10.0, max_bytes: int = 65_536) -> Answer:
        """Run a command to its answer."""
        answers: list[Answer] = []
        self.runner.start(Command(argv, max_bytes), timeout_s, answers.append)
        self.until(lambda: bool(answers))
        return answers[0]

    def sh(self, script: str, timeout_s: float = 10.0, max_bytes: int = 65_536) -> Answer:
        """Run a shell script to its answer."""
        return self.run("sh", "-c", script, timeout_s=timeout_s, max_bytes=max_bytes)


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench()
    yield one
    one.runner.stop(1.0)
    one.loop.close()


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def pids_of(word: str) -> list[int]:
    """Return who runs with `word` in the command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in entry.read_text():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("echo one; echo two >&2", Output(0, "one\n", "two\n")),
        ("exit 3", Output(3, "", "")),
        ("kill -9 $$", Output(-9, "", "")),
        (r"printf 'a\377b'", Output(0, r"a\xffb", "")),
        ("cat", Output(0, "", "")),
        ('echo "$LC_ALL"', Output(0, "C\n", "")),
        ("exec >&- 2>&-; sleep 0.1; exit 4", Output(4, "", "")),
        (f"{sys.executable} -c 'import os; print(os.getsid(0) == os.getppid(), os.getpgid(0) == os.getppid())'; :", None),
    ],
    ids=["both streams", "exit code", "signal", "not utf-8", "no stdin", "locale", "closes its streams", "own session"],
)
def test_answer_is_what_it_printed_and_how_it_ended(bench: Bench, script: str, output: Output | None) -> None:
    assert bench.sh(script) == (output or Output(0, "True True\n", ""))


def test_output_beyond_the_cap_is_dropped_and_said(bench: Bench) -> None:
    answer = bench.sh("head -c 100000 /dev/zero | tr '\\0' x; echo e >&2", max_bytes=1_000)
    assert answer == Output(0, "x" * 1_000, "e\n", truncated=True)


def test_output_of_exactly_the_cap_is_whole(bench: Bench) -> None:
    assert bench.sh("printf 12345", max_bytes=5) == Output(0, "12345", "")


def test_flood_is_ended_and_costs_no_memory(bench: Bench) -> None:
    began = time.monotonic()
    answer = bench.run("yes", timeout_s=60.0)
    assert isinstance(answer, SourceError)
    assert re.fullmatch(r"yes: printed more than 4\d\d\d KiB", str(answer))
    assert time.monotonic() - began < 10.0
    assert pids_of("\0yes\0") == []


def test_flood_does_not_keep_the_loop_from_other_work(bench: Bench) -> None:
    late: list[float] = []

    def tick() -> None:
        late.append(bench.loop.clock())
        bench.loop.call_later(0.001, tick)

    tick()
    bench.run("yes", timeout_s=60.0)
    assert max(later - before for before, later in itertools.pairwise(late)) < 0.25


@pytest.mark.parametrize(
    ("script", "least"),
    [("exec sleep 60", 0.0), ("sleep 60", 0.0), ("trap '' TERM; sleep 60; sleep 60", module.TERM_S)],
    ids=["one process", "with a child", "ignores SIGTERM"],
)
def test_no_answer_in_time_ends_the_whole_group(bench: Bench, script: str, least: float, tmp_path: Path) -> None:
    began = time.monotonic()
    answer = bench.sh(f"echo $$ >{tmp_path}/pid; {script}", timeout_s=0.2)
    assert isinstance(answer, SourceError)
    assert str(answer) == "sh: no answer in 0.2 s"
    assert least <= time.monotonic() - began < least + 5.0
    pid = int((tmp_path / "pid").read_text())
    assert state(pid) == ""
    bench.until(lambda: bench.runner.abandoned == 0)


def test_no_answer_in_time_tells_the_last_words(bench: Bench) -> None:
    answer = bench.sh("echo warming up >&2; echo waiting for GPU 3 >&2; exec sleep 60", timeout_s=0.5)
    assert str(answer) == "sh: no answer in 0.5 s; it last said: waiting for GPU 3"


@pytest.mark.parametrize("leave", ["sleep 60 &", "(sleep 60 & sleep 60) &"])
def test_grandchildren_that_hold_the_pipes_delay_nothing(bench: Bench, leave: str) -> None:
    began = time.monotonic()
    assert bench.sh(f"{leave} echo done") == Output(0, "done\n", "")
    assert time.monotonic() - began < 5.0
    bench.until(lambda: bench.runner.abandoned == 0)


def test_last_bytes_of_a_program_that_ended_are_not_lost(bench: Bench) -> None:
    for size in (1, 65_536, 200_000):
        answer = bench.sh(f"head -c {size} /dev/zero | tr '\\0' y", max_bytes=300_000)
        assert isinstance(answer, Output)
        assert (len(answer.stdout), answer.truncated) == (size, False)


ENLARGED = "import fcntl, os; fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20); os.write(1, b'z' * 500_000)"


def test_pipe_that_holds_more_than_one_read_is_emptied_at_the_end(bench: Bench) -> None:
    answers: list[Answer] = []
    bench.runner.start(Command((sys.executable, "-Sc", ENLARGED), 1_000_000), 10.0, answers.append)
    give_up = time.monotonic() + PATIENCE_S
    while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        assert time.monotonic() < give_up
    bench.until(lambda: bool(answers))
    assert answers == [Output(0, "z" * 500_000, "")]


# -- programs that are not there ---------------------------------------------------------------------------------------


def made(path: Path, text: str, mode: int = 0o755) -> str:
    """Write a file and return its path."""
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_program_found_nowhere_is_not_installed(bench: Bench) -> None:
    answer = bench.run("no-such-tool")
    assert isinstance(answer, NotInstalled)
    assert "no-such-tool: not found in PATH; install it, or name its path in the configuration" in str(answer)


def test_absolute_program_that_is_not_there_is_not_installed(bench: Bench) -> None:
    answer = bench.run("/nowhere/tool")
    assert isinstance(answer, NotInstalled)
    assert str(answer) == "/nowhere/tool: not there; install it"


@pytest.mark.needs("root")
def test_program_without_permission_is_no_missing_one(tmp_path: Path) -> None:
    assert_refused(tmp_path, made(tmp_path / "tool", "#!/bin/sh\n", 0o644), "this user may not execute it")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/nowhere/sh\n", "is there, but the interpreter or loader that it names is not"),
        ("no program\n", "is no program for this machine"),
    ],
)
def test_program_that_is_broken_is_no_missing_one(tmp_path: Path, text: str, said: str) -> None:
    assert_refused(tmp_path, made(tmp_path / "tool", text), said)


def assert_refused(folder: Path, path: str, said: str) -> None:
    bench = Bench({"PATH": str(folder)})
    answer = bench.run("tool")
    bench.loop.close()
    assert type(answer) is SourceError
    assert str(answer).startswith(f"{path}: ")
    assert said in str(answer)


def test_configured_path_is_used_instead_of_a_search(tmp_path: Path) -> None:
    bench = Bench(programs={"tool": made(tmp_path / "other", "#!/bin/sh\necho $0 $1\n")})
    assert bench.run("tool", "x") == Output(0, f"{tmp_path}/other x\n", "")
    bench.runner.programs = {"tool": "/nowhere/tool"}
    answer = bench.run("tool")
    bench.loop.close()
    assert type(answer) is SourceError  # what a person named and got wrong is never "not applicable"
    assert str(answer) == "/nowhere/tool: not there, though `commands.tool` in the configuration names it; mend the path"


def test_second_place_in_path_is_searched(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    made(tmp_path / "one" / "tool", "#!/bin/sh\n", 0o644)
    made(tmp_path / "two" / "tool", "#!/bin/sh\necho second\n")
    bench = Bench({"PATH": f"relative:{tmp_path}/one:{tmp_path}/two"})
    assert bench.run("tool") == Output(0, "second\n", "")
    bench.loop.close()


@pytest.mark.parametrize("argv", [(), ("",), ("a\0b",), ("true", "a\0b"), ("/",), ("x" * 5_000,), ("true", "x" * 3_000_000)])
def test_command_line_that_cannot_be_run_is_an_error(bench: Bench, argv: tuple[str, ...]) -> None:
    assert isinstance(bench.run(*argv), SourceError)


def test_children_get_a_small_environment() -> None:
    given = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/h",
        "AWS_SECRET_ACCESS_KEY": "s",
        "https_proxy": "p",
        "LANG": "de",
        "HMA_X": "1",
    }
    bench = Bench(given)
    answer = bench.run("env")
    bench.loop.close()
    assert isinstance(answer, Output)
    assert sorted(answer.stdout.split()) == ["HMA_X=1", "HOME=/h", "LC_ALL=C", "PATH=/usr/bin:/bin"]


def test_child_holds_no_descriptor_of_the_agent(bench: Bench) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        answer = bench.run(sys.executable, "-Sc", "import os; print(sorted(os.listdir('/proc/self/fd')))")
        assert answer == Output(0, "['0', '1', '2', '3']\n", "")  # 3 is the folder that it lists
    finally:
        os.close(read)
        os.close(write)


def test_child_has_ordinary_signals(bench: Bench) -> None:
    answer = bench.sh("grep -E '^Sig(Blk|Ign)' /proc/self/status")
    assert isinstance(answer, Output)
    # 32 and 33 belong to the C library: nobody may change them, and they are as whoever started the tests had them.
    ours = ~(1 << 31 | 1 << 32)
    assert [int(word, 16) & ours for word in answer.stdout.split()[1::2]] == [0, 0]


def test_nothing_is_left_open(bench: Bench) -> None:
    bench.run("true")
    before = descriptors()
    for argv in (("true",), ("no-such-tool",), ("sleep", "60"), ("yes",)):
        bench.run(*argv, timeout_s=0.2)
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_kernel_without_pidfd_will_do(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    before = descriptors()
    assert bench.sh("echo x; exit 2") == Output(2, "x\n", "")
    assert str(bench.run("sleep", "60", timeout_s=0.2)) == "sleep: no answer in 0.2 s"
    assert descriptors() == before


def test_agent_started_with_sigchld_ignored_still_learns_how_they_end(bench: Bench) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert bench.sh("exit 5") == Output(5, "", "")
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_signal_that_meets_the_child_before_it_executes_is_not_taken_for_the_agents(bench: Bench) -> None:
    """Until it executes it shares the descriptor that tells the agent of signals: a SIGTERM for it would stop the agent."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    handler = signal.signal(signal.SIGTERM, lambda *_: None)
    wakeup = signal.set_wakeup_fd(write)
    try:
        for number in range(50):
            answers: list[Answer] = []
            bench.runner.start(Command(("sleep", "60", str(number))), 0.0, answers.append)
            bench.until(lambda: bool(answers))  # noqa: B023  (called at once)
        with pytest.raises(BlockingIOError):
            os.read(read, 100)
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, handler)
        os.close(read)
        os.close(write)


# -- more than one -----------------------------------------------------------------------------------------------------


def test_same_command_runs_once_and_answers_all_who_asked(bench: Bench, tmp_path: Path) -> None:
    command = Command(("sh", "-c", f"echo x >>{tmp_path}/runs; sleep 0.1; echo done"))
    answers: list[Answer] = []
    for _ in range(3):
        bench.runner.start(command, 10.0, answers.append)
    assert bench.runner.outstanding == 1
    bench.until(lambda: len(answers) == 3)
    assert answers == [Output(0, "done\n", "")] * 3
    assert (tmp_path / "runs").read_text() == "x\n"


def test_same_command_may_be_started_from_its_own_answer(bench: Bench) -> None:
    answers: list[Answer] = []

    def again(answer: Answer) -> None:
        answers.append(answer)
        if len(answers) < 3:
            bench.runner.start(Command(("echo", "x")), 10.0, again)

    bench.runner.start(Command(("echo", "x")), 10.0, again)
    bench.until(lambda: len(answers) == 3)
    assert answers == [Output(0, "x\n", "")] * 3


def test_command_that_is_being_ended_is_not_started_again(bench: Bench) -> None:
    command = Command(("sh", "-c", "trap '' TERM; sleep 60; sleep 60"))
    first: list[Answer] = []
    second: list[Answer] = []
    bench.runner.start(command, 0.1, first.append)
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        bench.loop.run_once(0.05)
    bench.runner.start(command, 0.1, second.append)
    assert [re.sub(r"\d+", "N", str(answer)) for answer in second] == [
        "sh: not started: the previous run (pid N, started N s ago) has not ended; it is in state S"
    ]
    bench.until(lambda: bool(first))


def test_many_commands_wait_their_turn(bench: Bench, tmp_path: Path) -> None:
    answers: list[Answer] = []
    script = f"mkdir {tmp_path}/$$; ls {tmp_path} | wc -l; sleep 0.1; rmdir {tmp_path}/$$; : "
    for number in range(3 * module.MOST_RUNNING):
        bench.runner.start(Command(("sh", "-c", f"{script}{number}")), 10.0, answers.append)
    bench.until(lambda: len(answers) == 3 * module.MOST_RUNNING)
    counts = [int(answer.stdout) for answer in answers if isinstance(answer, Output)]
    assert len(counts) == len(answers)
    assert 1 < max(counts) <= module.MOST_RUNNING


def test_stop_kills_at_once_and_answers_nobody(tmp_path: Path) -> None:
    bench = Bench()
    answers: list[Answer] = []
    for number in range(module.MOST_RUNNING + 1):
        bench.runner.start(Command(("sh", "-c", f"echo $$ >{tmp_path}/{number}; sleep 60; sleep 60")), 60.0, answers.append)
    bench.until(lambda: len(list(tmp_path.iterdir())) == module.MOST_RUNNING and all(f.read_text() for f in tmp_path.iterdir()))
    began = time.monotonic()
    bench.runner.stop()
    assert time.monotonic() - began < 1.0
    assert answers == []
    assert [state(int(file.read_text())) for file in tmp_path.iterdir()] == [""] * module.MOST_RUNNING
    bench.runner.start(Command(("true",)), 1.0, answers.append)
    assert [str(answer) for answer in answers] == ["true: not started: the agent is stopping"]
    bench.loop.close()


AGENT = """
import signal, sys
from hma.check import Command
from hma.loop import Loop
from hma.sources.command import CommandRunner
loop = Loop()
CommandRunner(loop).start(Command(("sh", "-c", "echo $$ >%s; exec sleep 60")), 60.0, print)
loop.run()
"""


def test_children_die_with_an_agent_that_is_killed(bench: Bench, tmp_path: Path) -> None:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", AGENT % (tmp_path / "pid")], {**os.environ, "PYTHONPATH": "."})
    bench.until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    child = int((tmp_path / "pid").read_text())
    assert state(child) in "SRD"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    bench.until(lambda: state(child) in ("", "Z"))


# -- disks that do not answer ------------------------------------------------------------------------------------------


@pytest.mark.needs(*NEEDS)
def test_child_in_state_d_is_left_behind_and_reaped_when_it_ends(bench: Bench, tmp_path: Path) -> None:
    before = descriptors()
    with frozen(tmp_path) as disk:
        began = time.monotonic()
        first = bench.run(*disk.writer, timeout_s=0.2)
        took = time.monotonic() - began
        assert isinstance(first, SourceError)
        found = re.fullmatch(
            r"dd: no answer in 0\.2 s; pid (\d+) is in uninterruptible sleep \(state D, wchan \w+\) and was left behind",
            str(first),
        )
        assert found
        pid = int(found[1])
        assert took < 0.2 + module.TERM_S + module.KILL_S + 2.0
        assert state(pid) == "D"
        assert (bench.runner.outstanding, bench.runner.abandoned) == (0, 1)
        again: list[Answer] = []
        bench.runner.start(Command(disk.writer), 0.2, again.append)
        assert f"dd: not started: the previous run (pid {pid}, started " in str(again[0])
        assert bench.run("echo", "others go on") == Output(0, "others go on\n", "")
        disk.thaw()
        bench.until(lambda: bench.runner.abandoned == 0)
        assert state(pid) == ""
        assert isinstance(bench.run(*disk.writer), Output)
    assert descriptors() == before


@pytest.mark.needs(*NEEDS)
def test_grandchild_in_state_d_keeps_the_command_from_running_again(bench: Bench, tmp_path: Path) -> None:
    with frozen(tmp_path) as disk:
        script = f"{' '.join(disk.writer)} & sleep 0.3; echo started"
        assert bench.sh(script) == Output(0, "started\n", "")
        again = bench.sh(script)
        assert isinstance(again, SourceError)
        assert re.search(r"what the previous run \(pid \d+, started \d+ s ago\) started has not ended", str(again))
        disk.thaw()
        bench.until(lambda: bench.runner.abandoned == 0)
        assert isinstance(bench.sh(script), Output)


@pytest.mark.needs(*NEEDS)
def test_stop_returns_at_once_from_a_child_in_state_d(tmp_path: Path) -> None:
    bench = Bench()
    before = descriptors()
    answers: list[Answer] = []
    with frozen(tmp_path) as disk:
        bench.runner.start(Command(disk.writer), 60.0, answers.append)
        bench.until(lambda: "D" in [state(pid) for pid in pids_of(disk.writer[2])])
        began = time.monotonic()
        bench.runner.stop()
        assert time.monotonic() - began < 1.0
        disk.thaw()
        os.waitpid(-1, 0)
    assert (answers, descriptors()) == ([], before)
    bench.loop.close()


@NEEDS_FUSE
@pytest.mark.needs("root")
def test_program_on_a_dead_disk_holds_nobody_up(bench: Bench, tmp_path: Path) -> None:
    """posix_spawn, vfork and subprocess would all wait here: the file of the program itself is what does not answer."""
    with silent(tmp_path) as place:
        answers: list[Answer] = []
        began = time.monotonic()
        bench.runner.start(Command((f"{place}/tool",)), 0.3, answers.append)
        assert time.monotonic() - began < 0.25
        bench.until(lambda: bool(answers))
        assert str(answers[0]) == "tool: no answer in 0.3 s; its program file cannot be read"
