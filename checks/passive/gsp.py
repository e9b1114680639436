"""The GSP, the processor on the GPU that runs half of the driver: off where it is meant to run, or not alike everywhere.

Rules of this file:
- Only a GPU whose driver would use the GSP by itself counts: where off is the default, off is right.
- Whether all are alike is known only when all were looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from checks.passive._gpus import NODE, component, has_gpus, look
from hma.check import Check, NoOptions, Nvml
from hma.gpu import GpuReadings
from hma.model import NodeFacts, Observation, Status

OFF = "GSP-OFF"
MIXED = "GSP-MIXED"


def observe(sample: GpuReadings, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return each GPU whose GSP is off though it is on by default, and whether the GPUs of the node differ."""
    seen = look(sample, node, OFF, "gsp", lambda gpu: gpu.gsp)
    yield from seen.grey
    if not seen.parts:
        return
    off = [gpu for gpu, on in seen.parts if not on and gpu.gsp_default]
    for gpu in off:
        yield Observation(OFF, component(gpu), Status.DEGRADED, "GSP firmware is off", "GSP mode 0, default 1")
    running = sum(on for _, on in seen.parts)
    if 0 < running < len(seen.parts):
        detail = f"GSP firmware runs on {running} of {len(seen.parts)} GPUs"
        without = " ".join(component(gpu) for gpu, on in seen.parts if not on)
        yield Observation(MIXED, NODE, Status.DEGRADED, detail, f"off: {without}", attrs=(("running", str(running)),))
    elif seen.grey:
        yield Observation(MIXED, NODE, Status.UNKNOWN, "not all GPUs could be looked at")
    elif not off:
        yield Observation(
            OFF, NODE, Status.OK, f"{len(seen.parts)} GPUs, GSP firmware {'runs' if running else 'off by default'}"
        )


CHECK = Check(
    name="gsp",
    title="GSP firmware of the GPUs",
    source=Nvml(),
    observe=observe,
    codes=frozenset({OFF, MIXED}),
    applies=has_gpus,
    needs="NVIDIA GPUs with a GSP",
    complete=True,
    optional=True,
)
