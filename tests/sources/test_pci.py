"""The PCI bus read from a tree and from this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hma.check import NotInstalled, SourceError
from hma.model import NodeFacts, PciDevice
from hma.sources.pci import DEVICES, read_pci
from tests.trees import devices, make_tree

DATA = Path(__file__).parents[1] / "data/sysfs"


@pytest.mark.parametrize(
    ("name", "gpus", "nvswitches", "neurons", "efas"),
    [("p5.48xlarge", 8, 4, 0, 32), ("trn1.32xlarge", 0, 0, 16, 8), ("g5.xlarge", 1, 0, 0, 0)],
)
def test_reads_every_device_in_order_of_address(
    tmp_path: Path, name: str, gpus: int, nvswitches: int, neurons: int, efas: int
) -> None:
    description = DATA / f"{name}.txt"
    found = read_pci(make_tree(tmp_path, description))
    assert found == tuple(sorted(devices(description)))
    node = NodeFacts(hostname="", boot_id="", pci=found)
    assert [len(kind) for kind in (node.gpus, node.nvswitches, node.neurons, node.efas)] == [gpus, nvswitches, neurons, efas]


def test_ids_lose_their_prefix_and_the_driver_is_the_name_of_its_link(tmp_path: Path) -> None:
    found = {device.address: device for device in read_pci(make_tree(tmp_path, DATA / "p5.48xlarge.txt"))}
    assert found["0000:b9:00.0"] == PciDevice("0000:b9:00.0", "10de", "2330", "030200", "nvidia")
    assert found["0000:00:01.0"] == PciDevice("0000:00:01.0", "8086", "7000", "060100", "")


@pytest.mark.parametrize("content", [None, "", "0x\n", "not hex\n", "\xff\xfe"])
def test_a_device_that_goes_away_or_reads_rubbish_is_left_out(tmp_path: Path, content: str | None) -> None:
    root = make_tree(tmp_path, DATA / "g5.xlarge.txt")
    attribute = root / DEVICES / "0000:00:1e.0/device"
    attribute.unlink()
    if content is not None:
        attribute.write_bytes(content.encode("latin-1"))
    assert [device.address for device in read_pci(root)] == ["0000:00:00.0", "0000:00:03.0", "0000:00:04.0", "0000:00:05.0"]


def test_a_link_to_nowhere_is_left_out(tmp_path: Path) -> None:
    root = make_tree(tmp_path, DATA / "g5.xlarge.txt")
    shutil.rmtree((root / DEVICES / "0000:00:04.0").resolve())
    assert len(read_pci(root)) == 4


def test_no_bus_is_not_an_empty_bus(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match="sys/bus/pci/devices: not there"):
        read_pci(tmp_path)


def test_a_bus_that_cannot_be_listed_is_an_error_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "sys/bus/pci").mkdir(parents=True)
    (tmp_path / DEVICES).write_text("a file")
    with pytest.raises(SourceError, match="devices: Not a directory"):
        read_pci(tmp_path)


@pytest.mark.skipif(not Path("/", DEVICES).is_dir(), reason="not possible here: this machine has no PCI bus")
def test_reads_this_machine() -> None:
    found = read_pci(Path("/"))
    assert len(found) == len(list(Path("/", DEVICES).iterdir()))
    for device in found:
        assert (len(device.vendor), len(device.device), len(device.pci_class)) == (4, 4, 6)
