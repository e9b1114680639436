"""Correlate: observations become faults, and faults end, by the table in `transitions`.

Rules of this file:
- Pure: (faults, reports, catalogue, now) in, (faults, ended) out.
- `unknown` raises nothing and ends nothing, except rows with `raised_by: unknown`, which exist to report blindness.
- An event (a kernel line) carries its own time, and is judged at that time: when the agent reads it, and whether it reads it
  twice, makes no difference. A fault that went quiet before the agent first saw it is history, not news.
- What time alone does, and when, stands in `_pending_due` and `_end_due` only: `next_due` names the instants, `let_pass` obeys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from hma.catalogue import Catalogue, End, Policy
from hma.engine.counters import Counters
from hma.engine.occurrences import covered, echoed, often_enough
from hma.engine.refute import WHOLE_NODE, confirmable_until, refuted
from hma.engine.seen import Last, Seen, begun, last_of, occurrence_of, once_more, raises, spans, speaks_of, stamp, told_again
from hma.engine.transitions import TABLE, Signal
from hma.model import Counter, Fault, FaultKey, FaultState, Instant, Observation, Past, Report, Status


class Correlated(NamedTuple):
    """Live faults by key, those that ended in this step (state resolved, `ended_because` filled), and the counters."""

    faults: dict[FaultKey, Fault]
    ended: tuple[Fault, ...]
    counters: Mapping[FaultKey, Counter]


def correlate(
    faults: Mapping[FaultKey, Fault],
    reports: Iterable[Report],
    catalogue: Catalogue,
    now: Instant,
    history: Iterable[Past] = (),
    aliases: Mapping[str, str] | None = None,
    counters: Mapping[FaultKey, Counter] | None = None,
) -> Correlated:
    """Return the live faults, the ended ones and the counters after `reports`, at `now`.

    `history` tells which events have been lived through; `aliases`, which components of live faults have a better name.
    """
    work = _Work(dict(faults), catalogue, now, history, Counters(counters or {}, now.boot_id))
    for fault in faults.values():
        if fault.last_seen.boot_id != now.boot_id:
            work.carry_over_boot(fault)
    for fault in tuple(work.live.values()):
        if aliases and fault.component in aliases:
            work.rename(fault, aliases[fault.component])
    work.take(tuple(reports))
    for fault in tuple(work.live.values()):
        work.let_pass(fault.key, now.mono)
    return Correlated(work.live, tuple(work.ended), work.counters.known)


def next_due(faults: Mapping[FaultKey, Fault], catalogue: Catalogue, now: Instant) -> float | None:
    """Return the boottime second at which time alone will move a fault or open an action, or None."""
    times = [at for fault in faults.values() for at in _deadlines(fault, catalogue[fault.code])]
    return min((at for at in times if at > now.mono), default=None)


def overlap(one: Fault, other: Fault, within_s: float) -> bool:
    """Return whether two faults were seen within `within_s` of each other."""
    return one.first_seen.mono <= other.last_seen.mono + within_s and other.first_seen.mono <= one.last_seen.mono + within_s


def _deadlines(fault: Fault, policy: Policy) -> Iterable[float]:
    if fault.state is FaultState.PENDING:
        yield _pending_due(fault, policy)[1]
    for end in policy.ends:
        due = _end_due(fault, end)
        if due is not None:
            yield due
    confirm, counts = policy.confirm, fault.state is FaultState.ACTIVE and not fault.inhibited_by
    if confirm is not None and counts and len(fault.confirmed_by) < confirm.count and not fault.refuted_by:
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


class _Work:
    """The faults while they are being moved; lives for one call of `correlate`."""

    def __init__(
        self, live: dict[FaultKey, Fault], catalogue: Catalogue, now: Instant, history: Iterable[Past], counters: Counters
    ) -> None:
        self.live = live
        self.catalogue = catalogue
        self.now = now
        self.history = history
        self.counters = counters
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
            # Without their routes: nothing that this boot tells is an echo of what the other one saw.
            occurrences=tuple(o._replace(at=o.at + shift, route="", echoes=()) for o in fault.occurrences),
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
        """Apply the observations in the order of their times, then what complete reports leave out and what they refute."""
        seen = [
            Seen(self._moment(observation), report.check, observation, report)
            for report in reports
            for observation in report.observations
            if observation.code in self.catalogue
        ]
        for one in sorted(seen, key=stamp):
            told = one if one.observation.counter is None else self.counters.judged(one, self.catalogue)
            if told is not None:
                self._observe(told)
        for report in reports:
            if report.complete:
                self._complete(report)
        for fault in tuple(refuted(self.live, seen, self.catalogue)):
            self.live[fault.key] = fault

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

    def _observe(self, seen: Seen) -> None:
        observation = seen.observation
        if observation.status is not Status.UNKNOWN and observation.code in self._enders and not _stands_still(observation):
            self._end_by(seen)
        for code in (observation.code, *self.catalogue.counted.get(observation.code, ())):
            key = FaultKey(code, observation.component)
            if observation.at is not None:
                self.let_pass(key, seen.at.mono)
            if observation.status is Status.OK:
                if speaks_of(seen, self.live.get(key)):
                    self._fine(key, seen.at.mono)
            elif raises(observation, self.catalogue[code]):
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

    def _end_by(self, seen: Seen) -> None:
        code, component, detail = seen.observation.code, seen.observation.component, seen.observation.detail
        for fault in tuple(self.live.values()):
            ends = any(end.kind == "by" and end.code == code for end in self.catalogue[fault.code].ends)
            if not ends or fault.component != component:
                continue
            self.let_pass(fault.key, seen.at.mono)
            current = self.live.get(fault.key)
            if current is not None and speaks_of(seen, current):
                self._move(current, Signal.BY, f"{code}: {detail}".rstrip(": "))

    def _see(self, key: FaultKey, seen: Seen) -> None:
        known, is_event = self.live.get(key), seen.observation.at is not None
        if is_event and self._counted(key, known, seen):
            return
        if known is None:
            self._raise(key, seen)
        elif (echo := self._echoed(known, seen)) is not None:
            self.live[key] = echo
        elif seen.occurs or seen.at.mono > known.last_seen.mono:
            self.live[key] = once_more(known, seen, self.catalogue[key.code].times, self.now.boot_id)
        # Active at once where the row asks for nothing more: what ends it may stand in the same report.
        self.let_pass(key, seen.at.mono)

    def _raise(self, key: FaultKey, seen: Seen) -> None:
        state = TABLE[(None, Signal.SEEN)].to
        assert state is not None
        self.live[key] = begun(key, seen, state, self.now)
        self._enders |= {end.code for end in self.catalogue[key.code].ends}

    def _echoed(self, known: Fault, seen: Seen) -> Fault | None:
        """Return the fault with an event that another check has told already, None where this one is the first to tell it."""
        observation = seen.observation
        if observation.at is None or observation.counter is not None or known.routes in ((), (seen.check,)):
            return None
        occurrences = echoed(known.occurrences, known.count, occurrence_of(seen), self.catalogue[known.code].times)
        return None if occurrences is None else told_again(known, seen, occurrences)

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

    def _counted(self, key: FaultKey, known: Fault | None, seen: Seen) -> bool:
        """Return whether an event has been through here before: the log is read again from the cursor after a crash."""
        policy, event = self.catalogue[key.code], occurrence_of(seen)
        if known is not None:
            if covered(known.occurrences, event, policy.times):
                return True
            if not known.occurrences or event.at > known.occurrences[-1].at:
                return False
            # What was forgotten, or quiet before the agent saw it, leaves no past, but is too old for the one that began since.
            if any(event.at + span <= known.first_seen.mono for span in spans(policy)):
                return True
        here = (*key, self.now.boot_id)
        gone = (last_of(fault) for fault in self.ended if (*fault.key, fault.last_seen.boot_id) == here)
        past = (Last(p.last_mono, p.routes) for p in self.history if (p.code, p.component, p.boot_id) == here)
        return any(last.holds(event) for last in (*gone, *past))


def _stands_still(observation: Observation) -> bool:
    """Return whether it is the word of a counter that has not grown: one that comes with every look ends nothing."""
    return observation.counter is not None and observation.status is Status.OK


def _words(end: End) -> tuple[Signal, str]:
    if end.kind == "quiet":
        return Signal.QUIET, f"not seen for {end.for_s:g} s"
    return Signal.FINE, "seen fine" + (f" for {end.for_s:g} s" if end.for_s else "")
