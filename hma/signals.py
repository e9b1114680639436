"""Signals as ordinary events of the loop: the handler writes a byte, the loop reads it and calls.

A Python handler runs between any two bytecodes; what it may safely touch there is nearly nothing.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Mapping
from types import FrameType

from hma.loop import Loop


class Signals:
    """Calls `handlers[signal]` from the loop while open."""

    def __init__(self, loop: Loop, handlers: Mapping[signal.Signals, Callable[[], None]]) -> None:
        self._loop = loop
        self._handlers = handlers
        self._read, self._write = socket.socketpair()
        for end in (self._read, self._write):
            end.setblocking(False)
        self._before = {number: signal.signal(number, _noted) for number in handlers}
        self._wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        loop.add_reader(self._read.fileno(), self._arrived)

    def close(self) -> None:
        """Put the handlers of before back."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._loop.remove_reader(self._read.fileno())
        self._read.close()
        self._write.close()

    def _arrived(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self._read.recv(256):
                handler = self._handlers.get(signal.Signals(number))
                if handler is not None:
                    handler()


def _noted(signum: int, frame: FrameType | None) -> None:
    """Do nothing: the byte is on its way already."""
