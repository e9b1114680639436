"""Relate: which faults are mere consequences of others, and which are confirmed by a second source.

Rules of this file:
- A fault that is itself inhibited inhibits nothing, so two faults can never silence each other. Nor does one that is still
  pending: it may be forgotten, and then nobody could find the cause that the record names.
- A cause that has ended still explains what came with it, and what comes within the row's time after it.
- A consequence stays one until it is seen again without its cause.
- A fault is confirmed by *active* faults of other codes only; the confirmation ends when they do.
- What is wrong with the node as a whole does not name a component, so it confirms, and is confirmed by, only what begins on one
  within the row's time: a count that has been one too low for a week says nothing of the GPU that fails today.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from hma.catalogue import Catalogue, Confirm, Inhibit
from hma.engine.correlate import overlap
from hma.engine.refute import WHOLE_NODE, confirmable_until
from hma.model import Fault, FaultKey, FaultState, Past

NAMED_CAUSE = Inhibit(by=())
"""The rule of a row that has none, for a cause that the device itself names."""


def relate(faults: Mapping[FaultKey, Fault], catalogue: Catalogue, history: tuple[Past, ...] = ()) -> dict[FaultKey, Fault]:
    """Return the faults with `inhibited_by` and `confirmed_by` brought up to date; `history` holds the causes that ended."""
    related: dict[FaultKey, Fault] = dict(faults)
    for fault in _most_severe_first(faults.values(), catalogue):
        inhibitor = inhibitor_of(fault, related.values(), catalogue, history)
        confirmers = _confirmers(fault, related.values(), catalogue)
        if inhibitor != fault.inhibited_by or confirmers != fault.confirmed_by:
            related[fault.key] = replace(fault, inhibited_by=inhibitor, confirmed_by=confirmers)
    return related


def inhibitor_of(fault: Fault, faults: Iterable[Fault], catalogue: Catalogue, history: tuple[Past, ...]) -> str:
    """Return the id of the fault that `fault` is a consequence of, or "" where it stands for itself."""
    rule = catalogue[fault.code].inhibit or (NAMED_CAUSE if fault.cause else None)
    if rule is None:
        return ""
    by = [other for other in faults if _is_cause(fault, other, rule, catalogue)]
    if by:
        return min(by, key=lambda other: (-catalogue[other.code].action.rank, other.first_seen.mono, other.id)).id
    if fault.inhibited_by:
        return fault.inhibited_by
    ended = [past for past in history if _was_cause(fault, past, rule, catalogue)]
    return min(ended, key=lambda past: (-past.action.rank, past.first_mono, past.fault_id)).fault_id if ended else ""


def _most_severe_first(faults: Iterable[Fault], catalogue: Catalogue) -> list[Fault]:
    def order(fault: Fault) -> tuple[int, int, float, str, str]:
        row = catalogue[fault.code]
        return (row.inhibit is not None, -row.action.rank, fault.first_seen.mono, fault.code, fault.component)

    return sorted(faults, key=order)


def _is_cause(fault: Fault, other: Fault, rule: Inhibit, catalogue: Catalogue) -> bool:
    if other.key == fault.key or other.inhibited_by or other.state is not FaultState.ACTIVE:
        return False
    if _named(fault, other.code, catalogue) and other.component == fault.component:
        return True
    explains = _explains(fault, other.code, other.component, rule, catalogue)
    return explains and overlap(fault, other, rule.within_s)


def _was_cause(fault: Fault, past: Past, rule: Inhibit, catalogue: Catalogue) -> bool:
    seen = fault.last_seen
    # Unlike a cause that lasts, one that has ended explains only what was seen near it.
    near = past.first_mono - rule.within_s <= seen.mono <= past.last_mono + rule.within_s
    if not near or past.boot_id != seen.boot_id or past.consequence or (past.code, past.component) == fault.key:
        return False
    if _named(fault, past.code, catalogue) and past.component == fault.component:
        return True
    return _explains(fault, past.code, past.component, rule, catalogue)


def _named(fault: Fault, code: str, catalogue: Catalogue) -> bool:
    """Return whether the device named `code` as the cause; it names the number only, and the code may be refined."""
    refined = code == fault.cause or code.startswith(f"{fault.cause}-")
    return bool(fault.cause) and refined and not catalogue[code].counts


def _explains(fault: Fault, code: str, component: str, rule: Inhibit, catalogue: Catalogue) -> bool:
    if not rule.node and component != fault.component:
        return False
    if "*" not in rule.by:
        return code in rule.by
    row = catalogue[code]
    # A repetition row only counts what others report, so it is nobody's cause.
    same_family = row.family == catalogue[fault.code].family and not row.counts
    return same_family and (row.inhibit is None or "*" not in row.inhibit.by)


def _confirmers(fault: Fault, faults: Iterable[Fault], catalogue: Catalogue) -> tuple[str, ...]:
    rule = catalogue[fault.code].confirm
    if rule is None:
        return ()
    return tuple(sorted(other.id for other in faults if _confirms(fault, other, rule)))


def _confirms(fault: Fault, other: Fault, rule: Confirm) -> bool:
    if other.code not in rule.by or other.code == fault.code or other.state is not FaultState.ACTIVE:
        return False
    same_place = other.component == fault.component or other.component in WHOLE_NODE or fault.component in WHOLE_NODE
    in_time = overlap(fault, other, rule.within_s) or _met_while_awaited(fault, other, rule)
    return same_place and in_time and not _stood_before(fault, other, rule)


def _stood_before(fault: Fault, other: Fault, rule: Confirm) -> bool:
    """Return whether one of the two is of the whole node, and stood long before the other began on its component."""
    if (fault.component in WHOLE_NODE) is (other.component in WHOLE_NODE):
        return False
    whole, part = (fault, other) if fault.component in WHOLE_NODE else (other, fault)
    return whole.first_seen.mono + rule.within_s < part.first_seen.mono


def _met_while_awaited(fault: Fault, other: Fault, rule: Confirm) -> bool:
    """Return whether `other` came while `decide` waits for it, however long ago the event of `fault` was."""
    if fault.state is not FaultState.ACTIVE:
        return False
    return fault.changed.mono <= other.last_seen.mono and other.first_seen.mono <= confirmable_until(fault, rule.within_s)
