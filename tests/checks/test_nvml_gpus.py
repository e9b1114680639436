"""Whether each GPU answers NVML, by the return codes of the NVML header."""

from __future__ import annotations

import pytest

from checks.passive.nvml_gpus import CHECK, FIELD_ERR, IDENTITY, ROUTES
from hma.gpu import GpuReadings
from hma.model import Status
from tests.checks.gpu_samples import NO_GPU, P5, P5_GPUS, down, grey, healthy, lost, missing, observe, unread, with_gpu, wrong

THIRD = P5_GPUS[3]


def answering(sample: GpuReadings) -> set[str]:
    """Return the components of which the codes that confirm an XID are said to be fine, all of them."""
    seen = observe(CHECK, sample)
    words = {(one.code, one.component) for one in seen if one.status is Status.OK}
    return {place for place in P5_GPUS if all((code, place) in words for code in ROUTES)}


def test_healthy_gpus_answer_and_are_named() -> None:
    seen = observe(CHECK, healthy())
    assert (wrong(seen), grey(seen)) == ([], [])
    assert answering(healthy()) == set(P5_GPUS)
    names = [dict(one.attrs) for one in seen if one.code == IDENTITY]
    assert names[3] == {"uuid": "GPU-509665ad-b600-ac93-3616-d754b23d6363", "serial": "1650124014243"}
    assert len(seen) == 3 * len(P5_GPUS)


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [
        (4, "NVML-BLOCKED", Status.DEGRADED),
        (8, "NVML-POWER", Status.FAILED),
        (10, "NVML-GPU-ERR", Status.FAILED),
        (11, "NVML-INTERRUPT", Status.FAILED),
        (15, "NVML-GPU-LOST", Status.FAILED),
        (16, "NVML-RESET-REQUIRED", Status.FAILED),
        (17, "NVML-BLOCKED", Status.DEGRADED),
        (27, "NVML-GPU-ERR", Status.FAILED),
        (999, "NVML-GPU-ERR", Status.FAILED),
    ],
)
def test_return_code_of_a_gpu_is_told_of_that_gpu_alone(number: int, code: str, status: Status) -> None:
    sample = lost(healthy(), 3, number)
    seen = observe(CHECK, sample)
    (told,) = [one for one in seen if one.status is status]
    assert (told.code, told.component) == (code, THIRD)
    assert f"({number})" in told.detail
    assert answering(sample) == {*P5_GPUS} - {THIRD}
    # All else about it is unknown, so no other fault of this GPU ends for want of a word.
    assert [place for place, _ in grey(seen)] == [THIRD]


def test_values_that_fail_are_named_and_the_gpu_answers() -> None:
    sample = unread(healthy(), 3, "ecc", "Unknown Error")
    assert wrong(observe(CHECK, sample)) == [(FIELD_ERR, THIRD)]
    assert answering(sample) == set(P5_GPUS)


def test_gpu_that_is_not_listed_is_grey() -> None:
    seen = observe(CHECK, missing(healthy(), 3))
    assert wrong(seen) == []
    assert grey(seen) == [(THIRD, "the driver does not list this GPU; see gpu_count_nvml")]


@pytest.mark.parametrize("state", ["no_library", "no_driver", "mismatch", "hung"])
def test_without_a_driver_nothing_is_known_of_any_gpu(state: str) -> None:
    (told,) = observe(CHECK, down(state))
    assert (told.status, told.component) == (Status.UNKNOWN, "node")


@pytest.mark.parametrize(("serial", "told"), [("1650", True), ("", False), ("[N/A]", False)])
def test_serial_number_is_told_where_it_is_one(serial: str, told: bool) -> None:
    seen = observe(CHECK, with_gpu(healthy(), 3, serial=serial))
    (name,) = [one for one in seen if one.code == IDENTITY and one.component == THIRD]
    assert ("serial" in dict(name.attrs)) is told


def test_gpu_without_an_address_is_called_by_its_uuid_and_names_nobody() -> None:
    sample = with_gpu(lost(healthy(), 3), 3, pci="")
    seen = observe(CHECK, sample)
    assert wrong(seen) == [("NVML-GPU-LOST", "gpu:GPU-509665ad-b600-ac93-3616-d754b23d6363")]
    assert len([one for one in seen if one.code == IDENTITY]) == 7


def test_applies_where_a_gpu_is_or_should_be() -> None:
    assert (CHECK.applies(P5), CHECK.applies(NO_GPU)) == (True, False)
