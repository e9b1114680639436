"""Every short history: whatever happens in whatever order, the invariants hold after each step.

Each event comes one second after the one before; time passes as in the agent, with a step at every instant that is due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from hma.codec import decode, encode
from hma.engine.correlate import next_due
from hma.engine.step import beginning, step
from hma.model import Instant, Observation, Report, State, Status
from tests.engine.invariants import (
    Witness,
    delivered_again,
    every_end_ends,
    look_at,
    time_is_due,
    unknown_is_grey,
)
from tests.engine.rows import CARD, ROWS, UTC0, saw, tally

FAILED, OK, UNKNOWN = Status.FAILED, Status.OK, Status.UNKNOWN


class Life:
    """One history on its way: state, clock, last report, and the witness."""

    def __init__(self) -> None:
        self.now = Instant(1_000.0, UTC0, "boot-1")
        self.state = beginning(self.now)
        self.last: tuple[Report, ...] = ()
        self.witness = Witness()

    def fork(self) -> Life:
        """Return a life with the same past and a future of its own."""
        other = Life.__new__(Life)
        other.now, other.state, other.last, other.witness = self.now, self.state, self.last, self.witness.copy()
        return other

    def step(self, reports: tuple[Report, ...] = ()) -> None:
        """Make one step and look at what came out."""
        self.witness.saw(reports, self.now, ROWS)
        before = self.state
        unknown_is_grey(before, reports, ROWS, self.now)
        self.state, changes = step(before, reports, ROWS, self.now)
        self.witness.told(changes)
        look_at(self.state, changes, self.witness, ROWS, self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, stepping when something is due."""
        until = self.now.mono + seconds
        while (due := next_due(self.state.faults, ROWS, self.now)) is not None and due <= until:
            self._to(due)
            before = self.state
            self.step()
            assert self.state != before, "woken for nothing"
        self._to(until)

    def see(self, *observations: Observation, check: str = "test", complete: bool = False) -> None:
        """Take one report, one second later."""
        self.wait(1.0)
        self.last = (Report(check, observations, complete),)
        self.step(self.last)

    def event(self, code: str, status: Status = FAILED, actor: str = "", cause: str = "") -> None:
        """See a kernel line, half a second after it was written."""
        self.see(saw(code, status=status, at=self.now.mono + 0.5, actor=actor, cause=cause))

    def _to(self, mono: float) -> None:
        self.now = self.now._replace(mono=mono, utc=self.now.utc + mono - self.now.mono)


def reboot(life: Life) -> None:
    boot = int(life.now.boot_id.removeprefix("boot-")) + 1
    life.now = Instant(20.0, life.now.utc + 30.0, f"boot-{boot}")
    life.last, life.witness.ring = (), ()
    life.step()


def restart(life: Life) -> None:
    before = life.state
    life.state = decode(State, encode(before))
    assert life.state == before
    life.step()
    assert life.state == before


def again(life: Life) -> None:
    before = life.state
    life.step(life.last)
    if all(o.at is not None for r in life.last for o in r.observations):
        assert life.state == before


def echo(life: Life) -> None:
    """Let another check tell the same events: nothing comes of it that people or the node would notice."""
    before = life.state
    life.step(tuple(replace(r, check="driver") for r in life.last if all(o.at is not None for o in r.observations)))
    assert life.state.verdict == before.verdict
    assert [(f.id, f.count, f.last_seen) for f in life.state.faults.values()] == [
        (f.id, f.count, f.last_seen) for f in before.faults.values()
    ]


Event = Callable[[Life], None]

EVENTS: dict[str, Event] = {
    "A": lambda life: life.event("CARD-1"),
    "B": lambda life: life.event("CARD-2"),
    "Bc": lambda life: life.event("CARD-4", cause="CARD-1"),
    "C": lambda life: life.event("CARD-3"),
    "reset": lambda life: life.event("CARD-RESET", OK),
    "D": lambda life: life.see(saw("COUNT", "node")),
    "D ok": lambda life: life.see(saw("COUNT", "node", OK)),
    "D unknown": lambda life: life.see(saw("COUNT", "node", UNKNOWN), saw("CARD-1", CARD, UNKNOWN)),
    "E p1": lambda life: life.event("CARD-4", Status.DEGRADED, "pid 1"),
    "E p2": lambda life: life.event("CARD-4", Status.DEGRADED, "pid 2"),
    "S": lambda life: life.see(saw("STATE", "disk:a"), check="disks"),
    "S ok": lambda life: life.see(check="disks", complete=True),
    "S unknown": lambda life: life.see(saw("STATE", "disk:a", UNKNOWN), check="disks", complete=True),
    "T0": lambda life: life.see(tally(0), check="counts"),
    "T3": lambda life: life.see(tally(3), check="counts"),
    "blind": lambda life: life.see(saw("BLIND", "check:disks", UNKNOWN), check="disks", complete=True),
    "seeing": lambda life: life.see(saw("BLIND", "check:disks", OK), check="disks"),
    "1s": lambda life: life.wait(1.0),
    "hold": lambda life: life.wait(5.0),
    "confirm": lambda life: life.wait(20.0),
    "quiet": lambda life: life.wait(60.0),
    "boot": reboot,
    "restart": restart,
    "again": again,
    "echo": echo,
}

DEEPER = {
    "a consequence": ("A", "B", "reset", "1s", "boot", "again", "echo", "quiet"),
    "a second source": ("C", "D", "D ok", "reset", "hold", "confirm", "boot"),
    "a repetition": ("E p1", "E p2", "Bc", "A", "confirm", "boot", "echo"),
    "a counter": ("T0", "T3", "hold", "confirm", "boot", "restart"),
    "a state over boots": ("S", "S ok", "S unknown", "blind", "hold", "confirm", "boot"),
}
"""Events that have to do with each other, tried two steps deeper."""


def histories(life: Life, events: tuple[str, ...], length: int, so_far: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Live every history of up to `length` of `events`, from `life` on, and yield each."""
    for name in events:
        one = life.fork()
        story = (*so_far, name)
        try:
            EVENTS[name](one)
            if length == 1 or len(story) <= 3:
                delivered_again(one.state, one.witness, ROWS, one.now)
                time_is_due(one.state, ROWS, one.now)
                every_end_ends(one.state, ROWS, one.now)
        except AssertionError as err:
            err.add_note(f"after {' → '.join(story)}, at {one.now}")
            raise
        yield story
        if length > 1:
            yield from histories(one, events, length - 1, story)


def test_every_history_of_three_events() -> None:
    lived = sum(1 for _ in histories(Life(), tuple(EVENTS), 3))
    assert lived == sum(len(EVENTS) ** n for n in (1, 2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("events", DEEPER.values(), ids=DEEPER)
def test_every_history_of_five_related_events(events: tuple[str, ...]) -> None:
    lived = sum(1 for _ in histories(Life(), events, 5))
    assert lived == sum(len(events) ** n for n in (1, 2, 3, 4, 5))
