"""Disks that do not answer, made for real.

`frozen`: a file system on a loop device that nobody can write to. Who tries sleeps uninterruptibly (state D): nothing ends him,
not even SIGKILL, until the file system is thawed, which happens at the end whatever was done meanwhile.
`silent`: a file system whose server never says a word. Who looks anything up in it sleeps until he is killed; so does whoever
waits for him to execute a program there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hma.cli.frozen_disk import PROGRAMS, freeze, frozen_disk, thaw

NEEDS = ("root", *PROGRAMS)
NEEDS_FUSE = pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="not possible here: no /dev/fuse in this kernel")
MNT_DETACH = 2


class Frozen:
    """A frozen file system at `place`: `writer` is a command that gets stuck on it, until `thaw`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.writer = ("dd", "if=/dev/zero", f"of={place}/stuck", "bs=4k", "count=1")
        self._frozen = True

    def freeze(self) -> None:
        """Stop all writing to the file system again."""
        freeze(self.place)
        self._frozen = True

    def thaw(self) -> None:
        """Let all who wait go on."""
        if self._frozen:
            self._frozen = False
            thaw(self.place)


@contextlib.contextmanager
def frozen(folder: Path) -> Iterator[Frozen]:
    """Yield a file system below `folder` that is frozen, and is gone at the end, whatever happened."""
    with frozen_disk(folder) as place:
        yield Frozen(place)


_SERVE = """
import ctypes, os, sys
fd = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
libc = ctypes.CDLL(None, use_errno=True)
failed = libc.mount(b"silent", os.fsencode(sys.argv[1]), b"fuse", 0, options)
print(os.strerror(ctypes.get_errno()) if failed else "mounted", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def silent(folder: Path) -> Iterator[Path]:
    """Yield the place of a file system below `folder` that answers nothing; abort it at the end, which frees who waits.

    Its server is a process of its own: a child of ours would inherit the server's descriptor, wait for the file system with it,
    and so keep alive what it waits for.
    """
    place = folder / "silent"
    place.mkdir()
    argv = [sys.executable, "-c", _SERVE, str(place)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            told = server.stdout.readline().strip()
            assert told == "mounted", told
            yield place
        finally:
            server.kill()
            server.wait()
            ctypes.CDLL(None).umount2(os.fsencode(place), MNT_DETACH)


def state(pid: int) -> str:
    """Return the state letter of a process, nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return ""
