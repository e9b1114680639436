"""SXid: what the NVSwitch driver says about a switch in the kernel log (NVSwitch up to generation 3).

Rules of this file:
- The driver decides the severity and prints it (`Fatal`, `Non-fatal`); the lists below only tell what a number was known for.
  Word and list agree, or there is no word:  `SXID-<n>`
  The word contradicts the list:             `SXID-OVERRIDE-FATAL`, `SXID-OVERRIDE-NONFATAL`
  The number is on no list:                  `SXID-UNKNOWN-FATAL`, else (also without a word) `SXID-UNKNOWN-NONFATAL`
  So a row `SXID-<n>` has one meaning only, and attrs always carry number, severity and link.
- One event prints up to three lines of one number; the `Severity …` and `Data {…}` lines after the first add no event.
- Format: `nvidia-nvswitch<n>: SXid (PCI:<address>): <%05d>, <text>`, from NVIDIA/open-gpu-kernel-modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hma.check import Check, KernelLine, KernelLog, Lines, NoOptions
from hma.model import NodeFacts, Observation, Status

FATAL = frozenset(
    {
        *(10003, 11001, 11009, 11013, 11018, 11019, 11020),
        *(12001, 12002, 12020, 12022, 12024, 12025, 12026, 12027, 12030, 12031, 12032),
        *(14017, 15001, 15006, 15009, 15010, 15012, 15013),
        *(19047, 19048, 19054, 19056, 19058, 19060, 19061, 19063, 19064, 19066, 19067, 19069, 19070),
        *(20034, 22003, 22011, 22012, 24004, 24005, 24006, 24007),
        *range(23001, 23018),
    }
)
"""Numbers that NVIDIA's Fabric Manager guide lists as fatal."""

NOT_FATAL = frozenset(
    {
        *(10001, 10002, 10004, 10005, 11004, 11012, 11021, 11022, 11023, 12021, 12023, 12028, 15008, 15011),
        *(19049, 19055, 19057, 19059, 19062, 19065, 19068, 19071, 19084),
        *(20001, 20009, 20012, 22013, 24001, 24002, 24003, 26006, 26007, 26008),
    }
)
"""Numbers that it lists as not fatal, and the three of the switch's own controller (26006-26008), which print no word."""

CODES = frozenset(
    {f"SXID-{number}" for number in FATAL | NOT_FATAL}
    | {f"SXID-{kind}-{word}" for kind in ("OVERRIDE", "UNKNOWN") for word in ("FATAL", "NONFATAL")}
)

_SXID = re.compile(
    r"nvidia-(?P<switch>nvswitch\d{1,4}): SXid \((?:PCI:)?(?P<domain>[0-9a-fA-F]{1,8}:)?(?P<bus>[0-9a-fA-F]{2}):"
    r"(?P<device>[0-9a-fA-F]{2})(?:\.[0-7])?\): (?P<number>\d{1,6})(?:, (?P<body>.*)|\s*)",
    re.DOTALL | re.ASCII,
)
_CONTINUATION = re.compile(r"Severity \d|Data \{")
_WORD = re.compile(r"(?P<word>Fatal|Non-?fatal)(?:, |\s*$)", re.IGNORECASE)
_LINK = re.compile(r"Link (\d{1,4})\b", re.ASCII)


def observe(sample: Lines, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return one observation for each SXid event."""
    for line in sample.lines:
        observation = _read(line)
        if observation is not None:
            yield observation


def _read(line: KernelLine) -> Observation | None:
    found = _SXID.fullmatch(line.text)
    if found is None:
        return None
    number, message = int(found["number"]), (found["body"] or "").strip()
    if _CONTINUATION.match(message):
        return None
    word = _WORD.match(message)
    severity = word["word"].lower().replace("-", "") if word else ""
    link = _LINK.match(message[word.end() :] if word else message)
    port = str(int(link[1])) if link else ""
    attrs = (("sxid", str(number)), ("severity", severity), ("link", port), ("switch", found["switch"]))
    return Observation(
        code=_code(number, severity),
        component=_component(found),
        status=Status.FAILED if (severity == "fatal" if severity else number in FATAL) else Status.DEGRADED,
        detail=f"SXid {number}: {message}" if message else f"SXid {number}",
        evidence=line.text,
        at=line.at,
        unit=f"link {port}" if port else "",
        attrs=tuple((key, value) for key, value in attrs if value),
    )


def _code(number: int, severity: str) -> str:
    if number not in FATAL and number not in NOT_FATAL:
        return "SXID-UNKNOWN-FATAL" if severity == "fatal" else "SXID-UNKNOWN-NONFATAL"
    listed = "fatal" if number in FATAL else "nonfatal"
    return f"SXID-{number}" if severity in ("", listed) else f"SXID-OVERRIDE-{severity.upper()}"


def _component(found: re.Match[str]) -> str:
    domain = int((found["domain"] or "0").rstrip(":"), 16)
    return f"nvswitch:{domain:04x}:{found['bus']}:{found['device']}".lower()


def _has_switches(node: NodeFacts) -> bool:
    # Without any fact from the PCI bus nothing can be ruled out; a node type with GPUs may well have switches.
    return bool(node.nvswitches or (not node.pci and node.expected and node.expected.gpus))


CHECK = Check(
    name="sxid",
    title="NVSwitch driver errors (SXid) in the kernel log",
    source=KernelLog(rb"SXid \("),
    observe=observe,
    codes=CODES,
    applies=_has_switches,
    needs="an NVSwitch on the PCI bus",
)
