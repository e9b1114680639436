"""GPUs on the PCI bus against those that should be there; the buses are those of tests/data/sysfs, their lines made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.passive.gpu_count_pci import CHECK, DEVICES
from hma.check import Files, NoOptions, Tree
from hma.model import Expected, NodeFacts, Observation, PciDevice, Status
from tests.trees import devices

DATA = Path(__file__).parents[1] / "data/sysfs"
BUS = devices(DATA / "p5.48xlarge.txt")
GPUS = tuple(sorted(device.address for device in BUS if device.pci_class.startswith("0302")))
P5 = Expected("p5.48xlarge", gpus=8)
NEW = Expected("new.type")


def tree(bus: tuple[PciDevice, ...], *absent: str) -> Tree:
    """Return the bus as the source reads it, without the devices `absent`."""
    return Tree({DEVICES: "".join(line(device) for device in bus if device.address not in absent)}, {})


def line(device: PciDevice) -> str:
    """Return the line of one device, as Linux 6.1 writes it: its driver comes last, after 15 numbers."""
    _, bus, rest = device.address.split(":")
    slot, function = rest.split(".")
    numbers = "\t".join(["0", *["               0"] * 14])
    return f"{bus}{int(slot, 16) * 8 + int(function):02x}\t{device.vendor}{device.device}\t{numbers}\t{device.driver}\n"


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
    assert {code: seen.status for code, seen in told.items()} == {"GPU-COUNT-PCI": count, **extra_is(extra)}
    assert {seen.component for seen in told.values()} == {"node"}
    facts = dict(told["GPU-COUNT-PCI"].attrs)
    assert facts["seen"] == str(8 - len([address for address in absent if address in GPUS]))
    assert facts.get("missing", "") == missing


def extra_is(status: Status) -> dict[str, Status]:
    """Return what is told of GPUs too many: nothing where there are none, since the check is complete."""
    return {} if status is Status.OK else {"GPU-COUNT-EXTRA": status}


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


NINTH = PciDevice("0000:da:00.0", "10de", "2330", "030200", "nvidia")


@pytest.mark.parametrize(
    ("device", "counts"),
    [
        (NINTH, True),
        (NINTH._replace(device="2901"), True),
        # A kind of NVIDIA device that was no GPU at the start: the NVSwitches.
        (NINTH._replace(device="22a3"), False),
        (NINTH._replace(vendor="1d0f", device="1111"), False),
        (NINTH._replace(vendor="8086", device="10de"), False),
    ],
)
def test_what_came_since_the_start_is_a_gpu_unless_its_kind_is_known_for_another(device: PciDevice, counts: bool) -> None:
    assert ("GPU-COUNT-EXTRA" in look(tree((*BUS, device)))) is counts


def test_a_device_of_a_known_kind_that_is_no_gpu_never_counts() -> None:
    sound = PciDevice("0000:53:00.1", "10de", "22ba", "040300", "snd_hda_intel")
    bus = (*BUS, sound)
    assert dict(look(tree(bus), at_start=bus)["GPU-COUNT-PCI"].attrs)["seen"] == "8"


def test_place_on_the_list_is_bus_and_slot_times_eight() -> None:
    """Slots of g5.12xlarge, whose GPUs share bus 00: 1b is d8."""
    gpus = tuple(PciDevice(f"0000:00:{slot}.0", "10de", "2237", "030200", "nvidia") for slot in ("1b", "1c", "1d", "1e"))
    told = look(Tree({DEVICES: "00d8\t10de2237\t0\n00e0\t10de2237\t0\n00f0\t10de2237\t0\n"}, {}), None, gpus)
    assert dict(told["GPU-COUNT-PCI"].attrs)["missing"] == "gpu:0000:00:1d"


SUPERCHIP = tuple(
    PciDevice(f"{domain}:01:00.0", "10de", "2941", "030200", "nvidia") for domain in ("0008", "0009", "0018", "0019")
)
GB200 = Expected("gb200", gpus=4)


def test_gpus_at_one_place_in_several_domains_are_counted_and_not_guessed_at() -> None:
    """The list of the kernel does not tell the domain."""
    assert look(tree(SUPERCHIP), GB200, SUPERCHIP)["GPU-COUNT-PCI"].status is Status.OK
    told = look(tree(SUPERCHIP, "0009:01:00.0"), GB200, SUPERCHIP)["GPU-COUNT-PCI"]
    assert (told.status, dict(told.attrs)["seen"], dict(told.attrs)["missing"]) == (Status.FAILED, "3", "")
    told = look(tree(SUPERCHIP, "0009:01:00.0"), None, SUPERCHIP)["GPU-COUNT-PCI"]
    assert told.status is Status.FAILED


@pytest.mark.parametrize(
    "sample", [Tree({}, {}), Tree({DEVICES: ""}, {}), Tree({}, {DEVICES: "Permission denied"}),
               Tree({DEVICES: "0000\t"}, {DEVICES: "longer than 1048576 bytes: cut"})],
)  # fmt: skip
def test_no_list_is_not_an_empty_bus(sample: Tree) -> None:
    told = look(sample)
    assert [(seen.status, code) for code, seen in told.items()] == [(Status.UNKNOWN, "GPU-COUNT-PCI")]
    assert f"/{DEVICES}" in told["GPU-COUNT-PCI"].detail


def test_bus_that_could_not_be_read_at_start_is_not_counted_later() -> None:
    told = look(tree(BUS), at_start=())
    assert [(seen.status, code) for code, seen in told.items()] == [(Status.UNKNOWN, "GPU-COUNT-PCI")]


@pytest.mark.parametrize("text", ["x" * 100_000, "53\n\n\t\t\n10de\n", "5300\t10de\n"])
def test_rubbish_is_no_crash(text: str) -> None:
    assert look(Tree({DEVICES: text}, {}))["GPU-COUNT-PCI"].status is Status.FAILED


def test_list_of_this_machine_is_read() -> None:
    """Each device that sysfs has stands at its place on the list; a machine without a PCI bus has neither."""
    listed, sysfs = Path("/", DEVICES), Path("/sys/bus/pci/devices")
    known = [place.name for place in sysfs.iterdir()] if sysfs.exists() else []
    shown = sorted(row.split("\t")[0] for row in listed.read_text().splitlines()) if listed.exists() else []
    assert shown == sorted(line(PciDevice(address, "", "", "", "")).split("\t")[0] for address in known)


def test_one_cheap_file_is_read() -> None:
    assert CHECK.source == Files((DEVICES,), max_bytes=1_048_576)


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
