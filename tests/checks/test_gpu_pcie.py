"""PCIe links; healthy widths are those of the instance types (p5 x16, g5 x8 of x16)."""

import pytest

from checks.passive.gpu_pcie import CHECK, GENERATION, REDUCED, REPLAY, WIDTH, Options
from hma.gpu import Clocks, GpuReadings, Pcie, Power
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
    unread,
    with_gpu,
    wrong,
)

GPU = P5_GPUS[3]
H100 = Pcie(generation=5, width=16, max_generation=5, max_width=16, replays=0)
SLOW = H100._replace(generation=1)
BUSY, IDLE = Clocks(0x4), Clocks(0x1)


@pytest.mark.parametrize(
    ("pcie", "node", "codes"),
    [
        (H100, P5, []),
        (H100._replace(width=8), P5, [WIDTH]),
        (H100._replace(width=1), P5, [WIDTH]),
        (H100._replace(width=8, max_width=8), P5, [WIDTH]),  # the slot was trained narrow at boot
        (H100._replace(width=16, max_width=None), P5, []),
        (H100._replace(width=None), P5, []),
        (H100, UNKNOWN_TYPE, []),
        (H100._replace(width=8), UNKNOWN_TYPE, [REDUCED]),
        (H100._replace(width=8, max_width=8), UNKNOWN_TYPE, []),
        (H100._replace(width=8, max_width=None), UNKNOWN_TYPE, []),
    ],
)
def test_width_is_that_of_the_type_or_of_the_gpu(pcie: Pcie, node: NodeFacts, codes: list[str]) -> None:
    seen = observe(CHECK, with_gpu(healthy(), 3, pcie=pcie), node)
    assert wrong(seen) == [(code, GPU) for code in codes]
    assert bool(fine(seen)) is not bool(codes)


@pytest.mark.parametrize(("width", "codes"), [(16, []), (8, []), (4, [WIDTH]), (1, [WIDTH])])
def test_eight_of_sixteen_lanes_are_healthy_on_g5(width: int, codes: list[str]) -> None:
    pcie = Pcie(generation=4, width=width, max_generation=4, max_width=16, replays=0)
    seen = observe(CHECK, with_gpu(healthy_g5(), 1, pcie=pcie), G5)
    assert wrong(seen) == [(code, G5_GPUS[1]) for code in codes]


def test_width_is_told_with_what_is_usual() -> None:
    one = observe(CHECK, with_gpu(healthy(), 3, pcie=H100._replace(width=8)))[0]
    assert (one.detail, one.evidence) == ("x8, x16 is usual on this type", "link width 8 of 16")
    assert one.attrs == (("width", "8"), ("expected", "16"), ("max_width", "16"))


@pytest.mark.parametrize(
    ("pcie", "clocks", "power", "codes"),
    [
        (SLOW, BUSY, Power(412.0, 700.0), [GENERATION]),
        (SLOW, Clocks(0), Power(350.0, 700.0), [GENERATION]),
        (SLOW, Clocks(0), Power(349.0, 700.0), []),  # a context is open, and nothing runs
        (SLOW, IDLE, Power(412.0, 700.0), []),
        (SLOW, Clocks(0x1 | 0x4), Power(412.0, 700.0), []),
        (SLOW, Clocks(None), Power(412.0, 700.0), []),
        (SLOW, None, Power(412.0, 700.0), []),
        (SLOW, BUSY, None, []),
        (SLOW, BUSY, Power(412.0), []),
        (SLOW, BUSY, Power(None, 700.0), []),
        (SLOW, BUSY, Power(0.0, 0.0), []),
        (H100, BUSY, Power(412.0, 700.0), []),
        (SLOW._replace(max_generation=None), BUSY, Power(412.0, 700.0), []),
        (SLOW._replace(generation=None), BUSY, Power(412.0, 700.0), []),
        (SLOW._replace(max_generation=1), BUSY, Power(412.0, 700.0), []),
    ],
)
def test_generation_counts_only_at_work(pcie: Pcie, clocks: Clocks | None, power: Power | None, codes: list[str]) -> None:
    sample = with_gpu(healthy(), 3, pcie=pcie, clocks=clocks, power=power)
    assert wrong(observe(CHECK, sample)) == [(code, GPU) for code in codes]


@pytest.mark.parametrize(("load", "codes"), [(0.5, []), (0.2, [GENERATION])])
def test_load_is_an_option(load: float, codes: list[str]) -> None:
    sample = with_gpu(healthy(), 3, pcie=SLOW, clocks=BUSY, power=Power(200.0, 700.0))
    assert wrong(list(CHECK.observe(sample, P5, Options(load)))) == [(code, GPU) for code in codes]


def test_replays_are_counted_from_zero_for_every_gpu() -> None:
    seen = counters(observe(CHECK, with_gpu(healthy(), 3, pcie=H100._replace(replays=417))))
    assert seen == {(REPLAY, gpu): 417 if gpu == GPU else 0 for gpu in P5_GPUS}


def test_replays_alone_are_no_fault() -> None:
    assert wrong(observe(CHECK, healthy(pcie=H100._replace(replays=10**9)))) == []


def test_gpu_that_counts_no_replays_has_no_counter() -> None:
    assert counters(observe(CHECK, healthy(pcie=H100._replace(replays=None)))) == {}


@pytest.mark.parametrize(
    ("sample", "node", "words"),
    [(healthy(), P5, "8 GPUs at x16"), (healthy_g5(), G5, "4 GPUs at x8")],
)
def test_widths_are_told_where_all_are_well(sample: GpuReadings, node: NodeFacts, words: str) -> None:
    assert fine(observe(CHECK, sample, node)) == [("node", words)]


def test_gpus_that_tell_nothing_of_their_link_say_nothing() -> None:
    assert observe(CHECK, healthy(pcie=None)) == []


def test_part_that_could_not_be_read_hides_no_other_gpu() -> None:
    seen = observe(CHECK, with_gpu(unread(healthy(), 3, "pcie"), 5, pcie=H100._replace(width=4)))
    assert wrong(seen) == [(WIDTH, P5_GPUS[5])]
    assert [one.component for one in seen if one.status is Status.UNKNOWN] == [GPU]


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (unread(healthy(), 3, "pcie"), [(GPU, "Unknown Error")]),
        (with_gpu(healthy(), 3, pcie=H100._replace(width=None), errors={"pcie": "Unknown Error"}), [(GPU, "Unknown Error")]),
        (with_gpu(healthy(), 3, pcie=H100._replace(replays=None), errors={"pcie": "Unknown Error"}), []),
        (with_gpu(healthy(), 3, pcie=H100._replace(width=None)), []),
        (lost(healthy(), 3), [(GPU, "GPU is lost")]),
        (missing(healthy(), 3), [(GPU, "the driver does not list this GPU")]),
        (down("no_driver"), [("node", "the driver does not answer (no_driver); see nvml_driver")]),
    ],
)
def test_what_could_not_be_looked_at_is_grey(sample: GpuReadings, told: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert (wrong(seen), grey(seen)) == ([], told)
