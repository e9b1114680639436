"""Clock event reasons and their times; bits as in the NVML header (nvmlClocksEventReasons), nanoseconds set by hand."""

import pytest

from checks.passive import clocks
from checks.passive.clocks import CHECK
from hma.gpu import Clocks, GpuReadings, Heat
from hma.model import Status
from tests.checks.gpu_samples import (
    P5_GPUS,
    counters,
    down,
    fine,
    grey,
    healthy,
    lost,
    missing,
    observe,
    old,
    unread,
    with_gpu,
    wrong,
)

GPU = P5_GPUS[3]


@pytest.mark.parametrize(
    ("reasons", "codes"),
    [
        (0x0, []),
        (0x1, []),  # idle
        (0x2, []),  # application clocks
        (0x4, []),  # software power cap: usual at work
        (0x10, []),  # sync boost
        (0x100, []),  # display
        (0x4 | 0x10 | 0x2, []),
        (0x8, [clocks.HW_SLOWDOWN]),
        (0x8 | 0x1, [clocks.HW_SLOWDOWN]),
        (0x40, [clocks.HW_THERMAL]),
        (0x8 | 0x40, [clocks.HW_THERMAL]),
        (0x80, [clocks.POWER_BRAKE]),
        (0x8 | 0x80, [clocks.POWER_BRAKE]),
        (0x8 | 0x40 | 0x80, [clocks.HW_THERMAL, clocks.POWER_BRAKE]),
        (0x20, [clocks.SW_THERMAL]),
        (0x20 | 0x4, [clocks.SW_THERMAL]),
        (0x20 | 0x8, [clocks.HW_SLOWDOWN, clocks.SW_THERMAL]),
        (0x20 | 0x40 | 0x8, [clocks.HW_THERMAL, clocks.SW_THERMAL]),
        (1 << 40, []),  # a reason of a later driver
    ],
)
def test_only_what_holds_the_clocks_down_is_told(reasons: int, codes: list[str]) -> None:
    seen = observe(CHECK, with_gpu(healthy(), 3, clocks=Clocks(reasons)))
    assert wrong(seen) == [(code, GPU) for code in codes]
    assert fine(seen) == ([] if codes else [("node", "8 GPUs, no clock held down")])


def test_mask_and_temperature_are_the_evidence() -> None:
    seen = observe(CHECK, with_gpu(healthy(), 3, clocks=Clocks(0x48), heat=Heat(gpu_c=93)))
    (one,) = [one for one in seen if one.status is Status.DEGRADED]
    assert one.detail == "hardware thermal slowdown now"
    assert one.evidence == "clock event reasons 0x48"
    assert one.attrs == (("reasons", "0x48"), ("gpu_c", "93"))


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (Clocks(0, hw_thermal_ns=90_500_000_000), {clocks.HW_THERMAL_TIME: 90.5}),
        (Clocks(0, hw_brake_ns=0), {clocks.POWER_BRAKE_TIME: 0.0}),
        (Clocks(0, sw_thermal_ns=1_000_000), {clocks.SW_THERMAL_TIME: 0.001}),
        (Clocks(0, thermal_ns=7_000_000_000), {clocks.SW_THERMAL_TIME: 7.0}),  # a driver that has field 75 only
        (Clocks(0, thermal_ns=7_000_000_000, sw_thermal_ns=0), {clocks.SW_THERMAL_TIME: 0.0}),
        (Clocks(None, hw_brake_ns=2_000_000_000), {clocks.POWER_BRAKE_TIME: 2.0}),
        (Clocks(0, power_ns=10**18), {}),  # at the power limit all day
    ],
)
def test_time_held_down_is_counted_in_seconds(parts: Clocks, told: dict[str, float]) -> None:
    seen = counters(observe(CHECK, with_gpu(healthy(clocks=None), 3, clocks=parts)))
    assert seen == {(code, GPU): value for code, value in told.items()}


def test_counters_are_told_from_zero_for_every_gpu() -> None:
    seen = counters(observe(CHECK, healthy()))
    assert len(seen) == 3 * 8
    assert set(seen.values()) == {0.0}


def test_old_gpus_count_as_well() -> None:
    assert fine(observe(CHECK, old())) == [("node", "8 GPUs, no clock held down")]


def test_gpus_without_reasons_say_nothing() -> None:
    assert observe(CHECK, healthy(clocks=None)) == []


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (unread(healthy(), 3, "clocks"), [(GPU, "Unknown Error")]),
        (with_gpu(healthy(), 3, clocks=Clocks(hw_brake_ns=0), errors={"clocks": "Unknown Error"}), [(GPU, "Unknown Error")]),
        (with_gpu(healthy(), 3, clocks=Clocks(0), errors={"clocks": "Unknown Error"}), []),
        (with_gpu(healthy(), 3, clocks=Clocks(hw_brake_ns=0)), []),
        (lost(healthy(), 3), [(GPU, "GPU is lost")]),
        (missing(healthy(), 3), [(GPU, "the driver does not list this GPU")]),
        (down("no_driver"), [("node", "the driver does not answer (no_driver); see nvml_driver")]),
        (down("hung"), [("node", "the driver does not answer (hung); see nvml_driver")]),
    ],
)
def test_what_could_not_be_looked_at_is_grey(sample: GpuReadings, told: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert (wrong(seen), grey(seen)) == ([], told)


def test_one_that_is_lost_does_not_hide_another() -> None:
    seen = observe(CHECK, lost(with_gpu(healthy(), 5, clocks=Clocks(0x40)), 3))
    assert wrong(seen) == [(clocks.HW_THERMAL, P5_GPUS[5])]
