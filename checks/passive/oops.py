"""The kernel's own crashes in this boot: oops, BUG, general protection fault, panic.

Rules of this file:
- An oops is told twice: by what went wrong (`BUG: kernel NULL pointer dereference, ...`) and by the header of its dump
  (`Oops: 0002 [#1] PREEMPT SMP NOPTI`). Both within a second in one batch are one observation.
- The header must fit from the first byte to the last, with a cause that the kernel knows: 15 bytes of a process name can spell
  `Oops: 0000 [#1]`, and a control group's name, which ends some lines, can spell the rest.
- `KERNEL-BUG` is what the kernel found wrong with itself and went on from; it is not a crash.
- `watchdog: BUG: soft lockup` belongs to `hung_task`, `traps: ... general protection fault` is a crash of a user's program.
- Formats: arch/x86/kernel/dumpstack.c (from 6.9 on the header begins with `Oops: ` for every cause), arch/x86/mm/fault.c,
  lib/bug.c, kernel/panic.c, arch/arm64/kernel/traps.c and mm/fault.c of Linux 5.10, 6.1, 6.12; captured lines in
  tests/data/kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hma.check import Check, KernelLine, KernelLog, Lines, NoOptions
from hma.model import NodeFacts, Observation, Status

OOPS = "KERNEL-OOPS"
BUG = "KERNEL-BUG"
PANIC = "KERNEL-PANIC"

_WITHIN_S = 1.0
_WHAT = re.compile(
    r"BUG: kernel NULL pointer dereference, address: [0-9a-f]{1,16}"
    r"|BUG: unable to handle (?:page fault for address: |kernel .{1,60} at )[0-9a-f]{1,16}"
    r"|kernel BUG at \S{1,200}!"
    r"|Unable to handle kernel .{1,80} at virtual address [0-9a-f]{1,16}"
)
_HEADER = re.compile(
    r"(?P<what>(?:Internal error: |Oops: )[A-Za-z][A-Za-z0-9 ,#()_-]{1,160}|Oops|invalid opcode|divide error|double fault"
    r"|stack segment|general protection fault[a-z0-9, -]{0,80}|invalid TSS|segment not present|int3|bounds|alignment check"
    r"|control protection|unexpected #NM exception|stack guard page): (?P<error>[0-9a-f]{4,16}) \[#(?P<number>\d{1,6})\]"
    r"(?: [A-Z_]{2,20}){0,8}"
)
_PANIC = re.compile(r"Kernel panic - not syncing: (?P<what>.{1,400})")
_BUG = re.compile(
    r"BUG: (?P<what>Bad page (?:state|map|cache) in process .{1,200}|Bad rss-counter state .{1,200}"
    r"|scheduling while atomic: .{1,100}|(?:KASAN|KFENCE|KCSAN|KMSAN): [a-z][a-z -]{2,60} in [\w.]{1,100}\+0x.{1,200}"
    r"|spinlock [a-z ]{3,60} on CPU#.{1,200}"
    r"|sleeping function called from invalid context at .{1,200}|non-zero pgtables_bytes on freeing mm: .{1,40})"
)


def observe(sample: Lines, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return one observation for each crash, and for each thing the kernel found wrong with itself."""
    lines = sample.lines
    at = 0
    while at < len(lines):
        observation, used = _read(lines[at : at + 2])
        if observation is not None:
            yield observation
        at += used


def _read(lines: tuple[KernelLine, ...]) -> tuple[Observation | None, int]:
    line, text = lines[0], lines[0].text.rstrip()
    if _WHAT.fullmatch(text):
        header = lines[1:] and lines[1].at - line.at <= _WITHIN_S and _HEADER.fullmatch(lines[1].text.rstrip())
        evidence = f"{text}\n{lines[1].text}" if header else line.text
        number = (("oops", header["number"]),) if header else ()
        return Observation(OOPS, "host", Status.FAILED, text, evidence, line.at, attrs=number), 2 if header else 1
    if found := _HEADER.fullmatch(text):
        what = f"{found['what']} ({found['error']})"
        return Observation(OOPS, "host", Status.FAILED, what, line.text, line.at, attrs=(("oops", found["number"]),)), 1
    if found := _PANIC.fullmatch(text):
        return Observation(PANIC, "host", Status.FAILED, f"kernel panic: {found['what']}", line.text, line.at), 1
    if found := _BUG.fullmatch(text):
        return Observation(BUG, "host", Status.DEGRADED, found["what"], line.text, line.at), 1
    return None, 1


CHECK = Check(
    name="oops",
    title="Crashes of the kernel in its log",
    source=KernelLog(rb"BUG: |BUG at |\[#\d|Unable to handle kernel|Kernel panic"),
    observe=observe,
    codes=frozenset({OOPS, BUG, PANIC}),
)
