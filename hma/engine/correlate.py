"""Correlate: observations become faults, and faults end, by the table in `transitions`.

Rules of this file:
- Pure: (faults, reports, catalogue, now) in, (faults, ended) out.
- `unknown` raises nothing and ends nothing, except rows with `raised_by: unknown`, which exist to report blindness.
- An event (a kernel line) carries its own time, and is judged at that time: when the agent reads it, and whether it reads it
  twice, makes no difference. A fault that went quiet before the agent first saw it is history, not news.
- What time alone does, and when, stands in `_pending_due` and `_end_due` only: `next_due` names the instants, `let_pass` obeys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from hma.catalogue import Catalogue, End, Policy
from hma.engine.occurrences import added, covered, often_enough
from hma.engine.transitions import TABLE, Signal
from hma.model import Fault, FaultKey, FaultState, Instant, Observation, Occurrence, Past, Report, Status

WHOLE_NODE = ("node", "host")


class Correlated(NamedTuple):
    """Live faults by key, and those that ended in this step (state resolved, `ended_because` filled)."""

    faults: dict[FaultKey, Fault]
    ended: tuple[Fault, ...]


def correlate(
    faults: Mapping[FaultKey, Fault],
    reports: Iterable[Report],
    catalogue: Catalogue,
    now: Instant,
    history: Iterable[Past] = (),
    aliases: Mapping[str, str] | None = None,
) -> Correlated:
    """Return the live faults and the ended ones after `reports`, at `now`.

    `history` tells which events have been lived through; `aliases`, which components of live faults have a better name.
    """
    work = _Work(dict(faults), catalogue, now, history)
    for fault in faults.values():
        if fault.last_seen.boot_id != now.boot_id:
            work.carry_over_boot(fault)
    for fault in tuple(work.live.values()):
        if aliases and fault.component in aliases:
            work.rename(fault, aliases[fault.component])
    work.take(tuple(reports))
    for fault in tuple(work.live.values()):
        work.let_pass(fault.key, now.mono)
    return Correlated(work.live, tuple(work.ended))


def next_due(faults: Mapping[FaultKey, Fault], catalogue: Catalogue, now: Instant) -> float | None:
    """Return the boottime second at which time alone will move a fault or open an action, or None."""
    times = [at for fault in faults.values() for at in _deadlines(fault, catalogue[fault.code])]
    return min((at for at in times if at > now.mono), default=None)


def overlap(one: Fault, other: Fault, within_s: float) -> bool:
    """Return whether two faults were seen within `within_s` of each other."""
    return one.first_seen.mono <= other.last_seen.mono + within_s and other.first_seen.mono <= one.last_seen.mono + within_s


def confirmable_until(fault: Fault, within_s: float) -> float:
    """Return the boottime second up to which a second source is waited for: from when the fault began to count, not from its
    event, which may have been read late."""
    return fault.changed.mono + within_s


def _deadlines(fault: Fault, policy: Policy) -> Iterable[float]:
    if fault.state is FaultState.PENDING:
        yield _pending_due(fault, policy)[1]
    for end in policy.ends:
        due = _end_due(fault, end)
        if due is not None:
            yield due
    confirm, counts = policy.confirm, fault.state is FaultState.ACTIVE and not fault.inhibited_by
    if confirm is not None and counts and len(fault.confirmed_by) < confirm.count:
        yield confirmable_until(fault, confirm.within_s)


def _pending_due(fault: Fault, policy: Policy) -> tuple[Signal, float]:
    if policy.times is None or often_enough(fault.occurrences, policy.times):
        return Signal.DUE, fault.first_seen.mono + policy.hold_s
    return Signal.LAPSED, fault.last_seen.mono + policy.times.within_s


def _end_due(fault: Fault, end: End) -> float | None:
    if end.kind == "quiet":
        return fault.last_seen.mono + end.for_s
    if end.kind == "ok" and fault.ok_since is not None:
        return fault.ok_since + end.for_s
    return None


class _Seen(NamedTuple):
    """One observation of one check, with its moment."""

    at: Instant
    check: str
    observation: Observation


class _Work:
    """The faults while they are being moved; lives for one call of `correlate`."""

    def __init__(self, live: dict[FaultKey, Fault], catalogue: Catalogue, now: Instant, history: Iterable[Past]) -> None:
        self.live = live
        self.catalogue = catalogue
        self.now = now
        self.history = history
        self.ended: list[Fault] = []
        self._known = {fault.id for fault in live.values()}
        self._enders = {end.code for fault in live.values() for end in catalogue[fault.code].ends}

    def carry_over_boot(self, fault: Fault) -> None:
        """End what a new boot ends; put the times of the rest on this boot's clock, once, by the distance in UTC."""
        policy = self.catalogue[fault.code]
        # A hold that a reboot interrupts was not held, and a consequence has no life of its own: if real, both show again.
        on_its_own = policy.times is not None if fault.state is FaultState.PENDING else not fault.inhibited_by
        if not on_its_own or any(end.kind == "boot" for end in policy.ends):
            self._move(fault, Signal.BOOT, "the node has a new boot id")
            return
        shift = self.now.mono - max(0.0, self.now.utc - fault.last_seen.utc) - fault.last_seen.mono

        def here(then: Instant) -> Instant:
            return Instant(min(then.mono + shift, self.now.mono), then.utc, self.now.boot_id)

        self.live[fault.key] = replace(
            fault,
            first_seen=here(fault.first_seen),
            last_seen=here(fault.last_seen),
            changed=here(fault.changed),
            ok_since=None,
            occurrences=tuple(o._replace(at=o.at + shift) for o in fault.occurrences),
        )

    def rename(self, fault: Fault, component: str) -> None:
        """Give a fault the better name of its component; where that one has the same fault, one of the two is enough."""
        if FaultKey(fault.code, component) in self.live:
            self._move(fault, Signal.SAME, f"the same as on {component}, which is another name of it")
            return
        del self.live[fault.key]
        renamed = replace(fault, component=component)
        self.live[renamed.key] = renamed

    def take(self, reports: tuple[Report, ...]) -> None:
        """Apply the observations in the order of their times, then what complete reports leave out."""
        seen = [
            _Seen(self._moment(observation), report.check, observation)
            for report in reports
            for observation in report.observations
            if observation.code in self.catalogue
        ]
        for one in sorted(seen, key=_stamp):
            self._observe(one)
        for report in reports:
            if report.complete:
                self._complete(report)

    def let_pass(self, key: FaultKey, until: float) -> None:
        """Apply what the clock alone decides up to the boottime second `until`."""
        fault = self.live.get(key)
        if fault is None:
            return
        policy = self.catalogue[fault.code]
        if fault.state is FaultState.PENDING:
            signal, due = _pending_due(fault, policy)
            if due <= until:
                self._move(fault, signal, "")
                fault = self.live.get(key)
                if fault is None:
                    return
        for end in policy.ends:
            ended = _end_due(fault, end)
            if ended is not None and ended <= until:
                self._move(fault, *_words(end))
                return

    def _observe(self, seen: _Seen) -> None:
        observation = seen.observation
        if observation.status is not Status.UNKNOWN and observation.code in self._enders:
            self._end_by(seen)
        for code in (observation.code, *self.catalogue.counted.get(observation.code, ())):
            key = FaultKey(code, observation.component)
            if observation.at is not None:
                self.let_pass(key, seen.at.mono)
            if observation.status is Status.OK:
                if _speaks_of(seen, self.live.get(key)):
                    self._fine(key, seen.at.mono)
            elif _raises(observation, self.catalogue[code]):
                self._see(key, seen)

    def _complete(self, report: Report) -> None:
        grey = {o.component for o in report.observations if o.status is Status.UNKNOWN}
        if any(component in WHOLE_NODE or component.startswith("check:") for component in grey):
            return
        named = {
            FaultKey(code, o.component)
            for o in report.observations
            for code in (o.code, *self.catalogue.counted.get(o.code, ()))
        }
        for key, fault in tuple(self.live.items()):
            if fault.check == report.check and key not in named and fault.component not in grey:
                self._fine(key, self.now.mono)

    def _end_by(self, seen: _Seen) -> None:
        code, component, detail = seen.observation.code, seen.observation.component, seen.observation.detail
        for fault in tuple(self.live.values()):
            ends = any(end.kind == "by" and end.code == code for end in self.catalogue[fault.code].ends)
            if not ends or fault.component != component:
                continue
            self.let_pass(fault.key, seen.at.mono)
            current = self.live.get(fault.key)
            if current is not None and _speaks_of(seen, current):
                self._move(current, Signal.BY, f"{code}: {detail}".rstrip(": "))

    def _see(self, key: FaultKey, seen: _Seen) -> None:
        policy, observation = self.catalogue[key.code], seen.observation
        known = self.live.get(key)
        occurrence = Occurrence(_stamp(seen), observation.unit, observation.actor)
        if observation.at is not None and self._counted(key, known, occurrence):
            return
        if known is None:
            self._raise(key, seen, occurrence)
        else:
            self._see_again(known, seen, occurrence, policy)
        # Active at once where the row asks for nothing more: what ends it may stand in the same report.
        self.let_pass(key, seen.at.mono)

    def _raise(self, key: FaultKey, seen: _Seen, occurrence: Occurrence) -> None:
        observation = seen.observation
        state = TABLE[(None, Signal.SEEN)].to
        assert state is not None
        self.live[key] = Fault(
            id=_fault_id(key, self.now.boot_id, _stamp(seen)),
            code=key.code,
            component=key.component,
            check=seen.check,
            state=state,
            status=observation.status,
            first_seen=seen.at,
            last_seen=seen.at,
            changed=self.now,
            detail=observation.detail,
            evidence=observation.evidence,
            attrs=observation.attrs,
            cause=observation.cause,
            occurrences=(occurrence,),
            boots=(self.now.boot_id,),
        )
        self._enders |= {end.code for end in self.catalogue[key.code].ends}

    def _see_again(self, known: Fault, seen: _Seen, occurrence: Occurrence, policy: Policy) -> None:
        observation, boot = seen.observation, self.now.boot_id
        newest = seen.at.mono >= known.last_seen.mono
        self.live[known.key] = replace(
            known,
            status=observation.status if newest else known.status,
            last_seen=seen.at if newest else known.last_seen,
            count=known.count + 1,
            occurrences=added(known.occurrences, occurrence, policy.times),
            ok_since=None if newest else known.ok_since,
            inhibited_by="" if newest else known.inhibited_by,
            detail=observation.detail if newest and observation.detail else known.detail,
            cause=observation.cause or known.cause,
            boots=known.boots if boot in known.boots[-1:] else (*known.boots[:1], boot),
        )

    def _fine(self, key: FaultKey, at: float) -> None:
        fault = self.live.get(key)
        if fault is None:
            return
        policy = self.catalogue[fault.code]
        if fault.state is FaultState.PENDING:
            # A repetition is made of sightings with fine looks between them: only its own time forgets it.
            if policy.times is None:
                self._move(fault, Signal.FINE, "")
            return
        if fault.ok_since is None and any(end.kind == "ok" for end in policy.ends):
            self.live[key] = replace(fault, ok_since=at)

    def _move(self, fault: Fault, signal: Signal, because: str) -> None:
        move = TABLE.get((fault.state, signal))
        if move is None:
            return
        if move.to is None:
            del self.live[fault.key]
        elif move.to is FaultState.RESOLVED:
            del self.live[fault.key]
            if signal is Signal.QUIET and fault.id not in self._known:
                return  # it began and went quiet while nobody looked: history, not news
            self.ended.append(replace(fault, state=move.to, changed=self.now, ended_because=because))
        elif move.to is not fault.state:
            self.live[fault.key] = replace(fault, state=move.to, changed=self.now)

    def _moment(self, observation: Observation) -> Instant:
        if observation.at is None:
            return self.now
        # The kernel stamps its log with a clock of its own, which may run ahead of ours: nothing happens in the future.
        at = min(observation.at, self.now.mono)
        return Instant(at, self.now.utc - (self.now.mono - at), self.now.boot_id)

    def _counted(self, key: FaultKey, known: Fault | None, event: Occurrence) -> bool:
        """Return whether an event has been through here before: the log is read again from the cursor after a crash."""
        policy = self.catalogue[key.code]
        if known is not None:
            if covered(known.occurrences, event, policy.times):
                return True
            if not known.occurrences or event.at > known.occurrences[-1].at:
                return False
            # What was forgotten, or quiet before the agent saw it, leaves no past, but is too old for the one that began since.
            if any(event.at + span <= known.first_seen.mono for span in _spans(policy)):
                return True
        return any(
            (past.code, past.component, past.boot_id) == (*key, self.now.boot_id) and event.at <= past.last_mono
            for past in self.history
        )


