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
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

NEEDS = ("root", "losetup", "mkfs.ext4", "fsfreeze")
NEEDS_FUSE = pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="not possible here: no /dev/fuse in this kernel")
MNT_DETACH = 2
SIZE = 16 * 1_048_576
ENV = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


class Frozen:
    """A frozen file system at `place`: `writer` is a command that gets stuck on it, until `thaw`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.writer = ("dd", "if=/dev/zero", f"of={place}/stuck", "bs=4k", "count=1")
        self._frozen = False

    def freeze(self) -> None:
        """Stop all writing to the file system."""
        _run("fsfreeze", "--freeze", str(self.place))
        self._frozen = True

    def thaw(self) -> None:
        """Let all who wait go on."""
        if self._frozen:
            self._frozen = False
            _run("fsfreeze", "--unfreeze", str(self.place))


GUARD = 'read -r _ && exit; fsfreeze --unfreeze "$1"; umount --lazy "$1"; losetup --detach "$2"'


@contextlib.contextmanager
def _guarded(place: Path, device: str) -> Iterator[None]:
    """Have somebody else thaw and clean up should this process be killed: what is frozen outlives everybody."""
    argv = ["sh", "-c", GUARD, "guard", str(place), device]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENV, start_new_session=True) as guard:
        try:
            yield
        finally:
            assert guard.stdin is not None
            guard.stdin.write(b"done\n")


@contextlib.contextmanager
def frozen(folder: Path) -> Iterator[Frozen]:
    """Yield a file system below `folder` that is frozen; thaw, unmount and detach it at the end, whatever happened."""
    image, place = folder / "image", folder / "mounted"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(SIZE)
    _run("mkfs.ext4", "-q", "-O", "^has_journal", str(image))
    device = _run("losetup", "--find", "--show", str(image)).strip()
    try:
        _run("mount", device, str(place))
        try:
            system = Frozen(place)
            with _guarded(place, device):
                system.freeze()
                try:
                    yield system
                finally:
                    system.thaw()
        finally:
            _unmount(place)
    finally:
        _run("losetup", "--detach", device)


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


def _unmount(place: Path) -> None:
    """Unmount; who was just thawed may need a moment to close its file."""
    for _ in range(100):
        if subprocess.run(["umount", str(place)], env=ENV, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.05)
    _run("umount", "--lazy", str(place))


def _run(*argv: str) -> str:
    done = subprocess.run(argv, env=ENV, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr or done.returncode}"
    return done.stdout
