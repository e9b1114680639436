"""Relate: which faults are mere consequences of others, and which are confirmed by a second source.

Rules of this file:
- A fault that is itself inhibited inhibits nothing, so two faults can never silence each other.
- A fault is confirmed by *active* faults of other codes only; the confirmation ends when they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from hma.catalogue import Catalogue, Confirm, Inhibit
from hma.engine.correlate import overlap
from hma.model import Fault, FaultKey, FaultState

WHOLE_NODE = ("node", "host")


def relate(faults: Mapping[FaultKey, Fault], catalogue: Catalogue) -> dict[FaultKey, Fault]:
    """Return the faults with `inhibited_by` and `confirmed_by` brought up to date."""
    related: dict[FaultKey, Fault] = dict(faults)
    for fault in _most_severe_first(faults.values(), catalogue):
        inhibitor = _inhibitor(fault, related.values(), catalogue)
        confirmers = _confirmers(fault, related.values(), catalogue)
        if inhibitor != fault.inhibited_by or confirmers != fault.confirmed_by:
            related[fault.key] = replace(fault, inhibited_by=inhibitor, confirmed_by=confirmers)
    return related


def _most_severe_first(faults: Iterable[Fault], catalogue: Catalogue) -> list[Fault]:
    def order(fault: Fault) -> tuple[int, int, float, str, str]:
        row = catalogue[fault.code]
        return (row.inhibit is not None, -row.action.rank, fault.first_seen.mono, fault.code, fault.component)

    return sorted(faults, key=order)


def _inhibitor(fault: Fault, faults: Iterable[Fault], catalogue: Catalogue) -> str:
    rule = catalogue[fault.code].inhibit
    if rule is None and not fault.cause:
        return ""
    by = [other for other in faults if _is_cause(fault, other, rule, catalogue)]
    if by:
        return min(by, key=lambda other: (-catalogue[other.code].action.rank, other.first_seen.mono, other.id)).id
    # The cause may have ended first (a reset cures it within seconds); the consequence stays one until it is seen again.
    return fault.inhibited_by


def _is_cause(fault: Fault, other: Fault, rule: Inhibit | None, catalogue: Catalogue) -> bool:
    if other.key == fault.key or other.inhibited_by:
        return False
    if fault.cause == other.code and other.component == fault.component:
        return True
    if rule is None or not overlap(fault, other, rule.within_s):
        return False
    if not rule.node and other.component != fault.component:
        return False
    if "*" not in rule.by:
        return other.code in rule.by
    row = catalogue[other.code]
    return row.family == catalogue[fault.code].family and (row.inhibit is None or "*" not in row.inhibit.by)


def _confirmers(fault: Fault, faults: Iterable[Fault], catalogue: Catalogue) -> tuple[str, ...]:
    rule = catalogue[fault.code].confirm
    if rule is None:
        return ()
    return tuple(sorted(other.id for other in faults if _confirms(fault, other, rule)))


def _confirms(fault: Fault, other: Fault, rule: Confirm) -> bool:
    if other.code not in rule.by or other.code == fault.code or other.state is not FaultState.ACTIVE:
        return False
    same_place = other.component == fault.component or other.component in WHOLE_NODE or fault.component in WHOLE_NODE
    return same_place and overlap(fault, other, rule.within_s)
