"""Who has the driver: a lock in the run directory that a probe holds for as long as its process lives.

Rules of this file:
- The kernel keeps the lock (flock), so it ends with the process and not before: one that sleeps in the driver for ever, though
  it was killed long ago, still holds it. Another probe then knows, without touching the driver, and does not join it.
- The holder notes in the file which call does not come back, so that who comes later can say it.
- A lock that cannot be had for another reason (no such directory) is none: looking at the GPUs matters more.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import NamedTuple

NOTE_MAX = 256


class Stuck(NamedTuple):
    """What the holder says of itself: its process id, and, where a call does not come back, its name, the GPU that it asks (""
    for none) and the boottime second at which it went out."""

    pid: int
    call: str = ""
    gpu: str = ""
    since: float = 0.0


class Lock:
    """The lock at `path`; None = none is wanted."""

    def __init__(self, path: Path | None) -> None:
        self.held = False
        self._noted = False
        self._fd = -1
        try:
            if path is not None:
                self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            pass

    def take(self) -> bool:
        """Return whether nobody else has it; it is ours then, until the end of the process."""
        if self._fd < 0 or self.held:
            return True
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
        self.held = True
        self.note("")
        return True

    def free(self) -> bool:
        """Return whether nobody has it, without taking it."""
        if self._fd < 0:
            return True
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def clear(self) -> None:
        """Take back what was noted: it came back."""
        if self._noted:
            self.note("")

    def note(self, call: str, gpu: str = "", since: float = 0.0) -> None:
        """Leave word for who comes later: this call does not come back ("" = all is well)."""
        if not self.held:
            return
        self._noted = bool(call)
        text = f"{os.getpid()} {call} {gpu or '-'} {since:.1f}\n" if call else f"{os.getpid()}\n"
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, text.encode(), 0)
        except OSError:
            pass  # a full disk: they will know that it is held

    def holder(self) -> Stuck:
        """Return what the holder left; process id 0 where that cannot be read."""
        try:
            words = os.pread(self._fd, NOTE_MAX, 0).decode("utf-8", "replace").split()
            if len(words) == 4:
                return Stuck(int(words[0]), words[1], "" if words[2] == "-" else words[2], float(words[3]))
            return Stuck(int(words[0]))
        except (OSError, ValueError, IndexError):
            return Stuck(0)
