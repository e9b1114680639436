"""Correlate: observations become faults, and faults end, by the table in `transitions`.

Rules of this file:
- Pure: (faults, reports, catalogue, now) in, (faults, ended) out.
- `unknown` raises nothing and ends nothing, except rows with `raised_by: unknown`, which exist to report blindness.
- An event (a kernel line) carries its own time; one whose quiet time is already over is history, not news.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from hma.catalogue import Catalogue, Policy
from hma.engine.transitions import TABLE, Signal
from hma.model import Fault, FaultKey, FaultState, Instant, Observation, Occurrence, Report, Status

KEPT_OCCURRENCES = 64


class Correlated(NamedTuple):
    """Live faults by key, and those that ended in this step (state resolved, `ended_because` filled)."""

    faults: dict[FaultKey, Fault]
    ended: tuple[Fault, ...]


def correlate(faults: Mapping[FaultKey, Fault], reports: Iterable[Report], catalogue: Catalogue, now: Instant) -> Correlated:
    """Return the live faults and the ended ones after `reports`, at `now`."""
    work = _Work(dict(faults), catalogue, now)
    for fault in faults.values():
        if fault.last_seen.boot_id != now.boot_id:
            work.carry_over_boot(fault)
    for report in reports:
        work.take(report)
    for fault in tuple(work.live.values()):
        work.let_time_pass(fault)
    return Correlated(work.live, tuple(work.ended))


def next_due(faults: Mapping[FaultKey, Fault], catalogue: Catalogue, now: Instant) -> float | None:
    """Return the boottime second at which time alone will move a fault or open an action, or None."""
    times = [at for fault in faults.values() for at in _deadlines(fault, catalogue[fault.code])]
    return min((at for at in times if at > now.mono), default=None)


def overlap(one: Fault, other: Fault, within_s: float) -> bool:
    """Return whether two faults were seen within `within_s` of each other."""
    return one.first_seen.mono <= other.last_seen.mono + within_s and other.first_seen.mono <= one.last_seen.mono + within_s


def _deadlines(fault: Fault, policy: Policy) -> Iterable[float]:
    if fault.state is FaultState.PENDING:
        yield fault.first_seen.mono + policy.hold_s
        if policy.times:
            yield fault.last_seen.mono + policy.times.within_s
    for end in policy.ends:
        if end.kind == "quiet":
            yield fault.last_seen.mono + end.for_s
        if end.kind == "ok" and fault.ok_since is not None:
            yield fault.ok_since + end.for_s
    if policy.confirm and fault.state is FaultState.ACTIVE:
        yield fault.changed.mono + policy.confirm.within_s


class _Work:
    """The faults while they are being moved; lives for one call of `correlate`."""

    def __init__(self, live: dict[FaultKey, Fault], catalogue: Catalogue, now: Instant) -> None:
        self.live = live
        self.catalogue = catalogue
        self.now = now
        self.ended: list[Fault] = []

    def carry_over_boot(self, fault: Fault) -> None:
        """End what a new boot ends; put the times of the rest on this boot's clock, by the distance in UTC."""
        if any(end.kind == "boot" for end in self.catalogue[fault.code].ends):
            self._move(fault, Signal.BOOT, "the node has a new boot id")
            return
        shift = self._on_this_boot(fault.last_seen) - fault.last_seen.mono
        self.live[fault.key] = replace(
            fault,
            first_seen=fault.first_seen._replace(mono=fault.first_seen.mono + shift),
            # Its boot id stays the old one until it is seen again: "still failing after a reboot" is told by that.
            last_seen=fault.last_seen._replace(mono=fault.last_seen.mono + shift),
            changed=fault.changed._replace(mono=fault.changed.mono + shift),
            ok_since=None,
            occurrences=tuple(o._replace(at=o.at + shift) for o in fault.occurrences),
        )

    def take(self, report: Report) -> None:
        """Apply one run of one check."""
        named: set[FaultKey] = set()
        for observation in report.observations:
            if observation.code not in self.catalogue:
                continue
            named.add(FaultKey(observation.code, observation.component))
            self._observe(report.check, observation)
        if report.complete:
            for fault in tuple(self.live.values()):
                if fault.check == report.check and fault.key not in named:
                    self._fine(fault)

    def let_time_pass(self, fault: Fault) -> None:
        """Apply what the clock alone decides."""
        policy = self.catalogue[fault.code]
        if fault.state is FaultState.PENDING:
            self._pass_pending(fault, policy)
        current = self.live.get(fault.key)
        if current is None:
            return
        for end in policy.ends:
            if end.kind == "quiet" and self.now.mono - current.last_seen.mono >= end.for_s:
                self._move(current, Signal.QUIET, f"not seen for {end.for_s:g} s")
                return
            if end.kind == "ok" and current.ok_since is not None and self.now.mono - current.ok_since >= end.for_s:
                self._move(current, Signal.FINE, "seen fine" + (f" for {end.for_s:g} s" if end.for_s else ""))
                return

    def _pass_pending(self, fault: Fault, policy: Policy) -> None:
        if _often_enough(fault, policy, self.now) and self.now.mono - fault.first_seen.mono >= policy.hold_s:
            self._move(fault, Signal.DUE, "")
        elif policy.times and self.now.mono - fault.last_seen.mono > policy.times.within_s:
            self._move(fault, Signal.LAPSED, "")

    def _observe(self, check: str, observation: Observation) -> None:
        if observation.status is Status.UNKNOWN and self.catalogue[observation.code].raised_by != "unknown":
            return
        for fault in tuple(self.live.values()):
            if fault.component == observation.component and self._ended_by(fault, observation.code):
                self._move(fault, Signal.BY, f"{observation.code}: {observation.detail}".rstrip(": "))
        if observation.status is Status.OK:
            known = self.live.get(FaultKey(observation.code, observation.component))
            if known is not None:
                self._fine(known)
            return
        for code in (observation.code, *self.catalogue.counted.get(observation.code, ())):
            self._seen(check, code, observation)

    def _ended_by(self, fault: Fault, code: str) -> bool:
        return any(end.kind == "by" and end.code == code for end in self.catalogue[fault.code].ends)

    def _seen(self, check: str, code: str, observation: Observation) -> None:
        policy = self.catalogue[code]
        seen = self._moment(observation)
        if policy.raised_by == "never" or self._already_over(policy, seen):
            return
        known = self.live.get(FaultKey(code, observation.component))
        occurrence = Occurrence(seen.mono, observation.unit, observation.actor)
        if known is None:
            self._raise(check, code, observation, seen, occurrence)
            return
        latest = seen if seen.mono >= known.last_seen.mono or known.last_seen.boot_id != seen.boot_id else known.last_seen
        self.live[known.key] = replace(
            known,
            status=observation.status,
            last_seen=latest,
            count=known.count + 1,
            occurrences=_kept((*known.occurrences, occurrence), policy),
            ok_since=None,
            inhibited_by="",
            detail=observation.detail or known.detail,
        )

    def _raise(self, check: str, code: str, observation: Observation, seen: Instant, occurrence: Occurrence) -> None:
        move = TABLE[(None, Signal.SEEN)]
        assert move.to is not None
        fault = Fault(
            id=_fault_id(code, observation.component, seen),
            code=code,
            component=observation.component,
            check=check,
            state=move.to,
            status=observation.status,
            first_seen=seen,
            last_seen=seen,
            changed=self.now,
            detail=observation.detail,
            evidence=observation.evidence,
            attrs=observation.attrs,
            cause=observation.cause,
            occurrences=(occurrence,),
        )
        self.live[fault.key] = fault

    def _fine(self, fault: Fault) -> None:
        ends = [end for end in self.catalogue[fault.code].ends if end.kind == "ok"]
        if fault.state is FaultState.PENDING and (ends or self.catalogue[fault.code].hold_s):
            self._move(fault, Signal.FINE, "")
            return
        if ends and fault.ok_since is None:
            self.live[fault.key] = replace(fault, ok_since=self.now.mono)

    def _move(self, fault: Fault, signal: Signal, because: str) -> None:
        move = TABLE.get((fault.state, signal))
        if move is None:
            return
        if move.to is None:
            del self.live[fault.key]
        elif move.to is FaultState.RESOLVED:
            del self.live[fault.key]
            self.ended.append(replace(fault, state=move.to, changed=self.now, ended_because=because))
        elif move.to is not fault.state:
            self.live[fault.key] = replace(fault, state=move.to, changed=self.now)

    def _moment(self, observation: Observation) -> Instant:
        if observation.at is None:
            return self.now
        return Instant(observation.at, self.now.utc - (self.now.mono - observation.at), self.now.boot_id)

    def _already_over(self, policy: Policy, seen: Instant) -> bool:
        quiets = [end.for_s for end in policy.ends if end.kind == "quiet"]
        return bool(quiets) and self.now.mono - seen.mono >= min(quiets)

    def _on_this_boot(self, then: Instant) -> float:
        return self.now.mono - max(0.0, self.now.utc - then.utc)


