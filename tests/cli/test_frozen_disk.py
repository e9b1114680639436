"""The frozen disk is real, and is gone however its maker ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hma.cli.frozen_disk import frozen_disk, thaw, why_not
from tests.agent_run import until
from tests.sources.stuck import NEEDS, state


def writer(place: Path) -> subprocess.Popen[bytes]:
    """Start one who writes to a file system, and sleeps where it is frozen."""
    return subprocess.Popen(["sh", "-c", f"echo x >{place}/file"])


def mounted(place: Path) -> bool:
    return f" {place} " in Path("/proc/self/mounts").read_text()


@pytest.mark.needs(*NEEDS)
def test_writer_sleeps_uninterruptibly_until_it_is_thawed(tmp_path: Path) -> None:
    assert why_not() == ""
    with frozen_disk(tmp_path) as place, writer(place) as stuck:
        until(lambda: state(stuck.pid) == "D", "state D")
        stuck.kill()
        assert state(stuck.pid) == "D"
        thaw(place)
        assert stuck.wait(10) == -signal.SIGKILL
    assert not mounted(place)


@pytest.mark.needs(*NEEDS)
def test_it_is_thawed_and_unmounted_when_its_maker_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from hma.cli.frozen_disk import frozen_disk\n"
        "with frozen_disk(Path(sys.argv[1])) as place: print(place, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        place = Path(maker.stdout.readline().strip())
        assert mounted(place)
        with writer(place) as stuck:
            until(lambda: state(stuck.pid) == "D", "state D")
            os.kill(maker.pid, signal.SIGKILL)
            stuck.wait(20)
    until(lambda: not mounted(place), "the unmounting")
