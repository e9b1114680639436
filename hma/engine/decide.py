"""Decide: faults and their catalogue rows become one verdict on the node.

Rules of this file:
- Only active, uninhibited faults count; each is worth what its row says, never more.
- The verdict asks for the most severe action that is justified. Where the row asks for a second source, its action waits for
  the confirmation; without one, after the row's time, at most `otherwise` is justified.
- `again` replaces `action` when the same component failed with the same code before a reboot, or still fails after one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from hma.catalogue import Catalogue, Policy
from hma.model import Action, Fault, FaultKey, FaultState, Instant, Past, Reason, Status, Verdict


class Worth(NamedTuple):
    """What one fault justifies now, by which rule, what it still waits for (empty = nothing), and whether that wait already
    keeps new work away (strong evidence of a destructive action does, a weak hint does not)."""

    action: Action
    rule: str
    awaiting: str = ""
    holds_work: bool = False


def decide(
    faults: Mapping[FaultKey, Fault], catalogue: Catalogue, history: Iterable[Past], now: Instant, before: Verdict
) -> Verdict:
    """Return the verdict on the node; `before` only lends its `since` where nothing that matters changed."""
    past = tuple(history)
    counting = [f for f in faults.values() if f.state is FaultState.ACTIVE and not f.inhibited_by]
    worths = [(fault, worth(fault, catalogue[fault.code], past, now)) for fault in sorted(counting, key=_oldest)]
    reasons = tuple(Reason(f.id, f.code, f.component, w.action, w.rule) for f, w in worths if not _blindness(f, catalogue))
    action = max((reason.action for reason in reasons), key=lambda a: a.rank, default=Action.NONE)
    awaiting = tuple(w.awaiting for _, w in worths if w.awaiting)
    schedulable = not action.destructive and not any(w.holds_work for _, w in worths)
    urgent = any(w.action is action and catalogue[f.code].when == "now" for f, w in worths)
    verdict = Verdict(
        health=_health(schedulable, reasons, before),
        schedulable=schedulable,
        action=action,
        when="now" if urgent or not action.destructive else "idle",
        since=now,
        why=reasons,
        awaiting=awaiting,
        blind=tuple(f.component.partition(":")[2] for f, _ in worths if _blindness(f, catalogue)),
    )
    return replace(verdict, since=before.since) if _matters(verdict) == _matters(before) else verdict


def worth(fault: Fault, policy: Policy, history: Iterable[Past], now: Instant) -> Worth:
    """Return what `fault` justifies now."""
    wanted, rule = policy.action, f"{policy.code}: {policy.action.value}"
    if policy.again is not None and policy.again.rank > wanted.rank and failed_before(fault, policy, history):
        wanted, rule = policy.again, f"{policy.code}: {policy.again.value}, failed again after a reboot"
    confirm = policy.confirm
    if confirm is None or wanted.rank <= confirm.otherwise.rank:
        return Worth(wanted, rule)
    if len(fault.confirmed_by) >= confirm.count:
        return Worth(wanted, f"{rule}, confirmed by a second source")
    sources = " or ".join(confirm.by)
    until = fault.changed.mono + confirm.within_s
    if now.mono < until:
        waiting = f"{fault.code} on {fault.component}: {wanted.value} awaits {sources}"
        holds_work = wanted.destructive and policy.evidence == "strong"
        return Worth(Action.NONE, f"{rule}, awaiting {sources}", waiting, holds_work)
    return Worth(confirm.otherwise, f"{rule}, not confirmed by {sources}: {confirm.otherwise.value}")


def failed_before(fault: Fault, policy: Policy, history: Iterable[Past]) -> bool:
    """Return whether the component showed this code on an earlier boot, and a new boot lies between."""
    if fault.first_seen.boot_id != fault.last_seen.boot_id:
        return True
    return any(
        past.code == fault.code
        and past.component == fault.component
        and past.boot_id != fault.first_seen.boot_id
        and fault.first_seen.utc - past.ended_utc <= policy.again_within_s
        for past in history
    )


def _oldest(fault: Fault) -> tuple[float, str, str]:
    return (fault.first_seen.mono, fault.code, fault.component)


def _blindness(fault: Fault, catalogue: Catalogue) -> bool:
    return catalogue[fault.code].raised_by == "unknown"


def _health(schedulable: bool, reasons: tuple[Reason, ...], before: Verdict) -> Status:
    if not schedulable:
        return Status.FAILED
    if reasons:
        return Status.DEGRADED
    # Nothing found is only "ok" once something has been looked at; `step` lifts the first unknown.
    return Status.UNKNOWN if before.health is Status.UNKNOWN else Status.OK


def _matters(verdict: Verdict) -> tuple[Status, bool, Action, str]:
    return (verdict.health, verdict.schedulable, verdict.action, verdict.when)
