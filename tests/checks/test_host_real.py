"""A real fault in a real kernel: ext4 on a loop device whose backing file can grow no more gives up, and both routes say so."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from checks.passive import io_errors, mounts
from hma.check import KernelLine, Lines
from hma.model import Observation, Status
from hma.sources.files import read_files
from tests.checks.kernel_lines import NODE


def run(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


@contextmanager
def failing_disk(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Mount ext4 from a loop device, then let its backing store run out; yield the device's name and the mount point."""
    store, point = tmp_path / "store", tmp_path / "point"
    store.mkdir()
    point.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64m", "hma-test", store)
    try:
        run("truncate", "-s", "96M", store / "image")
        loop = run("losetup", "--find", "--show", store / "image")
        try:
            run("mkfs.ext4", "-q", "-F", loop)
            run("mount", "-o", "errors=remount-ro", loop, point)
            try:
                fill(store / "filler")
                for n in range(4):
                    fill(point / f"file-{n}", most=8 << 20)
                    make_folder(point / f"folder-{n}")
                yield loop.removeprefix("/dev/"), point
            finally:
                run("umount", point)
        finally:
            run("losetup", "--detach", loop)
    finally:
        run("umount", store)


def fill(path: Path, most: int = 1 << 30) -> None:
    """Write until nothing more goes in, and ask for it to be on disk."""
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(0, most, 1 << 20):
                file.write(b"x" * (1 << 20))
            os.fsync(file.fileno())
    except OSError:
        pass  # that is what we came for


def make_folder(path: Path) -> None:
    """Make a folder and write all that this file system still holds back: a journal that cannot be emptied ends it."""
    try:
        path.mkdir()
    except OSError:
        pass  # that, too
    subprocess.run(("sync", "--file-system", path.parent), check=False, capture_output=True, timeout=30)


def kernel_said(fd: int) -> list[Observation]:
    lines: list[KernelLine] = []
    while True:
        try:
            head, _, text = os.read(fd, 8_192).decode("ascii", "replace").partition("\n")[0].partition(";")
        except BlockingIOError:
            return list(io_errors.CHECK.observe(Lines(tuple(lines)), NODE, io_errors.CHECK.options))
        except BrokenPipeError:
            continue  # the ring has overtaken us
        priority, seq, at = head.split(",")[:3]
        if int(priority) < 8:
            lines.append(KernelLine(int(seq), int(at) / 1e6, int(priority), text))


@pytest.mark.needs("root", "kmsg", "losetup", "mkfs.ext4")
def test_file_system_that_gives_up_is_seen_in_the_log_and_in_the_mount_table(tmp_path: Path) -> None:
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.lseek(log, 0, os.SEEK_END)
        with failing_disk(tmp_path) as (device, point):
            tree = read_files(mounts.CHECK.source, Path("/"))  # type: ignore[arg-type]
            if str(point) not in tree.files[mounts.SOURCE]:
                pytest.skip("not possible here: the first process has another mount table")
            table = list(mounts.CHECK.observe(tree, NODE, mounts.CHECK.options))
            said = kernel_said(log)
    finally:
        os.close(log)
    assert ("FS-READ-ONLY", f"fs:{point}") in {(seen.code, seen.component) for seen in table}
    assert ("FS-ROOT-READ-ONLY", "fs:/", Status.OK) in {(seen.code, seen.component, seen.status) for seen in table}
    assert {"IO-ERROR", "FS-ERROR"} <= {seen.code for seen in said if seen.component == f"disk:{device}"}
