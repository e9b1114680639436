"""Persistence mode: without it the driver lets go of a GPU whenever nobody uses it, and takes seconds to find it again."""

from __future__ import annotations

from collections.abc import Iterator

from checks.passive._gpus import NODE, component, has_gpus, look
from hma.check import Check, NoOptions, Nvml
from hma.gpu import GpuReadings
from hma.model import NodeFacts, Observation, Status

OFF = "PERSISTENCE-OFF"


def observe(sample: GpuReadings, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return each GPU whose persistence mode is off."""
    seen = look(sample, node, OFF, "persistence", lambda gpu: gpu.persistence)
    yield from seen.grey
    off = [gpu for gpu, on in seen.parts if not on]
    for gpu in off:
        yield Observation(OFF, component(gpu), Status.DEGRADED, "persistence mode is off", "persistence mode 0")
    if seen.parts and not off:
        yield Observation(OFF, NODE, Status.OK, f"{len(seen.parts)} GPUs, persistence mode on")


CHECK = Check(
    name="persistence",
    title="GPU persistence mode",
    source=Nvml(),
    observe=observe,
    codes=frozenset({OFF}),
    applies=has_gpus,
    needs="NVIDIA GPUs with a persistence mode",
    complete=True,
    optional=True,
)
