"""GSP firmware modes, set by hand on readings of a healthy node."""

import pytest

from checks.passive.gsp import CHECK, MIXED, OFF
from hma.gpu import GpuReadings
from hma.model import Status
from tests.checks.gpu_samples import (
    P5_GPUS,
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
    ("sample", "told"),
    [
        (healthy(), []),
        (healthy(gsp=False), [(OFF, gpu) for gpu in P5_GPUS]),
        (healthy(gsp=False, gsp_default=False), []),
        (healthy(gsp=True, gsp_default=False), []),
        (healthy(gsp=False, gsp_default=None), []),
        (with_gpu(healthy(), 3, gsp=False), [(OFF, GPU), (MIXED, "node")]),
        (with_gpu(healthy(), 3, gsp=False, gsp_default=False), [(MIXED, "node")]),
        (with_gpu(healthy(), 3, gsp=None, gsp_default=None), []),
    ],
)
def test_off_and_differences_are_told(sample: GpuReadings, told: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert wrong(seen) == told
    assert not (told and fine(seen))


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (healthy(), "8 GPUs, GSP firmware runs"),
        (healthy(gsp=False, gsp_default=False), "8 GPUs, GSP firmware off by default"),
    ],
)
def test_mode_is_told_where_all_are_alike(sample: GpuReadings, words: str) -> None:
    assert fine(observe(CHECK, sample)) == [("node", words)]


def test_gpus_without_a_gsp_say_nothing() -> None:
    assert observe(CHECK, old()) == []


def test_difference_is_unknown_while_a_gpu_could_not_be_looked_at() -> None:
    seen = observe(CHECK, lost(healthy(), 3))
    assert [(one.code, one.component) for one in seen if one.status is Status.UNKNOWN] == [(OFF, GPU), (MIXED, "node")]


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (unread(healthy(), 3, "gsp"), (GPU, "Unknown Error")),
        (lost(healthy(), 3), (GPU, "GPU is lost")),
        (missing(healthy(), 3), (GPU, "the driver does not list this GPU")),
        (down("no_driver"), ("node", "the driver does not answer (no_driver); see nvml_driver")),
    ],
)
def test_what_could_not_be_looked_at_is_grey(sample: GpuReadings, told: tuple[str, str]) -> None:
    seen = observe(CHECK, sample)
    assert wrong(seen) == fine(seen) == []
    assert grey(seen)[0] == told
