"""Free space and free inodes of the node's own disks, by `df` of GNU coreutils.

Rules of this file:
- `df` hangs on a mount that is dead. `--local` keeps it off network mounts, but takes FUSE (S3, GCS, sshfs) for local: so the
  kinds of file system are named, and `df` asks no other. A disk that hangs all the same costs this check alone.
- A share says little on a large disk: `full` counts only while less than `spare` bytes are free.
- `df` names a device once, under its shortest mount point, and exits 1 when one mount fails, with the others listed all the
  same: those are judged, and the failed one is unknown.
- The `df` of busybox knows no `--output`; with it the check is blind and says so. Install coreutils.
- Format: df(1) of coreutils 8.32 and 9.1; captured output in tests/data/df.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from hma.check import Check, Command, Output
from hma.model import NodeFacts, Observation, Status

SPACE = "DISK-FULL"
INODES = "INODES-FULL"
KINDS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs")
COLUMNS = "source,fstype,itotal,iavail,size,used,avail,target"
_NOTHING = "no file systems processed"
"""What df says, with exit 1, where no disk is of these kinds: in a container that sees only its own overlay."""


@dataclass(frozen=True, slots=True)
class Options:
    """`full`: share in use from which a disk is full, unless `spare_bytes` are free; `inodes`: the same for inodes.

    `ignore`: mount points that are not looked at.
    """

    full: float = field(default=0.95, metadata={"least": 0.01, "most": 1.0})
    spare_bytes: int = 10 * 1024**3
    inodes: float = field(default=0.98, metadata={"least": 0.01, "most": 1.0})
    ignore: tuple[str, ...] = ()


class _Row(NamedTuple):
    source: str
    kind: str
    inodes: int
    inodes_free: int
    size: int
    used: int
    free: int
    point: str


def observe(sample: Output, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Return for each disk whether it is full, and what `df` could not tell; nothing where the node has no such disk."""
    lines = sample.stdout.splitlines()
    rows = [row for line in lines[1:] if (row := _row(line)) is not None]
    if not rows and _NOTHING in sample.stderr:
        return
    if not rows or sample.truncated:
        said = (sample.stderr or sample.stdout).strip().partition("\n")[0] or "no output"
        yield Observation(SPACE, "host", Status.UNKNOWN, f"df gave no list (exit {sample.returncode}): {said[:200]}")
        return
    for row in rows:
        if row.kind in KINDS and row.point not in options.ignore:
            yield _space(row, options)
            yield _inodes(row, options)
    if sample.returncode != 0:
        said = sample.stderr.strip().partition("\n")[0]
        yield Observation(SPACE, "host", Status.UNKNOWN, f"df (exit {sample.returncode}): {said[:200]}")


def _row(line: str) -> _Row | None:
    words = line.split(None, 7)
    if len(words) < 8 or not words[4].isdecimal():
        return None
    source, kind, *numbers, point = words
    # A file system without a number for something (btrfs has no inodes) shows "-" or 0.
    inodes, inodes_free, size, used, free = (int(word) if word.isdecimal() else 0 for word in numbers)
    return _Row(source, kind, inodes, inodes_free, size, used, free, point)


def _space(row: _Row, options: Options) -> Observation:
    # Blocks kept for root count neither as used nor as free: the share is that of what others may use.
    usable = row.used + row.free
    used = row.used / usable if usable else 0.0
    full = used >= options.full and row.free < options.spare_bytes
    detail = f"{used:.0%} of {_human(row.size)} on {row.source} in use, {_human(row.free)} free"
    return _seen(SPACE, row, Status.DEGRADED if full else Status.OK, detail)


def _inodes(row: _Row, options: Options) -> Observation:
    full = row.inodes > 0 and row.inodes - row.inodes_free >= options.inodes * row.inodes
    detail = f"{row.inodes - row.inodes_free} of {row.inodes} inodes on {row.source} in use"
    return _seen(INODES, row, Status.DEGRADED if full else Status.OK, detail)


def _seen(code: str, row: _Row, status: Status, detail: str) -> Observation:
    evidence = "" if status is Status.OK else " ".join(str(value) for value in row)
    return Observation(code, f"fs:{row.point}", status, detail, evidence, attrs=(("device", row.source),))


def _human(count: int) -> str:
    for unit, length in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} B"


CHECK = Check(
    name="disk_space",
    title="Free space and inodes of the node's disks",
    source=Command(("df", "--local", "--block-size=1", *(f"--type={kind}" for kind in KINDS), f"--output={COLUMNS}")),
    observe=observe,
    codes=frozenset({SPACE, INODES}),
    interval_s=300.0,  # a disk fills in minutes, and each df is a process
    timeout_s=20.0,
    options=Options(),
    needs="a disk of its own, and the program df of GNU coreutils",
    optional=True,
)
