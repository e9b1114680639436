"""One step of the engine: reports in, the next state and the changes worth a record out.

Rules of this file:
- Pure, and the only door into the engine: the agent, `hma check`, `hma replay` and the tests all call `step`.
- A change is told once, when it happens; a fault seen a thousand times more changes its count, and nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from hma.catalogue import Catalogue
from hma.engine.correlate import correlate
from hma.engine.decide import decide
from hma.engine.relate import relate
from hma.model import Action, Change, Fault, FaultKey, FaultState, Instant, Observation, Past, Report, State, Status, Verdict

HISTORY_KEPT_S = 30 * 86_400.0
HISTORY_KEPT = 512


class Stepped(NamedTuple):
    """The next state and what changed on the way to it, oldest first."""

    state: State
    changes: tuple[Change, ...]


def beginning(now: Instant) -> State:
    """Return the state of a node of which nothing is known: health unknown, nothing asked for."""
    return State(Verdict(Status.UNKNOWN, True, Action.NONE, "now", now))


def step(state: State, reports: Iterable[Report], catalogue: Catalogue, now: Instant) -> Stepped:
    """Return the state after `reports` at `now`, and the changes."""
    aliases, told = _resolve(state.aliases, tuple(reports))
    live, ended = correlate(state.faults, told, catalogue, now)
    faults = relate(live, catalogue)
    history = _remember(state.history, ended, now)
    before = _lift(state.verdict, told)
    verdict = decide(faults, catalogue, history, now, before)
    faults = _with_actions(faults, verdict)
    following = State(verdict, faults, history, aliases)
    return Stepped(following, _changes(state, following, ended, now))


def _resolve(aliases: Mapping[str, str], reports: tuple[Report, ...]) -> tuple[Mapping[str, str], tuple[Report, ...]]:
    known = dict(aliases)
    for report in reports:
        for observation in report.observations:
            uuid = dict(observation.attrs).get("uuid")
            if uuid and observation.code.endswith("-IDENTITY"):
                known[f"gpu:{uuid}"] = observation.component
    resolved = tuple(replace(report, observations=tuple(_renamed(o, known) for o in report.observations)) for report in reports)
    return (known if known != aliases else aliases), resolved


def _renamed(observation: Observation, aliases: Mapping[str, str]) -> Observation:
    component = aliases.get(observation.component)
    return observation if component is None else replace(observation, component=component)


def _remember(history: tuple[Past, ...], ended: tuple[Fault, ...], now: Instant) -> tuple[Past, ...]:
    if not ended:
        return history
    fresh = tuple(
        Past(
            f.id,
            f.code,
            f.component,
            f.last_seen.boot_id,
            f.first_seen.utc,
            now.utc,
            f.ended_because,
            f.action,
        )
        for f in ended
    )
    kept = [past for past in (*history, *fresh) if now.utc - past.ended_utc <= HISTORY_KEPT_S]
    return tuple(kept[-HISTORY_KEPT:])


def _lift(verdict: Verdict, reports: tuple[Report, ...]) -> Verdict:
    if verdict.health is not Status.UNKNOWN:
        return verdict
    looked = any(o.status is not Status.UNKNOWN for report in reports for o in report.observations)
    return replace(verdict, health=Status.OK) if looked else verdict


def _with_actions(faults: Mapping[FaultKey, Fault], verdict: Verdict) -> dict[FaultKey, Fault]:
    actions = {reason.fault_id: reason.action for reason in verdict.why}
    return {
        key: fault
        if fault.action is actions.get(fault.id, Action.NONE)
        else replace(fault, action=actions[fault.id])
        if fault.id in actions
        else replace(fault, action=Action.NONE)
        for key, fault in faults.items()
    }


def _changes(before: State, after: State, ended: tuple[Fault, ...], now: Instant) -> tuple[Change, ...]:
    changes = [Change("fault_resolved", now, fault=fault, note=fault.ended_because) for fault in ended]
    for key, fault in after.faults.items():
        known = before.faults.get(key)
        if known is not None and known.id != fault.id:
            known = None
        if fault.state is FaultState.ACTIVE and (known is None or known.state is not FaultState.ACTIVE):
            changes.append(Change("fault_active", now, fault=fault))
        if fault.inhibited_by and (known is None or not known.inhibited_by):
            changes.append(Change("fault_inhibited", now, fault=fault, note=f"a consequence of fault {fault.inhibited_by}"))
        if fault.confirmed_by and (known is None or not known.confirmed_by):
            changes.append(Change("fault_confirmed", now, fault=fault, note="by fault " + ", ".join(fault.confirmed_by)))
    if after.verdict.since != before.verdict.since or _said(after.verdict) != _said(before.verdict):
        changes.append(Change("verdict_changed", now, verdict=after.verdict))
    return tuple(changes)


def _said(verdict: Verdict) -> tuple[object, ...]:
    return (verdict.health, verdict.schedulable, verdict.action, verdict.when, bool(verdict.awaiting))
