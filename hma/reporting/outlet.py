"""Standard output that cannot block the agent.

A log collector that stops reading fills the pipe, and a plain `print` then hangs the agent for as long. Lines wait here
in a bounded queue instead; what does not fit is dropped and counted, and stays in the journal as "not emitted".

Rules of this file:
- The descriptor may be shared (a shell, a supervisor), so O_NONBLOCK is never set on it: that would change theirs too.
- Only a regular file can make us wait: there is no other way to write one. Do not log to a file on a disk that may hang.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
from collections import deque
from collections.abc import Callable

from hma.loop import Loop

QUEUE_BYTES = 4 << 20


class Outlet:
    """Writes whole lines to a file descriptor without ever waiting for its reader."""

    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop = loop
        self._target = _nonblocking(fd)
        self._queue: deque[tuple[bytes, Callable[[], None] | None]] = deque()
        self._queued = 0
        self._sent = 0
        self._torn = False
        self._watching = False
        self.dropped = 0

    def write(self, line: str, written: Callable[[], None] | None = None) -> bool:
        """Queue one line; call `written` once its last byte has left. Return False when it had to be dropped."""
        data = b"\n" * self._torn + line.encode("utf-8", "backslashreplace") + b"\n"
        if self._queued + len(data) > QUEUE_BYTES:
            self.dropped += 1
            return False
        self._torn = False
        self._queue.append((data, written))
        self._queued += len(data)
        if not self._watching:
            self._drain()
        return True

    def close(self) -> None:
        """Write what fits now and let go of the descriptor."""
        self._drain()
        self._watch(False)
        self._target.close()

    def _drain(self) -> None:
        while self._queue:
            data, written = self._queue[0]
            try:
                count = self._target.send(data[self._sent :])
            except BlockingIOError:
                self._watch(True)
                return
            except OSError:
                # The reader is gone or the disk is full: there is nobody to tell, and the journal has the events. Should it get
                # better, the next line must not be glued to half of this one.
                self._torn = self._sent > 0
                self.dropped += len(self._queue)
                self._queue.clear()
                self._queued = self._sent = 0
                break
            self._sent += count
            if self._sent < len(data):
                continue
            self._queue.popleft()
            self._queued -= len(data)
            self._sent = 0
            if written is not None:
                written()
        self._watch(False)

    def _watch(self, wanted: bool) -> None:
        if wanted == self._watching:
            return
        self._watching = wanted
        if wanted:
            self._loop.add_writer(self._target.fd, self._drain)
        else:
            self._loop.remove_writer(self._target.fd)


class _File:
    """A file, pipe or terminal, opened a second time so that O_NONBLOCK does not leak into whoever shares the first."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def send(self, data: bytes) -> int:
        return os.write(self.fd, data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)


class _Shared(_File):
    """A pipe or terminal that may not be opened a second time: asked before each write whether it would take a page.

    The pipe of a container's standard output belongs to the runtime's user, and we may be another. `PIPE_BUF` bytes fit where
    poll says so, unless another writer comes in between.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def send(self, data: bytes) -> int:
        if not self._poll.poll(0):
            raise BlockingIOError
        return os.write(self.fd, data[: select.PIPE_BUF])


class _Socket:
    """A socket (journald's stdout), sent to with MSG_DONTWAIT."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=os.dup(fd))
        self.fd = self._socket.fileno()

    def send(self, data: bytes) -> int:
        return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def close(self) -> None:
        self._socket.close()


def _nonblocking(fd: int) -> _File | _Socket:
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return _Socket(fd)
    if stat.S_ISREG(mode):
        return _File(os.dup(fd))
    try:
        return _File(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return _Shared(os.dup(fd))
