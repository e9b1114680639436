"""MIG modes, set by hand on readings of a healthy node."""

import pytest

from checks.passive.mig import CHECK, MIXED, PENDING
from hma.gpu import GpuReadings
from hma.model import Status
from tests.checks.gpu_samples import (
    G5,
    P5_GPUS,
    down,
    fine,
    grey,
    healthy,
    healthy_g5,
    lost,
    missing,
    observe,
    unread,
    with_gpu,
    wrong,
)

GPU = P5_GPUS[3]
ALL_ON = healthy(mig=True, mig_pending=True)


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (healthy(), []),
        (ALL_ON, []),
        (with_gpu(healthy(), 3, mig_pending=True), [(PENDING, GPU)]),
        (with_gpu(ALL_ON, 3, mig_pending=False), [(PENDING, GPU)]),
        (with_gpu(healthy(), 3, mig_pending=None), []),
        (with_gpu(healthy(), 3, mig=True, mig_pending=True), [(MIXED, "node")]),
        (with_gpu(healthy(), 3, mig=True, mig_pending=False), [(PENDING, GPU), (MIXED, "node")]),
        (with_gpu(ALL_ON, 3, mig=None, mig_pending=None), []),  # one that cannot do MIG is neither on nor off
        (with_gpu(lost(healthy(), 5), 3, mig=True, mig_pending=True), [(MIXED, "node")]),
    ],
)
def test_changes_that_wait_and_differences_are_told(sample: GpuReadings, told: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert wrong(seen) == told
    assert not (told and fine(seen))


@pytest.mark.parametrize(
    ("sample", "words"),
    [(healthy(), "8 GPUs, MIG off"), (ALL_ON, "8 GPUs, MIG on")],
)
def test_mode_is_told_where_all_are_alike(sample: GpuReadings, words: str) -> None:
    assert fine(observe(CHECK, sample)) == [("node", words)]


def test_pending_mode_is_told_in_words() -> None:
    one = observe(CHECK, with_gpu(healthy(), 3, mig_pending=True))[0]
    assert (one.detail, one.evidence) == ("MIG is off, and on after the next reset", "MIG mode 0, pending 1")


def test_gpus_that_cannot_do_mig_say_nothing() -> None:
    assert observe(CHECK, healthy_g5(), G5) == []


def test_difference_is_unknown_while_a_gpu_could_not_be_looked_at() -> None:
    seen = observe(CHECK, lost(healthy(), 3))
    assert [(one.code, one.component) for one in seen if one.status is Status.UNKNOWN] == [(PENDING, GPU), (MIXED, "node")]


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (unread(healthy(), 3, "mig"), (GPU, "Unknown Error")),
        (lost(healthy(), 3), (GPU, "GPU is lost")),
        (missing(healthy(), 3), (GPU, "the driver does not list this GPU")),
        (down("no_driver"), ("node", "the driver does not answer (no_driver); see nvml_driver")),
    ],
)
def test_what_could_not_be_looked_at_is_grey(sample: GpuReadings, told: tuple[str, str]) -> None:
    seen = observe(CHECK, sample)
    assert wrong(seen) == fine(seen) == []
    assert grey(seen)[0] == told
