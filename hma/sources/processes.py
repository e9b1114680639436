"""The process table, from `proc/<pid>/stat`.

Rules of this file:
- Never `cmdline`, `environ`, `maps` or `exe`: they take the memory lock of the process and wait with a process that is stuck.
  `stat` and `wchan` need no lock that a driver may hold.
- A process that ends while it is looked at is left out. One whose `stat` cannot be read or makes no sense is, too.
- Threads are not looked at: ten times the cost, on a node whose jobs run thousands of them.
- Cost: about 13 us a process (3,000 processes, Linux 6.18 in a virtual machine, CPython 3.11), nearly all of it the kernel's.
"""

from __future__ import annotations

import os
from pathlib import Path

from hma.check import Process, SourceError, Table

TICKS = os.sysconf("SC_CLK_TCK")
STAT_MAX = 2_048
"""A line of `stat` is about 330 bytes; the name in it at most 64."""


def read_processes(root: Path, now: float) -> Table:
    """Return every process of the node at `root`; `now` is in boottime seconds. Raises SourceError without a proc there."""
    proc = root / "proc"
    try:
        folder = os.open(proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as err:
        raise SourceError(f"{proc}: {err.strerror} (in a container: mount the node's /proc)") from err
    try:
        names = os.listdir(folder)  # noqa: PTH208  (of a descriptor)
        found = [_process(folder, name, now) for name in names if name.isdecimal()]
    except OSError as err:
        raise SourceError(f"{proc}: {err.strerror}") from err
    finally:
        os.close(folder)
    processes = tuple(process for process in found if process is not None)
    if not processes:
        raise SourceError(f"{proc}: lists no process (in a container: mount the node's /proc)")
    return Table(processes)


def parse_stat(raw: bytes, now: float) -> Process | None:
    """Return the process that one `stat` tells of, None where it makes no sense.

    The name stands in parentheses and may hold anything, parentheses, blanks and line ends included: it ends at the last one.
    """
    number, _, rest = raw.partition(b" (")
    name, closing, tail = rest.rpartition(b") ")
    fields = tail.split(None, 20)
    try:
        pid, ppid, start = int(number), int(fields[1]), int(fields[19])
    except (ValueError, IndexError):
        return None
    if not closing:
        return None
    age_s = max(0.0, now - start / TICKS)
    return Process(pid, name.decode("utf-8", "backslashreplace"), fields[0].decode("ascii", "replace"), ppid, age_s)


def standing(pid: int, proc: str = "/proc") -> str:
    """Return what one process is doing, in words for people: `is in uninterruptible sleep (state D, wchan rpm_resume)`."""
    try:
        folder = os.open(proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return "is out"
    try:
        process = _process(folder, str(pid), 0.0)
    finally:
        os.close(folder)
    if process is None:
        return "is gone"
    if process.state == "D":
        return f"is in uninterruptible sleep (state D, wchan {process.wchan or 'unknown'})"
    return f"is in state {process.state}"


def runs_in_group(group: int, proc: str = "/proc") -> bool:
    """Return whether a process of this process group runs: one that is no zombie. Dear: it looks at every process."""
    try:
        folder = os.open(proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        names = os.listdir(folder)  # noqa: PTH208  (of a descriptor)
        tails = (_read(folder, f"{name}/stat").rpartition(b") ")[2].split(None, 3) for name in names if name.isdecimal())
        return any(tail[0] not in (b"Z", b"X") and tail[2] == b"%d" % group for tail in tails if len(tail) == 4)
    except OSError:
        return True
    finally:
        os.close(folder)


def _process(folder: int, name: str, now: float) -> Process | None:
    raw = _read(folder, f"{name}/stat")
    process = parse_stat(raw, now) if raw else None
    if process is None or process.state != "D":
        return process
    where = _read(folder, f"{name}/wchan").decode("ascii", "backslashreplace").strip()
    # "0" is said of one that runs meanwhile, and to a reader without the right to know.
    return process._replace(wchan="" if where == "0" else where)


def _read(folder: int, name: str) -> bytes:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return b""
    try:
        return os.read(fd, STAT_MAX)
    except OSError:
        return b""
    finally:
        os.close(fd)
