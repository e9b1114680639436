"""MIG: a change of the mode that waits for a reset, and GPUs of one node in different modes.

Rules of this file:
- A GPU that cannot do MIG says nothing, and counts as neither on nor off.
- Whether all are alike is known only when all were looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from checks.passive._gpus import NODE, component, has_gpus, look
from hma.check import Check, NoOptions, Nvml
from hma.gpu import GpuReadings
from hma.model import NodeFacts, Observation, Status

PENDING = "MIG-PENDING"
MIXED = "MIG-MIXED"


def observe(sample: GpuReadings, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return each GPU whose mode is about to change, and whether the modes of the node differ."""
    seen = look(sample, node, PENDING, "mig", lambda gpu: gpu.mig)
    yield from seen.grey
    if not seen.parts:
        return
    waiting = [(gpu, on) for gpu, on in seen.parts if gpu.mig_pending is not None and gpu.mig_pending is not on]
    for gpu, on in waiting:
        attrs = (("mig", _word(on)), ("pending", _word(not on)))
        detail = f"MIG is {_word(on)}, and {_word(not on)} after the next reset"
        yield Observation(PENDING, component(gpu), Status.DEGRADED, detail, f"MIG mode {on:d}, pending {not on:d}", attrs=attrs)
    with_mig = [component(gpu) for gpu, on in seen.parts if on]
    if 0 < len(with_mig) < len(seen.parts):
        detail = f"MIG is on for {len(with_mig)} of {len(seen.parts)} GPUs"
        yield Observation(
            MIXED, NODE, Status.DEGRADED, detail, "on: " + " ".join(with_mig), attrs=(("on", str(len(with_mig))),)
        )
    elif seen.grey:
        yield Observation(MIXED, NODE, Status.UNKNOWN, "not all GPUs could be looked at")
    elif not waiting:
        yield Observation(PENDING, NODE, Status.OK, f"{len(seen.parts)} GPUs, MIG {_word(bool(with_mig))}")


def _word(on: bool) -> str:
    return "on" if on else "off"


CHECK = Check(
    name="mig",
    title="MIG mode of the GPUs",
    source=Nvml(),
    observe=observe,
    codes=frozenset({PENDING, MIXED}),
    applies=has_gpus,
    needs="NVIDIA GPUs that can do MIG",
    complete=True,
    optional=True,
)
