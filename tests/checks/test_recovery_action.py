"""The recovery that the driver asks for; the readings are made up (see gpu_samples)."""

from __future__ import annotations

import pynvml
import pytest

from checks.passive.recovery_action import ACTIONS, CHECK
from hma.catalogue_file import load_catalogue
from hma.gpu import GpuReadings
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


@pytest.mark.parametrize(
    ("action", "code", "status"),
    [
        (1, "RECOVERY-GPU_RESET", Status.FAILED),
        (2, "RECOVERY-NODE_REBOOT", Status.FAILED),
        (3, "RECOVERY-DRAIN_P2P", Status.DEGRADED),
        (4, "RECOVERY-DRAIN_AND_RESET", Status.DEGRADED),
        (5, "RECOVERY-IMEX", Status.DEGRADED),
        (6, "RECOVERY-BUS_RESET", Status.FAILED),
        (7, "RECOVERY-SYSTEM_REBOOT", Status.FAILED),
        (8, "RECOVERY-UNKNOWN", Status.DEGRADED),
        (99, "RECOVERY-UNKNOWN", Status.DEGRADED),
    ],
)
def test_each_value_has_its_code(action: int, code: str, status: Status) -> None:
    seen = observe(CHECK, with_gpu(healthy(), 3, recovery_action=action))
    (one,) = [one for one in seen if one.status is not Status.OK]
    assert (one.code, one.component, one.status) == (code, THIRD, status)
    assert one.attrs == (("recovery_action", str(action)),)
    assert one.evidence == f"recovery action {action}"


def test_values_are_those_of_the_header() -> None:
    header = {
        value: name.removeprefix("NVML_GPU_RECOVERY_ACTION_")
        for name, value in vars(pynvml).items()
        if name.startswith("NVML_GPU_RECOVERY_ACTION_")
    }
    assert header.pop(0) == "NONE"
    ours = {
        value: code.removeprefix("RECOVERY-").replace("IMEX", "RECOVER_IMEX_DOMAIN") for value, (code, *_) in ACTIONS.items()
    }
    assert ours == header


def test_each_value_is_worth_what_the_same_word_of_xid_154_is_worth() -> None:
    catalogue = load_catalogue()
    for code in CHECK.codes:
        state, event = catalogue[code], catalogue[code.replace("RECOVERY-", "XID-154-")]
        assert (state.action, state.again, state.when) == (event.action, event.again, event.when)
        assert state.inhibit is not None
        assert state.inhibit.by == (event.code,)


def test_two_gpus_may_want_different_things() -> None:
    seen = observe(CHECK, with_gpu(with_gpu(healthy(), 3, recovery_action=1), 5, recovery_action=4))
    assert wrong(seen) == [("RECOVERY-GPU_RESET", THIRD), ("RECOVERY-DRAIN_AND_RESET", P5_GPUS[5])]
    assert fine(seen) == [("node", "8 GPUs, 2 not well")]


def test_one_word_for_the_node() -> None:
    assert observe(CHECK, healthy())
    assert fine(observe(CHECK, healthy())) == [("node", "8 GPUs, the driver asks for no recovery")]
    assert wrong(observe(CHECK, healthy())) == []


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (unread(healthy(), 3, "recovery_action"), [(THIRD, "Unknown Error")]),
        (lost(healthy(), 3), [(THIRD, "GPU is lost")]),
        (down(), [("node", "the driver does not answer (no_driver); see nvml_driver")]),
    ],
)
def test_what_could_not_be_looked_at(sample: GpuReadings, expected: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert grey(seen) == expected
    assert wrong(seen) == []


@pytest.mark.parametrize("sample", [old(), healthy_g5(), GpuReadings(healthy(0).driver)])
def test_a_driver_that_does_not_tell_says_nothing(sample: GpuReadings) -> None:
    node = P5 if len(sample.gpus) == 8 else NodeFacts("n1", "b1")
    assert observe(CHECK, sample, node) == []
