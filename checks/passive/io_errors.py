"""Disks that fail requests and file systems that give up on theirs, as the kernel log tells it.

Rules of this file:
- A failed request counts by the kernel's word for why it failed: `operation not supported` or `nonblocking retry` are answers
  of a healthy disk (a loop device without discard prints the first).
- `FS-SHUTDOWN` is said when a file system stops taking writes. ext4 stopped saying so in 6.15, and XFS goes on being mounted as
  if nothing were: the error before it (`FS-ERROR`) may be all there is. Whether one *is* read-only now tells `mounts`.
- The component is the device as the kernel names it, since these lines know no mount point.
- Formats: block/blk-core.c and blk-mq.c, fs/buffer.c, fs/ext4/super.c, fs/jbd2/journal.c, fs/xfs/xfs_fsops.c and xfs_error.c,
  fs/btrfs/super.c and messages.c, drivers/nvme/host/pci.c of Linux 5.10, 6.1, 6.12; captured lines in tests/data/kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hma.check import Check, KernelLine, KernelLog, Lines, NoOptions
from hma.model import Attrs, NodeFacts, Observation, Status

IO = "IO-ERROR"
NVME_TIMEOUT = "NVME-TIMEOUT"
NVME_DOWN = "NVME-DOWN"
FS_ERROR = "FS-ERROR"
FS_SHUTDOWN = "FS-SHUTDOWN"

_DEV = r"(?P<dev>[A-Za-z0-9_.!/-]{1,64}?)"
_REQUEST = re.compile(
    r"(?:blk_update_request: |print_req_error: )?(?P<what>I/O|timeout|protection|recoverable transport|device offline"
    rf"|critical (?:medium|target|space allocation|nexus)) error, dev {_DEV}, sector (?P<sector>\d{{1,20}})(?: .{{1,300}})?"
)
_BUFFER = re.compile(rf"Buffer I/O error on dev(?:ice)? {_DEV}, logical block (?P<sector>\d{{1,20}})(?P<what>,.{{1,100}})?")
_REMOVABLE = re.compile(r"fd\d+|sr\d+")

_NVME = re.compile(r"nvme (?P<dev>nvme\d{1,5}): (?P<what>.{1,300})")
_NVME_LATE = re.compile(r"I/O (?:tag )?\d{1,6} .{0,100}QID \d{1,5} timeout, .{1,200}")
_NVME_GONE = re.compile(
    r"controller is down; will reset: .{1,200}|Removing after probe failure status: .{1,40}"
    r"|Disabling device after reset failure: .{1,40}"
    r"|Device not ready; aborting (?:reset|initialisation).{0,100}"
)

_EXT4 = re.compile(rf"EXT4-fs error \(device {_DEV}\)(?::| in) (?P<what>.{{1,1000}})")
_EXT4_LOSS = re.compile(
    rf"EXT4-fs \({_DEV}\): (?P<what>failed to convert unwritten extents .{{1,200}}|previous I/O error to superblock detected)"
)
_EXT4_STOPS = re.compile(rf"EXT4-fs \({_DEV}\): (?P<what>Remounting filesystem read-only)")
_JOURNAL_STOPS = re.compile(rf"(?P<what>Aborting journal) on device {_DEV}(?:-\d{{1,10}})?\.")
_XFS = re.compile(
    rf"XFS \({_DEV}\): (?P<what>(?i:metadata I/O error|metadata corruption detected|metadata CRC error|log I/O error)"
    r" ?.{0,600})"
)
_XFS_STOPS = re.compile(
    rf"XFS \({_DEV}\): (?!User initiated)(?P<what>.{{1,600}}Shutting down filesystem\.?"
    r"|Filesystem has been shut down due to log error.{0,40})"
)
_BTRFS = re.compile(
    rf"BTRFS(?:: error| critical| error) \(device {_DEV}(?: state [A-Z]{{1,10}})?\)(?: in|:) (?P<what>(?<= in ).{{1,600}}"
    r"|Transaction aborted.{0,100}|bdev .{1,400} errs: .{1,200}|corrupt .{1,600})"
)
_BTRFS_STOPS = re.compile(rf"BTRFS info \(device {_DEV}(?: state [A-Z]{{1,10}})?\): (?P<what>forced readonly)")

_FILE_SYSTEM = (
    (_EXT4_STOPS, FS_SHUTDOWN, Status.FAILED),
    (_JOURNAL_STOPS, FS_SHUTDOWN, Status.FAILED),
    (_XFS_STOPS, FS_SHUTDOWN, Status.FAILED),
    (_BTRFS_STOPS, FS_SHUTDOWN, Status.FAILED),
    (_EXT4, FS_ERROR, Status.DEGRADED),
    (_EXT4_LOSS, FS_ERROR, Status.DEGRADED),
    (_XFS, FS_ERROR, Status.DEGRADED),
    (_BTRFS, FS_ERROR, Status.DEGRADED),
)


def observe(sample: Lines, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return one observation for each failed request and each complaint of a file system."""
    for line in sample.lines:
        observation = _read(line)
        if observation is not None:
            yield observation


def _read(line: KernelLine) -> Observation | None:
    text = line.text.rstrip()
    if found := _REQUEST.fullmatch(text) or _BUFFER.fullmatch(text):
        if _REMOVABLE.fullmatch(found["dev"]):
            return None
        detail = f"{found['dev']} failed a request at {found['sector']}" + (
            f" ({found['what'].strip(', ')})" if found["what"] else ""
        )
        return _seen(line, IO, found["dev"], Status.DEGRADED, detail, (("sector", found["sector"]),))
    if found := _NVME.fullmatch(text):
        return _nvme(line, found)
    for pattern, code, status in _FILE_SYSTEM:
        if found := pattern.fullmatch(text):
            kind = text.partition(" ")[0].partition("-")[0].rstrip(":").lower()
            stops = ": the file system stops taking writes" if code == FS_SHUTDOWN else ""
            detail = f"{found['what']}{stops}"
            return _seen(line, code, found["dev"], status, detail, (("fs", kind if kind != "aborting" else "journal"),))
    return None


def _nvme(line: KernelLine, found: re.Match[str]) -> Observation | None:
    if _NVME_LATE.fullmatch(found["what"]):
        return _seen(line, NVME_TIMEOUT, found["dev"], Status.DEGRADED, found["what"], ())
    if _NVME_GONE.fullmatch(found["what"]):
        return _seen(line, NVME_DOWN, found["dev"], Status.FAILED, found["what"], ())
    return None


def _seen(line: KernelLine, code: str, device: str, status: Status, detail: str, attrs: Attrs) -> Observation:
    return Observation(code, f"disk:{device}", status, detail[:300], line.text, line.at, attrs=attrs)


CHECK = Check(
    name="io_errors",
    title="Failed disk requests and file system errors in the kernel log",
    source=KernelLog(
        rb" error, dev |Buffer I/O error|nvme nvme\d+: |EXT4-fs (?:error )?\(|Aborting journal|XFS \("
        rb"|BTRFS(?:: error| critical| error| info) \(device"
    ),
    observe=observe,
    codes=frozenset({IO, NVME_TIMEOUT, NVME_DOWN, FS_ERROR, FS_SHUTDOWN}),
)
