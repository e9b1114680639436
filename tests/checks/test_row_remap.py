"""Remapped rows as the driver tells them; the readings are made up (see gpu_samples)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from checks.passive.row_remap import CHECK, Options
from hma.gpu import GpuReadings, Rows
from hma.model import NodeFacts, Status
from tests.checks.gpu_samples import (
    G5,
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
PENDING, FAILED = ("ROW-REMAP-PENDING", THIRD), ("ROW-REMAP-FAILED", THIRD)
LOW, MANY = ("ROW-REMAP-LOW", THIRD), ("ROW-REMAP-MANY", THIRD)
WELL = Rows(0, 0, pending=False, failed=False, banks_max=2560, banks_high=0, banks_partial=0, banks_low=0, banks_none=0)


def rows(**changes: Any) -> GpuReadings:
    """Return a healthy p5 but for the rows of GPU 3."""
    return with_gpu(healthy(), 3, rows=WELL._replace(**changes))


@pytest.mark.parametrize(
    ("sample", "found"),
    [
        (healthy(), []),
        (healthy_g5(), []),
        (rows(pending=True), [PENDING]),
        (rows(failed=True), [FAILED]),
        (rows(pending=True, failed=True), [PENDING, FAILED]),
        (rows(uncorrected=3, corrected=9), []),
        (rows(uncorrected=511), []),
        (rows(uncorrected=512), [MANY]),
        (rows(corrected=512), []),
        (rows(banks_max=2550, banks_partial=10), []),
        (rows(banks_max=2558, banks_high=1, banks_partial=1), []),
        (rows(banks_max=2559, banks_low=1), [LOW]),
        (rows(banks_max=2559, banks_none=1), [LOW]),
        (rows(banks_max=None, banks_high=None, banks_partial=None, banks_low=None, banks_none=None), []),
    ],
)
def test_what_is_wrong(sample: GpuReadings, found: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample, G5 if len(sample.gpus) == 4 else P5)
    assert wrong(seen) == found
    assert all(one.evidence for one in seen if one.status is not Status.OK)
    assert counters(seen) == {}


@pytest.mark.parametrize(("many", "found"), [(8, [MANY]), (9, []), (0, [MANY])])
def test_how_many_rows_are_many_is_an_option(many: int, found: list[tuple[str, str]]) -> None:
    assert wrong(observe(replace(CHECK, options=Options(many)), rows(uncorrected=8))) == found


def test_banks_are_told_by_their_spare_rows() -> None:
    (one,) = [one for one in observe(CHECK, rows(banks_max=2557, banks_low=2, banks_none=1)) if one.status is not Status.OK]
    assert one.detail == "1 banks of memory have no spare row left, 2 have few"
    assert one.evidence == "banks by spare rows: all 2557, many 0, some 0, few 2, none 1"


@pytest.mark.parametrize(
    ("sample", "node", "words"),
    [
        (healthy(), P5, "8 GPUs, no row waits to be remapped"),
        (healthy_g5(), G5, "4 GPUs, no row waits to be remapped"),
        (rows(pending=True), P5, "8 GPUs, 1 not well"),
    ],
)
def test_one_word_for_the_node(sample: GpuReadings, node: NodeFacts, words: str) -> None:
    assert fine(observe(CHECK, sample, node)) == [("node", words)]


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (unread(healthy(), 3, "rows"), [(THIRD, "Unknown Error")]),
        (with_gpu(healthy(), 3, errors={"rows": "Timeout"}), [(THIRD, "Timeout")]),
        (lost(healthy(), 3), [(THIRD, "GPU is lost")]),
        (with_gpu(healthy(), 3, mig=True, rows=None), [(THIRD, "not told of a GPU with MIG instances")]),
        (unread(healthy(mig=True), 3, "rows"), [(THIRD, "Unknown Error")]),
        (down("mismatch"), [("node", "the driver does not answer (mismatch); see nvml_driver")]),
    ],
)
def test_what_could_not_be_looked_at(sample: GpuReadings, expected: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert grey(seen) == expected
    assert wrong(seen) == []


@pytest.mark.parametrize("sample", [old(), healthy(rows=None), GpuReadings(healthy(0).driver)])
def test_gpus_that_remap_no_rows_or_do_not_tell_say_nothing(sample: GpuReadings) -> None:
    assert observe(CHECK, sample, P5 if sample.gpus else NodeFacts("n1", "b1")) == []
