"""What the NVML probe reads of a GPU, part by part: the real nvidia-ml-py on the stand-in library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hma.gpu import (
    Clocks,
    Ecc,
    Fabric,
    FabricManager,
    Gpu,
    GpuProcess,
    GpuReadings,
    Heat,
    Inforom,
    Link,
    Pages,
    Pcie,
    Power,
    Repair,
    Rows,
)
from hma.sources.nvml_ask import pci_address
from hma.sources.nvml_processes import job_of
from tests.sources.nvml_node import Libraries, Node, libraries

MIB = 1_048_576
UUID = "GPU-509665ad-b600-ac93-3616-d754b23d636"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Libraries:
    """Give compiled libraries."""
    return libraries(tmp_path_factory.mktemp("nvml"))


Read = Callable[..., GpuReadings]


@pytest.fixture
def read(tmp_path: Path, library: Libraries) -> Read:
    """Give what reads a node once, with some values changed."""

    def once(changed: Mapping[str, str | int], instance_type: str = "p5.48xlarge", driver: str = "580") -> GpuReadings:
        node = Node(tmp_path, library, instance_type, driver)
        node.state.update(changed)
        with node.probe() as probe:
            return probe.next(GpuReadings)

    return once


HOPPER = Gpu(
    3,
    "0000:86:00",
    f"{UUID}3",
    "1650124014243",
    "NVIDIA H100 80GB HBM3",
    vbios="96.00.74.00.01",
    persistence=True,
    mig=False,
    mig_pending=False,
    gsp=True,
    gsp_default=True,
    recovery_action=0,
    memory_used_bytes=MIB,
    memory_total_bytes=81559 * MIB,
    ecc=Ecc(True, True, 0, 0, 0, 0, False),
    rows=Rows(0, 0, False, False, 2560, 0, 0, 0, 0),
    repair=Repair(False, False, None),
    clocks=Clocks(1, 0, 0, 0, 0, 0),
    heat=Heat(31, 36, 57),
    power=Power(69.12, 700.0, 700.0),
    links=tuple(Link(number, True, 0, 0, 0) for number in range(18)),
    pcie=Pcie(5, 16, 5, 16, 0),
    fabric=Fabric(3, 0, 0, "", 0, 0),
    inforom=Inforom(True, "G520.0200.00.05"),
    processes=(),
)


def test_a_healthy_hopper_is_told_whole(read: Read) -> None:
    said = read({})
    assert len(said.gpus) == said.driver.gpu_count == 8
    assert said.gpus[3] == HOPPER
    assert (said.driver.state, said.driver.version, said.driver.nvml_version) == ("up", "580.95.05", "13.580.95.05")


GUID = "7a31c24e-0000-4000-8000-00000000beef"
OLD_COUNTERS = {"fields_end": 161, "gpu.0.nvlink.2.crc_flit": 3, "gpu.0.nvlink.2.crc_data": 4}
NVLINK5 = Link(4, True, recovery_failed=2, recovery_ok=0, effective_ber=0xFFF, symbol_ber=0xFFF)


@pytest.mark.parametrize(
    ("instance_type", "driver", "changed", "part", "value"),
    [
        ("p4d.24xlarge", "535", {}, "repair", None),
        ("p4d.24xlarge", "535", {}, "fabric", None),
        ("p4d.24xlarge", "535", {"gpu.*.recovery_action": 1}, "recovery_action", None),
        ("p4d.24xlarge", "535", {}, "clocks", Clocks(1, 0, 0)),
        ("p4d.24xlarge", "535", {}, "heat", Heat(31, 36, None, 89, 92, 95, 85)),
        ("p4d.24xlarge", "535", {}, "links", tuple(Link(number, True, 0, 0, 0) for number in range(12))),
        ("p4d.24xlarge", "535", OLD_COUNTERS, "links[2]", Link(2, True, 7, 0, 0)),
        # 575 gave these numbers to power smoothing.
        ("p5.48xlarge", "580", {"driver": "575.57.08", "gpu.*.clocks.hw_brake_ns": 7}, "clocks", Clocks(1, 0, 0)),
        ("p5.48xlarge", "580", {"driver": "580.65.06", "gpu.*.clocks.hw_brake_ns": 7}, "clocks", Clocks(1, 0, 0, 0, 0, 7)),
        ("p5.48xlarge", "535", {"gpu.*.fabric.state": 2}, "fabric", Fabric(2, 0, 0)),
        ("p5.48xlarge", "550", {"gpu.*.fabric.health_mask": 0x55}, "fabric", Fabric(3, 0, 0, "", 0x55)),
        ("p6-b200.48xlarge", "615", {"gpu.0.nvlink.4.recovery_failed": 2}, "links[4]", NVLINK5),
        ("p6-b200.48xlarge", "615", {}, "repair", Repair(False, False, False)),
        ("g5.12xlarge", "550", {}, "links", None),
        ("g5.12xlarge", "550", {}, "fabric", None),
        ("g5.12xlarge", "550", {}, "mig", None),
        ("g5.12xlarge", "550", {}, "pcie", Pcie(1, 8, 4, 16, 0)),
    ],
)  # fmt: skip
def test_other_gpus_and_drivers(
    read: Read, instance_type: str, driver: str, changed: Mapping[str, str | int], part: str, value: Any
) -> None:
    gpu = read(changed, instance_type, driver).gpus[0]
    assert part_of(gpu, part) == value
    assert gpu.errors == {}


@pytest.mark.parametrize(
    ("changed", "part", "value"),
    [
        ({"persistence": 0}, "persistence", False),
        ({"mig.current": 0, "mig.pending": 1}, "mig_pending", True),
        ({"gsp.enabled": 0}, "gsp", False),
        ({"recovery_action": 7}, "recovery_action", 7),
        ({"memory.used": 4 * MIB}, "memory_used_bytes", 4 * MIB),
        ({"ecc.volatile.corrected": 1, "ecc.volatile.uncorrected": 2}, "ecc", Ecc(True, True, 1, 2, 0, 0, False)),
        ({"ecc.aggregate.corrected": 3, "ecc.aggregate.uncorrected": 1 << 40}, "ecc", Ecc(True, True, 0, 0, 3, 1 << 40, False)),
        ({"ecc.enabled": 0, "sram.threshold": 1}, "ecc", Ecc(False, True, 0, 0, 0, 0, True)),
        ({"remap.pending": 1, "remap.corrected": 3}, "rows", Rows(3, 0, True, False, 2560, 0, 0, 0, 0)),
        ({"remap.failed": 1, "remap.uncorrected": 8, "remap.banks_none": 1}, "rows", Rows(0, 8, False, True, 2560, 0, 0, 0, 1)),
        ({"retired.corrected": 2, "retired.uncorrected": 1, "retired.pending": 1}, "pages", Pages(2, 1, True)),
        ({"repair.channel_pending": 1}, "repair", Repair(True, False, None)),
        ({"clocks.reasons": 0x88, "clocks.hw_brake_ns": 1 << 40}, "clocks", Clocks(0x88, 0, 0, 0, 0, 1 << 40)),
        ({"temperature": 93, "margin": -4, "temperature_memory": 98}, "heat", Heat(93, 98, -4)),
        ({"power_mw": 712345}, "power", Power(712.345, 700.0, 700.0)),
        ({"nvlink.5.state": 0}, "links[5]", Link(5, False)),
        ({"nvlink.5.replay": 7, "nvlink.5.recovery": 1, "nvlink.5.crc_flit": 9}, "links[5]", Link(5, True, 9, 7, 1)),
        ({"pcie.width": 8, "pcie.replays": 17}, "pcie", Pcie(5, 8, 5, 16, 17)),
        ({"fabric.status": 999, "fabric.summary": 2}, "fabric", Fabric(3, 999, 0, "", 0, 2)),
        ({"fabric.cluster": GUID}, "fabric", Fabric(3, 0, 0, GUID, 0, 0)),
        ({"inforom.valid": 0}, "inforom", Inforom(False, "G520.0200.00.05")),
    ],
)  # fmt: skip
def test_what_the_driver_says_is_told(read: Read, changed: Mapping[str, str | int], part: str, value: Any) -> None:
    said = read({f"gpu.3.{key}": told for key, told in changed.items()})
    assert part_of(said.gpus[3], part) == value
    assert said.gpus[3].errors == {}
    assert said.gpus[2] == HOPPER._replace(number=2, pci="0000:75:00", uuid=f"{UUID}2", serial="1650124014242")


@pytest.mark.parametrize(
    ("value", "part", "left"),
    [
        ("persistence", "persistence", None),
        ("mig.current", "mig", None),
        ("gsp.enabled", "gsp", None),
        ("recovery_action", "recovery_action", None),
        ("memory.total", "memory_used_bytes", None),
        ("ecc.volatile.uncorrected", "ecc", Ecc(True, True, 0, None, 0, 0, False)),
        ("remap.corrected", "rows", None),
        ("retired.pending", "pages", None),
        ("clocks.reasons", "clocks", Clocks(None, 0, 0, 0, 0, 0)),
        ("temperature", "heat", Heat(memory_c=36)),
        ("power_limit_mw", "power", Power(69.12, None, 700.0)),
        ("nvlink.count", "links", None),
        ("pcie.width", "pcie", Pcie(5, None, 5, 16, 0)),
        ("fabric.state", "fabric", None),
        ("inforom.valid", "inforom", Inforom(None, "G520.0200.00.05")),
        ("processes", "processes", None),
    ],
)
def test_what_cannot_be_read_is_none_and_says_why(read: Read, value: str, part: str, left: Any) -> None:
    refused = read({f"gpu.3.{value}.code": 999}).gpus[3]
    assert refused.code == 0
    assert part_of(refused, part) == left
    assert list(refused.errors) == [part]
    assert "(999)" in refused.errors[part] or "NVML error 999" in refused.errors[part]


@pytest.mark.parametrize("code", [3, 21])
def test_what_is_not_supported_is_none_and_no_error(read: Read, code: int) -> None:
    parts = (
        "ecc.enabled",
        "remap.corrected",
        "fabric.state",
        "nvlink.count",
        "margin",
        "processes",
        "memory.total",
        "pcie.width",
    )
    gpu = read({f"gpu.3.{value}.code": code for value in parts}).gpus[3]
    assert gpu.errors == {}
    assert (gpu.rows, gpu.fabric, gpu.processes, gpu.memory_used_bytes) == (None, None, None, None)
    assert gpu.heat == Heat(31, 36, None)


def test_one_link_that_cannot_be_read_hides_no_other(read: Read) -> None:
    gpu = read({"gpu.3.nvlink.5.state.code": 999, "gpu.3.nvlink.6.state": 0}).gpus[3]
    assert gpu.links is not None
    assert [gpu.links[number].up for number in (4, 5, 6, 7)] == [True, None, False, True]
    assert "nvmlDeviceGetNvLinkState" in gpu.errors["links"]


@pytest.mark.parametrize("code", [15, 16, 17, 999])
def test_a_gpu_that_does_not_answer_says_so_and_no_more(read: Read, code: int) -> None:
    said = read({"gpu.3.code": code, **{f"gpu.3.{name}.code": 0 for name in ("pci", "uuid")}})
    told = said.gpus[3]
    assert (told.number, told.pci, told.uuid, told.code) == (3, "0000:86:00", f"{UUID}3", code)
    assert f"({code})" in told.text
    assert told == Gpu(3, "0000:86:00", f"{UUID}3", code=code, text=told.text)
    assert said.gpus[4].code == 0


@pytest.mark.parametrize("code", [15, 4, 999])
def test_a_gpu_whose_handle_is_refused_is_listed(read: Read, code: int) -> None:
    said = read({"gpu.3.handle_code": code})
    assert said.gpus[3]._replace(text="") == Gpu(3, "", code=code)
    assert said.gpus[3].text.startswith("nvmlDeviceGetHandleByIndex: ")
    assert len(said.gpus) == 8


def test_a_gpu_that_needs_a_reset_still_says_what_would_cure_it(read: Read) -> None:
    told = read({"gpu.3.temperature.code": 16, "gpu.3.recovery_action": 2}).gpus[3]
    assert (told.code, told.recovery_action) == (16, 2)


def test_a_dead_sensor_is_no_dead_gpu(read: Read) -> None:
    told = read({"gpu.3.temperature.code": 999}).gpus[3]
    assert (told.code, told.rows) == (0, HOPPER.rows)


# -- processes and the fabric manager ---------------------------------------------------------------------------------


def process(root: Path, pid: int, name: str, state: str = "S", cgroup: str = "0::/\n") -> None:
    """Put a process into /proc; it began 100 s after boot."""
    folder = root / "proc" / str(pid)
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} ({name}) {state} 7 {pid} {pid} 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 1 0 10000 1 1 1\n")
    (folder / "comm").write_text(f"{name[:15]}\n")
    (folder / "cgroup").write_text(cgroup)


def test_processes_are_told_with_what_proc_shows(tmp_path: Path, library: Libraries) -> None:
    node = Node(tmp_path, library)
    node.state.set("gpu.3.processes", "4711:1073741824 4712:-")
    process(node.root, 4711, "train) 3 (x", "D", "0::/system.slice/slurmstepd.scope/job_42/step_0/user/task_0\n")
    with node.probe() as probe:
        found = probe.next(GpuReadings).gpus[3].processes
    assert found is not None
    seen, unseen = found
    assert seen._replace(age_s=0.0) == GpuProcess(4711, 1 << 30, "train) 3 (x", "D", 7, 0.0, "slurm job 42")
    assert seen.age_s > 0 or Path("/proc/uptime").read_text() < "100"
    assert unseen == GpuProcess(4712)


POD = "0a1b2c3d-1111-2222-3333-444455556666"
SLICE = POD.replace("-", "_")


@pytest.mark.parametrize(
    ("cgroup", "job"),
    [
        ("0::/system.slice/slurmstepd.scope/job_42/step_0/user/task_0\n", "slurm job 42"),
        ("0::/system.slice/node7_slurmstepd.scope/job_42/step_batch\n", "slurm job 42"),
        ("12:memory:/slurm/uid_1000/job_1234567/step_extern/task_0\n11:pids:/\n", "slurm job 1234567"),
        ("5:devices:/slurm/uid_1000/job_8\n", "slurm job 8"),
        (f"0::/kubepods/burstable/pod{POD}/9f86d081884c7d65\n", f"pod {POD}"),
        (f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE}.slice/cri-9f86.scope\n", f"pod {POD}"),
        (f"11:cpu:/kubepods.slice/kubepods-pod{SLICE}.slice/crio-9f86.scope\n", f"pod {POD}"),
        ("0::/kubepods/besteffort/pod0a1b2c3d11112222333344445555666f/9f86\n", "pod 0a1b2c3d11112222333344445555666f"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", ""),
        ("0::/system.slice/job_runner.service\n", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_the_job_is_named_by_the_control_group(cgroup: str, job: str) -> None:
    assert job_of(cgroup) == job


@pytest.mark.parametrize(
    ("installed", "running", "told"),
    [
        (None, False, FabricManager(running=False, installed=None)),
        (False, False, FabricManager(running=False, installed=False)),
        (True, False, FabricManager(running=False, installed=True)),
        (True, True, FabricManager(running=True, installed=True)),
        (None, True, FabricManager(running=True, installed=True)),
    ],
)
def test_the_fabric_manager_is_found(
    tmp_path: Path, library: Libraries, installed: bool | None, running: bool, told: FabricManager
) -> None:
    node = Node(tmp_path, library)
    if installed is not None:
        (node.root / "usr/bin").mkdir(parents=True)
    if installed:
        (node.root / "usr/bin/nv-fabricmanager").touch()
    process(node.root, 300, "nv-fabricmanager" if running else "nv-hostengine")
    with node.probe() as probe:
        assert probe.next(GpuReadings).fabric_manager == told


@pytest.mark.parametrize(
    ("bus_id", "address"),
    [("00000000:9B:00.0", "0000:9b:00"), ("00000008:01:00.0", "0008:01:00"), ("00010000:C1:00.0", "10000:c1:00")],
)
def test_addresses_are_written_as_everywhere(bus_id: str, address: str) -> None:
    assert pci_address(bus_id) == address


def part_of(gpu: Gpu, part: str) -> Any:
    """Return a part of a GPU; `links[5]` is one of its links."""
    name, _, number = part.rstrip("]").partition("[")
    value = getattr(gpu, name)
    return value[int(number)] if number else value
