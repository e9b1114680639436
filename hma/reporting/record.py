"""Records: one change becomes one flat JSON object, in the shape HyperPod users already query plus our own clean keys.

Rules of this file:
- Parity with HyperPod's agent is in odd places, kept on purpose: the key `details: ` (with its colon and blank), the
  top-level key `HealthMonitoringAgentDetectionEvent`, `Event detail`, and the untouched kernel line inside the message. The
  published Logs Insights queries and subscription filters match on exactly these.
- Our own keys (`code`, `xid`, `component`, `action`, `fault_id`, ...) stand beside them and never change their meaning: what a
  check calls like one of them (`KEYS`) is kept as `attr_<name>`.
- A line stays below `LINE_BYTES`: container runtimes cut longer ones into pieces (containerd and the Docker log driver at
  16 KiB), and half a JSON object is no record. Long before that come journald (48 KiB) and CloudWatch (1 MB an event). So every
  text has its own limit here; the journal keeps the whole.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from itertools import accumulate
from typing import TypeVar

from hma.catalogue import Catalogue, Policy
from hma.model import Attrs, Change, Fault, NodeFacts, Status, Verdict

Record = dict[str, object]
T = TypeVar("T")

DETECTION_KEY = "HealthMonitoringAgentDetectionEvent"
DETECTION_VALUE = "HealthEvent"

_CLEAN = (
    "level ts msg event event_id Xid fault_id code title component check status action count first_seen detail evidence "
    "inhibited_by confirmed_by refuted_by routes health schedulable when why why_more awaiting blind note node boot_id "
    "instance_id instance_type"
)
KEYS = frozenset((DETECTION_KEY, "details: ", "Event detail", *_CLEAN.split()))
"""Every key a record may have by itself."""

LINE_BYTES = 16_384
EVIDENCE_BYTES = 2_048
NOTE_BYTES = 2_048
TEXT_BYTES = 1_024
NAME_BYTES = 256
WORD_BYTES = 64
ATTRS_BYTES = 2_048
ATTR_BYTES = 512
WHY_BYTES = 6_144
WORDS_BYTES = 1_024
LISTED = 24
_TROUBLES = ("config_rejected", "journal_lost", "kernel_log_lost", "kernel_log_unreadable", "spoof_suspected", "check_problem")
_WARNS = frozenset(("fault_active", *_TROUBLES))
_TEXTS = frozenset(("serial", "uuid", "registers"))
"""Attributes that may look like a number and are none: one key is one type, or a log store refuses every second record."""


def timestamp(utc: float) -> str:
    """Return RFC 3339 in UTC with milliseconds, `2026-11-24T13:02:11.042Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(utc)) + f".{int(utc % 1 * 1000):03d}Z"


def event_id(change: Change) -> str:
    """Return an id that the same change gets again when a crash makes the agent live it twice."""
    if change.fault is not None:
        return f"{change.fault.id}-{change.kind.partition('_')[2]}"
    text = f"{change.kind}|{change.at.boot_id}|{change.at.mono:.6f}|{change.note}"
    return hashlib.blake2s(text.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()


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
        body |= _short(verdict_body(change.verdict))
    if change.note:
        body["note"] = bounded(change.note, NOTE_BYTES)
    body |= _attrs((*(change.fault.attrs if change.fault else ()), *change.attrs))
    body |= {"node": bounded(node.hostname, NAME_BYTES), "boot_id": change.at.boot_id}
    if node.instance_id:
        body["instance_id"] = node.instance_id
    if node.instance_type:
        body["instance_type"] = node.instance_type
    return body


def to_line(body: Mapping[str, object]) -> str:
    """Return the record as one line of JSON; `body` holds what JSON can say, and other things as their text."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=str).translate(_ESCAPES)


def bounded(text: str, limit: int) -> str:
    """Return `text`, or as much of its beginning as takes `limit` bytes in JSON, with a word on how much is missing."""
    # The text of a program may hold half a surrogate pair, which no database and no socket takes.
    text = text.encode("utf-8", "backslashreplace").decode()
    kept = text[:limit]
    while (size := _size(kept)) > limit:
        kept = kept[: min(len(kept) - 1, len(kept) * limit // size)]
    return text if len(kept) == len(text) else f"{kept}… (+{len(text) - len(kept)} characters)"


def condition(policy: Policy) -> tuple[str, str]:
    """Return HyperPod's fault type and reason of a row; rows without one get words made from the code."""
    words = "".join(word.capitalize() for word in policy.code.replace("_", "-").split("-"))
    return policy.fault_type or "NodeHealth", policy.fault_reason or words


def _level(change: Change) -> str:
    if change.kind in _WARNS or (change.verdict is not None and change.verdict.health is Status.FAILED):
        return "warn"
    return "info"


def _fault(kind: str, fault: Fault, policy: Policy) -> Record:
    fault_type, reason = (bounded(words, WORD_BYTES) for words in condition(policy))
    raised = kind != "fault_resolved"
    detail, evidence = bounded(fault.detail, TEXT_BYTES), bounded(fault.evidence, EVIDENCE_BYTES)
    words = evidence or detail
    body: Record = {}
    if kind == "fault_active":
        body[DETECTION_KEY] = DETECTION_VALUE
        # A published query takes the first number after `Xid` and a colon, which in the kernel line is the PCI domain: 0000.
        # Said in front of that line, the query finds the XID instead.
        if xid := dict(fault.attrs).get("xid"):
            body["Xid"] = _number("xid", bounded(xid, NAME_BYTES))
    message = (
        f"Node condition {fault_type} is now: {raised}, reason: {reason}, message: {json.dumps(words, ensure_ascii=False)}"
    )
    body["details: "] = {
        "severity": "warn" if raised else "info",
        "timestamp": timestamp(fault.first_seen.utc if raised else fault.changed.utc),
        "reason": reason,
        "message": message,
    }
    if kind in ("fault_active", "fault_confirmed") and fault.action.destructive:
        body["Event detail"] = {"Action": fault.action.value, "Type": fault_type, "Reason": reason, "Message": words}
    body |= {
        "fault_id": fault.id,
        "code": bounded(fault.code, NAME_BYTES),
        "title": bounded(policy.title, NAME_BYTES),
        "component": bounded(fault.component, NAME_BYTES),
        "check": fault.check,
        "status": fault.status.value,
        "action": fault.action.value,
        "count": fault.count,
        "first_seen": timestamp(fault.first_seen.utc),
        "detail": detail,
        "evidence": evidence,
    }
    if fault.inhibited_by:
        body["inhibited_by"] = fault.inhibited_by
    if fault.confirmed_by:
        body["confirmed_by"] = list(fault.confirmed_by[:LISTED])
    if fault.refuted_by:
        body["refuted_by"] = list(fault.refuted_by[:LISTED])
    if len(fault.routes) > 1:
        body["routes"] = list(fault.routes[:LISTED])
    return body


def _attrs(attrs: Attrs) -> Record:
    """Return the attributes as keys of their own, as far as `ATTRS_BYTES` reach; the first of two with one name counts."""
    body: Record = {}
    left = ATTRS_BYTES
    for name, value in attrs:
        key = bounded(f"attr_{name}" if name in KEYS else name, NAME_BYTES)
        told = _number(name, bounded(value, ATTR_BYTES))
        left -= _size(key) + _size(str(told)) + 4
        if left < 0:
            break
        body.setdefault(key, told)
    return body


def verdict_body(verdict: Verdict) -> Record:
    """Return the keys of a verdict."""
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


def _short(body: Record) -> Record:
    """Return a verdict's keys with lists that fit a line; `why_more` counts the reasons left out."""
    why = body["why"]
    assert isinstance(why, list)
    told = [{key: bounded(str(value), NAME_BYTES) for key, value in reason.items()} for reason in why[:LISTED]]
    body["why"] = _first(told, WHY_BYTES)
    if left := len(why) - len(_first(told, WHY_BYTES)):
        body["why_more"] = left
    for key in ("awaiting", "blind"):
        if isinstance(words := body.get(key), list):
            body[key] = _first([bounded(str(word), NAME_BYTES) for word in words[:LISTED]], WORDS_BYTES)
    return body


def _first(items: list[T], limit: int) -> list[T]:
    """Return the first items that together take `limit` bytes in JSON."""
    sizes = accumulate(len(to_line({"": item}).encode()) for item in items)
    return [item for item, size in zip(items, sizes, strict=True) if size <= limit]


def _number(key: str, value: str) -> object:
    plain = value.isascii() and value.isdigit() and len(value) < 16 and str(int(value)) == value
    return int(value) if plain and key not in _TEXTS else value


def _size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).translate(_ESCAPES).encode()) - 2


_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}
"""JSON lets these stand; some readers take them for the end of a line, and some terminals for a command."""
