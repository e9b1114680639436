"""Zombies: processes that have ended and that their parent does not collect; each keeps a process id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from hma.check import Check, Processes, Table
from hma.model import NodeFacts, Observation, Status

CODE = "ZOMBIES"


@dataclass(frozen=True, slots=True)
class Options:
    """`many`: zombies from which they are reported. `age_s`: a process younger than this is not counted."""

    many: int = field(default=200, metadata={"least": 1})
    age_s: float = 60.0


def observe(sample: Table, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Return whether there are too many, and whose they are."""
    zombies = [process for process in sample.processes if process.state == "Z" and process.age_s >= options.age_s]
    if len(zombies) < options.many:
        yield Observation(CODE, "host", Status.OK, f"{len(zombies)} zombies")
        return
    names = {process.pid: process.comm for process in sample.processes}
    parents = Counter(process.ppid for process in zombies).most_common(3)
    whose = ", ".join(f"{count} of {names.get(pid, '?')} (pid {pid})" for pid, count in parents)
    evidence = " ".join(f"{process.pid}:{process.comm}" for process in zombies[:20])
    attrs = (("zombies", str(len(zombies))), ("parent", str(parents[0][0])))
    yield Observation(CODE, "host", Status.DEGRADED, f"{len(zombies)} zombies: {whose}", evidence, attrs=attrs)


CHECK = Check(
    name="zombies",
    title="Processes that nobody collects",
    source=Processes(),
    interval_s=600.0,  # 13 us a process: a big node has thousands, and the agent 0.7 s an hour
    observe=observe,
    codes=frozenset({CODE}),
    options=Options(),
)
