"""The three things a kernel log can be read from: the device, a pipe, a regular file; each gives lines and never blocks.

Rules of this file:
- A read gives what is there, at most `CHUNK` records or `BLOCK` bytes; BlockingIOError says there is no more just now.
- Opening is by path with O_NONBLOCK, so a pipe without a writer does not hold us.
- The path belongs on the device file system, a tmpfs or a local disk: a file on a dead network disk blocks whoever looks at it.
- inotify (a library over ctypes, 1 MiB) is loaded only where a regular file is read or waited for.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Protocol

from hma.check import SourceError
from hma.sources.kmsg_numbers import CopiedNumbers, Numbers
from hma.sources.kmsg_record import MAX_RECORD, Splitter

CHUNK = 64
BLOCK = 32_768

Read = Callable[[int, int], bytes]


class WriterGone(Exception):
    """No program has the pipe open for writing."""


class Replaced(Exception):
    """Another file has taken the path, and this one is read to its end."""


class PathGone(Exception):
    """The file has been moved or removed, and it is read to its end."""


class Channel(Protocol):
    """An open kernel log. `fd` is what to wait for (-1: nothing, look again later)."""

    numbers: ClassVar[type[Numbers]]
    fd: int

    def woken(self) -> None:
        """Take note that `fd` was ready."""

    def read(self) -> list[bytes]:
        """Return the next lines; raises BlockingIOError, WriterGone, Replaced, PathGone, SourceError or another OSError."""

    def rest(self) -> list[bytes]:
        """Return the line that no newline ended, where there is no more to come."""

    def close(self) -> None:
        """Release the descriptors."""


class Device:
    """/dev/kmsg: one read is one record; a reader overtaken by the ring gets EPIPE once, then the oldest record."""

    numbers: ClassVar[type[Numbers]] = Numbers

    def __init__(self, fd: int, read: Read) -> None:
        self.fd = fd
        self._read = read

    def woken(self) -> None:
        """Do nothing."""

    def read(self) -> list[bytes]:
        """Return up to CHUNK records, without their dictionary lines."""
        lines: list[bytes] = []
        fd, read = self.fd, self._read
        for _ in range(CHUNK):
            try:
                record = read(fd, MAX_RECORD)
            except BrokenPipeError:
                continue  # the numbers will show how much was overwritten
            except OSError:
                if lines:
                    return lines  # the next read says it again
                raise
            if not record:
                raise SourceError("gives nothing, so it is no kernel log; is `kernel_log` the right path?")
            lines.append(record.partition(b"\n")[0])
        return lines

    def rest(self) -> list[bytes]:
        """Return nothing: every record is complete."""
        return []

    def close(self) -> None:
        """Close the device."""
        os.close(self.fd)


class Pipe:
    """A FIFO that a program writes records into."""

    numbers: ClassVar[type[Numbers]] = CopiedNumbers

    def __init__(self, fd: int, read: Read) -> None:
        self.fd = fd
        self._read = read
        self._splitter = Splitter()

    def woken(self) -> None:
        """Do nothing."""

    def read(self) -> list[bytes]:
        """Return the lines of one block; raises WriterGone at the end."""
        block = self._read(self.fd, BLOCK)
        if not block:
            raise WriterGone
        return self._splitter.feed(block)

    def rest(self) -> list[bytes]:
        """Return the last line, when the writer ended it by going away."""
        return self._splitter.rest()

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.fd)


class RegularFile:
    """A file of records that grows, is rotated or truncated. Watched by inotify, or by looking where there is none left."""

    numbers: ClassVar[type[Numbers]] = CopiedNumbers

    def __init__(self, path: Path, fd: int, read: Read, watch: Watch | None) -> None:
        self._path = path
        self._file = fd
        self._read = read
        self._splitter = Splitter()
        self._watch = watch
        self.fd = self._watch.fd if self._watch is not None else -1

    def woken(self) -> None:
        """Forget the events: each says no more than look again."""
        if self._watch is not None:
            self._watch.clear()

    def read(self) -> list[bytes]:
        """Return the lines of one block; a file that has become shorter is read again from its beginning."""
        block = self._read(self._file, BLOCK)
        if not block and self._shrunk():
            os.lseek(self._file, 0, os.SEEK_SET)
            self._splitter = Splitter()
            block = self._read(self._file, BLOCK)
        if not block:
            self._look_at_path()
            raise BlockingIOError
        return self._splitter.feed(block)

    def rest(self) -> list[bytes]:
        """Return the last line, when the file was left without its newline."""
        return self._splitter.rest()

    def close(self) -> None:
        """Close the file and its watch."""
        os.close(self._file)
        if self._watch is not None:
            self._watch.close()

    def _shrunk(self) -> bool:
        return os.fstat(self._file).st_size < os.lseek(self._file, 0, os.SEEK_CUR)

    def _look_at_path(self) -> None:
        mine = os.fstat(self._file)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            raise PathGone from None
        if (there.st_ino, there.st_dev) != (mine.st_ino, mine.st_dev):
            raise Replaced


def open_channel(path: Path, read: Read = os.read) -> Channel:
    """Return the kernel log at `path`, opened for reading; raises OSError, or SourceError for what can be none."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    mode = os.fstat(fd).st_mode
    if stat.S_ISCHR(mode):
        return Device(fd, read)
    if stat.S_ISFIFO(mode):
        return Pipe(fd, read)
    if stat.S_ISREG(mode):
        return RegularFile(path, fd, read, watch_file(path))
    os.close(fd)
    raise SourceError("is neither the kernel's log device nor a pipe nor a regular file; correct `kernel_log`")


