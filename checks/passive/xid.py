"""XID: what the NVIDIA driver says about a GPU in the kernel log, and the lines that say the same without the word Xid.

Rules of this file:
- Only a line that *begins* as the driver begins it counts. A process name stands inside some lines and a tenant chooses it,
  but the kernel keeps 15 bytes of it: so every fact is read from a text longer than that, or from the end of the line.
- Code: `XID-<n>`, refined where the line itself decides what it is worth (74 registers, 144-150 status words, 154 target).
  154 has no plain code. 154 "None" and 162 are status ok: the driver takes back what it asked for.
- A GPU off the bus is `XID-79` however it is told (attrs say `form: no-xid`), so that two tellings are one fault.
- Formats: `rc/kernel_rc.c` of NVIDIA/open-gpu-kernel-modules, and captured lines in tests/data/kernel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from checks.passive import _nvlink4, _nvlink5
from hma.check import Check, KernelLine, KernelLog, Lines, NoOptions
from hma.model import Attrs, NodeFacts, Observation, Status

NUMBERS = range(1, 174)
"""Numbers the catalogue knows, the unused ones included; any other is XID-UNKNOWN."""

RECOVERY_ACTIONS = (
    "NONE",
    "GPU_RESET",
    "NODE_REBOOT",
    "DRAIN_P2P",
    "DRAIN_AND_RESET",
    "IMEX",
    "BUS_RESET",
    "SYSTEM_REBOOT",
)
"""By the number after `to 0x` (values of NVML field 230)."""

_RECOVERY_TEXTS = {
    "none": "NONE",
    "gpu reset required": "GPU_RESET",
    "node reboot required": "NODE_REBOOT",
    "drain p2p": "DRAIN_P2P",
    "drain and reset": "DRAIN_AND_RESET",
}

_FAILED_NUMBERS = (
    (46, 48, 54, 62, 64, 79, 95, 109, 110, 119, 120, 136, 140, 143, 151, 158, 167, 168, 169, 173)
)  # fmt: skip
_FAILED = frozenset(
    {f"XID-{n}" for n in _FAILED_NUMBERS}
    | {f"XID-154-{name}" for name in ("GPU_RESET", "NODE_REBOOT", "DRAIN_AND_RESET", "BUS_RESET", "SYSTEM_REBOOT")}
    | {code for code in _nvlink5.CODES if code.endswith(_nvlink5.RESET)}
    | {"XID-74", "XID-74-MECHANICAL", "XID-74-SIGNAL", "XID-74-PARITY", "XID-74-FABRIC"}
)
"""The GPU, its memory or a link is out of service until something is reset; every other code is degraded."""

_FINE = frozenset({"XID-154-NONE", "XID-162", "GPU-RESET", "GPU-IDENTITY"})

CODES = frozenset(
    {f"XID-{n}" for n in NUMBERS if n != 154}
    | {f"XID-154-{name}" for name in (*RECOVERY_ACTIONS, "UNKNOWN")}
    | {f"XID-74-{name}" for name in _nvlink4.MILDEST_FIRST if name}
    | _nvlink5.CODES
    | {"XID-UNKNOWN", "GPU-RESET", "GPU-IDENTITY", "GPU-INFOROM", "NCCL-SEGFAULT", "NVLINK-RXDET", "PEERMEM-CONTEXT"}
)

# -- the lines --------------------------------------------------------------------------------------------------------

_PCI = r"(?:PCI:)?(?P<domain>[0-9a-fA-F]{1,8}:)?(?P<bus>[0-9a-fA-F]{2}):(?P<device>[0-9a-fA-F]{2})(?:\.[0-7])?"
_UUID = r"(?P<uuid>GPU-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"

_XID = re.compile(
    rf"NVRM: Xid \({_PCI}(?: GPU-I:(?P<gi>\d{{1,4}}))?(?: GPU-CI:(?P<ci>\d{{1,4}}))?\): "
    r"(?P<number>\d{1,6})(?:, (?P<body>.*)|\s*)",
    re.DOTALL | re.ASCII,
)
_PID = re.compile(r"pid='?(?P<pid>\d{1,10}|<unknown>)'?(?:, |\s*$)", re.ASCII)

_SM = re.compile(r"Exception on \(GPC (\d{1,4}), TPC (\d{1,4})(?:, SM (\d{1,4}))?\)", re.ASCII)
_CAUSED_BY = re.compile(r"(?:^| )caused by previous Xid (\d{1,6})\s*$", re.ASCII)
_NVLINK4 = re.compile(r"link (\d{1,4}) ?\(([0-9a-fA-Fx, ]{5,120})\)\s*$", re.ASCII)
_NVLINK5 = re.compile(
    r"\b([A-Z0-9_]{2,32}) {1,16}(?:Fatal|Nonfatal) {1,16}XC\d {1,16}i(\d{1,4}) {1,16}Link {1,16}(-?\d{1,4}) {1,16}"
    r"\(([0-9a-fA-Fx ]{5,160})\)\s*$",
    re.ASCII,
)
_RECOVERY = re.compile(r"GPU recovery action changed from .{1,80} to (?:0x([0-9a-fA-F]{1,8})\b ?)?(?:\(([^()]{1,60})\))?\s*$")

_IDENTITY = re.compile(rf"NVRM: GPU at {_PCI}: {_UUID}\s*")
_SERIAL = re.compile(r"NVRM: GPU Board Serial Number: (\w{1,32})\s*")
_OFF_BUS = re.compile(rf"NVRM: GPU (?:at )?{_PCI}:? (?:GPU )?has fallen off the bus\b")
_OFF_BUS_HEAD = re.compile(rf"NVRM: The NVIDIA GPU {_PCI}(?![0-9a-fA-F:.])")
_OFF_BUS_MORE = re.compile(r"NVRM: (?:\(PCI ID: |installed in this |system has |fallen off the bus )")
_OFF_BUS_TAIL = "fallen off the bus"
# Written by tools that reset a GPU, not by the driver: newer ones say whether it worked.
_RESET = re.compile(rf"(?:NVRM: )?GPU reset executed: {_UUID}(?:, success: true)?\s*")
_INFOROM = re.compile(rf"(?:NVRM: )?(?:WARNING: )?infoROM is corrupted at gpu {_PCI}", re.IGNORECASE)
# A process name is 15 bytes, of which each may be shown as four (`\xNN`).
_SEGFAULT = re.compile(r".{1,60}?\[(\d{1,10})\]: segfault at .{1,120} in (libnccl\.so[^\[\s]{0,40})", re.DOTALL | re.ASCII)
_PEERMEM = re.compile(r"nvidia-peermem nv_get_p2p_free_callback:\d{1,6} ERROR detected invalid context")
_RXDET = re.compile(r"NVRM: .{0,60}knvlink(?:UpdatePostRxDetectLinkMask|DiscoverPostRxDetLinks)")


class _Line(NamedTuple):
    """A parsed XID line: which GPU, which number, which process, and what is left for people and refinements."""

    component: str
    number: int
    gi: str
    ci: str
    pid: str
    process: str
    message: str


class _Detail(NamedTuple):
    """What the message adds to the number: the refinement of the code, the part, the named cause."""

    suffix: str = ""
    unit: str = ""
    cause: str = ""
    attrs: Attrs = ()


def observe(sample: Lines, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return one observation for each line that says something about a GPU."""
    lines = sample.lines
    at = 0
    while at < len(lines):
        observation, used = _read(lines[at : at + 3])
        if observation is not None:
            yield observation
        at += used


