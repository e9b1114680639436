"""The real /dev/kmsg of this machine: what the kernel itself does, with a few harmless lines of level 7.

The device belongs to the whole machine, so each test looks only for a marker of its own. A line must end in a newline, or it
stays invisible until the next one.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sources.fake_kmsg import BOOT, Bench

KMSG = Path("/dev/kmsg")
LIMIT = Path("/proc/sys/kernel/printk_devkmsg")
TRACE = Path("/proc/sys/debug/exception-trace")
DIE = """
import ctypes, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
open("/proc/self/comm", "w").write(sys.argv[1])
ctypes.string_at(0)
"""
pytestmark = pytest.mark.needs("root", "kmsg")

Open = Callable[..., Bench]


@pytest.fixture(name="marker")
def unique_marker() -> str:
    return f"hma-{uuid.uuid4().hex[:11]}"


@pytest.fixture(name="read")
def reader_of_the_device(marker: str) -> Iterator[Open]:
    """Return a function that reads the device, with the marker as the only pattern, and has taken all that was there."""
    made: list[Bench] = []

    def start(cursor: tuple[str, int] | None = None) -> Bench:
        bench = Bench(KMSG, cursor, (marker.encode(),))
        made.append(bench)
        bench.until(lambda: bench.reader.caught_up)
        return bench

    yield start
    for bench in made:
        bench.close()


def inject(*lines: str | bytes) -> None:
    """Write lines as a program can: the kernel makes facility `user` of the 0 that is asked for."""
    fd = os.open(KMSG, os.O_WRONLY)
    for line in lines:
        os.write(fd, b"<7>" + (line.encode() if isinstance(line, str) else line) + b"\n")
    os.close(fd)


def test_every_record_of_the_ring_is_understood(read: Open) -> None:
    bench = read()
    assert bench.told.sight == ["readable"]
    assert bench.reader.malformed == 0
    assert bench.reader.seen > 0
    first = bench.reader.cursor
    assert first is not None
    assert bench.idle


def test_written_line_is_seen_and_not_trusted(read: Open, marker: str) -> None:
    bench = read()
    text = f"NVRM: Xid (PCI:0000:97:00): 79, {marker}, GPU has fallen off the bus."
    inject(text)
    bench.until(lambda: bench.reader.spoofed == 1)
    [(line, facility)] = bench.told.spoofs
    assert (line.text, line.level, facility) == (text, 7, 1)
    assert abs(line.at - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5.0
    assert bench.told.batches == []


def test_text_is_as_the_kernel_escapes_it(read: Open, marker: str) -> None:
    bench = read()
    inject(marker.encode() + b" \xff\x1b \\ \xc3\xb6")
    bench.until(lambda: bench.reader.spoofed == 1)
    [(line, _)] = bench.told.spoofs
    assert line.text == f"{marker} \\xff\\x1b \\x5c \\xc3\\xb6"


def test_the_kernels_own_line_is_delivered(read: Open, marker: str) -> None:
    """A process that dies of a segmentation fault makes the kernel say so, with the name that the process chose."""
    if not TRACE.exists() or TRACE.read_text().strip() != "1":
        pytest.skip("not possible here: this kernel does not log segmentation faults")
    bench = read()
    subprocess.run([sys.executable, "-c", DIE, marker], check=False)
    bench.until(lambda: bool(bench.told.batches))
    [line] = bench.told.batches[0]
    assert line.text.startswith(f"{marker}[")
    assert "segfault at 0 " in line.text
    assert (bench.reader.spoofed, line.level) == (0, 6)
    assert abs(line.at - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5.0


def test_what_was_logged_while_the_agent_was_down_is_read_once(read: Open, marker: str) -> None:
    first = read()
    inject(f"{marker} before")
    first.until(lambda: first.reader.spoofed == 1)
    reached = first.reader.cursor
    first.reader.stop()
    inject(f"{marker} meanwhile 1", f"{marker} meanwhile 2")
    second = read(reached)
    assert [line.text for line, _ in second.told.spoofs] == [f"{marker} meanwhile 1", f"{marker} meanwhile 2"]
    third = read(second.reader.cursor)
    assert third.told.spoofs == []
    assert first.reader.lost + second.reader.lost + third.reader.lost == 0


@contextlib.contextmanager
def unlimited_writes() -> Iterator[None]:
    """Lift the kernel's limit of ten lines in five seconds for each writer, and put it back."""
    before = LIMIT.read_text()
    LIMIT.write_text("on\n")
    try:
        yield
    finally:
        LIMIT.write_text(before)


@pytest.mark.slow
def test_what_the_ring_overwrote_is_counted_exactly(read: Open, marker: str) -> None:
    """Seen and lost are together all that was logged, and the gap ends just before the first line that was left."""
    injected = 40_000
    bench = read()
    start = bench.reader.cursor
    seen = bench.reader.seen
    with unlimited_writes():
        inject(*(f"{marker} {n}" for n in range(injected)))
    inject(f"{marker} last")
    bench.until(lambda: any(line.text == f"{marker} last" for line, _ in bench.told.spoofs))
    end = bench.reader.cursor
    assert start is not None
    assert end is not None
    logged = end[1] - start[1]
    others = logged - (injected + 1)
    assert bench.reader.lost > 0
    assert bench.reader.seen - seen + bench.reader.lost == logged
    assert others >= 0
    found = [int(line.text.split()[1]) for line, _ in bench.told.spoofs[:-1]]
    assert found == list(range(found[0], injected))
    [(count, from_seq, to_seq)] = bench.told.gaps
    assert (from_seq, count) == (start[1] + 1, to_seq - from_seq + 1)
    assert 0 <= count - found[0] <= others
    assert bench.reader.malformed == 0


def test_a_boot_that_the_cursor_does_not_know_is_read_from_the_ring_s_beginning(read: Open, marker: str) -> None:
    inject(f"{marker} before the agent")
    bench = read(("another boot", 10**9))
    assert bench.reader.spoofed == 1
    reached = bench.reader.cursor
    assert reached is not None
    assert reached[0] == BOOT
    assert bench.reader.seen + bench.reader.lost == reached[1] + 1
