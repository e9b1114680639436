"""The words of `hma explain`: evidence, observation, fault, policy row, verdict, in the order in which one made the other."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hma.catalogue import Catalogue, Policy
from hma.cli.pages import end_words
from hma.cli.shown import short
from hma.fields import duration_words
from hma.journal_records import Event
from hma.model import Action, Fault, FaultState, Verdict
from hma.reporting.record import timestamp

EVIDENCE = 400
LINE = 110


@dataclass(frozen=True, slots=True)
class Known:
    """What the journal and the catalogue tell: the standing verdict, live faults, recorded events, what was lost."""

    catalogue: Catalogue
    verdict: Verdict | None
    faults: tuple[Fault, ...]
    events: tuple[Event, ...]
    notes: tuple[str, ...] = ()


def node_story(known: Known) -> Iterator[str]:
    """Yield why the node is what it is."""
    verdict = known.verdict
    if verdict is None:
        yield "nothing is recorded of this node yet"
        return
    placed = "schedulable" if verdict.schedulable else "NOT schedulable"
    yield f"node: {verdict.health.value}, {placed}, action {verdict.action.value}, since {timestamp(verdict.since.utc)}"
    yield from (f"  {waiting}" for waiting in verdict.awaiting)
    if verdict.blind:
        yield f"  could not look for long: {', '.join(verdict.blind)}"
    counting = {reason.fault_id for reason in verdict.why}
    for fault in sorted(known.faults, key=lambda f: (f.id not in counting, -f.action.rank, f.first_seen.utc)):
        yield ""
        yield from told_story(fault.id, [e for e in known.events if e.fault_id == fault.id], fault, known)
    if not known.faults:
        yield "  no live fault"
    yield from (f"# {note}" for note in known.notes)


def told_story(fault_id: str, events: Sequence[Event], live: Fault | None, known: Known) -> Iterator[str]:
    """Yield the story of one fault, live or ended."""
    records = [json.loads(event.body) for event in events]
    facts = _facts(records, live)
    code, component = str(facts.get("code", "?")), str(facts.get("component", "?"))
    row = known.catalogue[code]
    yield f"fault {fault_id}: {code} on {component}: {row.title}"
    yield f"  evidence     {short(str(facts.get('evidence') or facts.get('detail') or 'none kept'), EVIDENCE)}"
    saw = f"{facts.get('check')} saw it {facts.get('status')} at {facts.get('first_seen')}"
    yield f"  observation  {saw}: {short(str(facts.get('detail')))}"
    for record in records:
        note = f" ({record['note']})" if record.get("note") else ""
        yield f"  {record['ts']}  {record['event']}{note}"
    if live is not None:
        yield f"  fault        {_standing(live)}"
    yield from (f"  policy row   {line}" for line in _row_words(row))
    yield f"  verdict      {_verdict_words(fault_id, live, known.verdict)}"
    yield from _wrapped("meaning", row.about)


def row_story(row: Policy) -> Iterator[str]:
    """Yield what a code is worth."""
    yield f"{row.code}: {row.title} (kind of component: {row.component})"
    yield from (f"  policy row   {line}" for line in _row_words(row))
    yield from _wrapped("meaning", row.about)
    yield from _wrapped("source", row.source)


def _facts(records: Sequence[dict[str, Any]], live: Fault | None) -> dict[str, object]:
    if records and (live is None or not live.evidence):
        return records[0]
    if live is None:
        return {}
    return {
        "code": live.code,
        "component": live.component,
        "evidence": live.evidence,
        "detail": live.detail,
        "check": live.check,
        "status": live.status.value,
        "first_seen": timestamp(live.first_seen.utc),
    }


def _wrapped(head: str, text: str) -> Iterator[str]:
    first, *rest = textwrap.wrap(text, LINE) or [""]
    yield f"  {head:<12} {first}"
    yield from (f"{'':15}{line}" for line in rest)


def _standing(fault: Fault) -> str:
    words = f"{fault.state.value}, seen {fault.count}x, last at {timestamp(fault.last_seen.utc)}"
    if fault.inhibited_by:
        words += f"; a consequence of fault {fault.inhibited_by}, so it asks for nothing itself"
    if fault.confirmed_by:
        words += f"; confirmed by fault {', '.join(fault.confirmed_by)}"
    if fault.refuted_by:
        words += f"; refuted by {', '.join(fault.refuted_by)}"
    if len(fault.routes) > 1:
        words += f"; told by {', '.join(fault.routes)}"
    return words


def _row_words(row: Policy) -> Iterator[str]:
    worth = f"action {row.action.value}" + (f", when {row.when}" if row.action.destructive else "")
    if row.again is not None:
        worth += f"; {row.again.value} when it fails again after a reboot (within {duration_words(row.again_within_s)})"
    yield worth
    if row.counts:
        yield f"counts the observations of {row.counts}"
    if row.times is not None:
        unit = " in the same part" if row.times.same_unit else ""
        actors = " by different processes" if row.times.distinct_actors else ""
        yield f"counts only when seen {row.times.count} times within {duration_words(row.times.within_s)}{unit}{actors}"
    if row.hold_s:
        yield f"must hold for {duration_words(row.hold_s)}"
    if row.confirm is not None:
        within, by = duration_words(row.confirm.within_s), " or ".join(row.confirm.by)
        yield f"confirmed by {by} within {within}; otherwise {row.confirm.otherwise.value}"
        refuters = row.confirm.refuters
        if refuters and refuters != row.confirm.by:
            yield f"refuted by {' or '.join(refuters)} where it finds the component well"
    if row.grows is not None:
        yield f"counts when it grows by {row.grows.by:g} within {duration_words(row.grows.within_s)}"
    if row.inhibit is not None:
        yield f"a mere consequence within {duration_words(row.inhibit.within_s)} of {', '.join(row.inhibit.by)}"
    yield f"ends: {' or '.join(map(end_words, row.ends))}"


def _verdict_words(fault_id: str, live: Fault | None, verdict: Verdict | None) -> str:
    if live is None:
        return "it has ended and asks for nothing"
    reason = next((r for r in (verdict.why if verdict else ()) if r.fault_id == fault_id), None)
    if reason is None:
        asked = "not counted" if live.state is FaultState.ACTIVE else "it has not held long enough to count"
        return f"{asked}; asks for nothing"
    asked = "asks for nothing" if reason.action is Action.NONE else f"asks for {reason.action.value}"
    return f"{asked}, by the rule: {reason.rule}"