def _read(lines: tuple[KernelLine, ...]) -> tuple[Observation | None, int]:
    """Return what the first of `lines` says, and how many of them it took to say it."""
    line = lines[0]
    if line.text.startswith("NVRM: Xid "):
        return _xid(line), 1
    if _IDENTITY.fullmatch(line.text):
        return _identity(lines)
    if _OFF_BUS_HEAD.match(line.text) or _OFF_BUS_MORE.match(line.text):
        return _off_the_bus_at_length(lines)
    return _other(line), 1


# -- XID lines --------------------------------------------------------------------------------------------------------


def _xid(line: KernelLine) -> Observation | None:
    parsed = _parse(line.text)
    if parsed is None:
        return None
    refine = _REFINEMENTS.get(parsed.number)
    detail = refine(parsed.message) if refine else _Detail()
    code = "-".join(filter(None, (code_of(parsed.number), detail.suffix)))
    about = (
        ("xid", str(parsed.number)),
        ("pid", parsed.pid),
        ("process", parsed.process),
        ("gi", parsed.gi),
        ("ci", parsed.ci),
    )
    return _observation(
        line,
        code,
        parsed.component,
        detail=f"Xid {parsed.number}: {parsed.message}" if parsed.message else f"Xid {parsed.number}",
        unit=detail.unit,
        actor=f"pid {parsed.pid}" if parsed.pid else "",
        cause=detail.cause,
        attrs=(*about, *detail.attrs),
    )


