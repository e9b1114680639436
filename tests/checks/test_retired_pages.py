"""Retired pages as the driver tells them; the readings are made up (see gpu_samples)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks.passive.retired_pages import CHECK, Options
from hma.gpu import GpuReadings, Pages
from hma.model import NodeFacts, Status
from tests.checks.gpu_samples import (
    P5,
    P5_GPUS,
    counters,
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
PENDING, FULL = ("PAGES-PENDING", THIRD), ("PAGES-FULL", THIRD)


def pages(corrected: int | None = 0, uncorrected: int | None = 0, pending: bool | None = False) -> GpuReadings:
    """Return eight healthy old GPUs but for the pages of GPU 3."""
    return with_gpu(old(), 3, pages=Pages(corrected, uncorrected, pending))


@pytest.mark.parametrize(
    ("sample", "found"),
    [
        (old(), []),
        (pages(4, 2), []),
        (pages(pending=True), [PENDING]),
        (pages(pending=None), []),
        (pages(62, 0), []),
        (pages(60, 3), [FULL]),
        (pages(63, None), [FULL]),
        (pages(None, 64), [FULL]),
        (pages(60, 4, pending=True), [PENDING, FULL]),
    ],
)
def test_what_is_wrong(sample: GpuReadings, found: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert wrong(seen) == found
    assert all(one.evidence for one in seen if one.status is not Status.OK)


@pytest.mark.parametrize(
    ("uncorrected", "counter"), [(0, 0), (15, 0), (16, 1), (17, 2), (40, 25), (None, None)], ids=lambda value: f"{value}"
)
def test_pages_for_uncorrected_errors_count_beyond_the_first_fifteen(uncorrected: int | None, counter: int | None) -> None:
    seen = counters(observe(CHECK, pages(0, uncorrected)))
    assert seen.get(("PAGES-DBE", THIRD)) == counter
    assert [value for (_, gpu), value in seen.items() if gpu != THIRD] == [0] * 7


def test_limits_are_options() -> None:
    check = replace(CHECK, options=Options(full=10, tolerated=0))
    seen = observe(check, pages(8, 2))
    assert wrong(seen) == [FULL]
    assert counters(seen)["PAGES-DBE", THIRD] == 2


@pytest.mark.parametrize(
    ("sample", "words"),
    [(old(), "8 GPUs, no page waits to be retired"), (pages(pending=True), "8 GPUs, 1 not well")],
)
def test_one_word_for_the_node(sample: GpuReadings, words: str) -> None:
    assert fine(observe(CHECK, sample)) == [("node", words)]


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (unread(old(), 3, "pages"), [(THIRD, "Unknown Error")]),
        (with_gpu(old(), 3, errors={"pages": "Timeout"}), [(THIRD, "Timeout")]),
        (lost(old(), 3), [(THIRD, "GPU is lost")]),
        (down(), [("node", "the driver does not answer (no_driver); see nvml_driver")]),
    ],
)
def test_what_could_not_be_looked_at(sample: GpuReadings, expected: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert grey(seen) == expected
    assert wrong(seen) == []


@pytest.mark.parametrize("sample", [healthy(), healthy_g5(), healthy(pages=Pages()), GpuReadings(healthy(0).driver)])
def test_gpus_that_retire_no_pages_say_nothing(sample: GpuReadings) -> None:
    node = P5 if len(sample.gpus) == 8 else NodeFacts("n1", "b1")
    assert observe(CHECK, sample, node) == []