# -- waiting for what happens to a path -------------------------------------------------------------------------------


class Watch:
    """One inotify watch; `fd` is ready when something happened."""

    def __init__(self, path: Path, mask: int) -> None:
        """Watch `path`; raises OSError where it is not there or the user's inotify limits are reached."""
        from inotify_simple import INotify

        self._notify = INotify(nonblocking=True)
        self.fd: int = self._notify.fileno()
        try:
            self._notify.add_watch(path, mask)
        except OSError:
            self._notify.close()
            raise

    def clear(self) -> None:
        """Drop the events that are there."""
        try:
            while os.read(self.fd, 65_536):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """End the watch."""
        self._notify.close()


def watch_file(path: Path) -> Watch | None:
    """Return a watch for growth, truncation, removal and renaming of a file, or None where the kernel grants none."""
    from inotify_simple import flags

    try:
        return Watch(path, flags.MODIFY | flags.ATTRIB | flags.MOVE_SELF | flags.DELETE_SELF)
    except OSError:
        return None


def watch_for(path: Path) -> Watch | None:
    """Return a watch for the appearance of `path`, or None where its folder cannot be watched."""
    from inotify_simple import flags

    try:
        return Watch(path.parent, flags.CREATE | flags.MOVED_TO | flags.ATTRIB)
    except OSError:
        return None


# -- what went wrong, for people --------------------------------------------------------------------------------------

_MENDS = {
    errno.ENOENT: "not there; in a container mount the node's /dev/kmsg, or name another path as `kernel_log`",
    errno.EACCES: "no permission to read it; run as root or let the agent's user read it",
    errno.EPERM: "no permission to read it; run as root or grant CAP_SYSLOG (sysctl kernel.dmesg_restrict=1 asks for it), "
    "and in a container allow the device (privileged, or a device rule)",
}


def reason(path: Path, error: Exception) -> str:
    """Return one line for people: what, where, the mend."""
    if isinstance(error, WriterGone):
        return f"{path}: no program has this pipe open for writing; start the one that feeds it"
    if isinstance(error, OSError):
        told = error.strerror or type(error).__name__
        return f"{path}: {_MENDS.get(error.errno or 0, f'{told}; opened again until it works')}"
    return f"{path}: {error}"
