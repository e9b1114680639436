"""How the benchmarks measure: from outside, by what the kernel counts, and as a table beside the budget.

Rules of this file:
- Processor time is the scheduler's nanoseconds (`schedstat`) of every thread: the 10 ms ticks of `stat` read 0 for this agent.
- Memory is `smaps_rollup`: RSS of the agent, PSS of the agent with all its children (shared pages counted once).
- Wakeups are voluntary context switches of the agent's threads.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure beside its budget; `kept` is None where there is no budget."""

    what: str
    value: str
    budget: str = ""
    kept: bool | None = None


def limit(what: str, value: float, budget: float, unit: str, digits: int = 2) -> Figure:
    """Return a figure that must not exceed its budget."""
    return Figure(what, f"{value:.{digits}f} {unit}", f"<= {budget:g} {unit}", value <= budget)


def plain(what: str, value: str) -> Figure:
    """Return a figure that stands alone."""
    return Figure(what, value)


def show(title: str, figures: Iterable[Figure]) -> bool:
    """Print figures as a table; return whether every budget is kept."""
    rows = list(figures)
    print(f"\n{title}")
    wide = [max(len(getattr(row, name)) for row in rows) for name in ("what", "value", "budget")]
    for row in rows:
        word = {True: "kept", False: "MISSED", None: ""}[row.kept]
        print(f"  {row.what:<{wide[0]}}  {row.value:>{wide[1]}}  {row.budget:<{wide[2]}}  {word}".rstrip())
    return all(row.kept is not False for row in rows)


def machine() -> str:
    """Return what these figures were taken on."""
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    return (
        f"{psutil.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, CPython {platform.python_version()}, "
        f"load {load:.2f}"
    )


def quantiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Return p50, p99 and the maximum, in milliseconds."""
    ordered = sorted(value * 1000 for value in seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return statistics.median(ordered), p99, ordered[-1]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process has used and holds: processor seconds, wakeups, MiB."""

    cpu_s: float
    wakeups: int
    rss_mib: float
    pss_mib: float
    anon_mib: float
    fds: int
    threads: int


def usage(pid: int) -> Usage:
    """Return what process `pid` has used up to now."""
    task = Path(f"/proc/{pid}/task")
    nanoseconds = sum(int((thread / "schedstat").read_text().split()[0]) for thread in task.iterdir())
    switches = 0
    for thread in task.iterdir():
        status = (thread / "status").read_text()
        switches += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    memory = _rollup(pid)
    return Usage(
        cpu_s=nanoseconds / 1e9,
        wakeups=switches,
        rss_mib=memory["Rss"] / 1024,
        pss_mib=memory["Pss"] / 1024,
        anon_mib=memory["Anonymous"] / 1024,
        fds=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        threads=len(list(task.iterdir())),
    )


def children_usage(pid: int) -> tuple[float, float]:
    """Return the PSS in MiB of all living children, and the processor seconds of all, the ended ones included."""
    parent = psutil.Process(pid)
    pss = cpu = 0.0
    for child in parent.children(recursive=True):
        try:
            used = usage(child.pid)
        except (OSError, ValueError):
            continue
        pss += used.pss_mib
        cpu += used.cpu_s
    times = parent.cpu_times()
    return pss, cpu + times.children_user + times.children_system


def _rollup(pid: int) -> dict[str, int]:
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return {words[0].rstrip(":"): int(words[1]) for words in lines}
