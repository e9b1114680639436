"""Temperatures against the limits of a GPU. Limits in degrees as of H100 (89, 92), A100 and A10G; margins as nvidia-smi prints
them for H100 (slowdown -2, shutdown -8) and B200 (-3, -5)."""

import pytest

from checks.passive.gpu_temperature import CHECK, MEMORY, SHUTDOWN, SLOWDOWN, Options
from hma.gpu import GpuReadings, Heat
from tests.checks.gpu_samples import (
    P5,
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
H100 = Heat(gpu_c=46, memory_c=58, margin_c=41, slowdown_c=89, shutdown_c=92, memory_max_c=95, gpu_max_c=87)
BY_MARGIN = Heat(gpu_c=32, memory_c=40, margin_c=55, slowdown_c=-2, shutdown_c=-8, memory_max_c=0, gpu_max_c=0)
OLD = Heat(gpu_c=44, slowdown_c=95, shutdown_c=98, gpu_max_c=88)
ONLY_MARGIN = Heat(gpu_c=80, margin_c=8)


@pytest.mark.parametrize(
    ("heat", "codes"),
    [
        (H100, []),
        (H100._replace(gpu_c=87, margin_c=0), []),  # as hot as it may be at work
        (H100._replace(gpu_c=88, margin_c=-1), []),
        (H100._replace(gpu_c=89, margin_c=-2), [SLOWDOWN]),
        (H100._replace(gpu_c=90, margin_c=-3), [SHUTDOWN, SLOWDOWN]),
        (H100._replace(gpu_c=95, margin_c=-8), [SHUTDOWN, SLOWDOWN]),
        (H100._replace(memory_c=94), []),
        (H100._replace(memory_c=95), [MEMORY]),
        (H100._replace(memory_c=None), []),
        (BY_MARGIN, []),
        (BY_MARGIN._replace(margin_c=0), []),
        (BY_MARGIN._replace(margin_c=-1), []),
        (BY_MARGIN._replace(margin_c=-2), [SLOWDOWN]),
        (BY_MARGIN._replace(margin_c=-5), [SLOWDOWN]),
        (BY_MARGIN._replace(margin_c=-6), [SHUTDOWN, SLOWDOWN]),
        (BY_MARGIN._replace(margin_c=-2, slowdown_c=-3, shutdown_c=-5), []),
        (BY_MARGIN._replace(margin_c=-3, slowdown_c=-3, shutdown_c=-5), [SHUTDOWN, SLOWDOWN]),
        (BY_MARGIN._replace(margin_c=None), []),  # a margin as limit, and nothing to compare it with
        (BY_MARGIN._replace(memory_c=96), []),
        (OLD, []),
        (OLD._replace(gpu_c=94), []),
        (OLD._replace(gpu_c=95), [SLOWDOWN]),
        (OLD._replace(gpu_c=96), [SHUTDOWN, SLOWDOWN]),
        (ONLY_MARGIN, []),
        (ONLY_MARGIN._replace(margin_c=-1), []),
        (ONLY_MARGIN._replace(margin_c=-2), [SLOWDOWN]),
        (Heat(gpu_c=99), []),  # no limit is known: nobody knows whether that is much
        (Heat(slowdown_c=89, shutdown_c=92), []),
    ],
)
def test_limits_are_those_of_the_gpu(heat: Heat, codes: list[str]) -> None:
    assert wrong(observe(CHECK, with_gpu(healthy(), 3, heat=heat))) == [(code, GPU) for code in codes]


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        (Options(), []),
        (Options(shutdown_near_c=5), [SHUTDOWN]),
        (Options(memory_near_c=5), [MEMORY]),
        (Options(slowdown_margin_c=-1), []),  # the limit itself is known
    ],
)
def test_options_say_how_near_is_near(options: Options, codes: list[str]) -> None:
    heat = H100._replace(gpu_c=87, margin_c=0, memory_c=90)
    assert wrong(list(CHECK.observe(healthy(heat=heat), P5, options))) == [(code, gpu) for gpu in P5_GPUS for code in codes]


@pytest.mark.parametrize(("margin_c", "codes"), [(0, [SLOWDOWN]), (1, [])])
def test_slowdown_margin_is_an_option_where_only_the_margin_is_known(margin_c: int, codes: list[str]) -> None:
    sample = with_gpu(healthy(), 3, heat=ONLY_MARGIN._replace(margin_c=margin_c))
    seen = list(CHECK.observe(sample, P5, Options(slowdown_margin_c=0)))
    assert wrong(seen) == [(code, GPU) for code in codes]


def test_hottest_gpu_is_named_where_all_are_well() -> None:
    sample = with_gpu(healthy(), 3, heat=H100._replace(gpu_c=71))
    assert fine(observe(CHECK, sample)) == [("node", "8 GPUs, none at a limit; hottest 71 C")]


def test_what_was_read_is_the_evidence() -> None:
    one = observe(CHECK, with_gpu(healthy(), 3, heat=OLD._replace(gpu_c=96)))[0]
    assert one.detail == "96 C, 2 degrees before it shuts itself down"
    assert one.evidence == "gpu_c=96 slowdown_c=95 shutdown_c=98 gpu_max_c=88"


def test_gpus_of_g5_are_looked_at_by_degrees() -> None:
    assert fine(observe(CHECK, healthy_g5())) == [("node", "4 GPUs, none at a limit; hottest 44 C")]


@pytest.mark.parametrize("heat", [None, Heat(), Heat(gpu_c=40)])
def test_gpus_that_name_no_limit_say_nothing(heat: Heat | None) -> None:
    assert observe(CHECK, healthy(heat=heat)) == []


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (unread(healthy(), 3, "heat"), [(GPU, "Unknown Error")]),
        (with_gpu(healthy(), 3, heat=H100._replace(gpu_c=None), errors={"heat": "Unknown Error"}), [(GPU, "Unknown Error")]),
        (with_gpu(healthy(), 3, heat=H100._replace(memory_c=None), errors={"heat": "Unknown Error"}), []),
        (with_gpu(healthy(), 3, heat=H100._replace(gpu_c=None)), []),
        (lost(healthy(), 3), [(GPU, "GPU is lost")]),
        (missing(healthy(), 3), [(GPU, "the driver does not list this GPU")]),
        (down("no_driver"), [("node", "the driver does not answer (no_driver); see nvml_driver")]),
    ],
)
def test_what_could_not_be_looked_at_is_grey(sample: GpuReadings, told: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert (wrong(seen), grey(seen)) == ([], told)
