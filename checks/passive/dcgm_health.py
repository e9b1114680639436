"""What the health watches of DCGM find: one code per error number, at the GPU or switch that it is about.

Rules of this file:
- `warn` is degraded, `fail` is failed; what a number is worth is for its row. What only repeats the past (see `_dcgm`) is told
  as fine, with its words: a node would otherwise be sick of an XID for as long as the host engine runs.
- A host engine that does not run says nothing of any GPU. One that fails or hangs is something that cannot be looked at, and
  no fault of a GPU.
- Several findings of one number about one component are one observation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from checks.passive import _dcgm
from checks.passive._gpus import HOST, NODE, has_gpus
from hma.check import Check, Dcgm, NoOptions
from hma.gpu import DcgmEngine, DcgmHealth, DcgmIncident
from hma.model import NodeFacts, Observation, Status

NO_ENGINE = "DCGM-NO-ENGINE"
UNKNOWN = "DCGM-UNKNOWN"
_STATUS = {"warn": Status.DEGRADED, "fail": Status.FAILED}
_SEVERITY = (Status.OK, Status.DEGRADED, Status.FAILED)
_LONG = 2_000


class _Finding(NamedTuple):
    """One incident: code, component, status, and the XID it repeats."""

    code: str
    component: str
    status: Status
    xid: str
    incident: DcgmIncident


def observe(sample: DcgmHealth, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Tell what the watches found, or why they could not be asked."""
    engine = sample.engine
    if engine.state != "up":
        yield from _unasked(engine)
        return
    found: dict[tuple[str, str], list[_Finding]] = {}
    for incident in sample.incidents:
        if incident.health in _STATUS:
            finding = _finding(incident, sample)
            found.setdefault((finding.code, finding.component), []).append(finding)
    yield from (_told(findings) for findings in found.values())
    about = f"DCGM {engine.version or 'of unknown version'}{_at(engine)}, asked by {engine.route}"
    yield Observation(NO_ENGINE, HOST, Status.OK, f"{about}: {len(sample.gpus)} GPUs, {len(sample.incidents)} findings")


def _unasked(engine: DcgmEngine) -> Iterator[Observation]:
    if engine.state == "no_engine":
        detail = f"DCGM is installed, and no host engine answers{_at(engine)}"
        yield Observation(NO_ENGINE, HOST, Status.DEGRADED, detail)
        yield Observation(UNKNOWN, NODE, Status.UNKNOWN, detail)  # what DCGM found before has not gone away with it
        return
    words = " ".join(filter(None, (f"error {engine.code}" if engine.code else "", engine.text)))
    why = f"the DCGM host engine{_at(engine)} {engine.state}: {words or 'no reason given'}"
    yield Observation(UNKNOWN, NODE, Status.UNKNOWN, why)


def _at(engine: DcgmEngine) -> str:
    return f" at {engine.address}" if engine.address else ""


def _finding(incident: DcgmIncident, sample: DcgmHealth) -> _Finding:
    place = _component(incident, sample)
    past = _dcgm.remembered(incident.code, incident.message)
    if past is not None:
        code, xid = past
        return _Finding(code, place, Status.OK, xid, incident)
    return _Finding(_dcgm.code_of(incident.code, incident.system), place, _STATUS[incident.health], "", incident)


def _component(incident: DcgmIncident, sample: DcgmHealth) -> str:
    if incident.group == _dcgm.GPU:
        gpu = next((gpu for gpu in sample.gpus if gpu.gpu_id == incident.entity), None)
        known = (gpu.pci or gpu.uuid) if gpu else ""
        return f"gpu:{known}" if known else NODE
    if incident.group == _dcgm.NVSWITCH:
        return f"nvswitch:{incident.entity}"
    return HOST if incident.group in (_dcgm.CPU, _dcgm.CPU_CORE) else NODE


def _told(findings: list[_Finding]) -> Observation:
    first = findings[0]
    messages = list(dict.fromkeys(finding.incident.message.strip() for finding in findings))
    status = max((finding.status for finding in findings), key=_SEVERITY.index)
    attrs = (
        ("dcgm", _joined(str(finding.incident.code or "") for finding in findings)),
        ("system", _joined(_dcgm.SYSTEMS.get(finding.incident.system, "") for finding in findings)),
        ("entity", _joined(f"{finding.incident.group}:{finding.incident.entity}" for finding in findings)),
        ("xid", _joined(finding.xid for finding in findings)),
    )
    before = "kept by DCGM, not new: " if status is Status.OK else ""
    detail = f"{before}{'; '.join(messages)}"[:300]
    return Observation(first.code, first.component, status, detail, "\n".join(messages)[:_LONG], attrs=attrs)


def _joined(words: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(filter(None, words)))


CHECK: Check[DcgmHealth, NoOptions] = Check(
    name="dcgm_health",
    title="The health watches of DCGM find nothing",
    source=Dcgm(),
    observe=observe,
    codes=_dcgm.CODES | {NO_ENGINE},
    applies=has_gpus,
    needs="NVIDIA GPUs and DCGM",
    complete=True,
    optional=True,
)
