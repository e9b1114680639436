"""The simulated node reads like a real one: the same readers and checks find a healthy machine of the type asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.passive.gpu_count_pci import CHECK as GPU_COUNT_PCI
from hma.check import ClockState, Files, Processes
from hma.cli.simulated_node import BOOT_ID, LAYOUTS, PROCESSES, build, plug, unplug, write
from hma.instance_types import lookup
from hma.loader import find_checks
from hma.model import PciDevice, Status
from hma.sources.files import read_files
from hma.sources.node import read_node
from hma.sources.pci import DEVICES
from hma.sources.processes import read_processes
from tests.trees import devices

SYSFS = Path(__file__).parents[1] / "data/sysfs"


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_built_node_has_what_its_type_should_have(tmp_path: Path, name: str) -> None:
    build(tmp_path, name)
    node, row = read_node(tmp_path), lookup(name)
    assert row is not None
    assert node.instance_type == name
    assert (len(node.gpus), len(node.neurons), len(node.efas)) == (row.gpus, row.neuron_devices, row.efa)
    assert len(node.nvswitches) == (4 if row.nvswitch else 0)
    disks = [device for device in node.pci if device.device == "cd01"]
    assert len(disks) == row.local_nvme


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_check_that_reads_files_finds_it_healthy(tmp_path: Path, name: str) -> None:
    build(tmp_path, name)
    node = read_node(tmp_path)
    for check in find_checks():
        if not check.applies(node) or not isinstance(check.source, Files | Processes):
            continue
        sample = read_files(check.source, tmp_path) if isinstance(check.source, Files) else read_processes(tmp_path, 86_400.0)
        found = list(check.observe(sample, node, check.options))
        assert {o.status for o in found} <= {Status.OK}, f"{check.name}: {found}"
    assert any(isinstance(check.source, ClockState) for check in find_checks()), "the only polled source not of the node's root"


@pytest.mark.parametrize("name", ["p5.48xlarge", "trn1.32xlarge"])
def test_accelerators_and_fabric_are_where_the_descriptions_have_them(tmp_path: Path, name: str) -> None:
    build(tmp_path, name)
    described = {d for d in devices(SYSFS / f"{name}.txt") if d.device in ("2330", "7164") or d.device.startswith("efa")}
    assert described <= set(read_node(tmp_path).pci)


def test_no_two_devices_share_an_address() -> None:
    for layout in LAYOUTS.values():
        addresses = [address for group in layout for address in group.addresses]
        assert len(set(addresses)) == len(addresses)


def test_the_sagemaker_spelling_is_the_same_type(tmp_path: Path) -> None:
    build(tmp_path, "ml.g5.12xlarge")
    assert read_node(tmp_path).instance_type == "g5.12xlarge"


@pytest.mark.parametrize("name", ["p4d.24xlarge", "c5.large", "", "nonsense"])
def test_a_type_without_a_layout_is_refused_with_those_that_have_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ValueError, match=r"cannot be simulated; known are g5\.12xlarge, p5\.48xlarge, trn1\.32xlarge, trn2\.48xlarge"
    ):
        build(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_taken_off_the_bus_is_gone_and_comes_back_with_the_next_boot(tmp_path: Path) -> None:
    build(tmp_path, "g5.12xlarge")
    start = read_node(tmp_path)
    unplug(tmp_path, "0000:00:1c.0")
    assert [gpu.address for gpu in read_node(tmp_path).gpus] == ["0000:00:1b.0", "0000:00:1d.0", "0000:00:1e.0"]
    assert isinstance(GPU_COUNT_PCI.source, Files)
    seen = list(GPU_COUNT_PCI.observe(read_files(GPU_COUNT_PCI.source, tmp_path), start, GPU_COUNT_PCI.options))
    assert (seen[0].status, dict(seen[0].attrs)["missing"]) == (Status.FAILED, "gpu:0000:00:1c")
    build(tmp_path, "g5.12xlarge", boot_id="another")
    again = read_node(tmp_path)
    assert (again.boot_id, again.pci) == ("another", start.pci)
    assert start.boot_id == BOOT_ID


def test_what_is_not_there_cannot_be_taken_off(tmp_path: Path) -> None:
    build(tmp_path, "g5.12xlarge")
    with pytest.raises(KeyError):
        unplug(tmp_path, "0000:99:00.0")
    unplug(tmp_path, "0000:00:1c.0")
    with pytest.raises(KeyError):
        unplug(tmp_path, "0000:00:1c.0")


def test_a_device_can_be_plugged_in_with_its_lanes(tmp_path: Path) -> None:
    device = PciDevice("0000:9b:00.0", "10de", "2330", "030200", "nvidia")
    plug(tmp_path, device, lanes=(8, 16))
    assert read_node(tmp_path).pci == (device,)
    place = tmp_path / DEVICES / device.address
    assert [(place / name).read_text() for name in ("current_link_width", "max_link_width")] == ["8\n", "16\n"]
    assert not (tmp_path / DEVICES / device.address / "driver").readlink().is_absolute(), "a tree can be moved"


def test_building_another_type_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    build(tmp_path, "g5.12xlarge")
    build(tmp_path, "trn1.32xlarge")
    assert (len(read_node(tmp_path).gpus), len(read_node(tmp_path).neurons)) == (0, 16)


def test_processes_are_told_as_proc_tells_them(tmp_path: Path) -> None:
    build(tmp_path, "g5.12xlarge")
    table = read_processes(tmp_path, now=1_000.0)
    assert [(p.pid, p.comm, p.state, p.ppid) for p in sorted(table.processes)] == [p[:4] for p in PROCESSES]
    # 52 fields, proc(5) of Linux 3.5 and later.
    assert {len((tmp_path / f"proc/{p[0]}/stat").read_text().split()) for p in PROCESSES} == {52}


def test_files_can_be_changed_on_the_way(tmp_path: Path) -> None:
    build(tmp_path, "g5.12xlarge")
    write(tmp_path, {"proc/loadavg": "1.00\n", "sys/new/file": "x\n"})
    assert (tmp_path / "proc/loadavg").read_text() == "1.00\n"
    assert (tmp_path / "sys/new/file").read_text() == "x\n"
