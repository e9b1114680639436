"""The kernel log as a stream: every record of /dev/kmsg once, those of the kernel that a check asks for handed on.

Rules of this file:
- Only records of facility 0 are the kernel's; any other is forgeable, is counted, and is told where it looks like the kernel's.
- Nothing blocks: at most `SLICE_S` of reading at a time, then the loop has its turn.
- `cursor` never runs ahead of what was told: it names the last record before the one about to be told, or the last told.
- A log that cannot be read is told once for each reason, opened again with growing pauses, and told when it works again.
- Without trouble there is no timer: the descriptor wakes us.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol

from hma.check import KernelLine, SourceError
from hma.loop import Loop, Timer
from hma.sources.kmsg_channel import Channel, PathGone, Replaced, Watch, WriterGone, open_channel, reason, watch_for
from hma.sources.kmsg_numbers import Numbers
from hma.sources.kmsg_pattern import combined, hits
from hma.sources.kmsg_record import HEAD, MAX_TEXT, continues, shown

SLICE_S = 0.005
BATCH = 500
"""A check may be given no more lines at once than it may report on."""
GRACE_S = 2.0
"""A pipe without a writer, a file moved away: for so long it is a restart or a rotation, after that it is blindness."""
RETRY_S = 0.1
RETRY_MAX_S = 30.0
CALM_S = 60.0
"""The pauses begin anew after so long without an error."""
STUCK_S = 5.0
LOOK_S = 2.0
"""How often a file is looked at where inotify is not to be had."""


class KernelLogTold(Protocol):
    """Who is told. Any of these calls may stop the reader or change its patterns."""

    def lines(self, lines: tuple[KernelLine, ...]) -> None:
        """Take the kernel's lines that match, oldest first, at most BATCH of them."""

    def lost_lines(self, count: int, from_seq: int, to_seq: int) -> None:
        """Take note that these records were overwritten before they could be read."""

    def spoofed_line(self, line: KernelLine, facility: int) -> None:
        """Take note of a line that matches and was not written by the kernel."""

    def unreadable(self, error: SourceError) -> None:
        """Take note that the log cannot be read, or now for another reason."""

    def readable(self) -> None:
        """Take note that the log can be read: after the start, and after each `unreadable`."""


