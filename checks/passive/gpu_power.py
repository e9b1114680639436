"""The power of the GPUs: whether it can be read at all, and whether a limit below the board's own is enforced.

Rules of this file:
- What a GPU draws is no fault, whatever it is: parts of today take from 70 to more than 1000 W, and work at their limit.
- A GPU that cannot tell its power ("not supported") says nothing. One that fails to tell it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from checks.passive._gpus import NODE, component, has_gpus, look
from hma.check import Check, Nvml
from hma.gpu import Gpu, GpuReadings, Power
from hma.model import NodeFacts, Observation, Status

UNREADABLE = "POWER-UNREADABLE"
LIMIT_LOW = "POWER-LIMIT-LOW"


@dataclass(frozen=True, slots=True)
class Options:
    """`below`: the share by which the enforced limit must lie below the board's own to be reported."""

    below: float = field(default=0.1, metadata={"least": 0.0, "most": 1.0})


def observe(sample: GpuReadings, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Return each GPU whose power cannot be read, or may not be what the board was made for."""
    unreadable = {component(gpu): _why(gpu) for gpu in sample.gpus if gpu.code == 0 and _why(gpu)}
    seen = look(sample, node, UNREADABLE, "power", lambda gpu: gpu.power)
    for grey in seen.grey:
        if grey.component not in unreadable:
            yield grey
    bad = [Observation(UNREADABLE, where, Status.DEGRADED, f"power: {why}", why) for where, why in unreadable.items()]
    for gpu, power in seen.parts:
        bad += _capped(gpu, power, options)
    yield from bad
    # Where power cannot be read, nobody knows what the limit is: that must not end the other fault.
    readable = {component(gpu) for gpu, _ in seen.parts}
    for where, why in unreadable.items():
        if where not in readable:
            yield Observation(LIMIT_LOW, where, Status.UNKNOWN, why)
    if seen.parts and not bad:
        watts = [power.draw_w for _, power in seen.parts if power.draw_w is not None]
        drawn = f", {sum(watts):.0f} W in all" if watts else ""
        yield Observation(UNREADABLE, NODE, Status.OK, f"{len(seen.parts)} GPUs{drawn}")


def _why(gpu: Gpu) -> str:
    """Return why the power drawn could not be read, "" where it could or where the GPU does not tell it."""
    if gpu.power is not None and gpu.power.draw_w is not None:
        return ""
    return next((gpu.errors[name] for name in ("power", "draw_w", "power.draw_w") if name in gpu.errors), "")


def _capped(gpu: Gpu, power: Power, options: Options) -> Iterator[Observation]:
    limit, board = power.limit_w, power.default_limit_w
    if limit is None or board is None or limit >= board * (1.0 - options.below):
        return
    detail = f"limited to {limit:.0f} W, the board is made for {board:.0f} W"
    attrs = (("limit_w", f"{limit:g}"), ("default_limit_w", f"{board:g}"))
    evidence = f"enforced limit {limit:g} W, default limit {board:g} W"
    yield Observation(LIMIT_LOW, component(gpu), Status.DEGRADED, detail, evidence, attrs=attrs)


CHECK = Check(
    name="gpu_power",
    title="GPU power",
    source=Nvml(),
    observe=observe,
    codes=frozenset({UNREADABLE, LIMIT_LOW}),
    applies=has_gpus,
    needs="NVIDIA GPUs that tell their power",
    options=Options(),
    complete=True,
    optional=True,
)
