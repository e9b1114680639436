"""Traces: what the agent saw and when it judged, one JSON object a line, so that the same judgement can be had again.

Rules of this file:
- A trace holds samples, not conclusions: a replay runs the checks and the engine of today over what was read then.
- Only what no sample stands behind (a source that could not be read) is kept as a report.
- Lines: `start` (node and state), `seen` (samples and reports), `judged` (the moment, and the verdict where it changed).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hma import samples
from hma.check import Sample
from hma.codec import CodecError, decode, encode
from hma.model import Instant, NodeFacts, Report, State, Verdict

FORMAT = 2
READ = (1, FORMAT)
"""Formats that are read: in 1, a sample that several checks share is written once for each of them."""


@dataclass(frozen=True, slots=True)
class Start:
    """The agent began, or planned anew, with this node; `state` is what the journal told it."""

    at: Instant
    node: NodeFacts
    state: State | None


@dataclass(frozen=True, slots=True)
class Seen:
    """Samples by check, and the reports that no sample stands behind."""

    samples: Mapping[str, Sample]
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """The engine made a step at this moment; `verdict` where it changed in it."""

    at: Instant
    verdict: Verdict | None


Entry = Start | Seen | Judged


class TraceError(Exception):
    """A trace cannot be read; one line for people."""


def start_line(at: Instant, node: NodeFacts, state: State | None) -> str:
    """Return the line that a trace begins with."""
    body = {"at": encode(at), "node": encode(node), "state": None if state is None else encode(state)}
    return _line({"start": {"format": FORMAT, **body}})


def sample_line(reports: Iterable[Report], read: Mapping[str, Sample]) -> str:
    """Return the line of what one reading gave."""
    first: dict[int, str] = {}
    told = {}
    for name, sample in read.items():
        before = first.setdefault(id(sample), name)
        told[name] = samples.told(sample) if before == name else {"as": before}
    rest = [encode(report) for report in reports if report.check not in read]
    return _line({"seen": {"samples": told, "reports": rest}})


def judged_line(at: Instant, verdict: Verdict | None) -> str:
    """Return the line of one step of the engine."""
    return _line({"judged": {"at": encode(at), "verdict": None if verdict is None else encode(verdict)}})


def read_trace(lines: Iterable[str], name: str) -> Iterator[Entry]:
    """Yield the entries of a trace; raise TraceError with file and line at the first that is none.

    A last line without its end is one that a crash cut short, and is left out.
    """
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n") and number > 1:
            return
        try:
            yield _entry(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, CodecError, RecursionError) as err:
            said = f"{type(err).__name__}: {err}" if not isinstance(err, ValueError) else str(err)
            raise TraceError(f"{name}:{number}: not a line of a trace ({said[:120]}); record one with `record: FILE`") from err


def _entry(data: Any) -> Entry:
    ((kind, body),) = data.items()
    if kind == "start":
        if body["format"] not in READ:
            raise ValueError(f"format {body['format']}, this hma reads {' and '.join(map(str, READ))}")
        state = body["state"]
        return Start(
            decode(Instant, body["at"]), decode(NodeFacts, body["node"]), None if state is None else decode(State, state)
        )
    if kind == "seen":
        read: dict[str, Sample] = {}
        for check, told in body["samples"].items():
            read[check] = read[told["as"]] if "as" in told else samples.untold(told)
        return Seen(read, tuple(decode(Report, report) for report in body["reports"]))
    if kind == "judged":
        verdict = body["verdict"]
        return Judged(decode(Instant, body["at"]), None if verdict is None else decode(Verdict, verdict))
    raise ValueError(f"{kind!r} is no kind of line")


def _line(body: Mapping[str, object]) -> str:
    return json.dumps(body, ensure_ascii=True, separators=(",", ":"))
