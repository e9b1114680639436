"""Disks that cannot be written, made for real: full ones and read-only ones. Frozen ones are in `tests.sources.stuck`."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

NEEDS = ("root", "mount", "umount")


@contextlib.contextmanager
def memory_disk(place: Path, size: str = "1m") -> Iterator[Path]:
    """Yield `place` as a file system of its own."""
    place.mkdir()
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Fill a disk but for about `leave` bytes; return the file that does it."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > leave:
            file.write(b"\0" * 4096)
    return filler