def _fault_id(code: str, component: str, seen: Instant) -> str:
    # The same line read again after a crash must give the same fault, so that nothing downstream counts it twice.
    text = f"{code}|{component}|{seen.boot_id}|{seen.mono:.3f}"
    return hashlib.blake2s(text.encode(), digest_size=6).hexdigest()


def _kept(occurrences: tuple[Occurrence, ...], policy: Policy) -> tuple[Occurrence, ...]:
    times = policy.times
    if times is None:
        return occurrences[-1:]
    if times.same_unit or times.distinct_actors:
        last_of_each = {(o.unit, o.actor): o for o in occurrences}
        return tuple(sorted(last_of_each.values()))[-max(KEPT_OCCURRENCES, times.count) :]
    return occurrences[-times.count :]


def _often_enough(fault: Fault, policy: Policy, now: Instant) -> bool:
    times = policy.times
    if times is None:
        return True
    recent = [o for o in fault.occurrences if now.mono - o.at <= times.within_s]
    groups: dict[str, set[object]] = {}
    for number, occurrence in enumerate(recent):
        if (times.same_unit and not occurrence.unit) or (times.distinct_actors and not occurrence.actor):
            continue
        group = occurrence.unit if times.same_unit else ""
        groups.setdefault(group, set()).add(occurrence.actor if times.distinct_actors else number)
    return any(len(group) >= times.count for group in groups.values())
