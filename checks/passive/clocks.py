"""Clocks that are held down: by heat, by the power supply, or by the hardware for a reason that it does not name.

Rules of this file:
- Idle, application clocks, the software power cap, sync boost and the display setting are normal at work and say nothing:
  large GPUs run at their power limit all day.
- HW slowdown (0x8) is the sum of thermal slowdown (0x40) and power brake (0x80), and stands alone only where neither is set.
- The mask tells what is so now; the counters what was so between two looks. They are nanoseconds since the driver was loaded,
  and are told in seconds. Older drivers have one counter for all heat (field 75), which is told as that of the software.
- Meaning of the bits: NVML header, nvmlClocksEventReasons.
"""

from __future__ import annotations

from collections.abc import Iterator

from checks.passive._gpus import NODE, component, has_gpus, look
from hma.check import Check, NoOptions, Nvml
from hma.gpu import Clocks, Gpu, GpuReadings
from hma.model import NodeFacts, Observation, Status

HW_SLOWDOWN = "CLOCKS-HW-SLOWDOWN"
HW_THERMAL = "CLOCKS-HW-THERMAL"
POWER_BRAKE = "CLOCKS-POWER-BRAKE"
SW_THERMAL = "CLOCKS-SW-THERMAL"
HW_THERMAL_TIME = "CLOCKS-HW-THERMAL-TIME"
POWER_BRAKE_TIME = "CLOCKS-POWER-BRAKE-TIME"
SW_THERMAL_TIME = "CLOCKS-SW-THERMAL-TIME"

_SLOWDOWN = 0x8
_NAMED = (
    (0x40, HW_THERMAL, "hardware thermal slowdown"),
    (0x80, POWER_BRAKE, "power brake"),
    (0x20, SW_THERMAL, "software thermal slowdown"),
)


def observe(sample: GpuReadings, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return each GPU whose clocks are held down, and for how long each was held down in all."""
    seen = look(sample, node, HW_SLOWDOWN, "clocks", lambda gpu: gpu.clocks)
    yield from seen.grey
    down = [one for gpu, clocks in seen.parts for one in _now(gpu, clocks)]
    yield from down
    for gpu, clocks in seen.parts:
        if clocks.reasons is None and "clocks" in gpu.errors:
            yield Observation(HW_SLOWDOWN, component(gpu), Status.UNKNOWN, gpu.errors["clocks"])
        yield from _in_all(gpu, clocks)
    told = sum(clocks.reasons is not None for _, clocks in seen.parts)
    if told and not down:
        yield Observation(HW_SLOWDOWN, NODE, Status.OK, f"{told} GPUs, no clock held down")


def _now(gpu: Gpu, clocks: Clocks) -> Iterator[Observation]:
    mask = clocks.reasons
    if mask is None:
        return
    found = [(code, words) for bit, code, words in _NAMED if mask & bit]
    if mask & _SLOWDOWN and not {HW_THERMAL, POWER_BRAKE} & {code for code, _ in found}:
        found.insert(0, (HW_SLOWDOWN, "hardware slowdown"))
    for code, words in found:
        attrs = (("reasons", f"0x{mask:x}"), *_heat(gpu))
        yield Observation(code, component(gpu), Status.DEGRADED, f"{words} now", f"clock event reasons 0x{mask:x}", attrs=attrs)


def _heat(gpu: Gpu) -> Iterator[tuple[str, str]]:
    """Yield what the temperature is beside it: the first thing that anybody asks."""
    if gpu.heat is not None and gpu.heat.gpu_c is not None:
        yield ("gpu_c", str(gpu.heat.gpu_c))


def _in_all(gpu: Gpu, clocks: Clocks) -> Iterator[Observation]:
    sw_thermal_ns = clocks.sw_thermal_ns if clocks.sw_thermal_ns is not None else clocks.thermal_ns
    for code, words, held_ns in (
        (HW_THERMAL_TIME, "hardware thermal slowdown", clocks.hw_thermal_ns),
        (POWER_BRAKE_TIME, "power brake", clocks.hw_brake_ns),
        (SW_THERMAL_TIME, "thermal slowdown", sw_thermal_ns),
    ):
        if held_ns is not None:
            held_s = held_ns / 1e9
            yield Observation(code, component(gpu), Status.OK, f"{words}: {held_s:.1f} s in all", counter=held_s)


CHECK = Check(
    name="clocks",
    title="GPU clocks held down",
    source=Nvml(),
    observe=observe,
    codes=frozenset({HW_SLOWDOWN, HW_THERMAL, POWER_BRAKE, SW_THERMAL, HW_THERMAL_TIME, POWER_BRAKE_TIME, SW_THERMAL_TIME}),
    applies=has_gpus,
    needs="NVIDIA GPUs that tell why their clocks are low",
    complete=True,
    optional=True,
)
