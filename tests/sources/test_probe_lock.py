"""The lock that says who has the driver: as long as a process lives, whatever it sleeps in, and no longer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hma.sources.probe_lock import Lock, Stuck

HOLD = """
import sys
from pathlib import Path
from hma.sources.probe_lock import Lock
lock = Lock(Path(sys.argv[1]))
print(lock.take(), flush=True)
for line in sys.stdin:
    lock.note(*line.split()[:2], float(line.split()[2])) if line.strip() else lock.clear()
    print("noted", flush=True)
"""


class Holder:
    """Another process that has the lock."""

    def __init__(self, path: Path) -> None:
        argv = [sys.executable, "-c", HOLD, str(path)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._said() == "True"

    def note(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        assert self._said() == "noted"

    def _said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def held(path: Path) -> Iterator[Holder]:
    holder = Holder(path)
    try:
        yield holder
    finally:
        holder.process.kill()
        holder.process.communicate()


def test_one_has_it_and_the_next_when_that_one_is_gone(tmp_path: Path) -> None:
    ours = Lock(tmp_path / "lock")
    with held(tmp_path / "lock") as holder:
        assert (ours.free(), ours.take(), ours.held) == (False, False, False)
        assert ours.holder() == Stuck(holder.process.pid)
    assert (ours.free(), ours.take(), ours.held) == (True, True, True)
    assert Lock(tmp_path / "lock").free() is False


def test_looking_takes_nothing(tmp_path: Path) -> None:
    looks = Lock(tmp_path / "lock")
    assert looks.free()
    with held(tmp_path / "lock"):
        assert not looks.free()


def test_call_that_does_not_come_back_is_told_to_who_comes_later_until_it_does(tmp_path: Path) -> None:
    ours = Lock(tmp_path / "lock")
    with held(tmp_path / "lock") as holder:
        pid = holder.process.pid
        holder.note("nvmlDeviceGetTemperature 0000:97:00 12.5")
        assert ours.holder() == Stuck(pid, "nvmlDeviceGetTemperature", "0000:97:00", 12.5)
        holder.note("nvmlInit - 3")
        assert ours.holder() == Stuck(pid, "nvmlInit", "", 3.0)
        holder.note("")
        assert ours.holder() == Stuck(pid)


def test_note_of_who_has_it_not_changes_nothing(tmp_path: Path) -> None:
    ours = Lock(tmp_path / "lock")
    with held(tmp_path / "lock") as holder:
        ours.note("nvmlInit")
        assert ours.holder() == Stuck(holder.process.pid)


def test_what_a_dead_one_noted_is_gone_with_it(tmp_path: Path) -> None:
    with held(tmp_path / "lock") as holder:
        holder.note("nvmlInit - 3")
    ours = Lock(tmp_path / "lock")
    assert ours.take()
    assert ours.holder().call == ""


@pytest.mark.parametrize("text", ["", "x", "1 2 3", "\xff\xfe", "1 call gpu never"])
def test_file_with_something_else_in_it_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text, encoding="latin-1")
    assert Lock(tmp_path / "lock").holder().call == ""


def test_no_directory_is_no_lock_and_no_obstacle(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "nowhere" / "lock")
    assert (lock.free(), lock.take()) == (True, True)
    lock.note("nvmlInit")
    assert lock.holder() == Stuck(0)


def test_none_is_wanted() -> None:
    assert Lock(None).take()
