"""Process ids and open files: limits of the whole node, at which nothing new starts or opens.

Rules of this file:
- Every thread takes a process id. How many exist stands after the slash of the fourth field of loadavg; the smaller of pid_max
  and threads-max is the limit.
- file-nr: open files, a zero, and the limit.
- Format: proc_loadavg(5), Documentation/admin-guide/sysctl/kernel.rst and fs.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from hma.check import Check, Files, Tree
from hma.model import NodeFacts, Observation, Status

LOAD = "proc/loadavg"
PID_MAX = "proc/sys/kernel/pid_max"
THREADS_MAX = "proc/sys/kernel/threads-max"
FILE_NR = "proc/sys/fs/file-nr"
PIDS = "PIDS-FULL"
FILES = "FILES-FULL"

_LOAD = re.compile(r"(?:\d+\.\d+ ){3}\d+/(\d+) \d+")
_FILE_NR = re.compile(r"(\d+)\s+\d+\s+(\d+)")


@dataclass(frozen=True, slots=True)
class Options:
    """`full`: the share of a limit from which it counts as reached."""

    full: float = field(default=0.9, metadata={"least": 0.01, "most": 1.0})


def observe(sample: Tree, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Return how near each limit is; a limit that cannot be read is unknown."""
    load = _LOAD.fullmatch(sample.files.get(LOAD, "").strip())
    limits = [int(text) for path in (PID_MAX, THREADS_MAX) if (text := sample.files.get(path, "").strip()).isdecimal()]
    if load is None or not limits:
        yield _unread(PIDS, sample, (LOAD, PID_MAX, THREADS_MAX))
    else:
        yield _seen(PIDS, "threads", int(load[1]), min(limits), f"{LOAD}: {load[0]}", options)
    files = _FILE_NR.fullmatch(sample.files.get(FILE_NR, "").strip())
    if files is None:
        yield _unread(FILES, sample, (FILE_NR,))
    else:
        yield _seen(FILES, "open files", int(files[1]), int(files[2]), f"{FILE_NR}: {files[0]}", options)


def _seen(code: str, what: str, used: int, limit: int, evidence: str, options: Options) -> Observation:
    status = Status.DEGRADED if limit and used >= options.full * limit else Status.OK
    return Observation(
        code, "host", status, f"{used} of {limit} {what}", evidence, attrs=(("used", str(used)), ("limit", str(limit)))
    )


def _unread(code: str, sample: Tree, paths: tuple[str, ...]) -> Observation:
    why = next((f"/{path}: {sample.errors[path]}" for path in paths if path in sample.errors), f"/{paths[0]} makes no sense")
    return Observation(code, "host", Status.UNKNOWN, why)


CHECK = Check(
    name="kernel_limits",
    title="Process ids and open files of the node",
    source=Files((LOAD, PID_MAX, THREADS_MAX, FILE_NR)),
    observe=observe,
    codes=frozenset({PIDS, FILES}),
    options=Options(),
)
