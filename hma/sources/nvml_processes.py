"""What /proc tells of the processes on the GPUs, of their jobs, and of the fabric manager.

Rules of this file:
- Only files that answer at once: `stat`, `comm` and `cgroup`. Never `cmdline`, which waits with a process that is stuck.
- A process that cannot be seen from here (another PID namespace, or ended) keeps its number and nothing else.
- It is a part of the NVML probe, whose memory is paid on every node: no import of what the agent has for the same files.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from hma.gpu import FabricManager, GpuProcess

TICKS = os.sysconf("SC_CLK_TCK")
FABRIC_MANAGER = b"nv-fabricmanage"
"""The first 15 bytes of its name, which is all that the kernel keeps."""
FABRIC_MANAGER_FILES = ("usr/bin/nv-fabricmanager", "usr/sbin/nv-fabricmanager")
NVSWITCH_FILES = ("proc/driver/nvidia-nvswitch", "dev/nvidia-nvswitchctl")

_SLURM = re.compile(r"/job_(\d+)(?:/|$)", re.MULTILINE)
_POD = re.compile(
    r"pod([0-9a-f]{8}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{12})(?:\.slice)?(?:/|$)", re.MULTILINE
)


def process(root: Path, pid: int, used_bytes: int | None, now: float) -> GpuProcess:
    """Return what is to be seen of a process; `now` is in boottime seconds."""
    folder = root / "proc" / str(pid)
    try:
        raw = (folder / "stat").read_bytes()
    except OSError:
        return GpuProcess(pid, used_bytes)
    # The name stands in parentheses and may hold anything: it ends at the last one.
    name, _, tail = raw.partition(b" (")[2].rpartition(b") ")
    fields = tail.split(None, 20)
    try:
        age_s = max(0.0, now - int(fields[19]) / TICKS)
        parent, state = int(fields[1]), fields[0].decode("ascii", "replace")
    except (ValueError, IndexError):
        return GpuProcess(pid, used_bytes)
    return GpuProcess(pid, used_bytes, name.decode("utf-8", "replace"), state, parent, round(age_s, 1), _job(folder))


def _job(folder: Path) -> str:
    try:
        return job_of((folder / "cgroup").read_text("utf-8", "replace"))
    except OSError:
        return ""


def job_of(cgroup: str) -> str:
    """Return `slurm job 42` or `pod <uid>` for the text of /proc/<pid>/cgroup (v1 or v2), "" where it names neither.

    Slurm's paths end in job_<id>/step_<id> under both versions; the kubelet writes the uid with dashes (cgroupfs) or with
    underscores (systemd), and without either for static pods.
    """
    if found := _SLURM.search(cgroup):
        return f"slurm job {found[1]}"
    if found := _POD.search(cgroup):
        return f"pod {found[1].replace('_', '-')}"
    return ""


class FabricManagerWatch:
    """Finds the fabric manager. It reads the whole process table only where one is to be expected and the last one is gone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pid = ""

    def find_fabric_manager(self) -> FabricManager:
        """Return whether it runs, and whether it is installed."""
        if self._pid and self._is_it(self._pid):
            return FabricManager(running=True, installed=True)
        installed = self._installed()
        self._pid = self._search() if installed is not False or self._any(NVSWITCH_FILES) else ""
        return FabricManager(running=bool(self._pid), installed=True if self._pid else installed)

    def _installed(self) -> bool | None:
        if not self._any(("usr/bin", "usr/sbin")):
            return None
        return self._any(FABRIC_MANAGER_FILES)

    def _any(self, paths: tuple[str, ...]) -> bool:
        return any((self._root / path).exists() for path in paths)

    def _search(self) -> str:
        try:
            with os.scandir(self._root / "proc") as entries:
                return next((entry.name for entry in entries if entry.name.isdecimal() and self._is_it(entry.name)), "")
        except OSError:
            return ""

    def _is_it(self, pid: str) -> bool:
        try:
            with open(f"{self._root}/proc/{pid}/comm", "rb") as file:
                return file.read(16).rstrip(b"\n") == FABRIC_MANAGER
        except OSError:
            return False
