"""GPUs that NVML lists against those that should be there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks.passive.gpu_count_nvml import CHECK, Options
from hma.gpu import GpuReadings
from hma.model import NodeFacts, Observation, Status
from tests.checks.gpu_samples import NO_GPU, P5, P5_GPUS, UNKNOWN_TYPE, down, healthy, lost, missing, observe

HANDED_OVER = ("0000:b9:00.0", "0000:ca:00.0")
VFIO = NodeFacts(
    "n1",
    "b1",
    expected=P5.expected,
    pci=tuple(device._replace(driver="vfio-pci") if device.address in HANDED_OVER else device for device in P5.pci),
)
"""p5 with two GPUs handed to virtual machines."""


def up_for(sample: GpuReadings, seconds: float) -> GpuReadings:
    """Return the sample of a driver that came up so long ago."""
    return sample._replace(driver=sample.driver._replace(up_s=seconds))


def look(sample: GpuReadings, node: NodeFacts = P5) -> Observation:
    """Return the one thing that the check says."""
    (told,) = observe(CHECK, sample, node)
    assert (told.code, told.component) == ("GPU-COUNT-NVML", "node")
    return told


@pytest.mark.parametrize(
    ("sample", "node", "status"),
    [
        (healthy(), P5, Status.OK),
        (healthy(), UNKNOWN_TYPE, Status.OK),
        (healthy(7), P5, Status.FAILED),
        (healthy(7), UNKNOWN_TYPE, Status.FAILED),
        # None at all is a driver without GPUs, unless the bus shows none either.
        (healthy(0), P5, Status.UNKNOWN),
        (healthy(0), replace(P5, pci=()), Status.FAILED),
        (missing(healthy(), 3), P5, Status.FAILED),
        # A lost GPU is listed: that it does not answer is told elsewhere.
        (lost(healthy(), 3), P5, Status.OK),
        (healthy(6), VFIO, Status.OK),
        (healthy(5), VFIO, Status.FAILED),
        (down("no_driver"), P5, Status.UNKNOWN),
        (down("hung", call="nvmlDeviceGetPowerUsage", call_s=12.0), P5, Status.UNKNOWN),
        (healthy()._replace(driver=healthy().driver._replace(gpu_count=None)), P5, Status.UNKNOWN),
        # While the driver settles, few GPUs are no news; all of them are.
        (up_for(healthy(0), 40), P5, Status.UNKNOWN),
        (up_for(healthy(7), 119.9), P5, Status.UNKNOWN),
        (up_for(healthy(7), 120), P5, Status.FAILED),
        (up_for(healthy(), 1), P5, Status.OK),
    ],
)
def test_count_is_held_against_what_should_be_there(sample: GpuReadings, node: NodeFacts, status: Status) -> None:
    assert look(sample, node).status is status


def test_missing_gpu_is_named() -> None:
    told = look(missing(healthy(), 3))
    assert told.detail == f"NVML lists 7 of 8 GPUs (instance type p5.48xlarge), not {P5_GPUS[3]}"
    assert dict(told.attrs) == {"expected": "8", "seen": "7", "missing": P5_GPUS[3]}
    assert P5_GPUS[3] not in told.evidence


def test_settling_driver_is_said() -> None:
    assert look(up_for(healthy(5), 40)).detail.endswith("but the driver has been up for 40 s of 120 s")


def test_settling_time_is_an_option() -> None:
    (told,) = CHECK.observe(up_for(healthy(7), 40), P5, Options(settle_s=30))
    assert told.status is Status.FAILED


def test_nothing_expected_says_nothing() -> None:
    assert observe(CHECK, healthy(0), NO_GPU) == []
    assert not CHECK.applies(NO_GPU)
    assert CHECK.applies(P5)
