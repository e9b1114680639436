"""ECC errors as the driver counts them; the readings are made up (see gpu_samples)."""

from __future__ import annotations

from typing import Any

import pytest

from checks.passive.ecc import CHECK
from hma.gpu import Ecc, GpuReadings
from hma.model import NodeFacts, Status
from tests.checks.gpu_samples import (
    G5,
    G5_GPUS,
    P5,
    P5_GPUS,
    UNKNOWN_TYPE,
    counters,
    down,
    fine,
    grey,
    healthy,
    healthy_g5,
    lost,
    missing,
    observe,
    old,
    unread,
    with_gpu,
    wrong,
)

THIRD = P5_GPUS[3]


def ecc(**changes: Any) -> GpuReadings:
    """Return a healthy p5 but for the ECC of GPU 3."""
    return with_gpu(healthy(), 3, ecc=Ecc(True, True, 0, 0, 0, 0, sram_threshold=False)._replace(**changes))


@pytest.mark.parametrize(
    ("sample", "found"),
    [
        (healthy(), []),
        (healthy_g5(), []),
        (old(), []),
        (ecc(volatile_uncorrected=1, aggregate_uncorrected=1), [("ECC-UNCORRECTED", THIRD)]),
        (ecc(volatile_uncorrected=0, aggregate_uncorrected=40), []),  # long ago, before a reset
        (ecc(volatile_corrected=50_000_000), []),  # a counter: its growth is for the catalogue
        (ecc(sram_threshold=True), [("ECC-SRAM-THRESHOLD", THIRD)]),
        (ecc(volatile_uncorrected=3, sram_threshold=True), [("ECC-UNCORRECTED", THIRD), ("ECC-SRAM-THRESHOLD", THIRD)]),
        (ecc(sram_threshold=None), []),
        (ecc(enabled=False, pending=False), [("ECC-OFF", THIRD)]),
        (ecc(enabled=False, pending=None), [("ECC-OFF", THIRD)]),
        (ecc(enabled=False, pending=True), [("ECC-MODE-PENDING", THIRD)]),  # it is being switched on
        (ecc(enabled=True, pending=False), [("ECC-MODE-PENDING", THIRD)]),
        (ecc(enabled=True, pending=None), []),
        (ecc(enabled=None, pending=None, volatile_uncorrected=2), [("ECC-UNCORRECTED", THIRD)]),
    ],
)
def test_what_is_wrong(sample: GpuReadings, found: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample, G5 if len(sample.gpus) == 4 else P5)
    assert wrong(seen) == found
    assert all(one.evidence for one in seen if one.status is not Status.OK)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA H100 80GB HBM3", [("ECC-OFF", THIRD)]),
        ("NVIDIA A10G", [("ECC-OFF", THIRD)]),
        ("NVIDIA L40S", [("ECC-OFF", THIRD)]),
        ("", [("ECC-OFF", THIRD)]),
        ("NVIDIA GeForce RTX 4090", []),
        ("NVIDIA RTX A6000", []),
        ("Quadro GV100", []),
        ("NVIDIA TITAN V", []),
    ],
)
def test_ecc_that_is_off_is_odd_on_data_centre_parts_only(name: str, found: list[tuple[str, str]]) -> None:
    off = with_gpu(healthy(), 3, name=name, ecc=Ecc(enabled=False, pending=False))
    assert wrong(observe(CHECK, off)) == found


def test_uncorrected_errors_are_told_with_their_number() -> None:
    (one,) = [
        one
        for one in observe(CHECK, ecc(volatile_uncorrected=2, volatile_corrected=7, aggregate_uncorrected=9))
        if one.status is Status.FAILED
    ]
    assert one.detail == "2 uncorrected ECC errors since the driver was loaded or the GPU was reset"
    assert one.evidence == "volatile_uncorrected 2, volatile_corrected 7, aggregate_uncorrected 9, aggregate_corrected 0"
    assert one.attrs == (("volatile_uncorrected", "2"),)


def test_corrected_errors_are_a_counter_of_each_gpu_from_zero_on() -> None:
    seen = counters(observe(CHECK, ecc(volatile_corrected=41)))
    assert seen == {("ECC-CORRECTED", gpu): 41 if gpu == THIRD else 0 for gpu in P5_GPUS}


@pytest.mark.parametrize(
    ("sample", "node", "words"),
    [
        (healthy(), P5, "8 GPUs, no uncorrected error"),
        (healthy(1), UNKNOWN_TYPE, "1 GPU, no uncorrected error"),
        (healthy_g5(), G5, "4 GPUs, no uncorrected error"),
        (ecc(volatile_uncorrected=1, sram_threshold=True), P5, "8 GPUs, 1 not well"),
        (lost(healthy(), 3), P5, "7 GPUs, no uncorrected error"),
    ],
)
def test_one_word_for_the_node(sample: GpuReadings, node: NodeFacts, words: str) -> None:
    assert fine(observe(CHECK, sample, node)) == [("node", words)]


@pytest.mark.parametrize(
    ("sample", "node", "expected"),
    [
        (healthy(), P5, []),
        (unread(healthy(), 3, "ecc"), P5, [(THIRD, "Unknown Error")]),
        (with_gpu(healthy(), 3, errors={"ecc": "Timeout"}), P5, [(THIRD, "Timeout")]),
        (with_gpu(healthy(), 3, errors={"ecc.sram_threshold": "Timeout"}), P5, [(THIRD, "Timeout")]),
        (with_gpu(healthy(), 3, errors={"rows": "Timeout"}), P5, []),
        (lost(healthy(), 3), P5, [(THIRD, "GPU is lost")]),
        (lost(healthy(), 3, 16), P5, [(THIRD, "GPU requires restart")]),
        (missing(healthy(), 3), P5, [(THIRD, "the driver does not list this GPU")]),
        (down(), P5, [("node", "the driver does not answer (no_driver); see nvml_driver")]),
        (
            down("hung", call="nvmlDeviceGetTotalEccErrors"),
            P5,
            [("node", "the driver does not answer (hung); see nvml_driver")],
        ),
        (missing(healthy_g5(), 0), G5, [(G5_GPUS[0], "the driver does not list this GPU")]),
    ],
)
def test_what_could_not_be_looked_at(sample: GpuReadings, node: NodeFacts, expected: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample, node)
    assert grey(seen) == expected
    assert wrong(seen) == []


def test_gpu_that_could_be_read_in_part_tells_what_was_read() -> None:
    seen = observe(CHECK, with_gpu(ecc(volatile_uncorrected=1), 3, errors={"ecc": "Timeout"}))
    assert wrong(seen) == [("ECC-UNCORRECTED", THIRD)]
    assert grey(seen) == [(THIRD, "Timeout")]


@pytest.mark.parametrize("sample", [healthy(ecc=None), healthy(ecc=Ecc()), GpuReadings(healthy(0).driver)])
def test_gpus_without_ecc_say_nothing(sample: GpuReadings) -> None:
    node = P5 if sample.gpus else NodeFacts("n1", "b1")
    assert observe(CHECK, sample, node) == []