class KernelLogReader:
    """Reads the kernel log at `path` on `loop`, behind `cursor` where it is of this boot, else from the oldest record there is.

    seen + lost = all records logged since the cursor; `foreign` and `spoofed` are among those seen, `malformed` are not.
    `monotonic` is the clock that the kernel stamps records with: it stands still in suspend, the loop's does not.
    """

    def __init__(
        self,
        loop: Loop,
        path: Path,
        boot_id: str,
        cursor: tuple[str, int] | None,
        told: KernelLogTold,
        monotonic: Callable[[], float] = time.monotonic,
        open_log: Callable[[Path], Channel] = open_channel,
    ) -> None:
        self._loop = loop
        self._path = path
        self._boot_id = boot_id
        self._told = told
        self._monotonic = monotonic
        self._open_log = open_log
        self._rebooted = cursor is not None and cursor[0] != boot_id
        self._delivered = cursor[1] if cursor is not None and cursor[0] == boot_id else None
        self._numbers = Numbers(self._delivered, self._now_us)
        self._wanted = combined(())
        self._channel: Channel | None = None
        self._batch: list[KernelLine] = []
        self._timer: Timer | None = None
        self._appearing: Watch | None = None
        self._running = False
        self._fresh = True
        self._readable = False
        self._trouble = ""
        self._trouble_at = float("-inf")
        self._pause_s = RETRY_S
        self._alone_at: float | None = None
        self._turns = 0
        self._unread: tuple[int, float] | None = None
        self.seen = 0
        self.lost = 0
        self.foreign = 0
        self.spoofed = 0
        self.malformed = 0
        self.caught_up = False

    # -- for the agent -------------------------------------------------------------------------------------------------

    def patterns(self, sources: Iterable[bytes]) -> None:
        """Hand on lines that match one of these from now on; what was read before is not looked at again."""
        self._wanted = combined(sources)

    def start(self) -> None:
        """Open the log on the next turn of the loop."""
        if not self._running:
            self._running = True
            self._numbers = Numbers(self._delivered, self._now_us)
            self._again(0.0, self._open)

    def stop(self) -> None:
        """Stop reading and close all; nothing is told afterwards. `start` reads on."""
        self._running = False
        self._cancel()
        self._close()
        self._ignore_appearing()
        self._batch.clear()
        self._readable, self._trouble, self._alone_at = False, "", None

    @property
    def cursor(self) -> tuple[str, int] | None:
        """Return boot id and number of the last record that need not be read again, None where none was read on this boot."""
        if self._delivered is None or self._delivered < 0:
            return None
        return self._boot_id, self._delivered

    def stuck(self, now: float) -> bool:
        """Return whether records wait to be read and nobody comes: for `STUCK_S` at least, by what earlier calls saw."""
        if not self._running or self._timer is not None:
            return False
        if self._channel is None:
            return True
        if not select.select([self._channel.fd], [], [], 0)[0]:
            return False
        if self._unread is None or self._unread[0] != self._turns:
            self._unread = (self._turns, now)
        return now - self._unread[1] > STUCK_S

    @property
    def restarts(self) -> int:
        """Return how often the program that fills a pipe or file began its numbers anew."""
        return self._numbers.restarts

    # -- opening and closing -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._cancel()
        try:
            channel = self._open_log(self._path)
        except (OSError, SourceError) as err:
            self._failed(err)
            return
        # A pipe must never be without a reader, or what is in it is gone: the old one is closed only now.
        self._finish()
        if not self._running:
            channel.close()
            return
        try:
            if channel.fd >= 0:
                self._loop.add_reader(channel.fd, self._woken)
        except PermissionError:
            channel.close()
            self._failed(SourceError("cannot be waited for, so it is no kernel log; is `kernel_log` the right path?"))
            return
        self._channel = channel
        self._fresh = True
        self._ignore_appearing()
        self._count_by(channel.numbers)
        self._drain()

    def _count_by(self, kind: type[Numbers]) -> None:
        last = self._numbers.last
        if kind is Numbers and last is None and self._rebooted:
            last = -1  # what the ring lost of this boot before our start is lost to us, unlike what was before our first start
        if type(self._numbers) is not kind:
            self._numbers = kind(last, self._now_us)
        self._numbers.last = last

    def _finish(self) -> None:
        """Close what will give no more; a last line without a newline counts now."""
        if self._channel is not None:
            self._take(self._channel.rest())
            self._flush(self._numbers.last)
        self._close()

    def _close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            if channel.fd >= 0:
                self._loop.remove_reader(channel.fd)
            channel.close()

    def _again(self, delay_s: float, call: Callable[[], None]) -> None:
        self._cancel()
        self._timer = self._loop.call_later(delay_s, partial(self._due, call))

    def _due(self, call: Callable[[], None]) -> None:
        self._timer = None
        call()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- reading -------------------------------------------------------------------------------------------------------

    def _woken(self) -> None:
        if self._channel is not None:
            self._channel.woken()
            self._turns += 1
            self._fresh = False
            self._drain()

    def _drain(self) -> None:
        channel = self._channel
        until = self._loop.clock() + SLICE_S
        while channel is not None and self._channel is channel:
            try:
                lines = channel.read()
            except (OSError, SourceError, WriterGone, Replaced, PathGone) as end:
                self._flush(self._numbers.last)
                if self._channel is channel:
                    self._ended(channel, end)
                return
            self._works()
            if self._channel is not channel:
                return
            self._take(lines)
            if self._loop.clock() >= until:
                self._flush(self._numbers.last)
                if self._channel is channel:
                    self._again(0.0, self._drain)  # not left to the descriptor: only reading on tells whether that was all
                return

    def _ended(self, channel: Channel, end: Exception) -> None:
        """Do what the end of the readable part asks for."""
        self.caught_up = True
        if isinstance(end, BlockingIOError):
            self._works()
            if channel.fd < 0 and self._channel is channel:
                self._again(LOOK_S, self._drain)
        elif isinstance(end, PathGone):
            self._moved()
        elif isinstance(end, WriterGone | Replaced):
            self._left(end)
        else:
            self._failed(end)

    def _take(self, lines: list[bytes]) -> None:
        place = self._numbers.place
        heads = [HEAD.match(line) for line in lines]
        texts = [line[found.end() : found.end() + MAX_TEXT] if found else b"" for line, found in zip(lines, heads, strict=True)]
        for line, found, text, hit in zip(lines, heads, texts, hits(self._wanted, texts), strict=True):
            if found is None:
                self.malformed += not continues(line)
                continue
            prio, seq, usec = found.groups()
            missing = place(int(seq), int(usec), line)
            if missing:
                if missing < 0:
                    continue
                self._lose(missing, int(seq))
                if not self._running:
                    return
            self.seen += 1
            if hit or (hit is None and int(prio) <= 7):
                self._keep(int(prio), int(seq), int(usec), text)
                if not self._running:
                    return
            elif int(prio) > 7:
                self.foreign += 1

    def _keep(self, prio: int, seq: int, usec: int, text: bytes) -> None:
        monotonic_s = self._monotonic()
        now = self._loop.clock()
        # By its time a line is known again when it is read again: microseconds between our two readings must not show in it.
        # The stamp is not disciplined by NTP and may run ahead of our clock; it is left so, for the same reason.
        at = usec / 1e6 + round(now - monotonic_s, 2)
        line = KernelLine(seq, at, prio & 7, shown(text))
        if prio > 7:
            self.foreign += 1
            self.spoofed += 1
            if self._channel is not None:
                self._told.spoofed_line(line, prio >> 3)
            return
        self._batch.append(line)
        if len(self._batch) >= BATCH:
            self._flush(seq)

    def _lose(self, missing: int, seq: int) -> None:
        self._flush(seq - missing - 1)
        self.lost += missing
        if self._channel is not None:
            self._delivered = seq - 1
            self._told.lost_lines(missing, seq - missing, seq - 1)

    def _flush(self, reached: int | None) -> None:
        """Tell the lines that wait; once they are told, nothing up to `reached` need be read again."""
        batch, self._batch = self._batch, []
        if self._channel is None:
            return  # stopped by one of the calls: what was not told will be read again
        self._delivered = reached
        if batch:
            self._told.lines(tuple(batch))

    def _now_us(self) -> int:
        return int(self._monotonic() * 1e6)

    # -- trouble -------------------------------------------------------------------------------------------------------

    def _works(self) -> None:
        self._alone_at = None
        self._cancel()
        if not self._readable:
            self._readable, self._trouble = True, ""
            self._told.readable()

    def _left(self, end: Exception) -> None:
        """Go on after the writer of a pipe has gone or a file has been replaced."""
        if isinstance(end, Replaced) or not self._fresh:
            # A pipe that has seen its writer go says so for ever; only one opened afresh waits quietly for the next.
            self._open()
            return
        now = self._loop.clock()
        if self._alone_at is None:
            self._alone_at = now
        left_s = self._alone_at + GRACE_S - now
        if self._readable and left_s > 0:
            self._again(left_s, self._open)
            return
        self._again(self._next_pause(), self._open)
        self._blind(end)

    def _moved(self) -> None:
        """Wait for the next file at the path, and read on in the old one meanwhile."""
        if self._appearing is None:
            self._await_appearing()
        if self._timer is None:
            self._again(GRACE_S, self._open)

    def _failed(self, error: Exception) -> None:
        self._finish()
        if not self._running:
            return
        self.caught_up = True
        if isinstance(error, FileNotFoundError | PermissionError):
            self._await_appearing()
        self._again(self._next_pause(), self._open)
        self._blind(error)

    def _blind(self, error: Exception) -> None:
        told = reason(self._path, error)
        if told == self._trouble:
            return
        self._readable, self._trouble = False, told
        self._told.unreadable(SourceError(told))

    def _next_pause(self) -> float:
        now = self._loop.clock()
        calm = now - self._trouble_at > CALM_S
        self._trouble_at = now
        self._pause_s = RETRY_S if calm else min(self._pause_s * 2, RETRY_MAX_S)
        return self._pause_s

    def _await_appearing(self) -> None:
        if self._appearing is None and (watch := watch_for(self._path)) is not None:
            self._appearing = watch
            self._loop.add_reader(watch.fd, self._appeared)

    def _appeared(self) -> None:
        if self._appearing is None:
            return
        self._appearing.clear()
        if self._channel is not None:
            self._drain()
        else:
            self._open()

    def _ignore_appearing(self) -> None:
        watch, self._appearing = self._appearing, None
        if watch is not None:
            self._loop.remove_reader(watch.fd)
            watch.close()
