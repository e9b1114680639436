"""The life of a fault as a table: this table is the specification, `correlate` obeys it and the page in docs is drawn from it.

Rules of this file:
- A (state, signal) pair that is not in the table changes nothing. `unknown` is no signal: not being able to look moves nothing.
- Which signals exist for a fault is decided by its catalogue row (`hold`, `times`, `ends`); where they lead is decided here.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from hma.model import FaultState


class Signal(enum.StrEnum):
    """What can happen to a fault."""

    SEEN = "seen"
    DUE = "due"
    FINE = "fine"
    LAPSED = "lapsed"
    QUIET = "quiet"
    BY = "by"
    BOOT = "boot"
    SAME = "same"


class Move(NamedTuple):
    """One row of the table: `to` None = the fault is forgotten without a record, since it never was active."""

    start: FaultState | None
    signal: Signal
    to: FaultState | None
    about: str


MOVES: tuple[Move, ...] = (
    Move(None, Signal.SEEN, FaultState.PENDING, "first failed or degraded observation of this code on this component"),
    Move(FaultState.PENDING, Signal.SEEN, FaultState.PENDING, "seen again: counted"),
    Move(FaultState.PENDING, Signal.DUE, FaultState.ACTIVE, "held long enough and seen often enough"),
    Move(FaultState.PENDING, Signal.FINE, None, "seen fine before it held: forgotten (where the row only asks it to hold)"),
    Move(FaultState.PENDING, Signal.LAPSED, None, "not seen often enough within the row's time: forgotten"),
    Move(FaultState.PENDING, Signal.QUIET, None, "quiet before it counted: forgotten"),
    Move(FaultState.PENDING, Signal.BY, None, "ended by the device's own word before it counted: forgotten"),
    Move(
        FaultState.PENDING,
        Signal.BOOT,
        None,
        "new boot before it counted: forgotten (unless the row counts repetitions that outlive a boot)",
    ),
    Move(FaultState.PENDING, Signal.SAME, None, "its component is another name of one that has this fault: forgotten"),
    Move(FaultState.ACTIVE, Signal.SEEN, FaultState.ACTIVE, "seen again: counted; its fine and quiet times start anew"),
    Move(FaultState.ACTIVE, Signal.FINE, FaultState.RESOLVED, "seen fine for as long as the row asks"),
    Move(FaultState.ACTIVE, Signal.QUIET, FaultState.RESOLVED, "not seen for the row's quiet time"),
    Move(FaultState.ACTIVE, Signal.BY, FaultState.RESOLVED, "ended by the observation that the row names"),
    Move(
        FaultState.ACTIVE,
        Signal.BOOT,
        FaultState.RESOLVED,
        "the node has a new boot id, which cures it or the fault that caused it",
    ),
    Move(FaultState.ACTIVE, Signal.SAME, FaultState.RESOLVED, "its component is another name of one that has this fault"),
)

TABLE: dict[tuple[FaultState | None, Signal], Move] = {(move.start, move.signal): move for move in MOVES}


def drawing() -> str:
    """Return the table as a Mermaid state diagram, for the page in docs."""
    lines = ["stateDiagram-v2"]
    for move in MOVES:
        start = move.start.value if move.start else "[*]"
        to = move.to.value if move.to else "[*]"
        lines.append(f"    {start} --> {to}: {move.signal.value}")
    lines.append("    resolved --> [*]")
    return "\n".join(lines)


def table_page() -> str:
    """Return the table as Markdown rows, for the page in docs."""
    rows = ["| from | signal | to | meaning |", "|---|---|---|---|"]
    for move in MOVES:
        start = move.start.value if move.start else "(none)"
        to = move.to.value if move.to else "(forgotten)"
        rows.append(f"| {start} | {move.signal.value} | {to} | {move.about} |")
    return "\n".join(rows)
