"""One step of the engine: reports in, the next state and the changes worth a record out.

Rules of this file:
- Pure, and the only door into the engine: the agent, `hma check`, `hma replay` and the tests all call `step`.
- A change is told once, when it happens; a fault seen a thousand times more changes its count, and nothing is said. A fault
  that begins and ends between two steps is told as well.
- A consequence is told as `fault_inhibited`, not as `fault_active`: an alarm for it would be one too many. It becomes
  `fault_active` when it is seen again without its cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from hma.catalogue import Catalogue
from hma.engine.correlate import correlate
from hma.engine.decide import decide
from hma.engine.relate import inhibitor_of, relate
from hma.engine.seen import last_of
from hma.model import (
    Action,
    Change,
    Fault,
    FaultKey,
    FaultState,
    Instant,
    Observation,
    Past,
    Report,
    State,
    Status,
    Verdict,
)

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
    live, gone, counters = correlate(state.faults, told, catalogue, now, state.history, aliases, state.counters)
    ended = tuple(_explained(fault, (*live.values(), *gone), catalogue, state.history) for fault in gone)
    history = _remember(state.history, ended, now)
    faults = relate(live, catalogue, history)
    verdict = decide(faults, catalogue, history, now, _lift(state.verdict, told, now))
    faults = _with_actions(faults, verdict)
    changes = [change for fault in ended for change in _ends(fault, now)]
    for key, fault in faults.items():
        news = _news(fault, now)
        if news:
            changes += news
            faults[key] = replace(fault, told=(*fault.told, *(change.kind for change in news)))
    if _said(verdict) != _said(state.verdict):
        changes.append(Change("verdict_changed", now, verdict=verdict))
    return Stepped(State(verdict, faults, history, aliases, counters), tuple(changes))


# -- names ------------------------------------------------------------------------------------------------------------


def _resolve(aliases: Mapping[str, str], reports: tuple[Report, ...]) -> tuple[Mapping[str, str], tuple[Report, ...]]:
    known = dict(aliases)
    for report in reports:
        for observation in report.observations:
            if observation.code.endswith("-IDENTITY"):
                uuid = dict(observation.attrs).get("uuid")
                if uuid:
                    known[f"gpu:{uuid}"] = observation.component
    resolved = tuple(replace(report, observations=tuple(_renamed(o, known) for o in report.observations)) for report in reports)
    return (known if known != aliases else aliases), resolved


def _renamed(observation: Observation, aliases: Mapping[str, str]) -> Observation:
    component = aliases.get(observation.component)
    return observation if component is None else replace(observation, component=component)


# -- the past ---------------------------------------------------------------------------------------------------------


def _explained(fault: Fault, others: tuple[Fault, ...], catalogue: Catalogue, history: tuple[Past, ...]) -> Fault:
    """Return a fault that ended, with its cause where it was too short to be related to others while it lived."""
    if fault.told:
        return fault
    causes = tuple(other if other.state is FaultState.ACTIVE else replace(other, state=FaultState.ACTIVE) for other in others)
    return replace(fault, inhibited_by=inhibitor_of(fault, causes, catalogue, history))


def _remember(history: tuple[Past, ...], ended: tuple[Fault, ...], now: Instant) -> tuple[Past, ...]:
    """Return `history` with the `ended`: per code, component and boot the last, so that one that comes and goes all day cannot
    push out what failed before a reboot. Never cut by age: the clock of records may be years off."""
    if not ended:
        return history
    kept = {(past.code, past.component, past.boot_id): past for past in history}
    for fault in ended:
        past = _past(fault, now)
        place = (past.code, past.component, past.boot_id)
        kept.pop(place, None)
        kept[place] = past
    return tuple(kept.values())[-HISTORY_KEPT:]


def _past(fault: Fault, now: Instant) -> Past:
    last = last_of(fault)
    return Past(
        fault_id=fault.id,
        code=fault.code,
        component=fault.component,
        boot_id=fault.boots[-1] if fault.boots else fault.last_seen.boot_id,
        raised_utc=fault.first_seen.utc,
        ended_utc=now.utc,
        ended_because=fault.ended_because,
        action=fault.action,
        first_mono=fault.first_seen.mono,
        last_mono=last.mono,
        consequence=bool(fault.inhibited_by),
        routes=last.routes,
    )


# -- the verdict ------------------------------------------------------------------------------------------------------


def _lift(verdict: Verdict, reports: tuple[Report, ...], now: Instant) -> Verdict:
    if verdict.health is not Status.UNKNOWN:
        return verdict
    looked = any(o.status is not Status.UNKNOWN for report in reports for o in report.observations)
    return replace(verdict, health=Status.OK, since=now) if looked else verdict


def _with_actions(faults: Mapping[FaultKey, Fault], verdict: Verdict) -> dict[FaultKey, Fault]:
    actions = {reason.fault_id: reason.action for reason in verdict.why}
    wanted = {key: actions.get(fault.id, Action.NONE) for key, fault in faults.items()}
    return {key: f if f.action is wanted[key] else replace(f, action=wanted[key]) for key, f in faults.items()}


# -- changes ----------------------------------------------------------------------------------------------------------


def _ends(fault: Fault, now: Instant) -> list[Change]:
    began = [] if fault.told else _news(replace(fault, state=FaultState.ACTIVE), now)
    return [*began, Change("fault_resolved", now, fault=fault, note=fault.ended_because)]


def _news(fault: Fault, now: Instant) -> list[Change]:
    if fault.state is not FaultState.ACTIVE:
        return []
    news = []
    if fault.inhibited_by:
        news.append(Change("fault_inhibited", now, fault=fault, note=f"a consequence of fault {fault.inhibited_by}"))
    else:
        news.append(Change("fault_active", now, fault=fault))
    if fault.confirmed_by:
        news.append(Change("fault_confirmed", now, fault=fault, note="by fault " + ", ".join(fault.confirmed_by)))
    if fault.refuted_by:
        news.append(Change("fault_refuted", now, fault=fault, note="by " + ", ".join(fault.refuted_by)))
    return [change for change in news if change.kind not in fault.told]


def _said(verdict: Verdict) -> tuple[object, ...]:
    return (verdict.health, verdict.schedulable, verdict.action, verdict.when, bool(verdict.awaiting))
