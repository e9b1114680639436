"""How fast the kernel log is read, and what is lost: `python -m tests.bench.kernel_log_speed [lines]`.

The patterns are those of the checks that ship; one line in a hundred matches. Where /dev/kmsg can be written (root), lines of
level 7 go through the real ring too; the writer's rate limit (sysctl kernel.printk_devkmsg) is lifted meanwhile and put back.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hma.check import KernelLine, KernelLog, SourceError
from hma.guard_time import arm
from hma.loader import find_checks
from hma.loop import Loop
from hma.sources.kernel_log import KernelLogReader

KMSG = Path("/dev/kmsg")
LIMIT = Path("/proc/sys/kernel/printk_devkmsg")
LINES = 100_000
EVERY = 100
QUIET = "IPv6: ADDRCONF(NETDEV_CHANGE): eth0: link becomes ready, says a benchmark in its line number"
WANTED = "NVRM: Xid (PCI:0000:00:00): 0, this line of a benchmark is no fault, number"

WRITE_KMSG = f"""
import os, sys, time
lines, rate = int(sys.argv[1]), int(sys.argv[2])
fd = os.open("/dev/kmsg", os.O_WRONLY)
texts = (b"<7>{QUIET} %d\\n", b"<7>{WANTED} %d\\n")
begun = time.monotonic()
for n in range(lines):
    os.write(fd, texts[n % {EVERY} == 0] % n)
    if rate and n % 50 == 0:
        time.sleep(max(0.0, begun + n / rate - time.monotonic()))
"""
WRITE_PIPE = "import shutil, sys; shutil.copyfileobj(open(sys.argv[1], 'rb'), open(sys.argv[2], 'wb'))"


@dataclass(slots=True)
class Told:
    """Counts what the reader tells."""

    wanted: int = 0
    gaps: int = 0
    lost: int = 0
    last_gap: tuple[int, int] = (0, 0)
    spoofed: int = 0
    last_spoof: tuple[int, KernelLine | None] = (0, None)
    trouble: str = ""

    def lines(self, lines: tuple[KernelLine, ...]) -> None:
        """Count lines."""
        self.wanted += len(lines)

    def lost_lines(self, count: int, from_seq: int, to_seq: int) -> None:
        """Count gaps."""
        self.gaps += 1
        self.lost += count
        self.last_gap = (from_seq, to_seq)

    def spoofed_line(self, line: KernelLine, facility: int) -> None:
        """Count forgeries: what this benchmark writes into the device is one."""
        self.spoofed += 1
        self.last_spoof = (facility, line)

    def unreadable(self, error: SourceError) -> None:
        """Remember why."""
        self.trouble = str(error)

    def readable(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One row of the table."""

    case: str
    seen: int
    lost: int
    gaps: int
    matched: int
    cpu_us: float
    wall_s: float
    rss_grown_kib: int


def resident_kib() -> int:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def records(lines: int) -> bytes:
    """Return kernel records as text."""
    return b"".join(b"6,%d,%d,-;%b %d\n" % (n, n, (QUIET if n % EVERY else WANTED).encode(), n) for n in range(lines))


def measure(case: str, path: Path, expected: int, begin: Callable[[], object]) -> Figures:
    """Return what reading `expected` records from `path` costs, once `begin` has been called."""
    loop, told = Loop(), Told()
    arm()
    reader = KernelLogReader(loop, path, "bench", None, told)
    reader.patterns({check.source.pattern for check in find_checks() if isinstance(check.source, KernelLog)})
    if path == KMSG:
        reader.start()
        while not reader.caught_up:
            loop.run_once(1.0)
    seen, lost, told.spoofed, told.wanted, told.gaps = reader.seen, reader.lost, 0, 0, 0
    before, cpu, begun = resident_kib(), time.process_time(), time.monotonic()
    begin()
    reader.start()
    while reader.seen + reader.lost - seen - lost < expected and time.monotonic() - begun < 60:
        loop.run_once(1.0)
    read = max(1, reader.seen - seen)
    figures = Figures(
        case, reader.seen - seen, reader.lost - lost, told.gaps, told.wanted + told.spoofed,
        (time.process_time() - cpu) / read * 1e6, time.monotonic() - begun, resident_kib() - before,
    )  # fmt: skip
    reader.stop()
    loop.close()
    return figures


@contextmanager
def unlimited_writes() -> Iterator[None]:
    """Lift the rate limit of writes into the device, and put it back."""
    before = LIMIT.read_text()
    LIMIT.write_text("on\n")
    try:
        yield
    finally:
        LIMIT.write_text(before)


def from_text(folder: Path, lines: int) -> Iterator[Figures]:
    """Measure a regular file and a pipe."""
    text, pipe = folder / "records", folder / "pipe"
    text.write_bytes(records(lines))
    yield measure("file, all at once", text, lines, lambda: None)
    os.mkfifo(pipe)
    writers: list[subprocess.Popen[bytes]] = []
    command = [sys.executable, "-c", WRITE_PIPE, str(text), str(pipe)]
    yield measure("pipe, full speed", pipe, lines, lambda: writers.append(subprocess.Popen(command)))
    for writer in writers:
        writer.wait()


def from_device(lines: int) -> Iterator[Figures]:
    """Measure the device at given rates and in one burst."""
    for case, count, rate in (("kmsg 2,000/s", lines // 10, 2_000), ("kmsg 60,000/s", lines, 60_000), ("kmsg burst", lines, 0)):
        command = [sys.executable, "-c", WRITE_KMSG, str(count), str(rate)]
        writers: list[subprocess.Popen[bytes]] = []
        yield measure(case, KMSG, count, lambda w=writers, c=command: w.append(subprocess.Popen(c)))  # type: ignore[misc]
        for writer in writers:
            writer.wait()


def main() -> None:
    """Print one row for each case."""
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else LINES
    print(f"{'case':18} {'seen':>8} {'lost':>8} {'gaps':>5} {'matched':>8} {'us/line':>8} {'wall s':>7} {'RSS +KiB':>9}")
    with tempfile.TemporaryDirectory() as folder:
        show(from_text(Path(folder), lines))
    if os.access(KMSG, os.R_OK | os.W_OK) and os.access(LIMIT, os.W_OK):
        with unlimited_writes():
            show(from_device(lines))
    else:
        print("/dev/kmsg: not measured, it needs root")


def show(rows: Iterator[Figures]) -> None:
    """Print rows as they come."""
    for f in rows:
        row = f"{f.case:18} {f.seen:8} {f.lost:8} {f.gaps:5} {f.matched:8} {f.cpu_us:8.2f} {f.wall_s:7.2f} {f.rss_grown_kib:9}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
