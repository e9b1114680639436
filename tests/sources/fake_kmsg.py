"""What the tests of the kernel log share: who is told, a clock set by hand, records, a device that answers from a list."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from hma.check import KernelLine, SourceError
from hma.loop import Loop
from hma.sources.kernel_log import KernelLogReader
from hma.sources.kmsg_channel import Device
from hma.sources.kmsg_record import MAX_RECORD

BOOT = "5b1b2b7c-0000-4000-8000-000000000001"
OTHER_BOOT = "5b1b2b7c-0000-4000-8000-000000000002"


def record(seq: int, text: str | bytes = "NVRM: Xid", usec: int = 1_000_000, prio: int = 4) -> bytes:
    """Return one record as the device gives it."""
    return b"%d,%d,%d,-;%b\n" % (prio, seq, usec, text.encode() if isinstance(text, str) else text)


class SetClock:
    """A clock that stands still until it is moved, but for `tick_s` at each look."""

    def __init__(self, now: float = 5000.0, tick_s: float = 0.0) -> None:
        self.now = now
        self.tick_s = tick_s

    def __call__(self) -> float:
        """Return the time."""
        self.now += self.tick_s
        return self.now


class Told:
    """Writes down what the reader tells: `all` in order, and the values by kind."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self.gaps: list[tuple[int, int, int]] = []
        self.spoofs: list[tuple[KernelLine, int]] = []
        self.batches: list[tuple[KernelLine, ...]] = []
        self.reasons: list[str] = []
        self.then: Callable[[str], object] = str
        """Called after each telling, as the agent would act on it; by default it does nothing."""

    def _tell(self, what: str) -> None:
        self.all.append(what)
        self.then(what)

    def lines(self, lines: tuple[KernelLine, ...]) -> None:
        """Note lines."""
        self.batches.append(lines)
        self._tell("lines")

    def lost_lines(self, count: int, from_seq: int, to_seq: int) -> None:
        """Note a gap."""
        self.gaps.append((count, from_seq, to_seq))
        self._tell("lost")

    def spoofed_line(self, line: KernelLine, facility: int) -> None:
        """Note a forgery."""
        self.spoofs.append((line, facility))
        self._tell("spoofed")

    def unreadable(self, error: SourceError) -> None:
        """Note blindness."""
        self.reasons.append(str(error))
        self._tell("unreadable")

    def readable(self) -> None:
        """Note sight."""
        self._tell("readable")

    @property
    def seqs(self) -> list[int]:
        """Return the numbers of all lines told."""
        return [line.seq for batch in self.batches for line in batch]

    @property
    def texts(self) -> list[str]:
        """Return the texts of all lines told."""
        return [line.text for batch in self.batches for line in batch]

    @property
    def sight(self) -> list[str]:
        """Return the changes between readable and unreadable."""
        return [what for what in self.all if what in ("readable", "unreadable")]


class Bench:
    """A reader on a loop of its own; `turn` runs what is due, `until` waits for the real thing."""

    def __init__(
        self,
        path: Path,
        cursor: tuple[str, int] | None = None,
        patterns: Iterable[bytes] = (b"NVRM: ",),
        clock: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        device: ScriptedDevice | None = None,
    ) -> None:
        self.told = Told()
        self.loop = Loop() if clock is None else Loop(clock)
        if device is None:
            self.reader = KernelLogReader(self.loop, path, BOOT, cursor, self.told, monotonic)
        else:
            self.reader = KernelLogReader(self.loop, path, BOOT, cursor, self.told, monotonic, device.open)
        self.reader.patterns(patterns)
        self.reader.start()

    def turn(self, times: int = 10) -> None:
        """Run what is due now, `times` over; never waits."""
        for _ in range(times):
            self.loop.run_once(0.0)

    def until(self, done: Callable[[], bool], limit_s: float = 10.0) -> None:
        """Run the loop until `done`; fails after `limit_s`."""
        end = time.monotonic() + limit_s
        while not done():
            assert time.monotonic() < end, f"still not after {limit_s:g} s; told: {self.told.all[-5:]}"
            self.loop.run_once(0.05)

    @property
    def idle(self) -> bool:
        """Return whether nothing is scheduled: only a descriptor can wake the loop."""
        return self.loop._until_next_timer() is None

    def close(self) -> None:
        """Stop the reader and release the loop."""
        self.reader.stop()
        self.loop.close()


class ScriptedDevice:
    """A device that answers its reads from a list: bytes are given, errors raised; at the end there is nothing more just now.

    The descriptor is one end of a pipe, so that the loop can wait for it; `more` adds answers and makes it ready.
    """

    def __init__(self, *answers: bytes | OSError) -> None:
        self.answers: list[bytes | OSError] = []
        self.refusals: list[Exception] = []
        self.opened: list[Path] = []
        self._ready: list[int] = []
        self.more(*answers)

    def more(self, *answers: bytes | OSError) -> None:
        """Add answers."""
        self.answers += answers
        for fd in self._ready:
            with contextlib.suppress(BrokenPipeError):  # closed by the reader meanwhile
                os.write(fd, b"!")

    def open(self, path: Path) -> Device:
        """Return the device, or raise the next refusal."""
        self.opened.append(path)
        if self.refusals:
            raise self.refusals.pop(0)
        fd, ready = os.pipe2(os.O_NONBLOCK)
        self._ready.append(ready)
        os.write(ready, b"!")
        return Device(fd, self._read)

    def _read(self, fd: int, size: int) -> bytes:
        assert size == MAX_RECORD, "less room makes the kernel drop a long record"
        answer = self.answers.pop(0) if self.answers else BlockingIOError()
        if not self.answers:
            drain(fd)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def close(self) -> None:
        """Close what made the descriptors ready."""
        for fd in self._ready:
            os.close(fd)


def drain(fd: int) -> None:
    """Read all there is."""
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass
