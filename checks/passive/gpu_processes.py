"""What is left on the GPUs after a job: processes that have ended or cannot end, and memory that belongs to nobody.

Rules of this file:
- Left over is a process that the driver still lists though it has ended (states Z and X of proc(5)), or that waits in the
  kernel where no signal reaches it (D): its memory stays taken, and the next job fails for want of it. One look proves nothing,
  for every process ends once and waits for a disk now and then: the row's `hold` decides.
- A process whose parent has gone and that belongs to no job may be left over, and may be a service: `orphans` says whether
  that counts. It does not by default, since every daemon looks like this.
- A process that cannot be seen from here (another process namespace) is nobody's fault: its GPU was not looked at.
- Memory without a process counts only where the list of processes is known to be empty, MIG is off and the memory is the GPU's
  own: on a superchip (GH200, GB200) it is a NUMA node, where the kernel keeps file pages in it (NVML header, nvmlMemory_t).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from checks.passive._gpus import NODE, component, has_gpus, look
from hma.check import Check, Nvml
from hma.gpu import Gpu, GpuProcess, GpuReadings
from hma.model import NodeFacts, Observation, Status

LEFT = "GPU-PROCESS-LEFT"
HELD = "GPU-MEMORY-HELD"

_SUPERCHIP = re.compile(r"\bG[HB]\d")
_GIB = 1024**3
_STATES = {"Z": "has ended", "X": "has ended", "x": "has ended", "D": "waits in the kernel"}
_INIT = 1


@dataclass(frozen=True, slots=True)
class Options:
    """`held_bytes`: memory in use without any process from which it is reported.

    The driver keeps some for itself, on large GPUs around 1 GiB. `orphans`: whether a process of no job, whose parent is init,
    is left over.
    """

    held_bytes: int = field(default=2 * _GIB, metadata={"least": 0})
    orphans: bool = False


def observe(sample: GpuReadings, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Return each GPU with a process that is left on it, or with memory in use by no process."""
    seen = look(sample, node, LEFT, "processes", lambda gpu: gpu.processes)
    yield from seen.grey
    bad: list[Observation] = []
    looked_at = 0
    for gpu, processes in seen.parts:
        left = [process for process in processes if _why(process, options)]
        if left:
            bad.append(_left(gpu, left, options))
        elif any(not process.state for process in processes):
            yield Observation(LEFT, component(gpu), Status.UNKNOWN, "has processes that cannot be seen from here")
            continue
        looked_at += 1
        bad += _held(gpu, processes, options)
    yield from bad
    if looked_at and not bad:
        count = len({process.pid for _, processes in seen.parts for process in processes})
        yield Observation(LEFT, NODE, Status.OK, f"{looked_at} GPUs, nothing left over (processes: {count})")


def _why(process: GpuProcess, options: Options) -> str:
    """Return why a process is left over, "" where it is not."""
    if process.state in _STATES:
        return _STATES[process.state]
    orphan = options.orphans and process.parent == _INIT and not process.job and process.state
    return "belongs to no job and has lost its parent" if orphan else ""


def _left(gpu: Gpu, left: list[GpuProcess], options: Options) -> Observation:
    first = left[0]
    more = f" (+{len(left) - 1} more)" if len(left) > 1 else ""
    whose = f" of {first.job}" if first.job else ""
    held = f", holds {first.used_bytes / _GIB:.1f} GiB" if first.used_bytes else ""
    detail = f"{first.comm or 'process'} (pid {first.pid}){whose} {_why(first, options)}{held}{more}"
    evidence = " ".join(f"{process.pid}:{process.comm}:{process.state}" for process in left[:20])
    attrs = (("pid", str(first.pid)), ("state", first.state), ("job", first.job), ("processes", str(len(left))))
    return Observation(LEFT, component(gpu), Status.DEGRADED, detail, evidence, attrs=attrs)


def _held(gpu: Gpu, processes: tuple[GpuProcess, ...], options: Options) -> Iterator[Observation]:
    used = gpu.memory_used_bytes
    if processes or used is None or used < max(options.held_bytes, 1) or gpu.mig or _SUPERCHIP.search(gpu.name):
        return
    detail = f"{used / _GIB:.1f} GiB in use, and no process"
    yield Observation(HELD, component(gpu), Status.DEGRADED, detail, f"memory in use {used} bytes, 0 processes")


CHECK = Check(
    name="gpu_processes",
    title="Processes and memory left on the GPUs",
    source=Nvml(),
    observe=observe,
    codes=frozenset({LEFT, HELD}),
    applies=has_gpus,
    needs="NVIDIA GPUs that tell who uses them",
    options=Options(),
    complete=True,
    optional=True,
)