def _parse(text: str) -> _Line | None:
    found = _XID.fullmatch(text)
    if found is None:
        return None
    message, pid, process = found["body"] or "", "", ""
    by = _PID.match(message)
    if by is not None:
        pid, message = by["pid"], message[by.end() :]
        if message.startswith("name="):
            process, _, message = message[len("name=") :].partition(", ")
    return _Line(
        component=_component(found),
        number=int(found["number"]),
        gi=found["gi"] or "",
        ci=found["ci"] or "",
        pid="" if pid == "<unknown>" else pid,
        process="" if process == "<unknown>" else process,
        message=message.strip(),
    )


def code_of(number: int) -> str:
    """Return the code of an XID by its number alone, before its line refines it (154 has none such)."""
    return f"XID-{number}" if number in NUMBERS else "XID-UNKNOWN"


def status_of(code: str) -> Status:
    """Return what a code says of its component: fine, out of service, or degraded."""
    return Status.OK if code in _FINE else Status.FAILED if code in _FAILED else Status.DEGRADED


def _graphics(message: str) -> _Detail:
    found = _SM.search(message)
    if found is None:
        return _Detail()
    gpc, tpc, sm = (str(int(n)) if n else "" for n in found.groups())
    return _Detail(unit=f"GPC {gpc} TPC {tpc}", attrs=(("gpc", gpc), ("tpc", tpc), ("sm", sm)))


def _removal(message: str) -> _Detail:
    found = _CAUSED_BY.search(message)
    if found is None:
        return _Detail()
    cause = code_of(int(found[1]))
    return _Detail(cause=cause, attrs=(("cause", cause),))


def _nvlink_to_4(message: str) -> _Detail:
    found = _NVLINK4.search(message)
    if found is None:
        return _Detail()
    link = str(int(found[1]))
    attrs = (("link", link), ("registers", found[2]))
    registers = _hex_words(found[2].replace(",", " "))
    suffix = _nvlink4.classify(registers) if len(registers) == 7 else ""
    return _Detail(suffix, f"link {link}", attrs=attrs)


def _nvlink_5(number: int, message: str) -> _Detail:
    found = _NVLINK5.search(message)
    if found is None:
        return _Detail()
    unit, injected, link = found[1], int(found[2]), int(found[3])
    words = _hex_words(found[4])
    suffix = _nvlink5.decode(number, words[0], words[1]) if len(words) >= 2 else ""
    attrs = (("part", unit), ("link", str(link)), ("registers", found[4]), ("injected", "yes" if injected else ""))
    return _Detail(suffix, f"link {link}" if link >= 0 else "", attrs=attrs)


def _recovery(message: str) -> _Detail:
    found = _RECOVERY.search(message)
    number, text = found.groups() if found else (None, None)
    to = _RECOVERY_TEXTS.get((text or "").strip().lower(), "UNKNOWN")
    if number is not None:
        to = RECOVERY_ACTIONS[int(number, 16)] if int(number, 16) < len(RECOVERY_ACTIONS) else "UNKNOWN"
    return _Detail(to, attrs=(("to", text or (f"0x{number}" if number else "")),))


_REFINEMENTS: dict[int, Callable[[str], _Detail]] = {
    13: _graphics,
    45: _removal,
    74: _nvlink_to_4,
    154: _recovery,
    **{number: partial(_nvlink_5, number) for number in _nvlink5.NUMBERS},
}

# -- the same without the word Xid ------------------------------------------------------------------------------------


