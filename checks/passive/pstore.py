"""Crashes kept in pstore: what the kernel wrote down of a panic, for the boot after it.

Rules of this file:
- A record begins with the kernel's own word: `Panic#2 Part1`, then log lines `<0>[   89.812494] Kernel panic - ...`. One crash
  has many parts; Part1 holds the end of the log, and so the reason.
- A panic in pstore is one of an earlier boot. An oops may be of this one: see `oops`.
- Records stay until someone removes them. Where systemd-pstore runs they are moved to /var/lib/systemd/pstore at boot, before
  the agent looks: that place is a disk, not a kernel file system, and is not read here.
- A record that is compressed in a way the kernel could not undo (`.enc.z`) tells only that it exists.
- Format: fs/pstore/platform.c and inode.c of Linux 5.10, 6.1, 6.12; captured records in tests/data/pstore.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from hma.check import Check, Files, NoOptions, Tree
from hma.model import NodeFacts, Observation, Status

PANIC = "PSTORE-PANIC"
OOPS = "PSTORE-OOPS"

_HEADER = re.compile(r"(?P<why>Panic|Oops)#(?P<number>\d{1,6}) Part(?P<part>\d{1,6})\n")
_REASON = re.compile(r"<\d+>\[ *\d+\.\d+\](?:\[[^\]]{1,20}\])? (Kernel panic - not syncing: .{1,400})")
_CRASH = re.compile(
    r"<\d+>\[ *\d+\.\d+\](?:\[[^\]]{1,20}\])? ((?:BUG: |kernel BUG at |Oops: |Unable to handle kernel ).{1,400}"
    r"|Internal error: .{1,400}|.{1,200} \[#\d{1,6}\].{0,100})"
)


class _Record(NamedTuple):
    path: str
    why: str
    number: int
    part: int
    text: str


def observe(sample: Tree, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Tell the last panic and the last oops that pstore holds."""
    records = [record for path, text in sorted(sample.files.items()) if (record := _parse(path, text))]
    unread = [*sample.errors, *(path for path in sample.files if path.endswith(".enc.z"))]
    for code, why, pattern in ((PANIC, "Panic", _REASON), (OOPS, "Oops", _CRASH)):
        own = [record for record in records if record.why == why]
        if own:
            yield _crash(code, own, pattern)
        elif unread:
            yield Observation(code, "host", Status.UNKNOWN, f"{len(unread)} records cannot be read: {unread[0]}")
        else:
            yield Observation(code, "host", Status.OK)


def _parse(path: str, text: str) -> _Record | None:
    found = _HEADER.match(text)
    if found is None:
        return None
    return _Record(path, found["why"], int(found["number"]), int(found["part"]), text)


def _crash(code: str, records: list[_Record], pattern: re.Pattern[str]) -> Observation:
    last = max(records, key=lambda record: (record.number, -record.part))
    reasons = [found[1] for line in last.text.splitlines() if (found := pattern.match(line))]
    reason = reasons[-1] if reasons else "the reason is not in this record"
    attrs = (("record", last.path), ("records", str(len(records))))
    detail = f"{last.why.lower()} kept in pstore: {reason}"
    return Observation(code, "host", Status.DEGRADED, detail, f"{last.path}: {reason}", attrs=attrs)


CHECK = Check(
    name="pstore",
    title="Crashes of the kernel kept from an earlier boot",
    source=Files(("sys/fs/pstore/dmesg-*",)),
    observe=observe,
    codes=frozenset({PANIC, OOPS}),
    interval_s=3600.0,  # what a crash left there is there from the start
)
