"""InfoROM and VBIOS as the driver tells them; the readings are made up (see gpu_samples)."""

from __future__ import annotations

import pytest

from checks.passive.inforom import CHECK
from hma.gpu import GpuReadings, Inforom
from hma.model import NodeFacts, Status
from tests.checks.gpu_samples import (
    P5,
    P5_GPUS,
    down,
    fine,
    grey,
    healthy,
    healthy_g5,
    lost,
    observe,
    unread,
    with_gpu,
    wrong,
)

THIRD = P5_GPUS[3]
RIGHT = "the InfoROM is right"
IMAGES, VBIOSES = ("node", "8 GPUs with InfoROM G520.0200.00.05"), ("node", "8 GPUs with VBIOS 96.00.89.00.01")
NO_CHECKSUM = healthy(inforom=Inforom(image="G520.0200.00.05"))


def test_whole_node_is_fine_where_the_checksum_was_read() -> None:
    seen = observe(CHECK, healthy())
    assert wrong(seen) == []
    assert fine(seen) == [*((gpu, RIGHT) for gpu in P5_GPUS), IMAGES, VBIOSES]


def test_reading_without_a_checksum_says_nothing_of_it() -> None:
    """Such a reading must not end a fault, so the check is not complete and names no GPU."""
    assert not CHECK.complete
    assert fine(observe(CHECK, NO_CHECKSUM)) == [IMAGES, VBIOSES]
    assert wrong(observe(CHECK, NO_CHECKSUM)) == []


def test_corrupt_inforom() -> None:
    seen = observe(CHECK, with_gpu(healthy(), 3, inforom=Inforom(valid=False, image="G520.0200.00.05")))
    assert wrong(seen) == [("INFOROM-CORRUPT", THIRD)]
    assert fine(seen) == [*((gpu, RIGHT) for gpu in P5_GPUS if gpu != THIRD), IMAGES, VBIOSES]


@pytest.mark.parametrize(
    ("sample", "found", "detail"),
    [
        (
            with_gpu(healthy(), 3, inforom=Inforom(True, "G520.0200.00.03")),
            [("INFOROM-DIFFERS", "node")],
            f"InfoROM differs from the GPUs of the same name: {THIRD} has G520.0200.00.03",
        ),
        (
            with_gpu(healthy(), 3, vbios="96.00.74.00.01"),
            [("VBIOS-DIFFERS", "node")],
            f"VBIOS differs from the GPUs of the same name: {THIRD} has 96.00.74.00.01",
        ),
        (with_gpu(healthy(), 3, vbios=""), [], ""),
        (with_gpu(healthy(), 3, vbios="92.00.45.00.03", name="NVIDIA A100-SXM4-80GB"), [], ""),
        (healthy_g5(), [], ""),
        (healthy(1), [], ""),
    ],
)
def test_versions_are_compared_among_equals(sample: GpuReadings, found: list[tuple[str, str]], detail: str) -> None:
    bad = [one for one in observe(CHECK, sample, NodeFacts("n1", "b1")) if one.status is not Status.OK]
    assert [(one.code, one.component) for one in bad] == found
    assert [one.detail for one in bad] == [detail] * len(found)
    assert all(THIRD in one.evidence for one in bad)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (unread(healthy(), 3, "inforom"), [(THIRD, "Unknown Error")]),
        (with_gpu(healthy(), 3, errors={"inforom": "Timeout"}), [(THIRD, "Timeout")]),
        (lost(healthy(), 3), [(THIRD, "GPU is lost")]),
        (down(), [("node", "the driver does not answer (no_driver); see nvml_driver")]),
    ],
)
def test_what_could_not_be_looked_at(sample: GpuReadings, expected: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert grey(seen) == expected
    assert wrong(seen) == []


def test_gpus_without_an_inforom_are_compared_by_their_vbios_only() -> None:
    assert fine(observe(CHECK, healthy(inforom=None))) == [VBIOSES]


@pytest.mark.parametrize("sample", [healthy(inforom=None, vbios=""), GpuReadings(healthy(0).driver)])
def test_gpus_that_tell_neither_say_nothing(sample: GpuReadings) -> None:
    assert observe(CHECK, sample, P5 if sample.gpus else NodeFacts("n1", "b1")) == []
