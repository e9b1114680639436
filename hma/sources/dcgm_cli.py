"""What the program dcgmi prints, as values: lists of GPUs, health, policies, and the stream of violations.

Rules of this file:
- Layouts of dcgmi 2.4 to 4.6 (DCGM, dcgmi/Query.cpp, Health.cpp, Policy.cpp, DcgmiOutput.h). What is none of them raises
  CliError: half-understood output is no health.
- dcgmi tells no error codes, and up to 3.1 no GPU in its health: the key of an incident is then its severity (10 or 20).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hma.gpu import DcgmGpu, DcgmIncident
from hma.sources import dcgm_route
from hma.sources.dcgm_route import DBE, NVLINK, PAGES, PCI, POWER, THERMAL, XID, Told

SYSTEMS = {
    "pcie": 0x1,
    "nvlink": 0x2,
    "pmu": 0x4,
    "mcu": 0x8,
    "memory": 0x10,
    "sm": 0x20,
    "inforom": 0x40,
    "thermal": 0x80,
    "power": 0x100,
    "driver": 0x200,
    "nvswitch nf": 0x400,
    "nvswitch f": 0x800,
}
"""DCGM_HEALTH_WATCH by the first words of its name."""
GROUPS = {"gpu": 1, "vgpu": 2, "switch": 3, "nvswitch": 3, "gpu_i": 4, "gpu_ci": 5, "link": 6, "cpu": 7, "connectx": 9}
"""dcgm_field_entity_group_t by its name."""
HEALTH = {"Healthy": "", "Warning": "warn", "Failure": "fail"}
SEVERITIES = ("10", "20")
UNTOLD = "this version of dcgmi does not say of what"
NOBODY = -1
"""The entity where dcgmi does not tell which."""

_FOUND = re.compile(r"^(\d+) GPUs? found", re.MULTILINE)
_ROW = re.compile(r"^\|\s*(\d*)\s*\|\s*(PCI Bus ID|Device UUID|Name):\s*(\S.*?)\s*\|\s*$")
_VERSION = re.compile(r"version:\s*(\d+(?:\.\d+)+)")
_CONDITIONS = (
    ("double-bit ecc", DBE),
    ("pci errors", PCI),
    ("max retired pages", PAGES),
    ("max temperature", THERMAL),
    ("max power", POWER),
    ("nvlink errors", NVLINK),
    ("xid error", XID),
)
_BEGINNINGS = (
    (re.compile(r"A double-bit ECC error has violated"), DBE),
    (re.compile(r"A PCIe replay event has violated"), PCI),
    (re.compile(r"The maximum number of retired pages has violated"), PAGES),
    (re.compile(r"The maximum thermal limit has violated"), THERMAL),
    (re.compile(r"The maximum power limit has violated"), POWER),
    (re.compile(r"NVLink Counter (\d+) has violated"), NVLINK),
)
_XID = re.compile(r"XID error (\d+) detected")
_VALUE = re.compile(
    r"^(DBE error count|PCIe replay count|[SD]BE page retirement count|Temperature|Power|NVLink Counter value): (\d+)"
)


class CliError(Exception):
    """dcgmi printed what we do not know; the text says what."""


def returned(code: int) -> int:
    """Return the dcgmReturn_t in an exit code of dcgmi, which is its last byte; 0 where it is none."""
    return code - 256 if 128 < code < 256 else 0


def complaint(text: str) -> str:
    """Return the first line in which dcgmi complains, "" where it does not."""
    return next((line.strip() for line in text.splitlines() if line.lstrip().startswith("Error")), "")[:200]


def version(text: str) -> str:
    """Return the version in what `dcgmi --version` prints, or ""."""
    found = _VERSION.search(text)
    return found.group(1) if found else ""


def discovered(text: str) -> tuple[DcgmGpu, ...]:
    """Return the GPUs of `dcgmi discovery -l`."""
    said = _FOUND.search(text)
    if said is None:
        raise CliError(f"discovery: no number of GPUs in {text[:80]!r}")
    gpus: dict[int, DcgmGpu] = {}
    number = NOBODY
    for line in text.splitlines():
        row = _ROW.match(line)
        if row is None:
            continue
        number = int(row[1]) if row[1] else number
        gpu = gpus.get(number, DcgmGpu(number))
        if row[2] == "PCI Bus ID":
            gpu = gpu._replace(pci=dcgm_route.pci_address(row[3]))
        elif row[2] == "Device UUID":
            gpu = gpu._replace(uuid=row[3])
        gpus[number] = gpu
    if NOBODY in gpus or len(gpus) > int(said[1]):
        raise CliError(f"discovery: {said[1]} GPUs found, {len(gpus)} listed")
    # One whose attributes could not be had is listed without them.
    return tuple(gpus.values())


# -- health -----------------------------------------------------------------------------------------------------------


def watched(text: str) -> Mapping[str, bool]:
    """Return which watches are on, by name (`PCIe`), of `dcgmi health -f -j`."""
    body = _body(text, "health -f")
    states = {name: _value(entry) for name, entry in body.items()}
    if not states or set(states.values()) - {"On", "Off"}:
        raise CliError(f"health -f: {str(states)[:120]}")
    return {name: state == "On" for name, state in states.items()}


def incidents(text: str, gpus: tuple[DcgmGpu, ...]) -> tuple[DcgmIncident, ...]:
    """Return the incidents of `dcgmi health -c -j`; `gpus` are those that `discovered` told."""
    body = dict(_body(text, "health -c"))
    overall = _value(body.pop("Overall Health", {}))
    if overall not in HEALTH:
        raise CliError(f"health -c: overall health {overall!r}")
    known = {str(gpu.gpu_id) for gpu in gpus}
    found = tuple(one for name, group in body.items() for one in _group(name, group, known))[: dcgm_route.INCIDENTS_MAX]
    if HEALTH[overall] and not found:
        return (DcgmIncident(0, HEALTH[overall], None, UNTOLD, 0, NOBODY),)
    return found


def _group(name: str, group: Any, known: set[str]) -> Iterator[DcgmIncident]:
    number = GROUPS.get(name.strip().lower(), 0)
    for key, entity in _children(group).items():
        told = key.isdecimal() and not (number == 1 and key in SEVERITIES and key not in known)
        about = int(key) if told else NOBODY
        errors = _children(_children(entity).get("Errors"))
        for system, entry in errors.items():
            yield _incident(number, about, system, _value(entry), entry)
        if not errors and _value(entity) != "Healthy":
            yield _incident(number, about, "", _value(entity), {})


def _incident(group: int, entity: int, system: str, health: str, entry: Any) -> DcgmIncident:
    if health not in HEALTH:
        raise CliError(f"health -c: {system or 'an entity'} is {health!r}")
    words = system.lower().removesuffix(" system").strip()
    parts = entry.get("overflow") or ()
    message = " ".join(str(part).strip() for part in parts)[: dcgm_route.MESSAGE_MAX]
    return DcgmIncident(SYSTEMS.get(words, 0), HEALTH[health] or "warn", None, message or system or UNTOLD, group, entity)


def _body(text: str, what: str) -> Mapping[str, Any]:
    """Return `body` of the JSON in a text; titles may stand before it."""
    begin = text.find("{")
    try:
        body = json.loads(text[begin:])["body"] if begin >= 0 else None
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise CliError(f"{what}: no JSON that we know ({type(err).__name__}) in {text[begin : begin + 80]!r}") from err
    if not isinstance(body, dict):
        raise CliError(f"{what}: {complaint(text) or repr(text[:80])}")
    return body


def _value(entry: Any) -> str:
    return str(entry.get("value", "")) if isinstance(entry, dict) else ""


def _children(entry: Any) -> Mapping[str, Any]:
    found = entry.get("children") if isinstance(entry, dict) else None
    return found if isinstance(found, dict) else {}


# -- policy -----------------------------------------------------------------------------------------------------------


def policy(text: str) -> int:
    """Return the conditions that `dcgmi policy --get -v -j` tells for any GPU (one JSON after the other)."""
    lines = _condition_words(text)
    condition = 0
    for words in lines:
        bit = next((bit for begin, bit in _CONDITIONS if words.lower().startswith(begin)), None)
        if bit is None and words not in ("None", "****"):
            raise CliError(f"policy --get: condition {words[:80]!r}")
        condition |= bit or 0
    return condition


def _condition_words(text: str) -> list[str]:
    words: list[str] = []
    decoder = json.JSONDecoder()
    begin = text.find("{")
    try:
        while begin >= 0:
            one, end = decoder.raw_decode(text, begin)
            entry = one["body"]["Violation conditions"]
            words += [str(entry["value"]), *(str(more) for more in entry.get("overflow") or ())]
            begin = text.find("{", end)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise CliError(f"policy --get: no JSON that we know ({type(err).__name__})") from err
    if not words:
        raise CliError(f"policy --get: {complaint(text) or repr(text[:80])}")
    return words


class Violations:
    """Reads the lines of `dcgmi policy --reg`, which take two to four lines for a violation and tell no GPU."""

    def __init__(self) -> None:
        self._begun: tuple[int, int] | None = None
        self._pages = 0

    def read(self, line: str, now: float) -> Told | None:
        """Return the violation that `line` completes, if it does; `now` is the boottime."""
        xid = _XID.search(line)
        if xid is not None:
            return Told(XID, float(xid[1]), now)
        for beginning, condition in _BEGINNINGS:
            begun = beginning.search(line)
            if begun is not None:
                self._begun = (condition, int(begun[1]) if condition == NVLINK else 0)
                self._pages = 0
                return None
        value = _VALUE.match(line)
        return None if value is None or self._begun is None else self._complete(value[1], int(value[2]), now)

    def _complete(self, name: str, value: int, now: float) -> Told | None:
        assert self._begun is not None
        condition, field = self._begun
        if name.startswith("SBE"):
            self._pages = value
            return None
        self._begun = None
        if condition == DBE:  # the number that is printed is the place of the error, not a count
            return Told(DBE, 1.0, now)
        if condition == PAGES:
            value += self._pages
        return Told(condition, float(value), now, field=field, counted=condition in (PCI, PAGES, NVLINK))