def _spans(policy: Policy) -> Iterator[float]:
    """Return the times without a sight after which the next one begins a new fault."""
    if policy.times is not None:
        yield policy.times.within_s
    yield from (end.for_s for end in policy.ends if end.kind == "quiet")


def _stamp(seen: _Seen) -> float:
    """Return by which time an event is known again: its own, even where that is ahead of our clock."""
    return seen.at.mono if seen.observation.at is None else seen.observation.at


def _speaks_of(seen: _Seen, fault: Fault | None) -> bool:
    """Return whether a good word came after the fault was last seen.

    Read again after a crash, the word that ended an earlier fault must not end the one that came after it.
    """
    if fault is None or seen.observation.at is None:
        return True
    return all(seen.observation.at >= occurrence.at for occurrence in fault.occurrences)


def _raises(observation: Observation, policy: Policy) -> bool:
    if observation.status is Status.UNKNOWN:
        return policy.raised_by == "unknown"
    return policy.raised_by == "failed"


def _words(end: End) -> tuple[Signal, str]:
    if end.kind == "quiet":
        return Signal.QUIET, f"not seen for {end.for_s:g} s"
    return Signal.FINE, "seen fine" + (f" for {end.for_s:g} s" if end.for_s else "")


def _fault_id(key: FaultKey, boot_id: str, at: float) -> str:
    # The same line read again after a crash must give the same fault, so that nothing downstream counts it twice.
    text = f"{key.code}|{key.component}|{boot_id}|{at:.6f}"
    return hashlib.blake2s(text.encode("utf-8", "backslashreplace"), digest_size=6).hexdigest()
