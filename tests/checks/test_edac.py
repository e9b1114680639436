"""Counters of sysfs; form: Documentation/ABI/testing/sysfs-devices-edac, values set by hand."""

import pytest

from checks.passive.edac import CHECK, Options
from hma.check import Tree
from hma.model import Observation, Status
from tests.checks.kernel_lines import NODE

MC = "sys/devices/system/edac/mc/mc"


def observe(files: dict[str, str], options: Options = CHECK.options) -> list[Observation]:
    return list(CHECK.observe(Tree(files, {}), NODE, options))


@pytest.mark.parametrize(
    ("name", "count", "corrected", "code", "status"),
    [
        ("0/ue_count", "0\n", 1_000, "MEMORY-UE", Status.OK),
        ("0/ue_count", "1\n", 1_000, "MEMORY-UE", Status.FAILED),
        ("0/ce_count", "0\n", 1_000, "MEMORY-CE-MANY", Status.OK),
        ("0/ce_count", "999\n", 1_000, "MEMORY-CE-MANY", Status.OK),
        ("0/ce_count", "1000\n", 1_000, "MEMORY-CE-MANY", Status.DEGRADED),
        ("0/ce_count", "1\n", 1, "MEMORY-CE-MANY", Status.DEGRADED),
        ("0/ce_count", "0\n", 0, "MEMORY-CE-MANY", Status.OK),
    ],
)
def test_count_against_its_threshold(name: str, count: str, corrected: int, code: str, status: Status) -> None:
    (seen,) = observe({MC + name: count}, Options(corrected))
    assert (seen.code, seen.component, seen.status) == (code, "dimm:mc0", status)


def test_each_controller_speaks_for_itself() -> None:
    seen = observe({f"{MC}0/ue_count": "0\n", f"{MC}1/ue_count": "2\n", f"{MC}10/ue_count": "0\n"})
    assert {(o.component, o.status) for o in seen} == {
        ("dimm:mc0", Status.OK),
        ("dimm:mc1", Status.FAILED),
        ("dimm:mc10", Status.OK),
    }


@pytest.mark.parametrize("files", [{}, {f"{MC}0/ue_count": ""}, {f"{MC}0/ue_count": "-1\n"}, {f"{MC}0/size_mb": "16\n"}])
def test_no_controller_or_no_number_says_nothing(files: dict[str, str]) -> None:
    assert observe(files) == []
