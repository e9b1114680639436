"""Each state of the driver, what it is told as, and what it says nothing about."""

from __future__ import annotations

import pytest

from checks.passive.nvml_driver import CHECK, CODES
from hma.gpu import GpuReadings
from hma.model import NodeFacts, Observation, Status
from tests.checks.gpu_samples import NO_GPU, P5, UNKNOWN_TYPE, down, healthy, lost, observe, wrong

INIT = {"NVML-NO-DRIVER", "NVML-MISMATCH", "NVML-NO-PERMISSION", "NVML-OLD-LIBRARY", "NVML-INIT-ERR"}
HOST = "host"
HUNG = down("hung", call="nvmlDeviceGetPowerUsage", gpu="0000:86:00", call_s=12.3)


def disproved(seen: list[Observation]) -> set[str]:
    """Return the codes that are said to be fine."""
    return {one.code for one in seen if one.status is Status.OK}


@pytest.mark.parametrize(
    ("sample", "code", "component", "fine"),
    [
        (down("no_library", text="libnvidia-ml.so.1: cannot open shared object file"), "NVML-NO-LIBRARY", HOST, set()),
        (down("no_driver", code=9, text="Driver Not Loaded"), "NVML-NO-DRIVER", HOST, INIT),
        (down("mismatch", code=18, text="Driver/library version mismatch"), "NVML-MISMATCH", HOST, INIT),
        (down("no_permission", code=4, text="Insufficient Permissions"), "NVML-NO-PERMISSION", HOST, INIT),
        (down("old_library", code=13, text="Function Not Found"), "NVML-OLD-LIBRARY", HOST, INIT),
        (down("failed", code=999, text="Unknown Error"), "NVML-INIT-ERR", HOST, INIT),
        (down("a state of tomorrow"), "NVML-INIT-ERR", HOST, INIT),
        (HUNG, "NVML-HUNG", "gpu:0000:86:00", set()),
        (down("hung", call="nvmlInit_v2", call_s=61.0), "NVML-HUNG", HOST, set()),
    ],
)
def test_state_is_told_and_proves_the_steps_before_it_only(
    sample: GpuReadings, code: str, component: str, fine: set[str]
) -> None:
    seen = observe(CHECK, sample)
    assert wrong(seen) == [(code, component)]
    assert disproved(seen) == (fine | {"NVML-NO-LIBRARY"}) - {code}
    # What a later step would show stays as it was: nobody who is not named may be taken for fine.
    assert [one.component for one in seen if one.status is Status.UNKNOWN] == [HOST]


@pytest.mark.parametrize("sample", [healthy(), healthy(1), lost(healthy(), 3)])
def test_driver_that_answers_is_one_good_word(sample: GpuReadings) -> None:
    (told,) = observe(CHECK, sample)
    assert (told.status, told.component) == (Status.OK, HOST)
    assert told.detail == f"driver 550.163.01, NVML 12.550.163.01, {sample.driver.gpu_count} GPUs"


@pytest.mark.parametrize(("node", "told"), [(P5, "NVML-NO-DEVICES"), (UNKNOWN_TYPE, "NVML-NO-DEVICES"), (NO_GPU, "")])
def test_no_gpu_is_wrong_where_the_bus_has_some_of_the_driver(node: NodeFacts, told: str) -> None:
    seen = observe(CHECK, healthy(0), node)
    assert wrong(seen) == ([(told, HOST)] if told else [])


def test_no_gpu_is_right_where_all_are_handed_over() -> None:
    facts = NodeFacts("n1", "b1", expected=P5.expected, pci=tuple(d._replace(driver="vfio-pci") for d in P5.pci))
    assert wrong(observe(CHECK, healthy(0), facts)) == []


def test_words_name_the_call_the_number_and_the_text() -> None:
    assert observe(CHECK, HUNG)[0].detail == "nvmlDeviceGetPowerUsage has not come back for 12 s"
    told = observe(CHECK, down("mismatch", code=18, text="Driver/library version mismatch"))[0]
    assert told.detail == "NVML: Driver/library version mismatch (18)"
    assert dict(told.attrs) == {"code": "18"}
    told = observe(CHECK, down("no_library", code=12, text="nvmlInit: NVML Shared Library Not Found (12)"))[0]
    assert told.detail == "NVML: nvmlInit: NVML Shared Library Not Found (12)"


def test_long_text_is_cut() -> None:
    told = observe(CHECK, down("failed", code=999, text="x" * 10_000))[0]
    assert len(told.detail) <= 300
    assert len(told.evidence) <= 2_000


def test_every_code_can_be_told() -> None:
    states = ("no_library", "no_driver", "mismatch", "no_permission", "old_library", "failed", "hung")
    told = {code for state in states for code, _ in wrong(observe(CHECK, down(state)))}
    assert told | {"NVML-NO-DEVICES"} == CODES
