"""The host checks on whole nodes: a simulated healthy one, and the machine that runs the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.passive import (
    clock_sync,
    edac,
    kernel_limits,
    memory_pressure,
    mounts,
    pstore,
    stuck_process,
    zombies,
)
from hma.check import AnyCheck, Files, Processes
from hma.cli.simulated_node import LAYOUTS, build
from hma.model import Observation, Status
from hma.sources.clock import read_clock
from hma.sources.files import read_files
from hma.sources.processes import read_processes
from tests.checks.kernel_lines import NODE

FILE_CHECKS: tuple[AnyCheck, ...] = tuple(m.CHECK for m in (edac, kernel_limits, memory_pressure, mounts, pstore))
PROCESS_CHECKS: tuple[AnyCheck, ...] = tuple(m.CHECK for m in (stuck_process, zombies))


def look(check: AnyCheck, root: Path) -> list[Observation]:
    if isinstance(check.source, Files):
        return list(check.observe(read_files(check.source, root), NODE, check.options))
    assert isinstance(check.source, Processes)
    return list(check.observe(read_processes(root, 86_461.3), NODE, check.options))


@pytest.mark.parametrize("instance_type", LAYOUTS)
def test_simulated_node_is_fine(tmp_path: Path, instance_type: str) -> None:
    build(tmp_path, instance_type)
    for check in (*FILE_CHECKS, *PROCESS_CHECKS):
        seen = look(check, tmp_path)
        assert {o.status for o in seen} <= {Status.OK}, check.name
        assert seen or check.complete, check.name


def test_fault_written_into_the_simulated_node_is_seen(tmp_path: Path) -> None:
    build(tmp_path, "p5.48xlarge")
    (tmp_path / "sys/devices/system/edac/mc/mc0/ue_count").write_text("1\n")
    (tmp_path / "proc/1/mountinfo").write_text("23 1 259:1 / / rw - ext4 /dev/nvme0n1p1 ro,errors=remount-ro\n")
    (tmp_path / "sys/fs/pstore/dmesg-erst-1").write_text("Panic#1 Part1\n<0>[    1.0] Kernel panic - not syncing: x\n")
    (tmp_path / "proc/pressure/memory").write_text("full avg10=0.00 avg60=75.00 avg300=0.00 total=9\n")
    (tmp_path / "proc/sys/fs/file-nr").write_text("99\t0\t100\n")
    assert {o.code for check in FILE_CHECKS for o in look(check, tmp_path) if o.status is not Status.OK} == {
        "MEMORY-UE",
        "FS-ROOT-READ-ONLY",
        "PSTORE-PANIC",
        "MEMORY-PRESSURE",
        "FILES-FULL",
    }


def test_this_machine_is_judged_without_an_error() -> None:
    root = Path("/")
    for check in (*FILE_CHECKS, *PROCESS_CHECKS):
        for seen in look(check, root):
            assert seen.code in check.codes
    (clock,) = clock_sync.CHECK.observe(read_clock(), NODE, clock_sync.CHECK.options)
    assert clock.status in (Status.OK, Status.DEGRADED)
