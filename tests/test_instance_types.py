"""The table of instance types: its form, rows that everybody knows, and that "not known" never reads as none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from hma.instance_types import InstanceType, all_types, canonical, expected, lookup
from hma.model import Expected

ROWS = {row.instance_type: row for row in all_types()}


@pytest.mark.parametrize(
    ("name", "accelerator", "gpus", "neuron_devices", "efa", "nvlinks", "width"),
    [
        ("p4d.24xlarge", "A100", 8, 0, 4, 12, 16),
        ("p4de.24xlarge", "A100", 8, 0, 4, 12, 16),
        ("p5.4xlarge", "H100", 1, 0, 1, None, None),
        ("p5.48xlarge", "H100", 8, 0, 32, 18, 16),
        ("p5e.48xlarge", "H200", 8, 0, 32, 18, 16),
        ("p5en.48xlarge", "H200", 8, 0, 16, 18, None),
        ("p6-b200.48xlarge", "B200", 8, 0, 8, 18, 16),
        ("p6-b300.48xlarge", "B300", 8, 0, 16, 18, None),
        ("p6e-gb200.36xlarge", "GB200", 4, 0, None, 18, None),
        ("g4dn.metal", "T4", 8, 0, 1, 0, 8),
        ("g5.xlarge", "A10G", 1, 0, 0, 0, 8),
        ("g5.48xlarge", "A10G", 8, 0, 1, 0, 8),
        ("g6e.48xlarge", "L40S", 8, 0, 4, 0, 8),
        ("g6f.large", "L4", 1, 0, 0, 0, None),
        ("inf1.24xlarge", "Inferentia", 0, 16, 1, None, None),
        ("inf2.48xlarge", "Inferentia2", 0, 12, 0, None, None),
        ("trn1.2xlarge", "Trainium", 0, 1, 0, None, None),
        ("trn1.32xlarge", "Trainium", 0, 16, 8, None, None),
        ("trn1n.32xlarge", "Trainium", 0, 16, 16, None, None),
        ("trn2.48xlarge", "Trainium2", 0, 16, 16, None, None),
    ],
)
def test_well_known_type(
    name: str, accelerator: str, gpus: int, neuron_devices: int, efa: int | None, nvlinks: int | None, width: int | None
) -> None:
    assert expected(name) == Expected(name, accelerator, gpus, neuron_devices, efa, nvlinks, width)


@pytest.mark.parametrize("name", ["ml.p5.48xlarge", "p5.48xlarge", " p5.48xlarge\n", "ML.P5.48xlarge"])
def test_the_sagemaker_spelling_names_the_same_type(name: str) -> None:
    found = expected(name)
    assert found is not None
    assert (found.instance_type, found.gpus) == ("p5.48xlarge", 8)


@pytest.mark.parametrize(
    "name", [None, "", "ml.", "p5", "p5.48", "5.48xlarge", "c5.large", "p9.96xlarge", "instance_type", "#"]
)
def test_a_type_not_in_the_table_is_no_expectation_at_all(name: str | None) -> None:
    assert lookup(name) is None
    assert expected(name) is None


def test_rows_are_sorted_and_unique() -> None:
    names = [row.instance_type for row in all_types()]
    assert names == sorted(set(names))


@pytest.mark.parametrize("row", all_types(), ids=lambda row: row.instance_type)
def test_row_makes_sense(row: InstanceType) -> None:
    assert canonical(row.instance_type) == row.instance_type
    assert row.kind in ("nvidia", "neuron")
    wanted, other = (row.gpus, row.neuron_devices) if row.kind == "nvidia" else (row.neuron_devices, row.gpus)
    assert wanted is not None
    assert wanted > 0
    assert other == 0
    if row.kind == "neuron":
        assert row.neuron_cores is not None
        assert row.neuron_cores % wanted == 0
    assert row.nvswitch is not True or row.nvlinks_per_gpu


# A count of these cannot be none on any machine: a 0 would be an unknown written wrongly.
NEVER_ZERO: tuple[tuple[str, Callable[[InstanceType], object]], ...] = (
    ("vcpu", lambda row: row.vcpu),
    ("memory_gib", lambda row: row.memory_gib),
    ("pcie_width", lambda row: row.pcie_width),
    ("gpu_fraction", lambda row: row.gpu_fraction),
)


@pytest.mark.parametrize(("field", "value"), NEVER_ZERO)
def test_unknown_is_never_zero(field: str, value: Callable[[InstanceType], object]) -> None:
    assert {name for name, row in ROWS.items() if value(row) == 0} == set(), field


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("p3.2xlarge", "nvlinks_per_gpu"),
        ("p3.2xlarge", "vcpu"),
        ("p3.8xlarge", "nvlinks_per_gpu"),
        ("p5.4xlarge", "nvswitch"),
        ("p6e-gb200.36xlarge", "efa"),
        ("p6e-gb200.36xlarge", "local_nvme"),
        ("p6e-gb300.36xlarge", "efa"),
        ("trn2u.48xlarge", "local_nvme"),
    ],
)
def test_what_nobody_could_establish_stays_unknown(name: str, field: str) -> None:
    assert dataclasses.asdict(ROWS[name])[field] is None


@pytest.mark.parametrize(
    ("name", "nvswitch", "cores", "fraction"),
    [
        ("p5.48xlarge", True, 0, None),
        ("g5.48xlarge", False, 0, None),
        ("g6f.large", False, 0, 0.125),
        ("trn2.48xlarge", False, 128, None),
    ],
)
def test_facts_beside_the_expectation(name: str, nvswitch: bool, cores: int, fraction: float | None) -> None:
    row = ROWS[name]
    assert (row.nvswitch, row.neuron_cores, row.gpu_fraction) == (nvswitch, cores, fraction)
