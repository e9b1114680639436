"""A small catalogue with one row per kind of rule, and a node on which things are seen; values only, nothing shipped."""

from __future__ import annotations

from dataclasses import dataclass, field

from hma.catalogue import Catalogue, Confirm, End, Grows, Inhibit, Policy, Times
from hma.codec import decode, encode
from hma.engine.correlate import next_due
from hma.engine.step import beginning, step
from hma.model import Action, Change, Fault, FaultKey, Instant, Observation, Report, State, Status

ROWS = Catalogue.of(
    (
        Policy(
            "CARD-1", "reboot first", "card", Action.REBOOT, again=Action.REPLACE,
            ends=(End("boot"), End("by", code="CARD-RESET")),
        ),
        Policy(
            "CARD-2", "a consequence", "card", Action.REBOOT,
            inhibit=Inhibit(("CARD-1",), 10.0), ends=(End("quiet", 60.0),),
        ),
        Policy(
            "CARD-3", "needs a second source", "card", Action.REPLACE,
            confirm=Confirm(("COUNT",), 20.0, Action.REBOOT), ends=(End("boot"), End("by", code="CARD-RESET")),
        ),
        Policy("CARD-4", "an application's doing", "card", ends=(End("boot"), End("quiet", 40.0))),
        Policy(
            "CARD-4-REPEAT", "two processes", "card", Action.RESTART_APP, counts="CARD-4",
            times=Times(2, 30.0, distinct_actors=True), ends=(End("quiet", 90.0),),
        ),
        Policy("CARD-RESET", "the device's word", "card", raised_by="never"),
        Policy(
            "COUNT", "weak, held", "node", Action.REBOOT, hold_s=5.0, evidence="weak",
            confirm=Confirm(("CARD-3",), 20.0, Action.NONE), ends=(End("ok"), End("boot")),
        ),
        Policy("STATE", "a state that outlives a boot", "disk", Action.REBOOT, ends=(End("ok", 15.0),)),
        Policy(
            "TALLY", "a count that grows", "card", Action.REBOOT, again=Action.REPLACE,
            grows=Grows(3, 20.0), ends=(End("ok", 15.0), End("boot")),
        ),
        Policy("BLIND", "could not look", "check", hold_s=25.0, raised_by="unknown", ends=(End("ok"),)),
    )
)  # fmt: skip

CARD = "card:0"
HOURS = 3_600.0
UTC0 = 1_790_000_000.0


def saw(
    code: str, component: str = CARD, status: Status = Status.FAILED, at: float | None = None, unit: str = "",
    actor: str = "", cause: str = "",
) -> Observation:  # fmt: skip
    """Return one observation; `at` makes it an event."""
    return Observation(code, component, status, at=at, unit=unit, actor=actor, cause=cause, evidence=f"line of {code}")


def tally(value: float, component: str = CARD, status: Status = Status.OK) -> Observation:
    """Return one look at a count that the device keeps."""
    return Observation("TALLY", component, status, counter=value)


def report(*observations: Observation, check: str = "test", complete: bool = False) -> Report:
    """Return one run of a check."""
    return Report(check, observations, complete)


@dataclass
class Node:
    """A node on which time passes and things are seen; the state goes through the real engine, the changes are kept."""

    catalogue: Catalogue = ROWS
    mono: float = 1_000.0
    utc: float = UTC0
    boot: str = "boot-1"
    state: State = field(default_factory=lambda: beginning(Instant(0.0, 0.0, "")))
    changes: list[Change] = field(default_factory=list)

    @property
    def now(self) -> Instant:
        """Return the moment it is."""
        return Instant(self.mono, self.utc, self.boot)

    def see(self, *observations: Observation, check: str = "test", complete: bool = False) -> list[str]:
        """Give one report to the engine and return what it told, as `kind code`."""
        return self.take(report(*observations, check=check, complete=complete))

    def take(self, *reports: Report) -> list[str]:
        """Make one step and return what it told."""
        self.state, changes = step(self.state, reports, self.catalogue, self.now)
        self.changes += changes
        return [f"{c.kind} {c.fault.code}" if c.fault else c.kind for c in changes]

    def wait(self, seconds: float) -> list[str]:
        """Let time pass as the agent does, waking only when the engine is due; return what was told."""
        until, told = self.mono + seconds, []
        while (due := next_due(self.state.faults, self.catalogue, self.now)) is not None and due <= until:
            self._pass(due - self.mono)
            told += self.take()
        self._pass(until - self.mono)
        return told

    def _pass(self, seconds: float) -> None:
        self.mono, self.utc = self.mono + seconds, self.utc + seconds

    def reboot(self, down_s: float = 60.0, mono: float = 30.0) -> list[str]:
        """Come up with a new boot id after `down_s`; return what the first step tells."""
        self.boot = f"boot-{int(self.boot.removeprefix('boot-')) + 1}"
        self.utc += down_s
        self.mono = mono
        return self.take()

    def restart(self) -> None:
        """Write the state down and read it again, as a restart of the agent does."""
        self.state = decode(State, encode(self.state))

    def fault(self, code: str, component: str = CARD) -> Fault | None:
        """Return the live fault, or None."""
        return self.state.faults.get(FaultKey(code, component))

    def alive(self, code: str, component: str = CARD) -> Fault:
        """Return the live fault that must be there."""
        return self.state.faults[FaultKey(code, component)]


def node(*rows: Policy) -> Node:
    """Return a node with a catalogue of these rows."""
    return Node(Catalogue.of(rows))


def held(**rules: object) -> Policy:
    """Return a row that has to hold for ten seconds."""
    return Policy("X", "held", "card", Action.REBOOT, hold_s=10.0, **rules)  # type: ignore[arg-type]
