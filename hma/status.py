"""What the agent is now, as JSON-able data: the body of the local API and of `hma status`. Pure.

Rules of this file:
- A streamed check sees only what goes wrong; whether it still is wrong is known to the faults, so its status is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hma.catalogue import Catalogue
from hma.codec import encode
from hma.model import Fault, FaultKey, FaultState, NodeFacts, State, Status
from hma.readings import CheckState
from hma.recorder import Recorder
from hma.reporting.record import bounded, timestamp, verdict_body

Body = dict[str, Any]
REASON_BYTES = 200


def check_rows(
    states: Mapping[str, CheckState], faults: Mapping[FaultKey, Fault], streamed: Iterable[str]
) -> tuple[CheckState, ...]:
    """Return the state of every check, by name; that of a `streamed` one from its live faults.

    Any other speaks for itself, except that one whose last look was fine still has the faults that a fine look does not end.
    """
    by_check: dict[str, list[Fault]] = {}
    for fault in faults.values():
        if fault.state is FaultState.ACTIVE:
            by_check.setdefault(fault.check, []).append(fault)
    told = frozenset(streamed)
    return tuple(_row(states[name], by_check.get(name, ()), name in told) for name in sorted(states))


def _row(state: CheckState, faults: Iterable[Fault], streamed: bool) -> CheckState:
    if state.status not in ((Status.OK, Status.DEGRADED, Status.FAILED) if streamed else (Status.OK,)):
        return state
    live = sorted((f for f in faults if not f.inhibited_by), key=lambda f: (f.status is not Status.FAILED, f.first_seen.mono))
    if not live and not streamed:
        return state
    if not live:
        return replace(state, status="ok", reason="no fault of it is live" if state.status != "ok" else state.reason)
    more = f" (+{len(live) - 1} more)" if len(live) > 1 else ""
    return replace(state, status=live[0].status.value, reason=f"{live[0].code} {live[0].component}: {live[0].detail}{more}")


def check_body(row: CheckState) -> Body:
    """Return one check as data."""
    return {
        "check": row.name,
        "status": row.status,
        "reason": row.reason,
        "runs": row.runs,
        "duration_s": round(row.duration_s, 4),
        "interval_s": row.interval_s,
    }


def brief_body(row: CheckState) -> Body:
    """Return one check as it stands in a record, where all of them must fit into one line of a log."""
    return {"check": row.name, "status": row.status, "reason": bounded(row.reason, REASON_BYTES)}


def fault_body(fault: Fault, catalogue: Catalogue) -> Body:
    """Return one live fault as data."""
    row = catalogue[fault.code]
    return {
        "fault_id": fault.id,
        "code": fault.code,
        "title": row.title,
        "component": fault.component,
        "state": fault.state.value,
        "status": fault.status.value,
        "action": fault.action.value,
        "count": fault.count,
        "first_seen": timestamp(fault.first_seen.utc),
        "last_seen": timestamp(fault.last_seen.utc),
        "check": fault.check,
        "detail": fault.detail,
        "evidence": fault.evidence,
        "inhibited_by": fault.inhibited_by,
        "confirmed_by": list(fault.confirmed_by),
        "refuted_by": list(fault.refuted_by),
        "routes": list(fault.routes),
        "ends": [str(end) for end in row.ends],
        "about": row.about,
    }


def node_body(node: NodeFacts) -> Body:
    """Return what the node is as data."""
    return {
        "hostname": node.hostname,
        "boot_id": node.boot_id,
        "instance_type": node.instance_type,
        "instance_id": node.instance_id,
        "kernel": node.kernel,
        "gpus": len(node.gpus),
        "nvswitches": len(node.nvswitches),
        "neuron_devices": len(node.neurons),
        "efa": len(node.efas),
        "expected": encode(node.expected) if node.expected else None,
        "sources": dict(node.sources),
    }


def state_body(state: State | None, catalogue: Catalogue) -> Body:
    """Return verdict and live faults as data; before the journal has been read there is none."""
    if state is None:
        return {"verdict": None, "faults": []}
    verdict = {**verdict_body(state.verdict), "since": timestamp(state.verdict.since.utc)}
    faults = sorted(state.faults.values(), key=lambda f: (f.first_seen.mono, f.code, f.component))
    return {"verdict": verdict, "faults": [fault_body(fault, catalogue) for fault in faults]}


def journal_body(directory: Path, trouble: str, recorder: Recorder) -> Body:
    """Return how the journal fares as data."""
    return {
        "directory": str(directory),
        "trouble": trouble,
        "lag_s": round(recorder.lag(), 3),
        "events_dropped": recorder.dropped,
        "events_retired_unsent": recorder.retired,
        "trace_lines_dropped": recorder.trace_dropped,
        "trace_trouble": recorder.trace_trouble,
    }
