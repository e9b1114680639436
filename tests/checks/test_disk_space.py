"""Output of `df`. Where it is from: tests/data/df/ORIGIN.md."""

import os
import subprocess
from pathlib import Path

import pytest

from checks.passive.disk_space import CHECK, Options
from hma.check import Command, Output
from hma.model import Observation, Status
from tests.checks.kernel_lines import NODE
from tests.sources.stuck import NEEDS_FUSE, silent

DATA = Path(__file__).parents[1] / "data/df"
HEADER = "Filesystem              Type       Inodes    IFree    1B-blocks        Used       Avail Mounted on\n"
GIB = 1024**3


def observe(stdout: str, *, code: int = 0, stderr: str = "", options: Options = CHECK.options) -> list[Observation]:
    return list(CHECK.observe(Output(code, stdout, stderr), NODE, options))


def row(kind: str = "ext4", point: str = "/var", size: int = 100 * GIB, used: int = 0, free: int = 0, inodes: int = 0) -> str:
    return f"/dev/nvme0n1p1 {kind} 1000 {1000 - inodes} {size} {used} {free} {point}\n"


def bad(stdout: str, options: Options = CHECK.options) -> list[tuple[str, str]]:
    return [(seen.code, seen.component) for seen in observe(stdout, options=options) if seen.status is not Status.OK]


def test_captured_output_is_fine_and_only_the_disk_is_looked_at() -> None:
    seen = observe((DATA / "9.1-debian12.txt").read_text())
    assert {(o.code, o.component, o.status) for o in seen} == {
        ("DISK-FULL", "fs:/", Status.OK),
        ("INODES-FULL", "fs:/", Status.OK),
    }


@pytest.mark.parametrize(
    ("line", "options", "found"),
    [
        (row(used=94 * GIB, free=6 * GIB), Options(), []),
        (row(used=95 * GIB, free=5 * GIB), Options(), [("DISK-FULL", "fs:/var")]),
        (row(used=90 * GIB, free=0), Options(), [("DISK-FULL", "fs:/var")]),  # the rest is kept for root
        (row(used=990 * GIB, free=10 * GIB), Options(), []),
        (row(used=990 * GIB, free=10 * GIB), Options(spare_bytes=0), []),
        (row(used=990 * GIB, free=10 * GIB - 1), Options(), [("DISK-FULL", "fs:/var")]),
        (row(used=60 * GIB, free=5 * GIB), Options(full=0.9), [("DISK-FULL", "fs:/var")]),
        (row(free=99 * GIB, inodes=979), Options(), []),
        (row(free=99 * GIB, inodes=980), Options(), [("INODES-FULL", "fs:/var")]),
        (row(kind="tmpfs", used=GIB), Options(), []),
        (row(kind="squashfs", used=GIB), Options(), []),
        (row(kind="nfs4", used=GIB), Options(), []),
        (row(used=GIB), Options(ignore=("/var", "/boot")), []),
        (row(used=GIB, point="/my data"), Options(), [("DISK-FULL", "fs:/my data")]),
        ("/dev/x btrfs - - 10737418240 10737418240 0 /b\n", Options(), [("DISK-FULL", "fs:/b")]),
        ("/dev/x xfs 0 0 0 0 0 /b\n", Options(), []),
    ],
)
def test_disk_against_the_thresholds(line: str, options: Options, found: list[tuple[str, str]]) -> None:
    assert bad(HEADER + line, options) == found


def test_df_of_busybox_is_unknown_and_says_what_it_said() -> None:
    (seen,) = observe("", code=1, stderr=(DATA / "busybox-1.35.txt").read_text())
    assert seen.status is Status.UNKNOWN
    assert "unrecognized option" in seen.detail


def test_one_dead_mount_is_unknown_and_the_others_are_judged() -> None:
    seen = observe(HEADER + row(used=GIB), code=1, stderr="df: /mnt/fuse: Transport endpoint is not connected\n")
    assert [o.status for o in seen] == [Status.DEGRADED, Status.OK, Status.UNKNOWN]
    assert "Transport endpoint" in seen[-1].detail


@pytest.mark.parametrize("stdout", ["", HEADER, "rubbish\nmore rubbish\n"])
def test_no_list_is_unknown(stdout: str) -> None:
    assert [seen.status for seen in observe(stdout)] == [Status.UNKNOWN]


def test_output_that_was_cut_is_unknown() -> None:
    (seen,) = CHECK.observe(Output(0, HEADER + row(), "", truncated=True), NODE, CHECK.options)
    assert seen.status is Status.UNKNOWN


def test_node_without_such_a_disk_says_nothing() -> None:
    assert observe("", code=1, stderr="df: no file systems processed\n") == []


def run() -> Output:
    """Return what the real df says here."""
    assert isinstance(CHECK.source, Command)
    done = subprocess.run(
        CHECK.source.argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}, timeout=10
    )
    return Output(done.returncode, done.stdout, done.stderr)


@pytest.mark.needs("df")
def test_df_of_this_machine_is_understood() -> None:
    seen = list(CHECK.observe(run(), NODE, CHECK.options))
    assert {o.status for o in seen} <= {Status.OK, Status.DEGRADED}


@NEEDS_FUSE
@pytest.mark.needs("root", "df")
def test_df_is_not_held_up_by_a_file_system_that_never_answers(tmp_path: Path) -> None:
    with silent(tmp_path):
        run()
