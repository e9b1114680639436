"""Power of the GPUs; watts of H100 (700), L4 (72) and GB200 (1200)."""

import pytest

from checks.passive.gpu_power import CHECK, LIMIT_LOW, UNREADABLE, Options
from hma.gpu import GpuReadings, Power
from hma.model import Status
from tests.checks.gpu_samples import P5, P5_GPUS, down, fine, grey, healthy, lost, missing, observe, unread, with_gpu, wrong

GPU = P5_GPUS[3]


@pytest.mark.parametrize(
    ("power", "codes"),
    [
        (Power(draw_w=412.5, limit_w=700.0, default_limit_w=700.0), []),
        (Power(draw_w=718.0, limit_w=700.0, default_limit_w=700.0), []),  # above its limit for a moment, as all are
        (Power(draw_w=1_190.0, limit_w=1_200.0, default_limit_w=1_200.0), []),
        (Power(draw_w=0.0, limit_w=72.0, default_limit_w=72.0), []),
        (Power(draw_w=300.0, limit_w=630.0, default_limit_w=700.0), []),
        (Power(draw_w=300.0, limit_w=629.0, default_limit_w=700.0), [LIMIT_LOW]),
        (Power(draw_w=90.0, limit_w=100.0, default_limit_w=700.0), [LIMIT_LOW]),
        (Power(draw_w=90.0, limit_w=0.0, default_limit_w=700.0), [LIMIT_LOW]),
        (Power(draw_w=300.0, limit_w=750.0, default_limit_w=700.0), []),
        (Power(draw_w=300.0, limit_w=100.0), []),
        (Power(draw_w=300.0, default_limit_w=700.0), []),
        (Power(draw_w=300.0, limit_w=100.0, default_limit_w=0.0), []),
        (Power(limit_w=700.0, default_limit_w=700.0), []),
    ],
)
def test_limit_is_compared_with_that_of_the_board(power: Power, codes: list[str]) -> None:
    assert wrong(observe(CHECK, with_gpu(healthy(), 3, power=power))) == [(code, GPU) for code in codes]


@pytest.mark.parametrize(("below", "codes"), [(0.1, []), (0.05, [LIMIT_LOW]), (0.0, [LIMIT_LOW])])
def test_share_is_an_option(below: float, codes: list[str]) -> None:
    sample = with_gpu(healthy(), 3, power=Power(draw_w=300.0, limit_w=650.0, default_limit_w=700.0))
    assert wrong(list(CHECK.observe(sample, P5, Options(below)))) == [(code, GPU) for code in codes]


def test_limits_are_the_evidence() -> None:
    sample = with_gpu(healthy(), 3, power=Power(draw_w=300.0, limit_w=400.0, default_limit_w=700.0))
    one = observe(CHECK, sample)[0]
    assert one.detail == "limited to 400 W, the board is made for 700 W"
    assert one.evidence == "enforced limit 400 W, default limit 700 W"
    assert one.attrs == (("limit_w", "400"), ("default_limit_w", "700"))


@pytest.mark.parametrize("name", ["power", "draw_w", "power.draw_w"])
def test_power_that_fails_to_be_read_is_told(name: str) -> None:
    seen = observe(CHECK, with_gpu(healthy(), 3, power=None, errors={name: "Unknown Error"}))
    assert wrong(seen) == [(UNREADABLE, GPU)]
    assert fine(seen) == []


def test_limit_of_a_gpu_that_cannot_be_read_is_unknown() -> None:
    seen = observe(CHECK, unread(healthy(), 3, "power"))
    assert [(one.code, one.component) for one in seen if one.status is Status.UNKNOWN] == [(LIMIT_LOW, GPU)]


def test_limit_is_still_compared_where_only_the_draw_fails() -> None:
    power = Power(limit_w=400.0, default_limit_w=700.0)
    seen = observe(CHECK, with_gpu(healthy(), 3, power=power, errors={"power": "Unknown Error"}))
    assert wrong(seen) == [(UNREADABLE, GPU), (LIMIT_LOW, GPU)]
    assert grey(seen) == []


def test_error_of_another_value_is_not_ours() -> None:
    assert wrong(observe(CHECK, with_gpu(healthy(), 3, errors={"heat": "Unknown Error"}))) == []


def test_sum_is_told_where_all_are_well() -> None:
    assert fine(observe(CHECK, healthy())) == [("node", "8 GPUs, 3300 W in all")]


def test_gpus_that_tell_no_power_say_nothing() -> None:
    assert observe(CHECK, healthy(power=None)) == []


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (lost(healthy(), 3), [(GPU, "GPU is lost")]),
        (with_gpu(lost(healthy(), 3), 3, errors={"power": "GPU is lost"}), [(GPU, "GPU is lost")]),
        (missing(healthy(), 3), [(GPU, "the driver does not list this GPU")]),
        (down("no_driver"), [("node", "the driver does not answer (no_driver); see nvml_driver")]),
    ],
)
def test_what_could_not_be_looked_at_is_grey(sample: GpuReadings, told: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert (wrong(seen), grey(seen)) == ([], told)
