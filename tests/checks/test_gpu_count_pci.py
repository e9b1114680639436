"""GPUs on the PCI bus against those that should be there; the buses are those of tests/data/sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.passive.gpu_count_pci import CHECK
from hma.check import NoOptions, Tree
from hma.model import Expected, NodeFacts, Observation, PciDevice, Status
from tests.trees import devices

DATA = Path(__file__).parents[1] / "data/sysfs"
BUS = devices(DATA / "p5.48xlarge.txt")
GPUS = tuple(sorted(device.address for device in BUS if device.pci_class.startswith("0302")))
P5 = Expected("p5.48xlarge", gpus=8)
NEW = Expected("new.type")


def tree(bus: tuple[PciDevice, ...], *absent: str, errors: tuple[str, ...] = ()) -> Tree:
    """Return the bus as the source reads it, without the devices `absent` and with `errors` in place of these files."""
    files = {}
    for device in bus:
        if device.address not in absent:
            files[f"sys/bus/pci/devices/{device.address}/vendor"] = f"0x{device.vendor}\n"
            files[f"sys/bus/pci/devices/{device.address}/class"] = f"0x{device.pci_class}\n"
    unread = {f"sys/bus/pci/devices/{name}": "Input/output error" for name in errors}
    return Tree({path: text for path, text in files.items() if path not in unread}, unread)


def look(sample: Tree, expected: Expected | None = P5, at_start: tuple[PciDevice, ...] = BUS) -> dict[str, Observation]:
    """Return what the check says, by code."""
    facts = NodeFacts("n1", "b1", expected=expected, pci=at_start)
    return {seen.code: seen for seen in CHECK.observe(sample, facts, NoOptions())}


def without(*addresses: str) -> tuple[PciDevice, ...]:
    """Return the bus as it was at start without these devices."""
    return tuple(device for device in BUS if device.address not in addresses)


def test_bus_of_the_tests_has_eight_gpus() -> None:
    assert len(GPUS) == 8


@pytest.mark.parametrize(
    ("absent", "expected", "at_start", "count", "extra", "missing"),
    [
        ((), P5, BUS, Status.OK, Status.OK, ""),
        ((), None, BUS, Status.OK, Status.OK, ""),
        ((), NEW, BUS, Status.OK, Status.OK, ""),
        # Removed while we looked.
        (GPUS[3:4], P5, BUS, Status.FAILED, Status.OK, "gpu:0000:86:00"),
        (GPUS[3:4], None, BUS, Status.FAILED, Status.OK, "gpu:0000:86:00"),
        (GPUS[3:4], NEW, BUS, Status.FAILED, Status.OK, "gpu:0000:86:00"),
        (GPUS, P5, BUS, Status.FAILED, Status.OK, " ".join(f"gpu:{address[:-2]}" for address in GPUS)),
        # Absent from the start: the type tells how many, nothing tells which.
        (GPUS[3:4], P5, without(GPUS[3]), Status.FAILED, Status.OK, ""),
        (GPUS[3:4], None, without(GPUS[3]), Status.OK, Status.OK, ""),
        (GPUS, P5, without(*GPUS), Status.FAILED, Status.OK, ""),
        # More than the type has.
        ((), Expected("half", gpus=4), BUS, Status.OK, Status.DEGRADED, ""),
        ((), Expected("none", gpus=0), BUS, Status.OK, Status.DEGRADED, ""),
        (GPUS[7:], Expected("half", gpus=4), BUS, Status.FAILED, Status.DEGRADED, "gpu:0000:ca:00"),
        # Come back, or plugged in, since the start.
        ((), P5, without(GPUS[3]), Status.OK, Status.OK, ""),
        ((), None, without(GPUS[3]), Status.OK, Status.OK, ""),
        # What is not a GPU does not count.
        (("0000:cb:00.0",), P5, BUS, Status.OK, Status.OK, ""),
    ],
)
def test_bus_is_counted(
    absent: tuple[str, ...],
    expected: Expected | None,
    at_start: tuple[PciDevice, ...],
    count: Status,
    extra: Status,
    missing: str,
) -> None:
    told = look(tree(BUS, *absent), expected, at_start)
    assert {code: seen.status for code, seen in told.items()} == {"GPU-COUNT-PCI": count, "GPU-COUNT-EXTRA": extra}
    assert {seen.component for seen in told.values()} == {"node"}
    facts = dict(told["GPU-COUNT-PCI"].attrs)
    assert facts["seen"] == str(8 - len([address for address in absent if address in GPUS]))
    assert facts.get("missing", "") == missing


def test_what_left_the_bus_is_named_and_what_is_there_is_the_evidence() -> None:
    told = look(tree(BUS, GPUS[3]))["GPU-COUNT-PCI"]
    assert told.detail == "7 of 8 GPUs on the PCI bus; left the bus: 0000:86:00.0"
    assert told.evidence == " ".join(address for address in GPUS if address != GPUS[3])


def test_no_gpu_at_all_says_so() -> None:
    assert look(tree(BUS, *GPUS))["GPU-COUNT-PCI"].evidence == "no NVIDIA GPU on the PCI bus"


@pytest.mark.parametrize("driver", ["vfio-pci", "nouveau", ""])
def test_gpu_of_another_driver_is_on_the_bus(driver: str) -> None:
    bus = tuple(device._replace(driver=driver) for device in BUS)
    assert look(tree(bus), P5, bus)["GPU-COUNT-PCI"].status is Status.OK


@pytest.mark.parametrize(("pci_class", "counts"), [("030000", True), ("030200", True), ("030100", False), ("040300", False)])
def test_display_and_3d_controllers_count_and_a_sound_function_does_not(pci_class: str, counts: bool) -> None:
    ninth = PciDevice("0001:01:00.0", "10de", "2330", pci_class, "nvidia")
    assert look(tree((*BUS, ninth)))["GPU-COUNT-EXTRA"].status is (Status.DEGRADED if counts else Status.OK)


def test_display_of_another_maker_is_no_gpu() -> None:
    ninth = PciDevice("0001:01:00.0", "1d0f", "1111", "030000", "")
    assert look(tree((*BUS, ninth)))["GPU-COUNT-EXTRA"].status is Status.OK


@pytest.mark.parametrize(
    ("errors", "absent", "status"),
    [
        ((f"{GPUS[3]}/vendor",), (), Status.UNKNOWN),
        ((f"{GPUS[3]}/class",), (), Status.UNKNOWN),
        ((f"{GPUS[3]}/vendor", f"{GPUS[3]}/class"), (), Status.UNKNOWN),
        (tuple(f"{address}/vendor" for address in GPUS), (), Status.UNKNOWN),
        # One cannot be read, and another is gone: that one is gone is sure.
        ((f"{GPUS[3]}/vendor",), (GPUS[5],), Status.FAILED),
        # What cannot be read is surely no GPU.
        (("0000:00:04.0/vendor",), (), Status.OK),
        (("0000:00:04.0/class",), (), Status.OK),
        (("0000:cb:00.0/vendor",), (GPUS[5],), Status.FAILED),
    ],
)
def test_device_that_cannot_be_read_is_not_a_device_that_is_gone(
    errors: tuple[str, ...], absent: tuple[str, ...], status: Status
) -> None:
    assert look(tree(BUS, *absent, errors=errors))["GPU-COUNT-PCI"].status is status


def test_device_that_cannot_be_read_is_named() -> None:
    told = look(tree(BUS, errors=(f"{GPUS[3]}/vendor",)))["GPU-COUNT-PCI"]
    assert told.detail == "7 of 8 GPUs on the PCI bus; cannot be read: 0000:86:00.0"


@pytest.mark.parametrize("errors", [(), (f"{GPUS[3]}/vendor",)])
def test_no_bus_is_not_an_empty_bus(errors: tuple[str, ...]) -> None:
    told = look(tree((), errors=errors))
    assert [(seen.status, code) for code, seen in told.items()] == [(Status.UNKNOWN, "GPU-COUNT-PCI")]
    assert "no device can be read" in told["GPU-COUNT-PCI"].detail


def test_reads_the_attributes_that_it_needs() -> None:
    assert CHECK.source.globs == ("sys/bus/pci/devices/*/vendor", "sys/bus/pci/devices/*/class")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("facts", "applies"),
    [
        (NodeFacts("n1", "b1", pci=BUS), True),
        (NodeFacts("n1", "b1", expected=P5), True),
        (NodeFacts("n1", "b1", pci=without(*GPUS)), False),
        (NodeFacts("n1", "b1", expected=NEW), False),
    ],
)
def test_applies_where_a_gpu_is_or_should_be(facts: NodeFacts, applies: bool) -> None:
    assert CHECK.applies(facts) is applies
