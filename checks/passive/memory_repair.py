"""Repairs of GPU memory that newer drivers stage for the next boot, and memory that cannot be repaired any more."""

from __future__ import annotations

from collections.abc import Iterator

from checks.passive._gpus import component, has_gpus, look, unread
from checks.passive._memory import looked_at
from hma.check import Check, NoOptions, Nvml
from hma.gpu import Gpu, GpuReadings, Repair
from hma.model import NodeFacts, Observation, Status

PENDING = "REPAIR-PENDING"
UNREPAIRABLE = "MEMORY-UNREPAIRABLE"

NOTHING = Repair()


def observe(sample: GpuReadings, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return which GPUs have a repair staged, and which cannot be repaired."""
    found = look(sample, node, PENDING, "repair", _part)
    yield from unread(found, PENDING, "repair")
    said = (one for gpu, repair in found.parts for one in _of(gpu, repair))
    yield from looked_at(found, PENDING, said, "no repair waits")


def _part(gpu: Gpu) -> Repair | None:
    return gpu.repair if gpu.repair != NOTHING else None


def _of(gpu: Gpu, repair: Repair) -> Iterator[Observation]:
    what = [name for name, waits in (("a memory channel", repair.channel_pending), ("a TPC", repair.tpc_pending)) if waits]
    if what:
        detail = f"a repair of {' and of '.join(what)} waits for a reboot"
        evidence = f"channel repair pending {bool(repair.channel_pending)}, TPC repair pending {bool(repair.tpc_pending)}"
        yield Observation(PENDING, component(gpu), Status.DEGRADED, detail, evidence)
    if repair.unrepairable:
        detail = "its memory cannot be repaired any more"
        yield Observation(UNREPAIRABLE, component(gpu), Status.FAILED, detail, "unrepairable memory flag set")


CHECK = Check(
    name="memory_repair",
    title="Repairs of GPU memory",
    source=Nvml(),
    observe=observe,
    codes=frozenset({PENDING, UNREPAIRABLE}),
    applies=has_gpus,
    needs="NVIDIA GPUs and a driver that tell of repairs",
    complete=True,
    optional=True,
)
