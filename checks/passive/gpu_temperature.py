"""How hot the GPUs and their memory are, against the limits that each GPU names itself.

Rules of this file:
- No fixed number of degrees is a limit: they lie 10 degrees apart between parts. A GPU that names none says nothing.
- From Hopper on a limit may be given as a margin, which counts down: 0 is the most that is meant for operation, and a slowdown
  limit of -2 means "two degrees beyond". A limit of 0 or less is therefore compared with the margin, any other with degrees.
- The margin is described as what is left to the slowdown (NVML header), and was seen to be what is left to the highest
  operating temperature, 2 (Hopper) or 3 degrees (Blackwell) before it. Where nothing else is known the milder reading counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from checks.passive._gpus import NODE, component, has_gpus, look
from hma.check import Check, Nvml
from hma.gpu import Gpu, GpuReadings, Heat
from hma.model import Attrs, NodeFacts, Observation, Status

SLOWDOWN = "TEMP-SLOWDOWN"
SHUTDOWN = "TEMP-SHUTDOWN"
MEMORY = "TEMP-MEMORY"


@dataclass(frozen=True, slots=True)
class Options:
    """`shutdown_near_c`: how near to its shutdown a GPU is reported. `memory_near_c`: the same for the limit of its memory.

    `slowdown_margin_c`: the margin that is the hardware slowdown where a GPU tells only its margin.
    """

    shutdown_near_c: int = field(default=2, metadata={"least": 0, "most": 50})
    memory_near_c: int = field(default=0, metadata={"least": 0, "most": 50})
    slowdown_margin_c: int = field(default=-2, metadata={"least": -50, "most": 50})


class _Left(NamedTuple):
    """What is left to the limits, in degrees; None = cannot be told."""

    slowdown_c: int | None
    shutdown_c: int | None
    memory_c: int | None


def observe(sample: GpuReadings, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Return each GPU that is at its slowdown, near its shutdown, or whose memory is too hot."""
    seen = look(sample, node, SLOWDOWN, "heat", lambda gpu: gpu.heat)
    yield from seen.grey
    hot: list[Observation] = []
    told = 0
    for gpu, heat in seen.parts:
        if heat.gpu_c is None and "heat" in gpu.errors:
            yield Observation(SLOWDOWN, component(gpu), Status.UNKNOWN, gpu.errors["heat"])
        left = _left(heat, options)
        told += any(degrees is not None for degrees in left)
        hot += _too_hot(gpu, heat, left, options)
    yield from hot
    if told and not hot:
        yield Observation(SLOWDOWN, NODE, Status.OK, f"{told} GPUs, none at a limit; {_hottest(seen.parts)}")


def _left(heat: Heat, options: Options) -> _Left:
    slowdown = _to(heat.slowdown_c, heat.gpu_c, heat.margin_c)
    if slowdown is None and heat.margin_c is not None:
        slowdown = heat.margin_c - options.slowdown_margin_c
    # A limit of the memory that is a margin has nothing to be compared with: NVML gives no margin of the memory.
    memory = _to(heat.memory_max_c, heat.memory_c, None)
    return _Left(slowdown, _to(heat.shutdown_c, heat.gpu_c, heat.margin_c), memory)


def _is_margin(limit_c: int | None) -> bool:
    return limit_c is not None and limit_c <= 0


def _to(limit_c: int | None, now_c: int | None, margin_c: int | None) -> int | None:
    """Return how far it is to a limit, whichever of the two ways it is given."""
    now = margin_c if _is_margin(limit_c) else now_c
    if limit_c is None or now is None:
        return None
    return now - limit_c if _is_margin(limit_c) else limit_c - now


def _too_hot(gpu: Gpu, heat: Heat, left: _Left, options: Options) -> Iterator[Observation]:
    where, attrs = component(gpu), _attrs(heat)
    evidence = " ".join(f"{name}={value}" for name, value in attrs)
    if left.shutdown_c is not None and left.shutdown_c <= options.shutdown_near_c:
        detail = f"{_now(heat)}, {max(left.shutdown_c, 0)} degrees before it shuts itself down"
        yield Observation(SHUTDOWN, where, Status.FAILED, detail, evidence, attrs=attrs)
    if left.slowdown_c is not None and left.slowdown_c <= 0:
        yield Observation(SLOWDOWN, where, Status.DEGRADED, f"{_now(heat)}, at its slowdown", evidence, attrs=attrs)
    if left.memory_c is not None and left.memory_c <= options.memory_near_c:
        detail = f"memory {heat.memory_c} C, its limit is {heat.memory_max_c} C"
        yield Observation(MEMORY, where, Status.DEGRADED, detail, evidence, attrs=attrs)


def _now(heat: Heat) -> str:
    margin = "" if heat.margin_c is None else f"margin {heat.margin_c} C"
    degrees = "" if heat.gpu_c is None else f"{heat.gpu_c} C"
    return ", ".join(filter(None, (degrees, margin)))


def _attrs(heat: Heat) -> Attrs:
    return tuple((name, str(value)) for name, value in heat._asdict().items() if value is not None)


def _hottest(parts: tuple[tuple[Gpu, Heat], ...]) -> str:
    known = [heat.gpu_c for _, heat in parts if heat.gpu_c is not None]
    return f"hottest {max(known)} C" if known else "no temperature known"


CHECK = Check(
    name="gpu_temperature",
    title="GPU temperature",
    source=Nvml(),
    observe=observe,
    codes=frozenset({SLOWDOWN, SHUTDOWN, MEMORY}),
    applies=has_gpus,
    needs="NVIDIA GPUs that tell their temperature and its limit",
    options=Options(),
    complete=True,
    optional=True,
)
