"""Machine checks, memory errors and firmware error records, as the kernel log tells them.

Rules of this file:
- Of a machine check only the line with the status word counts, and only the word decides: bit 61 says uncorrected.
  Uncorrected and raised as an exception (`Machine Check Exception`) is work lost; uncorrected and merely found while polling
  (`Machine Check`) is damage that nobody has used yet: MCE-DEFERRED. AMD's decoder marks that with bit 44 instead.
- Where a decoder (EDAC) has taken over, the `mce:` lines are absent and its own come instead.
- `EDAC MC<n>` names a memory controller and a label from the firmware; the component is the controller, the label its part.
- Formats: arch/x86/kernel/cpu/mce/core.c, drivers/edac/edac_mc.c and mce_amd.c, drivers/firmware/efi/cper.c,
  drivers/acpi/apei/ghes.c and bert.c, mm/memory-failure.c of Linux 5.10, 6.1, 6.12; captured lines in tests/data/kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hma.check import Check, KernelLine, KernelLog, Lines, NoOptions
from hma.model import Attrs, NodeFacts, Observation, Status

UNCORRECTED = "MCE-UNCORRECTED"
DEFERRED = "MCE-DEFERRED"
CORRECTED = "MCE-CORRECTED"
MEMORY_UE = "MEMORY-UE"
MEMORY_CE = "MEMORY-CE"
PAGE_LOST = "MEMORY-PAGE-LOST"
FIRMWARE_FATAL = "FIRMWARE-ERROR-FATAL"
FIRMWARE_RECOVERABLE = "FIRMWARE-ERROR-RECOVERABLE"
FIRMWARE_CORRECTED = "FIRMWARE-ERROR-CORRECTED"

_MCE = re.compile(
    r"(?:mce: )?\[Hardware Error\]: CPU (?P<cpu>\d{1,5}): Machine Check(?P<raised> Exception)?: [0-9a-f]{1,16}"
    r" Bank (?P<bank>\d{1,3}): (?P<status>[0-9a-f]{16})"
)
_AMD = re.compile(
    r"\[Hardware Error\]: CPU:(?P<cpu>\d{1,5}) \([0-9a-f:]{1,12}\) MC(?P<bank>\d{1,3})_STATUS\[[A-Za-z|-]{1,120}\]:"
    r" 0x(?P<status>[0-9a-f]{16})"
)
# A process named `EDAC MC0: 1 UE ` that crashes in a file `x on y (page:0x1 ` prints most of this: hence the narrow message.
_EDAC = re.compile(
    r"EDAC MC(?P<mc>\d{1,4}): (?P<count>\d{1,10}) (?P<kind>[CU]E) (?P<message>[A-Za-z0-9 _/-]{0,100}?)\bon (?P<label>.{1,200}?)"
    r" \((?P<where>.{0,200}?) ?page:0x[0-9a-f]{1,16} .{0,600}\)"
)
_PAGE = re.compile(
    r"Memory failure: (?P<pfn>0x[0-9a-f]{1,16}): recovery action for (?P<page>.{1,80}): (?P<outcome>[A-Z][a-z]{1,20})"
)
_FIRMWARE = re.compile(
    r"(?P<number>\{\d{1,10}\})?\[Hardware Error\]: event severity: (?P<severity>corrected|recoverable|fatal)"
)
_FIRMWARE_CODES = {
    "corrected": (FIRMWARE_CORRECTED, Status.DEGRADED),
    "recoverable": (FIRMWARE_RECOVERABLE, Status.DEGRADED),
    "fatal": (FIRMWARE_FATAL, Status.FAILED),
}

_UC = 1 << 61
_AMD_DEFERRED = 1 << 44


def observe(sample: Lines, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return one observation for each error."""
    for line in sample.lines:
        observation = _read(line)
        if observation is not None:
            yield observation


def _read(line: KernelLine) -> Observation | None:
    text = line.text.rstrip()
    if found := _MCE.fullmatch(text):
        uncorrected = bool(int(found["status"], 16) & _UC)
        code = CORRECTED if not uncorrected else UNCORRECTED if found["raised"] else DEFERRED
        return _machine_check(line, found, code)
    if found := _AMD.fullmatch(text):
        status = int(found["status"], 16)
        return _machine_check(line, found, UNCORRECTED if status & _UC else DEFERRED if status & _AMD_DEFERRED else CORRECTED)
    if found := _EDAC.fullmatch(text):
        return _memory(line, found)
    if found := _PAGE.fullmatch(text):
        detail = f"a page of memory is broken ({found['page']}); the kernel's handling: {found['outcome'].lower()}"
        attrs: Attrs = (("pfn", found["pfn"]), ("outcome", found["outcome"]))
        return Observation(PAGE_LOST, "host", Status.DEGRADED, detail, line.text, line.at, unit=found["pfn"], attrs=attrs)
    if found := _FIRMWARE.fullmatch(text):
        code, worth = _FIRMWARE_CODES[found["severity"]]
        # Only the records kept from an earlier boot (BERT) bear no number.
        when = "the firmware reports" if found["number"] else "an earlier boot ended with"
        return Observation(code, "host", worth, f"{when} a hardware error: {found['severity']}", line.text, line.at)
    return None


def _machine_check(line: KernelLine, found: re.Match[str], code: str) -> Observation:
    words = {UNCORRECTED: "uncorrected", DEFERRED: "uncorrected, not used yet", CORRECTED: "corrected"}
    return Observation(
        code,
        f"cpu:{int(found['cpu'])}",
        Status.FAILED if code == UNCORRECTED else Status.DEGRADED,
        f"machine check: {words[code]} error in bank {found['bank']}",
        line.text,
        line.at,
        unit=f"bank {int(found['bank'])}",
        attrs=(("bank", found["bank"]), ("status", found["status"])),
    )


def _memory(line: KernelLine, found: re.Match[str]) -> Observation:
    uncorrected = found["kind"] == "UE"
    label = found["label"]
    attrs: Attrs = (
        ("label", label),
        ("where", found["where"]),
        ("count", found["count"]),
        ("message", found["message"].strip()),
    )
    return Observation(
        MEMORY_UE if uncorrected else MEMORY_CE,
        f"dimm:mc{int(found['mc'])}",
        Status.FAILED if uncorrected else Status.DEGRADED,
        f"{found['count']} {'uncorrected' if uncorrected else 'corrected'} memory error(s) on {label}",
        line.text,
        line.at,
        unit=label,
        attrs=tuple((key, value) for key, value in attrs if value),
    )


CHECK = Check(
    name="mce",
    title="Machine checks and memory errors in the kernel log",
    source=KernelLog(rb"\[Hardware Error\]: (?:CPU|event severity)|EDAC MC\d+: \d+ [CU]E |Memory failure: 0x"),
    observe=observe,
    codes=frozenset(
        {UNCORRECTED, DEFERRED, CORRECTED, MEMORY_UE, MEMORY_CE, PAGE_LOST} | {code for code, _ in _FIRMWARE_CODES.values()}
    ),
)
