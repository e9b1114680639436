"""Decide: faults and their catalogue rows become one verdict on the node.

Rules of this file:
- Only active, uninhibited faults count; each is worth what its row says, never more. Blindness is named, and worth nothing.
- The verdict asks for the most severe action that is justified. Where the row asks for a second source, its action waits for
  the confirmation; without one, after the row's time, at most `otherwise` is justified, and so it is as soon as one refutes it.
- One weak hint alone never asks for something destructive. What was seen before a reboot asks for no second reboot.
- `again` replaces `action` when the same component failed with the same code before a reboot, or still fails after one. It may
  be `none`: what did not help is then not tried twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from hma.catalogue import Catalogue, Policy
from hma.engine.refute import confirmable_until
from hma.model import Action, Fault, FaultKey, FaultState, Instant, Past, Reason, Status, Verdict

SOURCES_NAMED = 3


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
    counting = sorted((f for f in faults.values() if f.state is FaultState.ACTIVE and not f.inhibited_by), key=_oldest)
    blind = [f for f in counting if catalogue[f.code].raised_by == "unknown"]
    worths = [(f, worth(f, catalogue[f.code], past, now)) for f in counting if f not in blind]
    reasons = tuple(Reason(f.id, f.code, f.component, w.action, w.rule) for f, w in worths)
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
        blind=tuple(f.component.partition(":")[2] for f in blind),
    )
    return replace(verdict, since=before.since) if _matters(verdict) == _matters(before) else verdict


def worth(fault: Fault, policy: Policy, history: Iterable[Past], now: Instant) -> Worth:
    """Return what `fault` justifies now."""
    wanted, rule = policy.action, f"{policy.code}: {policy.action.value}"
    if policy.again is not None and policy.again is not wanted and failed_before(fault, policy, history):
        wanted, rule = policy.again, f"{policy.code}: {policy.again.value}, failed again after a reboot"
    found = _confirmed(fault, policy, wanted, rule, now)
    return _after_reboot(fault, policy, found, now)


def failed_before(fault: Fault, policy: Policy, history: Iterable[Past]) -> bool:
    """Return whether the component showed this code on an earlier boot, and a new boot lies between."""
    first = _boots(fault)[0]
    if _boots(fault)[-1] != first:
        return True
    return any(
        past.code == fault.code
        and past.component == fault.component
        and past.boot_id != first
        and not past.consequence
        and fault.first_seen.utc - past.ended_utc <= policy.again_within_s
        for past in history
    )


def _confirmed(fault: Fault, policy: Policy, wanted: Action, rule: str, now: Instant) -> Worth:
    confirm = policy.confirm
    if confirm is None:
        return _alone(policy, wanted, rule)
    if wanted.rank <= confirm.otherwise.rank:
        return _alone(policy, wanted, rule) if not fault.confirmed_by else Worth(wanted, rule)
    if len(fault.confirmed_by) >= confirm.count:
        return Worth(wanted, f"{rule}, confirmed by a second source")
    if fault.refuted_by:
        return _alone(
            policy, confirm.otherwise, f"{rule}, refuted by {' and '.join(fault.refuted_by)}: {confirm.otherwise.value}"
        )
    sources = _sources(confirm.by)
    if now.mono < confirmable_until(fault, confirm.within_s):
        waiting = f"{fault.code} on {fault.component}: {wanted.value} awaits {sources}"
        holds_work = wanted.destructive and policy.evidence == "strong"
        return Worth(Action.NONE, f"{rule}, awaiting {sources}", waiting, holds_work)
    return _alone(policy, confirm.otherwise, f"{rule}, not confirmed by {sources}: {confirm.otherwise.value}")


def _sources(codes: tuple[str, ...]) -> str:
    """Return the codes in words, the first few of many: all of them stand in the row."""
    named = codes if len(codes) <= SOURCES_NAMED + 1 else (*codes[:SOURCES_NAMED], f"{len(codes) - SOURCES_NAMED} others")
    return " or ".join(named)


def _alone(policy: Policy, action: Action, rule: str) -> Worth:
    # Whatever a row says: one weak hint is not enough to end what runs on a node.
    if action.destructive and policy.evidence == "weak":
        return Worth(Action.NONE, f"{rule}, but weak evidence alone asks for nothing")
    return Worth(action, rule)


def _after_reboot(fault: Fault, policy: Policy, found: Worth, now: Instant) -> Worth:
    # Evidence from before a reboot asks for no second one: the cure that it asked for has been had. What the component is like
    # now, the next look tells; until then nothing new is placed on the node. A replacement, once justified, stands.
    if found.action in (Action.NONE, Action.REPLACE) or _boots(fault)[-1] == now.boot_id:
        return found
    if not found.action.destructive or not any(end.kind == "ok" for end in policy.ends):
        return Worth(Action.NONE, f"{found.rule}, and the node has rebooted since")
    waiting = f"{fault.code} on {fault.component}: the node has rebooted, awaits a new look"
    return Worth(Action.NONE, f"{found.rule}, and the node has rebooted since", waiting, policy.evidence == "strong")


def _boots(fault: Fault) -> tuple[str, ...]:
    return fault.boots or (fault.first_seen.boot_id,)


def _oldest(fault: Fault) -> tuple[float, str, str]:
    return (fault.first_seen.mono, fault.code, fault.component)


def _health(schedulable: bool, reasons: tuple[Reason, ...], before: Verdict) -> Status:
    if not schedulable:
        return Status.FAILED
    if reasons:
        return Status.DEGRADED
    # Nothing found is only "ok" once something has been looked at; `step` lifts the first unknown.
    return Status.UNKNOWN if before.health is Status.UNKNOWN else Status.OK


def _matters(verdict: Verdict) -> tuple[Status, bool, Action, str]:
    return (verdict.health, verdict.schedulable, verdict.action, verdict.when)
