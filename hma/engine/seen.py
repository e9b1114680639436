"""One sighting, and what it makes of a fault: a new one, the same once more, or an event that is known already, told again.

Rules of this file:
- One event may be told by two checks (an XID: by the kernel log and by an event of NVML). It is one occurrence: the second
  telling is its echo, which adds what the first did not know (the part, the process, the line) and counts nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from hma.catalogue import Policy, Times
from hma.engine.occurrences import ECHO_S, added, routes_of
from hma.model import Fault, FaultKey, FaultState, Instant, Observation, Occurrence, Report, Status


class Last(NamedTuple):
    """When a fault that ended was last seen, and which checks told its last occurrence."""

    mono: float
    routes: tuple[str, ...]

    def holds(self, event: Occurrence) -> bool:
        """Return whether an event belongs to that fault: seen then, or its last occurrence as another check tells it."""
        echoes = self.routes and event.route not in self.routes
        return event.at <= self.mono + (ECHO_S if echoes else 0.0)


class Seen(NamedTuple):
    """One observation of one check, with its moment. `occurs` = it is an occurrence of its own, not one that goes on."""

    at: Instant
    check: str
    observation: Observation
    report: Report
    occurs: bool = True


def stamp(seen: Seen) -> float:
    """Return by which time an event is known again: its own, even where that is ahead of our clock."""
    return seen.at.mono if seen.observation.at is None else seen.observation.at


def occurrence_of(seen: Seen) -> Occurrence:
    """Return the occurrence that a sighting is."""
    return Occurrence(stamp(seen), seen.observation.unit, seen.observation.actor, seen.check)


def begun(key: FaultKey, seen: Seen, state: FaultState, now: Instant) -> Fault:
    """Return the fault that begins with this sighting."""
    observation = seen.observation
    return Fault(
        id=fault_id(key, now.boot_id, stamp(seen)),
        code=key.code,
        component=key.component,
        check=seen.check,
        state=state,
        status=observation.status,
        first_seen=seen.at,
        last_seen=seen.at,
        changed=now,
        detail=observation.detail,
        evidence=observation.evidence,
        attrs=observation.attrs,
        cause=observation.cause,
        occurrences=(occurrence_of(seen),),
        boots=(now.boot_id,),
        routes=(seen.check,),
    )


def once_more(known: Fault, seen: Seen, times: Times | None, boot: str) -> Fault:
    """Return a fault that was seen again."""
    observation, occurs = seen.observation, seen.occurs
    newest = seen.at.mono >= known.last_seen.mono
    return replace(
        known,
        status=observation.status if newest else known.status,
        last_seen=seen.at if newest else known.last_seen,
        count=known.count + occurs,
        occurrences=added(known.occurrences, occurrence_of(seen), times) if occurs else known.occurrences,
        ok_since=None if newest else known.ok_since,
        inhibited_by="" if newest else known.inhibited_by,
        detail=observation.detail if newest and observation.detail else known.detail,
        cause=observation.cause or known.cause,
        boots=known.boots if boot in known.boots[-1:] else (*known.boots[:1], boot),
        routes=_routes(known, seen.check),
    )


def told_again(known: Fault, seen: Seen, occurrences: tuple[Occurrence, ...]) -> Fault:
    """Return a fault of which one occurrence was told by a second check; what the first said stands."""
    observation, names = seen.observation, {name for name, _ in known.attrs}
    return replace(
        known,
        occurrences=occurrences,
        detail=known.detail or observation.detail,
        evidence=known.evidence or observation.evidence,
        attrs=(*known.attrs, *(attr for attr in observation.attrs if attr[0] not in names)),
        cause=known.cause or observation.cause,
        routes=_routes(known, seen.check),
    )


def _routes(known: Fault, check: str) -> tuple[str, ...]:
    routes = known.routes or (known.check,)
    return routes if check in routes else (*routes, check)


def last_of(fault: Fault) -> Last:
    """Return the last of a fault."""
    newest = max(fault.occurrences, default=Occurrence(fault.last_seen.mono, "", ""))
    return Last(max(fault.last_seen.mono, newest.at), routes_of(newest))


def speaks_of(seen: Seen, fault: Fault | None) -> bool:
    """Return whether a good word came after the fault was last seen.

    Read again after a crash, the word that ended an earlier fault must not end the one that came after it.
    """
    if fault is None or seen.observation.at is None:
        return True
    return all(seen.observation.at >= occurrence.at for occurrence in fault.occurrences)


def raises(observation: Observation, policy: Policy) -> bool:
    """Return whether an observation that is not fine raises the fault of this row."""
    if observation.status is Status.UNKNOWN:
        return policy.raised_by == "unknown"
    return policy.raised_by == "failed"


def spans(policy: Policy) -> Iterator[float]:
    """Return the times without a sight after which the next one begins a new fault."""
    if policy.times is not None:
        yield policy.times.within_s
    yield from (end.for_s for end in policy.ends if end.kind == "quiet")


def fault_id(key: FaultKey, boot_id: str, at: float) -> str:
    """Return the id of a fault; the same line read again after a crash gives the same, so that nothing counts it twice."""
    text = f"{key.code}|{key.component}|{boot_id}|{at:.6f}"
    return hashlib.blake2s(text.encode("utf-8", "backslashreplace"), digest_size=6).hexdigest()
