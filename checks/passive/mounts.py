"""File systems that the kernel has made read-only, seen in the mount table of the node's first process.

Rules of this file:
- mountinfo shows two sets of options: those of the mount, which people choose, and those of the file system. Who mounts
  read-only sets both. A mount that is `rw` on a file system that is `ro` was not meant so: it gave up after an error.
  ext4 from 6.15 on leaves `rw` and adds `emergency_ro` or `shutdown`.
- An image that is read-only by nature (squashfs, iso9660, erofs) never counts: only the kinds in `kinds` do.
- One device mounted at many places (bind mounts, volumes of pods) is one fault, under its shortest mount point.
- XFS after a shutdown looks healthy here; see FS-SHUTDOWN of `io_errors`.
- Format: Documentation/filesystems/proc.rst; captured lines (ext4 on 6.18, btrfs) in the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hma.check import Check, Files, Tree
from hma.model import NodeFacts, Observation, Status

SOURCE = "proc/1/mountinfo"
READ_ONLY = "FS-READ-ONLY"
ROOT_READ_ONLY = "FS-ROOT-READ-ONLY"

_LINE = re.compile(
    r"\d+ \d+ (?P<device>\d+:\d+) \S+ (?P<point>\S+) (?P<mount>\S+)(?: [a-z_]+:\d+| unbindable)*"
    r" - (?P<kind>\S+) \S* (?P<options>\S+)"
)
_ESCAPE = re.compile(r"\\([0-7]{3})")
_GIVEN_UP = frozenset({"emergency_ro", "shutdown"})


@dataclass(frozen=True, slots=True)
class Options:
    """`kinds`: file systems that are looked at. `ignore`: mount points that are not."""

    kinds: tuple[str, ...] = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs")
    ignore: tuple[str, ...] = ()


class _Mount(NamedTuple):
    device: str
    point: str
    given_up: bool
    line: str


def observe(sample: Tree, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Name each file system that has become read-only, and `/` either way."""
    text = sample.files.get(SOURCE)
    if not text:
        why = sample.errors.get(SOURCE, "is not there")
        yield Observation(ROOT_READ_ONLY, "fs:/", Status.UNKNOWN, f"/{SOURCE}: {why}")
        return
    worst: dict[str, _Mount] = {}
    for mount in _mounts(text, options):
        known = worst.get(mount.device)
        if known is None or (mount.given_up, -len(mount.point)) > (known.given_up, -len(known.point)):
            worst[mount.device] = mount
    for mount in worst.values():
        if mount.given_up:
            code = ROOT_READ_ONLY if mount.point == "/" else READ_ONLY
            detail = f"{mount.point} has become read-only after an error"
            yield Observation(code, f"fs:{mount.point}", Status.FAILED, detail, mount.line, attrs=(("device", mount.device),))
    if not any(mount.given_up and mount.point == "/" for mount in worst.values()):
        yield Observation(ROOT_READ_ONLY, "fs:/", Status.OK)


def _mounts(text: str, options: Options) -> Iterator[_Mount]:
    for line in text.splitlines():
        found = _LINE.fullmatch(line.rstrip())
        if found is None or found["kind"] not in options.kinds:
            continue
        point = _ESCAPE.sub(lambda code: chr(int(code[1], 8)), found["point"])
        if point not in options.ignore:
            yield _Mount(found["device"], point, _given_up(found), line)


def _given_up(found: re.Match[str]) -> bool:
    """Return whether a file system takes no writes though its mount does."""
    whole = frozenset(found["options"].split(","))
    chosen = found["mount"].split(",")[0]
    return bool(whole & _GIVEN_UP) or (chosen == "rw" and "ro" in whole)


CHECK = Check(
    name="mounts",
    title="File systems that became read-only",
    source=Files((SOURCE,), max_bytes=2_097_152),
    observe=observe,
    codes=frozenset({READ_ONLY, ROOT_READ_ONLY}),
    options=Options(),
    complete=True,
)
