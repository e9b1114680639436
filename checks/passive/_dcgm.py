"""What DCGM's numbers mean: health systems, kinds of entities, error numbers, and findings that only repeat the past.

Rules of this file:
- Numbers are those of dcgm_structs.h, dcgm_fields.h and dcgm_errors.h of DCGM 4.6; older versions have fewer, and none has
  changed its meaning.
- DCGM keeps every XID it has heard of until its host engine restarts, and reports it at each look. That is memory, no state:
  the XID had its own row when it happened. The text says "(triggered by XID n: …)"; some numbers mean nothing else.
- Since 4.6 it also reports NVLink error counters that are not zero, however old the errors ("… error counter NvLink errors").
"""

from __future__ import annotations

import re
from types import MappingProxyType

NUMBERS = range(1, 133)
"""DCGM_FR numbers that have a row; 0 is "no error"."""

SYSTEMS = MappingProxyType(
    {
        0x1: "PCIE",
        0x2: "NVLINK",
        0x4: "PMU",
        0x8: "MCU",
        0x10: "MEM",
        0x20: "SM",
        0x40: "INFOROM",
        0x80: "THERMAL",
        0x100: "POWER",
        0x200: "DRIVER",
        0x400: "NVSWITCH-NONFATAL",
        0x800: "NVSWITCH-FATAL",
        0x1000: "CONNECTX",
    }
)
"""Bits of DCGM_HEALTH_WATCH."""
OTHER_SYSTEM = "OTHER"

GPU, NVSWITCH, CPU, CPU_CORE = 1, 3, 7, 8
"""Of dcgm_field_entity_group_t: those that are told apart here."""

XID_ERROR, NVLINK_CRITICAL = 101, 71
_ONLY_XIDS = frozenset({XID_ERROR, 81, 120, 131})
"""Numbers that the health watches give for an XID alone: any listed one, 95, 79 and 94."""

_BY_XID = re.compile(r"\(triggered by XID (\d{1,5})\b")
_XID = re.compile(r"\bXID (\d{1,5})\b")
_TOTAL = re.compile(r"\b(?:error|events) counter NvLink errors\b")


def code_of(number: int | None, system: int) -> str:
    """Return `DCGM-14`, DCGM-UNKNOWN for a number that is not known here, and the system's code where there is no number."""
    if not number:
        return f"DCGM-SYSTEM-{SYSTEMS.get(system, OTHER_SYSTEM)}"
    return f"DCGM-{number}" if number in NUMBERS else "DCGM-UNKNOWN"


def remembered(number: int | None, message: str) -> tuple[str, str] | None:
    """Return the code and the XID ("" where the text names none) of a finding that repeats the past, None for any other."""
    found = _BY_XID.search(message)
    if number in _ONLY_XIDS:
        named = found or _XID.search(message)
        return f"DCGM-{number}", named[1] if named else ""
    if found is not None:
        return f"DCGM-{XID_ERROR}", found[1]
    if number == NVLINK_CRITICAL and _TOTAL.search(message):
        return f"DCGM-{NVLINK_CRITICAL}", ""
    return None


CODES = frozenset(
    {f"DCGM-{number}" for number in NUMBERS}
    | {f"DCGM-SYSTEM-{name}" for name in (*SYSTEMS.values(), OTHER_SYSTEM)}
    | {"DCGM-UNKNOWN"}
)
