"""Records: one change becomes one flat JSON object, in the shape HyperPod users already query plus our own clean keys.

Rules of this file:
- Parity with HyperPod's agent is in three odd places, kept on purpose: the key `details: ` (with its colon and blank), the
  top-level key `HealthMonitoringAgentDetectionEvent`, and the untouched kernel line inside the message. The published
  Logs Insights queries and subscription filters match on exactly these.
- Our own keys (`code`, `xid`, `component`, `action`, `fault_id`, ...) stand beside them and never change their meaning.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping

from hma.catalogue import Catalogue, Policy
from hma.model import Change, Fault, NodeFacts, Status, Verdict

Record = dict[str, object]

DETECTION_KEY = "HealthMonitoringAgentDetectionEvent"
DETECTION_VALUE = "HealthEvent"


def timestamp(utc: float) -> str:
    """Return RFC 3339 in UTC with milliseconds, `2026-11-24T13:02:11.042Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(utc)) + f".{int(utc % 1 * 1000):03d}Z"


def event_id(change: Change) -> str:
    """Return an id that the same change gets again when a crash makes the agent live it twice."""
    if change.fault is not None:
        return f"{change.fault.id}-{change.kind.partition('_')[2]}"
    text = f"{change.kind}|{change.at.boot_id}|{change.at.mono:.6f}|{change.note}"
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def record(change: Change, node: NodeFacts, catalogue: Catalogue) -> Record:
    """Return the record of `change` on `node`."""
    body: Record = {
        "level": _level(change),
        "ts": timestamp(change.at.utc),
        "msg": change.kind,
        "event": change.kind,
        "event_id": event_id(change),
    }
    if change.fault is not None:
        body |= _fault(change.kind, change.fault, catalogue[change.fault.code])
    if change.verdict is not None:
        body |= _verdict(change.verdict)
    if change.note:
        body["note"] = change.note
    body |= {key: _number(value) for key, value in change.attrs}
    body |= {"node": node.hostname, "boot_id": change.at.boot_id}
    if node.instance_id:
        body["instance_id"] = node.instance_id
    if node.instance_type:
        body["instance_type"] = node.instance_type
    return body


def to_line(body: Mapping[str, object]) -> str:
    """Return the record as one line of JSON."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def condition(policy: Policy) -> tuple[str, str]:
    """Return HyperPod's fault type and reason of a row; rows without one get words made from the code."""
    words = "".join(word.capitalize() for word in policy.code.replace("_", "-").split("-"))
    return policy.fault_type or "NodeHealth", policy.fault_reason or words


def _level(change: Change) -> str:
    if change.kind in ("fault_active", "config_rejected", "journal_lost", "kernel_log_lost", "spoof_suspected"):
        return "warn"
    if change.verdict is not None and change.verdict.health is Status.FAILED:
        return "warn"
    return "info"


def _fault(kind: str, fault: Fault, policy: Policy) -> Record:
    fault_type, reason = condition(policy)
    raised = kind != "fault_resolved"
    evidence = fault.evidence or fault.detail
    body: Record = {}
    if kind == "fault_active":
        body[DETECTION_KEY] = DETECTION_VALUE
    message = f"Node condition {fault_type} is now: {raised}, reason: {reason}, message: {json.dumps(evidence)}"
    body["details: "] = {
        "severity": "warn" if raised else "info",
        "timestamp": timestamp(fault.first_seen.utc if raised else fault.changed.utc),
        "reason": reason,
        "message": message,
    }
    if kind == "fault_active" and fault.action.destructive:
        detail = {"Action": fault.action.value, "Type": fault_type, "Reason": reason, "Message": evidence}
        body["Event detail"] = detail
    body |= {
        "fault_id": fault.id,
        "code": fault.code,
        "title": policy.title,
        "component": fault.component,
        "check": fault.check,
        "status": fault.status.value,
        "action": fault.action.value,
        "count": fault.count,
        "first_seen": timestamp(fault.first_seen.utc),
        "detail": fault.detail,
        "evidence": fault.evidence,
    }
    return body | {key: _number(value) for key, value in fault.attrs if key not in body}


def _verdict(verdict: Verdict) -> Record:
    body: Record = {
        "health": verdict.health.value,
        "schedulable": verdict.schedulable,
        "action": verdict.action.value,
        "when": verdict.when,
        "why": [
            {"fault_id": r.fault_id, "code": r.code, "component": r.component, "action": r.action.value, "rule": r.rule}
            for r in verdict.why
        ],
    }
    if verdict.awaiting:
        body["awaiting"] = list(verdict.awaiting)
    if verdict.blind:
        body["blind"] = list(verdict.blind)
    return body


def _number(value: str) -> object:
    return int(value) if value.isascii() and value.isdigit() and len(value) < 16 and str(int(value)) == value else value
