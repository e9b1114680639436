"""The process table: lines of `stat` as the kernel writes them, trees made by hand, and the real table of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Literal

import pytest

from hma.check import Process, SourceError
from hma.loop import boottime
from hma.sources.processes import TICKS, parse_stat, read_processes, standing
from tests.agent_run import until
from tests.sources.stuck import NEEDS, frozen, state

TAIL = (
    "1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 {start} 0 0 18446744073709551615 0 0 0 0 0 0 0 2147483647 0 0 0 0 17 1 0 0 0 0 0"
)


def stat(pid: int, name: str, letter: str = "S", ppid: int = 1, start_s: float = 0.0) -> str:
    """Return a line of `stat` (fields as of Linux 6.1; values invented)."""
    return f"{pid} ({name}) {letter} {ppid} {TAIL.format(start=int(start_s * TICKS))}\n"


def made(root: Path, lines: dict[int, str], wchans: dict[int, str] | None = None) -> Path:
    """Make a root with these processes."""
    for pid, line in lines.items():
        folder = root / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "stat").write_text(line)
    for pid, text in (wchans or {}).items():
        (root / "proc" / str(pid) / "wchan").write_text(text)
    return root


@pytest.mark.parametrize(
    "name",
    ["init", "a b", "(sd-pam)", ") S 1 1", "((a) b)", "a\nb", "", "x) (y", "kworker/u8:3-ev", "123 (x) D 5", "naïve"],
)
def test_name_may_hold_anything(name: str) -> None:
    assert parse_stat(stat(77, name, "R", 12, 40.0).encode(), 100.0) == Process(77, name, "R", 12, 60.0)


def test_name_that_is_not_utf8_is_escaped() -> None:
    assert parse_stat(stat(7, "a?b").encode().replace(b"?", b"\xff"), 0.0) == Process(7, r"a\xffb", "S", 1, 0.0)


@pytest.mark.parametrize("raw", [b"", b"7", b"7 (x", b"7 (x) S", b"x (x) S 1 1", stat(7, "x").encode()[:40], b"\0" * 400])
def test_line_that_makes_no_sense_is_no_process(raw: bytes) -> None:
    assert parse_stat(raw, 0.0) is None


def test_age_is_never_negative() -> None:
    """A process may start between the reading of the clock and of the table; a container's clock may be shifted."""
    process = parse_stat(stat(7, "x", start_s=50.0).encode(), 49.0)
    assert process is not None
    assert process.age_s == 0.0


def test_table_of_a_simulated_root(tmp_path: Path) -> None:
    lines = {1: stat(1, "systemd", start_s=1), 300: stat(300, "nvidia-smi", "D", 1, 60), 301: stat(301, "old", "Z", 300, 90)}
    root = made(tmp_path, lines, {1: "ep_poll", 300: "rpm_resume"})
    (root / "proc" / "302").mkdir()  # has gone meanwhile
    made(root, {303: "garbage"})
    (root / "proc" / "meminfo").write_text("")
    table = read_processes(root, 100.0)
    assert sorted(table.processes) == [
        Process(1, "systemd", "S", 1, 99.0),
        Process(300, "nvidia-smi", "D", 1, 40.0, "rpm_resume"),
        Process(301, "old", "Z", 300, 10.0),
    ]


@pytest.mark.parametrize(("text", "wchan"), [("0", ""), ("", ""), ("nv_wait\n", "nv_wait"), (None, "")])
def test_wchan_that_is_not_told_is_empty(tmp_path: Path, text: str | None, wchan: str) -> None:
    root = made(tmp_path, {5: stat(5, "x", "D")}, {} if text is None else {5: text})
    assert read_processes(root, 0.0).processes[0].wchan == wchan


@pytest.mark.parametrize(("made_dir", "said"), [(False, "No such file or directory"), (True, "lists no process")])
def test_root_without_processes_is_an_error(tmp_path: Path, made_dir: bool, said: str) -> None:
    if made_dir:
        (tmp_path / "proc").mkdir()
    with pytest.raises(SourceError, match=rf"/proc: {said} \(in a container: mount the node's /proc\)"):
        read_processes(tmp_path, 0.0)


def test_real_table_holds_this_process() -> None:
    now = boottime()
    me = next(p for p in read_processes(Path("/"), now).processes if p.pid == os.getpid())
    assert (me.ppid, me.state, me.wchan) == (os.getppid(), "R", "")
    started = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()[19]
    assert me.age_s == pytest.approx(now - int(started) / os.sysconf("SC_CLK_TCK"))


def test_real_states_are_told(tmp_path: Path) -> None:
    name = "a) (b\nc"
    (tmp_path / name).symlink_to("/bin/sleep")
    sleeper = subprocess.Popen([tmp_path / name, "60"])
    stopped = subprocess.Popen(["sleep", "60"])
    try:
        os.kill(stopped.pid, signal.SIGSTOP)
        give_up = time.monotonic() + 10
        while state(stopped.pid) != "T" or state(sleeper.pid) != "S":
            assert time.monotonic() < give_up
        found = {p.pid: p for p in read_processes(Path("/"), boottime()).processes}
        assert (found[sleeper.pid].comm, found[sleeper.pid].state, found[sleeper.pid].ppid) == (name, "S", os.getpid())
        assert found[stopped.pid].state == "T"
        assert standing(stopped.pid) == "is in state T"
        stopped.kill()
        give_up = time.monotonic() + 10
        while state(stopped.pid) != "Z":
            assert time.monotonic() < give_up
        assert {p.pid: p for p in read_processes(Path("/"), boottime()).processes}[stopped.pid].state == "Z"
    finally:
        for process in (sleeper, stopped):
            process.kill()
            process.wait()
    assert standing(stopped.pid) == "is gone"


@pytest.mark.needs(*NEEDS)
def test_real_process_in_state_d_tells_where_it_waits(tmp_path: Path) -> None:
    with frozen(tmp_path) as disk, subprocess.Popen(disk.writer, stderr=subprocess.DEVNULL) as writer:
        try:
            process = until(lambda: stuck(writer.pid), "state D, and where")
            assert standing(writer.pid) == f"is in uninterruptible sleep (state D, wchan {process.wchan})"
        finally:
            disk.thaw()


def stuck(pid: int) -> Process | Literal[False]:
    """Return the process once it sleeps in D and the kernel says where; on its way there it says neither."""
    found = next(p for p in read_processes(Path("/"), boottime()).processes if p.pid == pid)
    return found if found.state == "D" and found.wchan not in ("", "0") else False


def test_every_one_of_five_thousand_processes_is_read(tmp_path: Path) -> None:
    root = made(tmp_path, {1: stat(1, "kworker/0:1-events")})
    for pid in range(2, 5_001):
        (root / "proc" / str(pid)).symlink_to("1")
    assert len(read_processes(root, 0.0).processes) == 5_000