def _identity(lines: tuple[KernelLine, ...]) -> tuple[Observation, int]:
    line = lines[0]
    found = _IDENTITY.fullmatch(line.text)
    assert found is not None
    # The serial number is a record of its own; only the very next one surely speaks of the same GPU.
    serial = _SERIAL.fullmatch(lines[1].text) if len(lines) > 1 and lines[1].seq == line.seq + 1 else None
    attrs = (("uuid", _uuid(found)), ("serial", serial[1] if serial else ""))
    detail = f"is {_uuid(found)}" + (f", serial number {serial[1]}" if serial else "")
    return _observation(line, "GPU-IDENTITY", _component(found), detail=detail, attrs=attrs), 2 if serial else 1


def _off_the_bus_at_length(lines: tuple[KernelLine, ...]) -> tuple[Observation | None, int]:
    """Read the message of several lines (`The NVIDIA GPU … / … / fallen off the bus …`), which may be one record or several."""
    used = 1
    while used < len(lines) and _OFF_BUS_MORE.match(lines[used].text):
        used += 1
    text = "\n".join(line.text for line in lines[:used])
    if _OFF_BUS_TAIL not in text:
        return None, 1
    head = _OFF_BUS_HEAD.match(text)
    # The first line may have come in an earlier batch: which GPU it was is lost then, that one is gone is not.
    component = _component(head) if head else "gpu:unknown"
    return replace(_observation(lines[0], "XID-79", component, detail=_GONE, attrs=_NO_XID), evidence=text), used


_GONE = "GPU has fallen off the bus"
_NO_XID: Attrs = (("xid", "79"), ("form", "no-xid"))


def _other(line: KernelLine) -> Observation | None:
    text = line.text
    if found := _OFF_BUS.match(text):
        return _observation(line, "XID-79", _component(found), detail=_GONE, attrs=_NO_XID)
    if found := _RESET.fullmatch(text):
        uuid = _uuid(found)
        return _observation(line, "GPU-RESET", f"gpu:{uuid}", detail="GPU reset executed", attrs=(("uuid", uuid),))
    if found := _INFOROM.match(text):
        return _observation(line, "GPU-INFOROM", _component(found), detail="infoROM is corrupted")
    if found := _SEGFAULT.match(text):
        detail = f"a process crashed in {found[2]}"
        return _observation(line, "NCCL-SEGFAULT", "host", detail=detail, actor=f"pid {found[1]}", attrs=(("pid", found[1]),))
    if _PEERMEM.match(text):
        return _observation(line, "PEERMEM-CONTEXT", "host", detail="nvidia-peermem met an invalid context")
    if _RXDET.match(text):
        return _observation(line, "NVLINK-RXDET", "host", detail="NVLink receiver detection failed")
    return None


# -- words ------------------------------------------------------------------------------------------------------------


def _observation(
    line: KernelLine, code: str, component: str, *, detail: str,
    unit: str = "", actor: str = "", cause: str = "", attrs: Attrs = (),
) -> Observation:  # fmt: skip
    return Observation(
        code=code,
        component=component,
        status=status_of(code),
        detail=detail,
        evidence=line.text,
        at=line.at,
        unit=unit,
        actor=actor,
        cause=cause,
        attrs=tuple((key, value) for key, value in attrs if value),
    )


def _component(found: re.Match[str]) -> str:
    domain = int((found["domain"] or "0").rstrip(":"), 16)
    return f"gpu:{domain:04x}:{found['bus']}:{found['device']}".lower()


def _uuid(found: re.Match[str]) -> str:
    return "GPU-" + found["uuid"][len("GPU-") :].lower()


def _hex_words(text: str) -> list[int]:
    """Return the values of `0x1 0x2 …`, or none when one of them is not a number."""
    try:
        return [int(word, 16) for word in text.split()]
    except ValueError:
        return []


def _has_gpus(node: NodeFacts) -> bool:
    return bool(node.gpus or (node.expected and node.expected.gpus))


CHECK = Check(
    name="xid",
    title="NVIDIA driver errors (XID) in the kernel log",
    source=KernelLog(rb"NVRM: |GPU reset executed: |infoROM is corrupted|in libnccl\.so|nv_get_p2p_free_callback"),
    observe=observe,
    codes=CODES,
    applies=_has_gpus,
    needs="an NVIDIA GPU on the PCI bus or expected for this instance type",
)
