"""A disk that does not answer, made for real: a file system on a loop device, frozen. Whoever writes to it sleeps in state D.

Rules of this file:
- Nothing ends such a sleeper, not even SIGKILL, until the file system is thawed. That happens however its maker ends: a shell
  beside it waits for the maker's end of a pipe to close, then thaws, unmounts and detaches.
- Only for a folder of our own: no mount, device or file of the machine is touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("losetup", "mkfs.ext4", "mount", "umount", "fsfreeze")
SIZE = 16 * 1_048_576
ENVIRON = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
_CLEAN_UP = """
trap '' INT TERM HUP
cat >/dev/null
fsfreeze --unfreeze "$1" 2>/dev/null
n=0
until umount "$1" 2>/dev/null || [ $n = 50 ]; do n=$((n + 1)); sleep 0.1; done
mountpoint -q "$1" && umount --lazy "$1"
losetup --detach "$2"
"""


def why_not() -> str:
    """Return why this machine cannot have one, or nothing."""
    if os.geteuid() != 0:
        return "only root may mount one"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=ENVIRON["PATH"]) is None]
    if lacking:
        return f"{', '.join(lacking)} not found"
    return "" if Path("/dev/loop-control").exists() else "no loop devices here"


@contextlib.contextmanager
def frozen_disk(folder: Path) -> Iterator[Path]:
    """Yield the mounted file system below `folder`, frozen until the end. Raises OSError where it cannot be made."""
    image, place = folder / "image", folder / "frozen"
    place.mkdir(parents=True)
    with open(image, "wb") as file:
        file.truncate(SIZE)
    _run("mkfs.ext4", "-q", "-O", "^has_journal", str(image))
    device = _run("losetup", "--find", "--show", str(image)).strip()
    argv = ["sh", "-c", _CLEAN_UP, "sh", str(place), device]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, env=ENVIRON, start_new_session=True) as cleaner:
        try:
            _run("mount", device, str(place))
            freeze(place)
            yield place
        finally:
            assert cleaner.stdin is not None
            cleaner.stdin.close()
            cleaner.wait()


def freeze(place: Path) -> None:
    """Stop all writing to the file system."""
    _run("fsfreeze", "--freeze", str(place))


def thaw(place: Path) -> None:
    """Let all who wait go on; the end of `frozen_disk` does no harm after it."""
    _run("fsfreeze", "--unfreeze", str(place))


def _run(*argv: str) -> str:
    done = subprocess.run(argv, env=ENVIRON, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
