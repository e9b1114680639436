"""Staged repairs as the driver tells them; the readings are made up (see gpu_samples)."""

from __future__ import annotations

import pytest

from checks.passive.memory_repair import CHECK
from hma.gpu import GpuReadings, Repair
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
    old,
    unread,
    with_gpu,
    wrong,
)

THIRD = P5_GPUS[3]
PENDING, UNREPAIRABLE = ("REPAIR-PENDING", THIRD), ("MEMORY-UNREPAIRABLE", THIRD)


def repair(channel: bool | None = False, tpc: bool | None = False, unrepairable: bool | None = False) -> GpuReadings:
    """Return a healthy p5 but for the repairs of GPU 3."""
    return with_gpu(healthy(), 3, repair=Repair(channel, tpc, unrepairable))


@pytest.mark.parametrize(
    ("sample", "found", "detail"),
    [
        (healthy(), [], ""),
        (repair(), [], ""),
        (repair(channel=True), [PENDING], "a repair of a memory channel waits for a reboot"),
        (repair(tpc=True), [PENDING], "a repair of a TPC waits for a reboot"),
        (repair(True, True), [PENDING], "a repair of a memory channel and of a TPC waits for a reboot"),
        (repair(None, None, True), [UNREPAIRABLE], "its memory cannot be repaired any more"),
        (repair(True, False, True), [PENDING, UNREPAIRABLE], "a repair of a memory channel waits for a reboot"),
    ],
)
def test_what_is_wrong(sample: GpuReadings, found: list[tuple[str, str]], detail: str) -> None:
    seen = observe(CHECK, sample)
    assert wrong(seen) == found
    bad = [one for one in seen if one.status is not Status.OK]
    assert [one.detail for one in bad[:1]] == [detail] * bool(bad)
    assert all(one.evidence for one in bad)


@pytest.mark.parametrize(
    ("sample", "words"),
    [(healthy(), "8 GPUs, no repair waits"), (repair(tpc=True), "8 GPUs, 1 not well")],
)
def test_one_word_for_the_node(sample: GpuReadings, words: str) -> None:
    assert fine(observe(CHECK, sample)) == [("node", words)]


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (unread(healthy(), 3, "repair"), [(THIRD, "Unknown Error")]),
        (with_gpu(healthy(), 3, errors={"repair": "Timeout"}), [(THIRD, "Timeout")]),
        (lost(healthy(), 3), [(THIRD, "GPU is lost")]),
        (down(), [("node", "the driver does not answer (no_driver); see nvml_driver")]),
    ],
)
def test_what_could_not_be_looked_at(sample: GpuReadings, expected: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert grey(seen) == expected
    assert wrong(seen) == []


@pytest.mark.parametrize("sample", [old(), healthy_g5(), healthy(repair=Repair()), GpuReadings(healthy(0).driver)])
def test_gpus_that_tell_of_no_repairs_say_nothing(sample: GpuReadings) -> None:
    node = P5 if len(sample.gpus) == 8 else NodeFacts("n1", "b1")
    assert observe(CHECK, sample, node) == []
