"""Persistence mode, set by hand on readings of a healthy node."""

import pytest

from checks.passive.persistence import CHECK, OFF
from hma.gpu import GpuReadings
from tests.checks.gpu_samples import P5_GPUS, down, fine, grey, healthy, lost, missing, observe, unread, with_gpu, wrong

GPU = P5_GPUS[3]


@pytest.mark.parametrize(
    ("sample", "off"),
    [
        (healthy(), ()),
        (with_gpu(healthy(), 3, persistence=False), (GPU,)),
        (healthy(persistence=False), P5_GPUS),
        (lost(healthy(persistence=False), 3), tuple(gpu for gpu in P5_GPUS if gpu != GPU)),
        (healthy(persistence=None), ()),
    ],
)
def test_gpus_without_it_are_named(sample: GpuReadings, off: tuple[str, ...]) -> None:
    assert wrong(observe(CHECK, sample)) == [(OFF, gpu) for gpu in off]


def test_node_is_fine_where_it_is_on_everywhere() -> None:
    assert fine(observe(CHECK, healthy())) == [("node", "8 GPUs, persistence mode on")]
    assert fine(observe(CHECK, with_gpu(healthy(), 3, persistence=False))) == []


def test_gpus_without_such_a_mode_say_nothing() -> None:
    assert observe(CHECK, healthy(persistence=None)) == []


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (unread(healthy(), 3, "persistence"), [(GPU, "Unknown Error")]),
        (lost(healthy(), 3), [(GPU, "GPU is lost")]),
        (missing(healthy(), 3), [(GPU, "the driver does not list this GPU")]),
        (down("no_driver"), [("node", "the driver does not answer (no_driver); see nvml_driver")]),
    ],
)
def test_what_could_not_be_looked_at_is_grey(sample: GpuReadings, told: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert (wrong(seen), grey(seen)) == ([], told)
