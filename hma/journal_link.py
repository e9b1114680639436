"""A child process and the line-wise channel to it, on the loop; what is said on it is not known here.

Rules of this file:
- Nothing blocks: the channel is a socket that does not wait, and a child is looked after, never waited for.
- The child shares nothing with us but that channel. A child stuck on a dead disk keeps no port, lock or pipe of the agent.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence

from hma.loop import Loop, Timer

CHUNK = 1 << 16
LOSSY_WAIT_S = 0.2
LOSSY_BYTES = 1 << 18

# -S: site-packages are not needed, and looking for them takes longer than what is. -I: nor is anything from the environment.
CODE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from hma.journal_child import main; main(sys.argv[1:])"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH120 (Path.resolve would ask the disk)


def keeper_argv(options: Sequence[str]) -> tuple[str, ...]:
    """Return the command that keeps the journal (`hma.journal_child`)."""
    return (sys.executable, "-I", "-S", "-X", "utf8", "-c", CODE, ROOT, *options)


class Link:
    """One child. `heard` gets each line it says, `gone` is called once when it has closed the channel."""

    def __init__(self, loop: Loop, argv: Sequence[str], heard: Callable[[bytes], None], gone: Callable[[], None]) -> None:
        self._loop = loop
        self._heard = heard
        self._gone = gone
        self._unsent = bytearray()
        self._unread = bytearray()
        self._open = True
        self._sending = False
        self._end = ""
        ours, theirs = socket.socketpair()
        with theirs:
            self._socket = ours
            ours.setblocking(False)
            try:
                self.pid = spawn(argv, theirs.fileno())
            except OSError:
                ours.close()
                raise
        loop.add_reader(ours.fileno(), self._read)

    @property
    def unsent(self) -> int:
        """Return how many bytes wait until the child reads."""
        return len(self._unsent)

    def send(self, line: bytes) -> None:
        """Send one line, when the child takes it."""
        if self._open:
            self._unsent += line + b"\n"
            self._flush()

    def wait(self, seconds: float) -> None:
        """Exchange what there is with the child until it closes the channel, `seconds` at most; for the end of the agent."""
        end = time.monotonic() + seconds
        poll = select.poll()
        while self._open and (left := end - time.monotonic()) > 0:
            poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            for _, what in poll.poll(left * 1000):
                if what & select.POLLOUT:
                    self._flush()
                if what & ~select.POLLOUT:
                    self._read()

    def close(self) -> None:
        """Close the channel; the child reads what was sent and ends."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket.fileno())
            self._watch_writable(wanted=False)
            self._socket.close()

    def ended(self) -> str:
        """Return how the child ended, "" while it lives; it is no zombie afterwards."""
        if not self._end:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 0  # somebody else has looked after it
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        return self._end

    def _read(self) -> None:
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            self._gone()
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = bytes(self._unread) + line
            self._unread.clear()
            if self._open:
                self._heard(whole)
        self._unread += rest

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent, socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            pass  # the loop says when there is room
        except OSError:
            self._unsent.clear()  # the end of the child is told where we read
        self._watch_writable(wanted=bool(self._unsent))

    def _watch_writable(self, *, wanted: bool) -> None:
        if wanted != self._sending:
            self._sending = wanted
            fd = self._socket.fileno()
            if wanted:
                self._loop.add_writer(fd, self._flush)
            else:
                self._loop.remove_writer(fd)


class LossyLines:
    """Lines that wait a little for each other, and are left out and counted where the one who takes them lags."""

    def __init__(self, loop: Loop, send: Callable[[Sequence[str]], None]) -> None:
        self._loop = loop
        self._send = send
        self._lines: list[str] = []
        self._size = 0
        self._timer: Timer | None = None
        self.dropped = 0

    def add(self, line: str, unsent: int | None) -> None:
        """Take one line; `unsent` bytes of others are still on their way, None where there is nobody to take them."""
        if unsent is None or self._size + unsent > LOSSY_BYTES:
            self.dropped += 1
            return
        self._lines.append(line)
        self._size += len(line)
        if self._timer is None:
            self._timer = self._loop.call_later(LOSSY_WAIT_S, self.flush)

    def flush(self) -> None:
        """Send what waits."""
        if self._timer:
            self._timer.cancel()
        lines, self._lines, self._size, self._timer = self._lines, [], 0, None
        self._send(lines)


def spawn(argv: Sequence[str], channel: int) -> int:
    """Start `argv` in a session of its own with `channel` as its standard input, output and error; return its process id.

    posix_spawn, not a copy of this process: the child never holds our memory, and everything we opened is closed in it. It
    returns when the program has begun, so `argv[0]` has to be one that is in memory already, like the interpreter we run on.
    """
    return os.posix_spawn(
        argv[0],
        list(argv),
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, channel, fd) for fd in (0, 1, 2)],
        setsid=True,
        setsigmask=(),
    )
