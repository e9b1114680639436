"""Policy violations that a DCGM host engine notifies: limits that somebody set were passed, or an XID came.

Rules of this file:
- An XID of a known GPU bears the code that `xid` and `nvml_events` give it, so that several routes tell one fault. Where the
  route does not tell the GPU, nothing can be done for it: it has a code of its own.
- 154 has no code without the value it changed to, which the next reading tells (`recovery_action`).
- The other limits are those set in the host engine, by whomever: what they say proves little, and each has a better row.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from checks.passive._gpus import NODE, has_gpus
from checks.passive.xid import NUMBERS, code_of, status_of
from hma.check import Check, DcgmEvents, NoOptions
from hma.gpu import DcgmViolation, DcgmViolations
from hma.model import NodeFacts, Observation, Status

XID = 0x40
UNPLACED = "DCGM-POLICY-XID"
_RECOVERY_CHANGED = 154

_CONDITIONS = MappingProxyType(
    {
        # dcgmi prints the place of the error where the count belongs, so no number is named here.
        0x1: ("DCGM-POLICY-DBE", "uncorrectable memory errors"),
        0x2: ("DCGM-POLICY-PCIE", "PCIe replays: {value:g}"),
        0x4: ("DCGM-POLICY-PAGES", "retired pages: {value:g}"),
        0x8: ("DCGM-POLICY-THERMAL", "temperature {value:g} °C"),
        0x10: ("DCGM-POLICY-POWER", "power {value:g} W"),
        0x20: ("DCGM-POLICY-NVLINK", "NVLink errors: {value:g} (field {field})"),
    }
)
"""By the bit of DCGM_POLICY_COND: the code, and what the violation says."""

CODES = frozenset(
    {code for code, _ in _CONDITIONS.values()}
    | {code_of(number) for number in NUMBERS if number != _RECOVERY_CHANGED}
    | {code_of(0), UNPLACED}
)


def observe(sample: DcgmViolations, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return one observation for each violation that is known here."""
    for violation in sample.violations:
        seen = _xid(violation) if violation.condition == XID else _limit(violation)
        if seen is not None:
            yield seen


def _xid(violation: DcgmViolation) -> Observation | None:
    number = int(violation.value)
    if number in (0, _RECOVERY_CHANGED):
        return None
    code, place = (code_of(number), f"gpu:{violation.gpu}") if violation.gpu else (UNPLACED, NODE)
    status = status_of(code) if violation.gpu else Status.DEGRADED
    detail = f"Xid {number}, told by a DCGM policy"
    attrs = (("xid", str(number)), ("form", "dcgm-policy"))
    return Observation(code, place, status, detail, _evidence(violation), violation.at, attrs=attrs)


def _limit(violation: DcgmViolation) -> Observation | None:
    known = _CONDITIONS.get(violation.condition)
    if known is None:
        return None
    code, words = known
    place = f"gpu:{violation.gpu}" if violation.gpu else NODE
    detail = f"DCGM policy: {words.format(value=violation.value, field=violation.field)}"
    return Observation(code, place, Status.DEGRADED, detail, _evidence(violation), violation.at)


def _evidence(violation: DcgmViolation) -> str:
    where = violation.gpu or "a GPU that is not named"
    return f"DCGM policy condition {violation.condition:#x} of {where}: {violation.value:g}"


CHECK: Check[DcgmViolations, NoOptions] = Check(
    name="dcgm_policy",
    title="DCGM notifies no policy violation",
    source=DcgmEvents(),
    observe=observe,
    codes=CODES,
    applies=has_gpus,
    needs="NVIDIA GPUs and DCGM",
    optional=True,
)
