"""Processes in uninterruptible sleep (state D): they cannot be killed, and what they hold stays held.

Rules of this file:
- A moment in state D is normal: any disk read has one. Only the row's `hold` makes a fault of it, so the component is one
  process (`process:1240`): another one seen in D meanwhile must not keep the count going.
- A process that reads a disk without pause is found in D nearly every time, stuck or not. The kernel's own detector
  (`hung_task`) knows the difference; this one sees what that one no longer reports (ten lines per boot), so it is a hint.
- Kernel threads are left out: some sleep in D by design. `wchan` says where in the kernel a process waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hma.check import Check, Process, Processes, Table
from hma.model import NodeFacts, Observation, Status

CODE = "STUCK-PROCESS"
KTHREADD = 2


@dataclass(frozen=True, slots=True)
class Options:
    """`most`: processes named at most, lowest process ids first. `ignore`: names of processes that may sleep in D for long."""

    most: int = field(default=64, metadata={"least": 1, "most": 1_000})
    ignore: tuple[str, ...] = ()


def observe(sample: Table, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Name each user process in state D; one that is not named any more is fine."""
    stuck = [process for process in sample.processes if process.state == "D" and _counts(process, options)]
    for process in sorted(stuck)[: options.most]:
        where = f" in {process.wchan}" if process.wchan else ""
        yield Observation(
            CODE,
            f"process:{process.pid}",
            Status.DEGRADED,
            f"{process.comm} (pid {process.pid}, parent {process.ppid}) waits uninterruptibly{where}",
            f"state D, wchan {process.wchan or '?'}, started {process.age_s:.0f} s ago; {len(stuck)} such processes",
            actor=f"pid {process.pid}",
            attrs=(("process", process.comm), ("wchan", process.wchan or "?"), ("stuck", str(len(stuck)))),
        )


def _counts(process: Process, options: Options) -> bool:
    return KTHREADD not in (process.pid, process.ppid) and process.comm not in options.ignore


CHECK = Check(
    name="stuck_process",
    title="Processes that cannot be killed (state D)",
    source=Processes(),
    interval_s=600.0,  # 13 us a process: a big node has thousands, and the agent 0.7 s an hour
    observe=observe,
    codes=frozenset({CODE}),
    options=Options(),
    complete=True,
)
