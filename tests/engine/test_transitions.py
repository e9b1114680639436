"""Every (state, signal) of the table, through the engine itself: where the table says it leads is where it leads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hma.catalogue import Catalogue, End, Policy, Times
from hma.engine.correlate import Correlated, correlate
from hma.engine.transitions import MOVES, TABLE, Signal, drawing, table_page
from hma.model import Action, Fault, FaultKey, FaultState, Instant, Report, Status
from tests.engine.rows import CARD, report, saw

NOW = Instant(1_000.0, 1_790_000_000.0, "boot-1")
LATER = Instant(1_010.0, 1_790_000_010.0, "boot-1")
REBOOTED = Instant(50.0, 1_790_000_100.0, "boot-2")
PENDING, ACTIVE = FaultState.PENDING, FaultState.ACTIVE
KEY = FaultKey("X", CARD)
IDENTITY = {"card:uuid": CARD}

END = {
    Signal.FINE: End("ok"), Signal.QUIET: End("quiet", 10.0), Signal.BY: End("by", code="RESET"), Signal.BOOT: End("boot"),
}  # fmt: skip
"""The end that makes a signal exist for a row."""

SENT: dict[Signal, tuple[Instant, tuple[Report, ...]]] = {
    Signal.SEEN: (LATER, (report(saw("X")),)),
    Signal.DUE: (LATER, ()),
    Signal.FINE: (LATER, (report(saw("X", status=Status.OK)),)),
    Signal.LAPSED: (LATER, ()),
    Signal.QUIET: (LATER, ()),
    Signal.BY: (LATER, (report(saw("RESET", status=Status.OK)),)),
    Signal.BOOT: (REBOOTED, ()),
    Signal.SAME: (LATER, ()),
}
"""What makes each signal happen ten seconds after the fault was first seen, or after a reboot."""


def catalogue(state: FaultState | None, signal: Signal) -> Catalogue:
    """Return the smallest catalogue in which a fault X can be in `state` and get `signal`."""
    ends = tuple(filter(None, (END.get(signal),)))
    if signal is Signal.LAPSED:
        row = Policy("X", "", "card", times=Times(1 if state is ACTIVE else 2, 10.0), ends=ends)
    else:
        hold_s = {PENDING: 10.0 if signal is Signal.DUE else 600.0}.get(state, 0.0) if state else 600.0
        row = Policy("X", "", "card", hold_s=hold_s, ends=ends)
    return Catalogue.of((row, Policy("RESET", "", "card", raised_by="never")))


def brought_to(state: FaultState | None, rows: Catalogue, component: str = CARD) -> dict[FaultKey, Fault]:
    """Return the faults in which X is in `state`, made by the engine itself."""
    if state is None:
        return {}
    live = correlate({}, (report(saw("X", component)),), rows, NOW).faults
    assert [fault.state for fault in live.values()] == [state]
    return live


def sent(signal: Signal, faults: dict[FaultKey, Fault], rows: Catalogue) -> Correlated:
    """Return what the engine makes of `faults` when `signal` happens."""
    now, reports = SENT[signal]
    if signal is Signal.SAME:
        faults = {**faults, **brought_to(next(iter(faults.values())).state, rows, "card:uuid")}
        return correlate(faults, reports, rows, now, aliases=IDENTITY)
    return correlate(faults, reports, rows, now)


@pytest.mark.parametrize("move", MOVES, ids=lambda m: f"{m.start}-{m.signal}")
def test_fault_moves_as_the_table_says(move: tuple[FaultState | None, Signal, FaultState | None, str]) -> None:
    start, signal, to, _ = move
    rows = catalogue(start, signal)
    live, ended, _ = sent(signal, brought_to(start, rows), rows)
    if signal is Signal.SAME:
        assert [fault.component for fault in live.values()] == [CARD], "the one with the better name stays"
        assert [fault.component for fault in ended] == (["card:uuid"] if to else [])
    elif to is FaultState.RESOLVED:
        assert (live, [fault.state for fault in ended]) == ({}, [FaultState.RESOLVED])
        assert ended[0].ended_because
    else:
        assert ([fault.state for fault in live.values()], ended) == ([to] if to else [], ())


@pytest.mark.parametrize("start", [None, PENDING, ACTIVE])
@pytest.mark.parametrize("signal", Signal)
def test_what_is_not_in_the_table_changes_nothing(start: FaultState | None, signal: Signal) -> None:
    if (start, signal) in TABLE or (start is None and signal is Signal.SAME):
        return
    rows = catalogue(start, signal)
    before = brought_to(start, rows)
    assert sent(signal, before, rows) == (before, (), {})


def unknown() -> tuple[Report, ...]:
    return (report(saw("X", status=Status.UNKNOWN)),)


def nothing() -> tuple[Report, ...]:
    return ()


def another_component() -> tuple[Report, ...]:
    return (report(saw("X", "card:1", Status.OK)), report(saw("RESET", "card:1", Status.OK)))


@pytest.mark.parametrize("start", [PENDING, ACTIVE])
@pytest.mark.parametrize("reports", [unknown, nothing, another_component])
@pytest.mark.parametrize("signal", [Signal.FINE, Signal.BY])
def test_no_signal_moves_nothing(start: FaultState, signal: Signal, reports: Callable[[], tuple[Report, ...]]) -> None:
    rows = catalogue(start, signal)
    before = brought_to(start, rows)
    assert correlate(before, reports(), rows, LATER) == (before, (), {})


@pytest.mark.parametrize("signal", [Signal.FINE, Signal.QUIET, Signal.BY, Signal.BOOT])
def test_signal_exists_only_where_the_row_has_that_end(signal: Signal) -> None:
    rows = Catalogue.of((Policy("X", "", "card", Action.REBOOT, ends=()), Policy("RESET", "", "card", raised_by="never")))
    live, ended, _ = sent(signal, brought_to(ACTIVE, rows), rows)
    assert ([fault.state for fault in live.values()], ended) == ([ACTIVE], ())


def test_every_signal_is_in_the_table_and_none_twice() -> None:
    assert {move.signal for move in MOVES} == set(Signal)
    assert len(TABLE) == len(MOVES)


def test_page_and_picture_name_every_move() -> None:
    assert table_page().count("\n") == len(MOVES) + 1
    for move in MOVES:
        assert f"| {move.signal.value} |" in table_page()
        assert f": {move.signal.value}" in drawing()
