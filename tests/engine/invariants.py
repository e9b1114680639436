"""What must hold after every step of the engine, whatever happened before; a witness keeps its own books to compare with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hma.catalogue import Catalogue, End, Grows, Policy
from hma.engine.correlate import next_due
from hma.engine.step import step
from hma.model import Action, Change, Fault, FaultState, Instant, Observation, Report, State, Status
from hma.reporting.record import event_id
from tests.engine.rows import saw

BEGIN, END = ("fault_active", "fault_inhibited", "fault_confirmed", "fault_refuted"), "fault_resolved"


@dataclass
class Witness:
    """What was seen and told in one history, kept without the engine."""

    looked: bool = False
    ids: frozenset[str] = frozenset()
    open: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    seen_on: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    ring: tuple[Report, ...] = ()
    counts: dict[tuple[str, str, str], tuple[tuple[float, float], ...]] = field(default_factory=dict)

    def copy(self) -> Witness:
        """Return books that can go on apart."""
        return replace(self, seen_on=dict(self.seen_on), counts=dict(self.counts))

    def saw(self, reports: tuple[Report, ...], now: Instant, catalogue: Catalogue) -> None:
        """Take down what a step was given."""
        for check, observation in ((r.check, o) for r in reports for o in r.observations):
            self.looked |= observation.status is not Status.UNKNOWN
            if observation.at is not None and (line := Report(check, (observation,))) not in self.ring:
                self.ring = (*self.ring, line)
            grows = catalogue[observation.code].grows
            if self._grew(observation, grows, now) if grows else observation.status in (Status.FAILED, Status.DEGRADED):
                place = (observation.code, observation.component)
                self.seen_on[place] = self.seen_on.get(place, frozenset()) | {now.boot_id}

    def _grew(self, observation: Observation, grows: Grows, now: Instant) -> bool:
        if observation.counter is None or observation.status is Status.UNKNOWN:
            return observation.status in (Status.FAILED, Status.DEGRADED)
        place = (observation.code, observation.component, now.boot_id)
        looks = (*self.counts.get(place, ()), (now.mono, observation.counter))
        if len(looks) > 1 and looks[-2][1] > observation.counter:
            looks = looks[-1:]
        self.counts[place] = looks
        start = max((at for at, _ in looks if at <= now.mono - grows.within_s), default=looks[0][0])
        then = next(value for at, value in reversed(looks) if at <= start)
        return observation.counter - then >= grows.by

    def told(self, changes: tuple[Change, ...]) -> None:
        """Take down what a step told: each event once, each fault begun before it ends, and nothing after that."""
        for change in changes:
            name = event_id(change)
            assert name not in self.ids, f"told twice: {change.kind} {change.fault}"
            self.ids |= {name}
            if change.fault is None:
                continue
            assert change.fault.id not in self.closed, f"told after its end: {change}"
            if change.kind == END:
                assert change.fault.id in self.open, f"ended without a beginning: {change}"
                self.open, self.closed = self.open - {change.fault.id}, self.closed | {change.fault.id}
            else:
                assert change.kind in BEGIN
                self.open |= {change.fault.id}


def look_at(state: State, changes: tuple[Change, ...], witness: Witness, catalogue: Catalogue, now: Instant) -> None:
    """Check one state and the way to it; the witness has taken down both already."""
    live = {fault.id: fault for fault in state.faults.values()}
    active = {i: f for i, f in live.items() if f.state is FaultState.ACTIVE}
    assert len(live) == len(state.faults)
    assert {counter.boot_id for counter in state.counters.values()} <= {now.boot_id}
    assert all(key == fault.key for key, fault in state.faults.items())
    assert set(active) == witness.open, "active is what has been told and has not ended"
    verdict = state.verdict
    counting = {i for i, f in active.items() if not f.inhibited_by and catalogue[f.code].raised_by != "unknown"}
    assert {why.fault_id for why in verdict.why} == counting
    assert verdict.action is max((why.action for why in verdict.why), key=lambda a: a.rank, default=Action.NONE)
    for why in verdict.why:
        assert live[why.fault_id].action is why.action
        if why.action.destructive:
            assert justified(live[why.fault_id], why.action, active, witness, catalogue, now), f"not justified: {why}"
    assert not (verdict.action.destructive and verdict.schedulable)
    expected = Status.DEGRADED if verdict.why else Status.OK if witness.looked else Status.UNKNOWN
    assert verdict.health is (expected if verdict.schedulable else Status.FAILED)
    for fault in live.values():
        one_clock(fault, now)
        if fault.inhibited_by and fault.inhibited_by in live:
            assert live[fault.inhibited_by].inhibited_by != fault.id, "two silence each other"
        assert not fault.inhibited_by or fault.inhibited_by in witness.open | witness.closed, "silenced by something never told"
    if any(c.kind == "verdict_changed" for c in changes):
        assert changes[-1].verdict == verdict


def justified(
    fault: Fault, action: Action, active: dict[str, Fault], witness: Witness, catalogue: Catalogue, now: Instant
) -> bool:
    """Return whether `fault` may ask for something destructive, by its row and by what the witness saw."""
    row, boots = catalogue[fault.code], witness.seen_on[(fault.code, fault.component)]
    confirm = row.confirm
    sources = [f for f in active.values() if confirm and f.code in confirm.by]
    again = row.again is action and len(boots) > 1
    allowed = action is row.action or again or (confirm is not None and action is confirm.otherwise)
    if row.evidence == "weak":
        allowed = allowed and bool(sources)
    if confirm is not None and action.rank > confirm.otherwise.rank:
        allowed = allowed and len(sources) >= confirm.count
    return allowed and (action is Action.REPLACE or now.boot_id in boots)


def one_clock(fault: Fault, now: Instant) -> None:
    """Check that all times of a fault count on this boot, in order."""
    assert {fault.first_seen.boot_id, fault.last_seen.boot_id} <= {now.boot_id}
    assert fault.first_seen.mono <= fault.last_seen.mono <= now.mono
    assert fault.changed.mono <= now.mono


# -- what would happen if ---------------------------------------------------------------------------------------------


def unknown_is_grey(state: State, reports: tuple[Report, ...], catalogue: Catalogue, now: Instant) -> None:
    """Check that looks which saw nothing are as good as none, except for the rows that report blindness."""
    grey = tuple(
        o for r in reports for o in r.observations if o.status is Status.UNKNOWN and catalogue[o.code].raised_by != "unknown"
    )
    if grey:
        blind = Report("test", grey)
        assert step(state, (blind,), catalogue, now) == step(state, (), catalogue, now)


def delivered_again(state: State, witness: Witness, catalogue: Catalogue, now: Instant) -> None:
    """Check that reading the whole kernel log of this boot again changes nothing."""
    again, changes = step(state, witness.ring, catalogue, now)
    assert changes == ()
    assert again == state


def time_is_due(state: State, catalogue: Catalogue, now: Instant) -> None:
    """Check that nothing changes before the instant that `next_due` names."""
    due = next_due(state.faults, catalogue, now)
    before = now.mono + (1e6 if due is None else (due - now.mono) * 0.999)
    early = Instant(before, now.utc + before - now.mono, now.boot_id)
    assert step(state, (), catalogue, early) == (state, ())


def every_end_ends(state: State, catalogue: Catalogue, now: Instant) -> None:
    """Check for each live fault that each way in which its row ends it does, and that nothing is left once all have ended."""
    for fault in state.faults.values():
        for end in catalogue[fault.code].ends:
            after, _ = ended(state, fault, end, catalogue, now)
            assert fault.id not in {f.id for f in after.faults.values()}, f"{end} does not end {fault}"
            assert fault.id not in {why.fault_id for why in after.verdict.why}
    for fault in state.faults.values():
        if fault.key in state.faults:
            state, now = ended(state, fault, catalogue[fault.code].ends[0], catalogue, now)
    verdict = state.verdict
    assert (state.faults, verdict.schedulable, verdict.action) == ({}, True, Action.NONE)
    assert (verdict.why, verdict.awaiting, verdict.blind) == ((), (), ())


def ended(state: State, fault: Fault, end: End, catalogue: Catalogue, now: Instant) -> tuple[State, Instant]:
    """Return the state, and the moment, after what `end` waits for has come."""
    reports: tuple[Report, ...] = ()
    if end.kind == "by":
        reports = (Report("test", (saw(end.code, fault.component, Status.OK),)),)
    if end.kind == "ok":
        reports = (Report("test", (saw(_raiser(catalogue, fault), fault.component, Status.OK),)),)
    if end.kind == "boot":
        now = now._replace(boot_id=f"{now.boot_id}+")
    state = step(state, reports, catalogue, now).state
    wait = end.for_s if end.kind in ("ok", "quiet") else 0.0
    now = now._replace(mono=now.mono + wait, utc=now.utc + wait)
    return step(state, (), catalogue, now).state, now


def _raiser(catalogue: Catalogue, fault: Fault) -> str:
    row: Policy = catalogue[fault.code]
    return row.counts or row.code
