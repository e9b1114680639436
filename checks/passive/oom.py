"""Processes killed for want of memory: by the node's own shortage, or by a limit that their owner was given.

Rules of this file:
- The facts are on the line `oom-kill:constraint=...`; the kill itself on `... Killed process ...`, right after it. A kill of
  a whole group (`memory.oom.group`) prints more of the second kind.
- `Out of memory` alone does not mean the node: with a cpuset or a memory policy only some of its memory was allowed. The
  constraint decides, where it is at hand.
- A process name stands inside both lines and its owner chooses it. It is 15 bytes at most: everything before it is fixed, and
  what is read after it is read from the end.
- Formats: mm/oom_kill.c of Linux 4.14, 5.10, 6.1, 6.12; captured lines in tests/data/kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from hma.check import Check, KernelLine, KernelLog, Lines, NoOptions
from hma.model import Attrs, NodeFacts, Observation, Status

HOST = "OOM-HOST"
LIMIT = "OOM-LIMIT"

_WITHIN_S = 5.0
_KILL = re.compile(
    r"(?P<scope>Memory cgroup out of memory|Out of memory)(?: \(oom_kill_allocating_task\))?: Kill(?:ed)? process"
    r" (?P<pid>\d{1,10}) \((?P<process>.{0,64})\),?"
    r" (?:score \d{1,10} or sacrifice child|total-vm:\d{1,18}kB, anon-rss:(?P<rss>\d{1,18})kB, .{1,300})"
)
_FACTS = re.compile(r"oom-kill:constraint=(CONSTRAINT_[A-Z_]{1,20}),nodemask=")
_VICTIM = re.compile(r",pid=(\d{1,10}),uid=(\d{1,10})$")
_NONE_LEFT = re.compile(
    r"Out of memory and no killable processes\.\.\.|Kernel panic - not syncing: System is deadlocked on memory"
)


class _Facts(NamedTuple):
    """What the line before the kill says: why memory was short, whose limit it was, and the user of the victim."""

    line: KernelLine
    constraint: str
    memcg: str
    pid: str
    uid: str


def observe(sample: Lines, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return one observation for each process that was killed."""
    facts: _Facts | None = None
    for line in sample.lines:
        text = line.text.rstrip()
        if text.startswith("oom-kill:"):
            facts = _facts(line, text)
        elif found := _KILL.fullmatch(text):
            near = facts if facts is not None and line.at - facts.line.at <= _WITHIN_S else None
            yield _killed(line, found, near)
        elif _NONE_LEFT.fullmatch(text):
            yield Observation(HOST, "host", Status.FAILED, "out of memory, and nothing is left to kill", line.text, line.at)


def _facts(line: KernelLine, text: str) -> _Facts | None:
    head, victim = _FACTS.match(text), _VICTIM.search(text)
    if head is None or victim is None:
        return None
    memcg = text.partition(",oom_memcg=")[2].partition(",task_memcg=")[0]
    return _Facts(line, head[1], memcg, victim[1], victim[2])


def _killed(line: KernelLine, kill: re.Match[str], facts: _Facts | None) -> Observation:
    constraint = facts.constraint if facts else ""
    limited = kill["scope"].startswith("Memory cgroup") or constraint not in ("", "CONSTRAINT_NONE")
    memcg = facts.memcg if facts and limited else ""
    whose = f"the limit of {memcg}" if memcg else "a limit of its own" if limited else "the node"
    attrs: Attrs = (
        ("pid", kill["pid"]),
        ("process", kill["process"]),
        ("uid", facts.uid if facts and facts.pid == kill["pid"] else ""),
        ("anon_rss_kb", kill["rss"] or ""),
        ("constraint", constraint),
        ("memcg", memcg),
    )
    return Observation(
        LIMIT if limited else HOST,
        "host",
        Status.DEGRADED,
        f"{kill['process']} (pid {kill['pid']}) was killed: {whose} is out of memory",
        f"{facts.line.text}\n{line.text}" if facts else line.text,
        line.at,
        unit=memcg,
        actor=f"pid {kill['pid']}",
        attrs=tuple((key, value) for key, value in attrs if value),
    )


CHECK = Check(
    name="oom",
    title="Processes killed for want of memory",
    source=KernelLog(rb"[Oo]ut of memory|oom-kill:constraint=|deadlocked on memory"),
    observe=observe,
    codes=frozenset({HOST, LIMIT}),
)
