"""Refute: a second source that looked, and found nothing of a fault that waits for its confirmation.

Rules of this file:
- Only an explicit `ok` refutes; a report that merely leaves a component out does not, nor does a counter that stands still.
- It must have looked `REFUTE_AFTER_S` after the fault began to count: a slow program's answer is older than it looks.
- It must have seen what it clears: an `ok` of the whole node says nothing of a component that its report could not look at.
- While a fault of any of the row's second sources is live on the same place, if only pending, the sources disagree: the wait
  goes on, and what is confirmed stays so.
- It only shortens a wait: afterwards the row's `otherwise` counts. A confirmation that still comes in time wins (`decide`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from hma.catalogue import Catalogue, Confirm
from hma.engine.seen import Seen
from hma.model import Fault, FaultKey, FaultState, Status

WHOLE_NODE = ("node", "host")
REFUTE_AFTER_S = 10.0


def confirmable_until(fault: Fault, within_s: float) -> float:
    """Return the boottime second up to which a second source is waited for: from when the fault began to count, not from its
    event, which may have been read late."""
    return fault.changed.mono + within_s


def _awaiting(faults: Iterable[Fault], catalogue: Catalogue) -> list[tuple[Fault, Confirm]]:
    """Return the faults that a second source can refute, with their rules."""
    return [
        (fault, rule)
        for fault in faults
        if (rule := catalogue[fault.code].confirm) is not None and fault.state is FaultState.ACTIVE and not fault.inhibited_by
    ]


def refuted(faults: Mapping[FaultKey, Fault], seen: Iterable[Seen], catalogue: Catalogue) -> Iterator[Fault]:
    """Yield those of the live `faults` that something in `seen` refutes, with `refuted_by` filled."""
    fine = [one for one in seen if one.observation.status is Status.OK and one.observation.counter is None]
    if not fine:
        return
    for fault, rule in _awaiting(faults.values(), catalogue):
        by = {one.observation.code for one in fine if _refutes(one, fault, rule)} - set(fault.refuted_by)
        if by and not _disputed(fault, rule, faults):
            yield replace(fault, refuted_by=(*fault.refuted_by, *sorted(by)))


def _refutes(seen: Seen, fault: Fault, rule: Confirm) -> bool:
    word, moment = seen.observation, seen.at.mono
    in_time = fault.changed.mono + REFUTE_AFTER_S <= moment < confirmable_until(fault, rule.within_s)
    there = word.component == fault.component or word.component in WHOLE_NODE
    return word.code in rule.refuters and in_time and there and _looked_at(seen, fault)


def _looked_at(seen: Seen, fault: Fault) -> bool:
    if seen.observation.component == fault.component:
        return True
    grey = {o.component for o in seen.report.observations if o.status is Status.UNKNOWN}
    return fault.component not in grey and not grey.intersection(WHOLE_NODE)


def _disputed(fault: Fault, rule: Confirm, faults: Mapping[FaultKey, Fault]) -> bool:
    return any(key.code in rule.by and _same_place(key.component, fault.component) for key in faults)


def _same_place(one: str, other: str) -> bool:
    return one == other or one in WHOLE_NODE or other in WHOLE_NODE
