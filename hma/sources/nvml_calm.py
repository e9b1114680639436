"""What of a reading is jitter: values that move all the time and mean nothing until they come near a limit.

Two readings that are equal without it say the same to every check, so the second need not be printed again.
"""

from __future__ import annotations

from hma.gpu import Clocks, Gpu, GpuProcess, GpuReadings, Heat, Power

NEAR_C = 10
"""Degrees below a limit from which a temperature is no jitter any more."""
MEMORY_STEP = 1 << 28
POWER_STEPS = 4
SETTLED_S = 3_600.0
"""After this long it does not matter any more for how long the driver has been up."""
RESTRAINTS = 0x1 | 0x8 | 0x20 | 0x40 | 0x80
"""Clock reasons that a check looks at: idle, held down by the hardware, its heat, its power brake, or the driver for heat."""


def calm(reading: GpuReadings) -> GpuReadings:
    """Return a reading without its jitter: for comparing only."""
    up_s = 60.0 * (min(reading.driver.up_s, SETTLED_S) // 60.0)
    gpus = tuple(_calm_gpu(gpu) for gpu in reading.gpus)
    return reading._replace(driver=reading.driver._replace(up_s=up_s), gpus=gpus)


def _calm_gpu(gpu: Gpu) -> Gpu:
    used = gpu.memory_used_bytes
    return gpu._replace(
        memory_used_bytes=None if used is None else used // MEMORY_STEP,
        clocks=gpu.clocks and _calm_clocks(gpu.clocks),
        heat=gpu.heat and _calm_heat(gpu.heat),
        power=gpu.power and _calm_power(gpu.power),
        processes=None if gpu.processes is None else tuple(_calm_process(process) for process in gpu.processes),
    )


def _calm_clocks(clocks: Clocks) -> Clocks:
    reasons = None if clocks.reasons is None else clocks.reasons & RESTRAINTS
    return clocks._replace(reasons=reasons, power_ns=None)


def _calm_heat(heat: Heat) -> Heat:
    limits = [limit for limit in (heat.slowdown_c, heat.shutdown_c, heat.gpu_max_c) if limit is not None and limit > 0]
    gpu_near = heat.gpu_c is not None and bool(limits) and min(limits) - heat.gpu_c <= NEAR_C
    margin_near = heat.margin_c is not None and heat.margin_c <= NEAR_C
    memory_near = None not in (heat.memory_c, heat.memory_max_c) and (heat.memory_max_c or 0) - (heat.memory_c or 0) <= NEAR_C
    if gpu_near or margin_near or memory_near:
        return heat
    return heat._replace(gpu_c=None, memory_c=None, margin_c=None)


def _calm_power(power: Power) -> Power:
    if power.draw_w is None or not power.limit_w:
        return power
    return power._replace(draw_w=float(int(POWER_STEPS * power.draw_w / power.limit_w)))


def _calm_process(process: GpuProcess) -> GpuProcess:
    state = "R" if process.state in ("R", "S") else process.state
    return process._replace(used_bytes=None, age_s=0.0, state=state)
