"""Values for tests of the journal, and a generator of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from hypothesis import strategies as st

from hma.journal_records import Commit, Cursor, Event
from hma.model import Action, Counter, Fault, FaultKey, FaultState, Instant, Past, Point, Reason, Status, Verdict

BOOT = "4f0c9d1e-6a52-4c3b-8f17-0d2be5a97c61"
DAY_S = 86_400.0
UTC = 1_760_000_000.0


def instant(second: float) -> Instant:
    return Instant(second, UTC + second, BOOT)


def fault(number: int, *, count: int = 1, seen: float = 1.0, state: FaultState = FaultState.ACTIVE) -> Fault:
    component = f"gpu:0000:{number:02x}:00"
    return Fault(
        f"fault-{number}",
        "XID-79",
        component,
        "xid",
        state,
        Status.FAILED,
        instant(1.0),
        instant(seen),
        instant(1.0),
        count=count,
        detail="GPU has fallen off the bus",
        evidence=f"NVRM: Xid (PCI:0000:{number:02x}:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
        attrs=(("xid", "79"),),
    )


def past(number: int, ended: float = 5.0) -> Past:
    return Past(f"past-{number}", "XID-48", f"gpu:0000:{number:02x}:00", BOOT, UTC, UTC + ended, "new boot", Action.REBOOT)


def counter(*values: float, counted: float | None = None) -> Counter:
    return Counter(BOOT, tuple(Point(10.0 * number, value) for number, value in enumerate(values)), counted)


def verdict(second: float = 1.0, *fault_numbers: int) -> Verdict:
    why = tuple(Reason(f"fault-{n}", "XID-79", f"gpu:0000:{n:02x}:00", Action.REPLACE, "row") for n in fault_numbers)
    return Verdict(Status.FAILED, False, Action.REPLACE, "now", instant(second), why)


def event(number: int, kind: str = "fault_active", utc: float = UTC) -> Event:
    return Event(f"event-{number}", utc + number, kind, f"fault-{number}", "XID-79", "gpu:0000:9b:00", f'{{"n":{number}}}')


def commit(*faults: Fault, events: tuple[Event, ...] = (), full: bool = False) -> Commit:
    """Return a commit that says all there is to say of `faults`."""
    return Commit({f.key: f for f in faults}, verdict=verdict(), cursors={"kernel": Cursor(BOOT, 7)}, events=events, full=full)


def values(type_: Any) -> st.SearchStrategy[Any]:
    """Return any value of a type: finite numbers, and text without lone halves of a surrogate pair."""
    return st.from_type(type_)


def _dictionaries(type_: Any) -> st.SearchStrategy[Any]:
    key, value = get_args(type_)
    return st.dictionaries(values(key), values(value), max_size=3)


st.register_type_strategy(Mapping, _dictionaries)
st.register_type_strategy(str, st.text(st.characters(codec="utf-8"), max_size=12))
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
KEYS = tuple(FaultKey(code, component) for code in ("XID-79", "XID-48") for component in ("gpu:0000:01:00", "gpu:0000:02:00"))
