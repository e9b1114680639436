"""Tasks that hang and processors that no longer schedule: what the kernel's own watchdogs say in its log.

Rules of this file:
- A line counts from its first byte to its last. A process name stands inside some lines and its owner chooses it, but the
  kernel keeps 15 bytes of it, and every text demanded here before or after a name is longer or has digits of its own.
- One stall of RCU prints a block of lines; only the first of them is the event.
- The kernel tells of at most ten hung tasks per boot (`kernel.hung_task_warnings`): silence later proves nothing, which is why
  these faults end by quiet time and `stuck_process` looks at the processes themselves.
- Formats: kernel/hung_task.c, kernel/watchdog.c, kernel/watchdog_hld.c (until 6.4), kernel/rcu/tree_stall.h, tree_exp.h,
  tasks.h and kernel/workqueue.c of Linux 5.10, 6.1, 6.12; captured lines in tests/data/kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hma.check import Check, KernelLine, KernelLog, Lines, NoOptions
from hma.model import Attrs, NodeFacts, Observation, Status

HUNG = "TASK-HUNG"
SOFT = "SOFT-LOCKUP"
HARD = "HARD-LOCKUP"
RCU = "RCU-STALL"
WORKQUEUE = "WORKQUEUE-LOCKUP"
CODES = frozenset({HUNG, SOFT, HARD, RCU, WORKQUEUE})

_HUNG = re.compile(r"INFO: task (?P<comm>.{0,64}):(?P<pid>\d{1,10}) blocked for more than (?P<seconds>\d{1,10}) seconds\.")
_SOFT = re.compile(
    r"watchdog: BUG: soft lockup - CPU#(?P<cpu>\d{1,5}) stuck for (?P<seconds>\d{1,10})s! "
    r"\[(?P<comm>.{0,64}):(?P<pid>\d{1,10})\]"
)
# "NMI watchdog" until 6.4; from 6.13 on the processor that found it stands before it.
_HARD = re.compile(r"(?:NMI )?watchdog: (?:CPU\d{1,5}: )?Watchdog detected hard LOCKUP on cpu (?P<cpu>\d{1,5})")
_RCU = re.compile(
    r"rcu: INFO: (?P<flavour>rcu_[a-z_]{1,32}) (?:self-detected stall on CPU"
    r"|detected (?:expedited )?stalls? on (?:CPUs/)?tasks:.{0,400}"
    r"|detected (?:expedited )?stalls?, but suppressed .{0,100})"
)
_RCU_TASKS = re.compile(r"INFO: (?P<flavour>rcu_tasks[a-z_]{0,32}) detected stalls on tasks:")
_WORKQUEUE = re.compile(r"BUG: workqueue lockup - pool cpus=(?P<cpus>[\d,-]{1,200}) .{0,200} stuck for (?P<seconds>\d{1,10})s!")


def observe(sample: Lines, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return one observation for each line with which a watchdog of the kernel speaks up."""
    for line in sample.lines:
        observation = _read(line)
        if observation is not None:
            yield observation


def _read(line: KernelLine) -> Observation | None:
    text = line.text.rstrip()
    if found := _HUNG.fullmatch(text):
        detail = f"{found['comm']} (pid {found['pid']}) has been blocked for more than {found['seconds']} s"
        return _seen(line, HUNG, "host", Status.DEGRADED, detail, found)
    if found := _SOFT.fullmatch(text):
        detail = f"CPU {found['cpu']} has not scheduled for {found['seconds']} s; {found['comm']} (pid {found['pid']}) holds it"
        return _seen(line, SOFT, f"cpu:{int(found['cpu'])}", Status.DEGRADED, detail, found)
    if found := _HARD.fullmatch(text):
        detail = f"CPU {found['cpu']} takes no interrupts any more"
        return _seen(line, HARD, f"cpu:{int(found['cpu'])}", Status.FAILED, detail, found)
    if found := _RCU.fullmatch(text) or _RCU_TASKS.fullmatch(text):
        return _seen(line, RCU, "host", Status.DEGRADED, f"{found['flavour']}: a grace period does not end", found)
    if found := _WORKQUEUE.fullmatch(text):
        detail = f"a pool of kernel workers on CPU {found['cpus']} has been stuck for {found['seconds']} s"
        return _seen(line, WORKQUEUE, "host", Status.DEGRADED, detail, found)
    return None


def _seen(
    line: KernelLine, code: str, component: str, status: Status, detail: str, found: re.Match[str]
) -> Observation:  # fmt: skip
    facts = found.groupdict()
    attrs: Attrs = tuple((key, value) for key, value in sorted(facts.items()) if value)
    actor = f"pid {facts['pid']}" if facts.get("pid") else ""
    return Observation(code, component, status, detail, line.text, at=line.at, actor=actor, attrs=attrs)


CHECK = Check(
    name="hung_task",
    title="Hung tasks and stuck processors in the kernel log",
    source=KernelLog(rb"INFO: task |soft lockup|hard LOCKUP|INFO: rcu_|workqueue lockup"),
    observe=observe,
    codes=CODES,
)
