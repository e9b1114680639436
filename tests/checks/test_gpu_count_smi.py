"""GPUs that nvidia-smi lists against those that should be there; outputs: tests/data/nvidia-smi/ORIGIN.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.passive.gpu_count_smi import CHECK
from hma.check import NoOptions, Output
from hma.model import Expected, NodeFacts, Observation, PciDevice, Status

DATA = Path(__file__).parents[1] / "data/nvidia-smi"
BUSES = ("53", "64", "75", "86", "97", "a8", "b9", "ca")
P5 = Expected("p5.48xlarge", gpus=8)
UNKNOWN_TYPE = Expected("new.type")


def gpus(count: int, *, vfio: int = 0, driver: str = "nvidia") -> tuple[PciDevice, ...]:
    """Return the first `count` GPUs of the bus, the last `vfio` of them handed to virtual machines."""
    drivers = [driver] * (count - vfio) + ["vfio-pci"] * vfio
    return tuple(
        PciDevice(f"0000:{bus}:00.0", "10de", "2330", "030200", driver) for bus, driver in zip(BUSES, drivers, strict=False)
    )


def node(expected: Expected | None = P5, pci: tuple[PciDevice, ...] = gpus(8)) -> NodeFacts:
    """Return the facts of a node."""
    return NodeFacts("n1", "b1", expected=expected, pci=pci)


def run(name: str, returncode: int = 0) -> Output:
    """Return a kept output as the result of a run."""
    return Output(returncode, (DATA / f"{name}.txt").read_text(encoding="utf-8"), "")


def first(rows: int, returncode: int = 0) -> Output:
    """Return the first rows of the whole list."""
    lines = run("535.261.03-eight-gpus").stdout.splitlines(keepends=True)
    return Output(returncode, "".join(lines[:rows]), "")


def look(sample: Output, facts: NodeFacts) -> list[Observation]:
    """Return what the check says."""
    return list(CHECK.observe(sample, facts, NoOptions()))


@pytest.mark.parametrize(
    ("sample", "facts", "status", "seen", "wanted"),
    [
        (first(8), node(), Status.OK, 8, 8),
        (first(7), node(), Status.FAILED, 7, 8),
        (first(1), node(), Status.FAILED, 1, 8),
        (first(8), node(Expected("p4d.half", gpus=4)), Status.OK, 8, 4),
        (first(8), node(None), Status.OK, 8, 8),
        (first(7), node(None), Status.FAILED, 7, 8),
        (first(7), node(UNKNOWN_TYPE), Status.FAILED, 7, 8),
        (first(8), node(UNKNOWN_TYPE, gpus(7)), Status.OK, 8, 7),
        (first(7), node(P5, gpus(7)), Status.FAILED, 7, 8),
        (first(7), node(P5, ()), Status.FAILED, 7, 8),
        (run("535.261.03-no-devices", 6), node(P5, ()), Status.FAILED, 0, 8),
        (run("550.163.01-no-supported-gpus", 6), node(P5, ()), Status.FAILED, 0, 8),
        (run("535.261.03-handle-permission"), node(), Status.FAILED, 7, 8),
        # A GPU that answers badly is still listed: that is nvidia_smi's to tell.
        (run("535.261.03-fields-lost"), node(), Status.OK, 8, 8),
        (run("535.261.03-address-lost"), node(), Status.OK, 8, 8),
        (first(8, returncode=14), node(), Status.OK, 8, 8),
        # Handed to a virtual machine: on the bus, and not the driver's to list.
        (first(6), node(P5, gpus(8, vfio=2)), Status.OK, 6, 6),
        (first(5), node(P5, gpus(8, vfio=2)), Status.FAILED, 5, 6),
        (first(6), node(None, gpus(8, vfio=2)), Status.OK, 6, 6),
        (first(7), node(None, gpus(8, driver="")), Status.FAILED, 7, 8),
    ],
)
def test_list_is_counted(sample: Output, facts: NodeFacts, status: Status, seen: int, wanted: int) -> None:
    (told,) = look(sample, facts)
    assert (told.code, told.component, told.status) == ("GPU-COUNT-SMI", "node", status)
    assert (dict(told.attrs)["seen"], dict(told.attrs)["expected"]) == (str(seen), str(wanted))


@pytest.mark.parametrize(
    "sample",
    [
        run("535.261.03-no-driver", 9),
        run("535.261.03-no-library", 12),
        run("535.261.03-init-mismatch", 18),
        run("535.261.03-init-unknown", 255),
        run("535.261.03-count-failed", 255),
        run("535.261.03-handle-lost", 15),
        run("535.261.03-handle-unknown", 255),
        run("535.261.03-bad-field", 2),
        # None at all while the bus shows some: a driver without GPUs.
        run("535.261.03-no-devices", 6),
        run("550.163.01-no-supported-gpus", 6),
        Output(0, "", ""),
        Output(255, "", ""),
        Output(-9, "", ""),
        Output(0, "rubbish\n", ""),
        first(3, returncode=-9),
        first(3, returncode=15),
        first(3)._replace(truncated=True),
    ],
)
@pytest.mark.parametrize("facts", [node(), node(None)], ids=["known type", "unknown type"])
def test_no_whole_list_is_not_few_gpus(sample: Output, facts: NodeFacts) -> None:
    (told,) = look(sample, facts)
    assert (told.status, told.evidence) == (Status.UNKNOWN, "")
    assert "see nvidia_smi" in told.detail


def test_missing_gpus_are_named() -> None:
    (told,) = look(run("535.261.03-handle-permission"), node())
    assert dict(told.attrs)["missing"] == "gpu:0000:86:00"
    assert told.detail == "nvidia-smi lists 7 of 8 GPUs (instance type p5.48xlarge), not gpu:0000:86:00"
    assert told.evidence.count("\n") == 6


def test_handed_over_gpu_is_not_missed() -> None:
    (told,) = look(first(5), node(None, gpus(8, vfio=2)))
    assert dict(told.attrs)["missing"] == "gpu:0000:a8:00"
    assert "PCI bus at start" in told.detail


def test_nothing_is_missed_by_name_where_the_bus_is_not_known() -> None:
    (told,) = look(first(7), node(P5, ()))
    assert dict(told.attrs)["missing"] == ""
    assert "not gpu" not in told.detail


def test_same_row_twice_is_one_gpu() -> None:
    seven = first(7)
    (told,) = look(seven._replace(stdout=seven.stdout + seven.stdout), node())
    assert (told.status, dict(told.attrs)["seen"]) == (Status.FAILED, "7")


def test_nothing_expected_says_nothing() -> None:
    assert look(first(8), node(UNKNOWN_TYPE, ())) == []
    assert look(first(8), node(None, ())) == []


def test_evidence_is_kept_short() -> None:
    (told,) = look(Output(0, "x" * 100_000 + "\n" + first(1).stdout, ""), node())
    assert len(told.evidence) <= 4_000


@pytest.mark.parametrize(
    ("facts", "applies"), [(node(), True), (node(None), True), (node(None, ()), False), (node(P5, ()), True)]
)
def test_applies_where_a_gpu_is_or_should_be(facts: NodeFacts, applies: bool) -> None:
    assert CHECK.applies(facts) is applies
