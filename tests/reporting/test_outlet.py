"""Standard output whose reader stops or leaves: nothing waits, nothing is glued together, losses are counted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from hma.loop import Loop
from hma.reporting import outlet as module
from hma.reporting.outlet import QUEUE_BYTES, Outlet
from tests.reporting.pumping import pump

ROOT = Path(__file__).parents[2]
PIPE_BYTES = 65_536
LINE = "x" * 1_023


@pytest.fixture
def loop() -> Iterator[Loop]:
    it = Loop()
    yield it
    it.close()


class Ends:
    """The two ends of what an outlet writes to."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        if kind == "pipe":
            self.read_fd, self.write_fd = os.pipe()
        elif kind == "terminal":
            self.read_fd, self.write_fd = pty.openpty()
            tty.setraw(self.write_fd)
        else:
            ours, theirs = socket.socketpair()
            self.read_fd, self.write_fd = ours.detach(), theirs.detach()
        os.set_blocking(self.read_fd, False)

    def read(self) -> bytes:
        got = bytearray()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.read_fd, 1 << 20):
                got.extend(data)
        return bytes(got)

    def close(self) -> None:
        for fd in (self.read_fd, self.write_fd):
            with contextlib.suppress(OSError):
                os.close(fd)


@pytest.fixture(params=["pipe", "socket", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    it = Ends(request.param)
    yield it
    it.close()


@pytest.fixture
def pipe() -> Iterator[Ends]:
    it = Ends("pipe")
    yield it
    it.close()


def read_all(loop: Loop, ends: Ends, count: int) -> list[str]:
    got = bytearray()

    def enough() -> bool:
        got.extend(ends.read())
        return got.count(b"\n") >= count

    pump(loop, enough)
    return got.decode().splitlines()


# -- a reader that is there -------------------------------------------------------------------------------------------


def test_a_line_is_out_at_once_and_then_told(loop: Loop, ends: Ends) -> None:
    outlet, told = Outlet(loop, ends.write_fd), list[str]()
    assert outlet.write('{"a":1}', lambda: told.append("a"))
    assert told == ["a"]
    assert read_all(loop, ends, 1) == ['{"a":1}']
    outlet.close()


def test_what_cannot_be_encoded_is_escaped(loop: Loop, pipe: Ends) -> None:
    outlet = Outlet(loop, pipe.write_fd)
    outlet.write("Zürich \udcff")
    assert pipe.read() == "Zürich \\udcff\n".encode()
    outlet.close()


# -- a reader that stops ----------------------------------------------------------------------------------------------


def test_a_reader_that_stops_blocks_nobody_and_misses_nothing_when_it_goes_on(loop: Loop, ends: Ends) -> None:
    outlet, told = Outlet(loop, ends.write_fd), list[int]()
    for number in range(1_000):
        assert outlet.write(f"{number} {LINE}", lambda n=number: told.append(n))  # type: ignore[misc]
    assert 0 < len(told) < 1_000
    assert [line.split()[0] for line in read_all(loop, ends, 1_000)] == [str(number) for number in range(1_000)]
    assert told == list(range(1_000))
    assert outlet.dropped == 0
    outlet.close()


def test_a_line_is_told_only_when_its_last_byte_is_out(loop: Loop, pipe: Ends) -> None:
    outlet, told = Outlet(loop, pipe.write_fd), list[str]()
    outlet.write("x" * PIPE_BYTES, lambda: told.append("first"))
    outlet.write("second", lambda: told.append("second"))
    assert told == []
    assert read_all(loop, pipe, 2)[1] == "second"
    assert told == ["first", "second"]
    outlet.close()


def test_what_does_not_fit_the_queue_is_dropped_and_counted(loop: Loop, pipe: Ends) -> None:
    outlet, told = Outlet(loop, pipe.write_fd), list[int]()
    fits = (QUEUE_BYTES + PIPE_BYTES) // (len(LINE) + 1)
    taken = [outlet.write(LINE, lambda n=number: told.append(n)) for number in range(fits + 50)]  # type: ignore[misc]
    assert taken == [True] * fits + [False] * 50
    assert outlet.dropped == 50
    assert len(read_all(loop, pipe, fits)) == fits
    assert told == list(range(fits))
    assert outlet.write("room again")
    assert pipe.read() == b"room again\n"
    outlet.close()


def test_closing_does_not_wait_for_the_reader(loop: Loop, ends: Ends) -> None:
    outlet, told = Outlet(loop, ends.write_fd), list[int]()
    for number in range(1_000):
        outlet.write(LINE, lambda n=number: told.append(n))  # type: ignore[misc]
    outlet.close()
    loop.run_once(0.0)
    assert len(told) < 1_000


def test_our_way_of_writing_is_not_forced_on_who_shares_the_descriptor(loop: Loop, ends: Ends) -> None:
    outlet = Outlet(loop, ends.write_fd)
    assert not fcntl.fcntl(ends.write_fd, fcntl.F_GETFL) & os.O_NONBLOCK
    outlet.close()
    assert os.write(ends.write_fd, b"still open\n") == 11


# -- a reader that leaves ---------------------------------------------------------------------------------------------


def test_a_reader_that_is_gone_ends_nothing(loop: Loop, ends: Ends) -> None:
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN, "as Python sets it at its start"
    outlet, told = Outlet(loop, ends.write_fd), list[str]()
    os.close(ends.read_fd)
    if ends.kind == "terminal":
        os.close(ends.write_fd)
    for _ in range(3):
        outlet.write(LINE, lambda: told.append("x"))
    assert outlet.dropped == 3
    assert told == []
    outlet.close()


def test_a_reader_that_goes_while_lines_wait_costs_these_lines(loop: Loop, pipe: Ends) -> None:
    outlet, told = Outlet(loop, pipe.write_fd), list[int]()
    for number in range(100):
        outlet.write(LINE, lambda n=number: told.append(n))  # type: ignore[misc]
    out = len(told)
    os.close(pipe.read_fd)
    loop.run_once(0.1)
    assert (outlet.dropped, outlet._queued) == (100 - out, 0)
    assert len(told) == out
    outlet.close()


# -- files and what may not be opened again ---------------------------------------------------------------------------


def test_a_file_is_appended_to(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    outlet = Outlet(loop, fd)
    outlet.write("one")
    os.write(fd, b"by another\n")
    outlet.write("two")
    outlet.close()
    os.close(fd)
    assert path.read_text() == "before\none\nby another\ntwo\n"


@pytest.mark.needs("root", "mount")
def test_after_a_full_disk_the_next_line_begins_a_line(loop: Loop, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("not possible here: mounting is not allowed in this container")
    try:
        with open(disk / "log", "wb") as log:
            outlet = Outlet(loop, log.fileno())
            assert outlet.write("first")
            outlet.write("y" * 100_000)
            assert outlet.dropped == 1
            log.truncate(20)
            log.seek(20)
            outlet.write("next")
            outlet.close()
        assert (disk / "log").read_text() == "first\nyyyyyyyyyyyyyy\nnext\n"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


STOPPED = """
import os, sys
from hma.loop import Loop
from hma.reporting.outlet import Outlet
os.setresuid(4242, 4242, 4242)
try:
    os.open("/proc/self/fd/1", os.O_WRONLY)
except PermissionError:
    sys.stderr.write("closed to us ")
outlet = Outlet(Loop(), 1)
for number in range(1000):
    outlet.write(f"{number} " + "x" * 1000)
sys.stderr.write(f"went on, {outlet._queued // 1000 > 900}")
"""


@pytest.mark.needs("root")
def test_a_pipe_of_another_user_does_not_block_us_either() -> None:
    """A container's standard output belongs to the runtime's user: /proc/self/fd/1 may not be opened again."""
    argv = (sys.executable, "-c", STOPPED)
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr
        assert child.stdout
        told = child.stderr.read()
        lines = child.stdout.read().splitlines()
    assert told == "closed to us went on, True"
    assert [line.split()[0] for line in lines[:20]] == [str(number) for number in range(20)]


def test_a_shared_pipe_is_written_in_pieces_that_fit(loop: Loop, pipe: Ends) -> None:
    shared = module._Shared(os.dup(pipe.write_fd))
    assert [shared.send(b"z" * 10_000) for _ in range(PIPE_BYTES // select.PIPE_BUF)] == [select.PIPE_BUF] * 16
    with pytest.raises(BlockingIOError):
        shared.send(b"z")
    assert len(pipe.read()) == PIPE_BYTES
    assert shared.send(b"again") == 5
    shared.close()


def test_null_device_takes_everything(loop: Loop) -> None:
    with open(os.devnull, "wb") as null:
        outlet = Outlet(loop, null.fileno())
        assert all(outlet.write(LINE) for _ in range(10_000))
        assert outlet.dropped == 0
        outlet.close()


def test_no_watch_is_left_behind(loop: Loop, pipe: Ends) -> None:
    outlet = Outlet(loop, pipe.write_fd)
    for _ in range(100):
        outlet.write(LINE)
    read_all(loop, pipe, 100)
    loop.run_once(0.0)
    assert dict(loop._selector.get_map()) == {}
    outlet.close()
