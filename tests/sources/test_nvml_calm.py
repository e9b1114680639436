"""What counts as jitter of a reading, and what never does: whatever a check looks at must show."""

from __future__ import annotations

import pytest

from hma.gpu import Clocks, Ecc, Gpu, GpuProcess, GpuReadings, Heat, NvmlDriver, Pcie, Power
from hma.sources.nvml_calm import calm

HEAT = Heat(gpu_c=45, memory_c=50, margin_c=40, slowdown_c=87, shutdown_c=92, memory_max_c=95, gpu_max_c=89)
WORK = GpuProcess(1240, 1 << 30, "python3", "R", 1, 3.5, "slurm job 17")
GPU = Gpu(
    3,
    "0000:86:00",
    memory_used_bytes=5 << 30,
    ecc=Ecc(True, True, 0, 0, 0, 0, False),
    clocks=Clocks(0x4, 10, 0, 0, 0, 0),
    heat=HEAT,
    power=Power(100.0, 700.0, 700.0),
    pcie=Pcie(5, 16, 5, 16, 0),
    processes=(WORK,),
)


def reading(gpu: Gpu, up_s: float = 7_200.0) -> GpuReadings:
    return GpuReadings(NvmlDriver("up", gpu_count=1, up_s=up_s), (gpu,))


@pytest.mark.parametrize(
    "gpu",
    [
        GPU._replace(heat=HEAT._replace(gpu_c=52, memory_c=61, margin_c=33)),
        GPU._replace(power=Power(120.0, 700.0, 700.0)),
        GPU._replace(clocks=Clocks(0x0, 99_000, 0, 0, 0, 0)),
        GPU._replace(clocks=Clocks(0x12, 10, 0, 0, 0, 0)),
        GPU._replace(memory_used_bytes=(5 << 30) + (100 << 20)),
        GPU._replace(processes=(WORK._replace(age_s=63.5, state="S", used_bytes=2 << 30),)),
    ],
)
def test_jitter_is_the_same(gpu: Gpu) -> None:
    assert calm(reading(gpu)) == calm(reading(GPU))
    assert calm(reading(GPU, 9_000.0)) == calm(reading(GPU))


@pytest.mark.parametrize(
    "gpu",
    [
        GPU._replace(heat=HEAT._replace(gpu_c=78)),
        GPU._replace(heat=HEAT._replace(memory_c=86)),
        GPU._replace(heat=HEAT._replace(margin_c=9)),
        GPU._replace(power=Power(400.0, 700.0, 700.0)),
        GPU._replace(power=Power(100.0, 500.0, 700.0)),
        *(GPU._replace(clocks=Clocks(0x4 | bit, 10, 0, 0, 0, 0)) for bit in (0x1, 0x8, 0x20, 0x40, 0x80)),
        GPU._replace(clocks=Clocks(0x4, 10, 1, 0, 0, 0)),
        GPU._replace(clocks=Clocks(0x4, 10, 0, 0, 0, 1)),
        GPU._replace(memory_used_bytes=8 << 30),
        GPU._replace(ecc=Ecc(True, True, 1, 0, 0, 0, False)),
        GPU._replace(pcie=Pcie(5, 16, 5, 16, 1)),
        GPU._replace(pcie=Pcie(1, 16, 5, 16, 0)),
        GPU._replace(processes=()),
        GPU._replace(processes=(WORK._replace(state="Z"),)),
        GPU._replace(code=15),
        GPU._replace(errors={"power": "Unknown Error"}),
    ],
)
def test_what_a_check_looks_at_is_not(gpu: Gpu) -> None:
    assert calm(reading(gpu)) != calm(reading(GPU))


def test_heat_near_a_limit_shows_by_the_degree() -> None:
    near = GPU._replace(heat=HEAT._replace(gpu_c=80, margin_c=8))
    nearer = GPU._replace(heat=HEAT._replace(gpu_c=81, margin_c=7))
    assert calm(reading(near)) != calm(reading(nearer))


def test_time_that_a_driver_has_been_up_shows_while_it_settles() -> None:
    assert calm(reading(GPU, 50.0)) != calm(reading(GPU, 130.0))


def test_driver_that_does_not_answer_is_no_jitter() -> None:
    assert calm(GpuReadings(NvmlDriver("hung", call="nvmlInit"))) != calm(GpuReadings(NvmlDriver("up")))
