"""A node for tests of catalogue rows: it is told what checks saw, and when, and answers through the engine."""

from __future__ import annotations

from collections.abc import Iterable

from hma.catalogue import Catalogue
from hma.catalogue_file import load_catalogue
from hma.engine.step import beginning, step
from hma.model import Fault, FaultState, Instant, Observation, Report, Verdict

SHIPPED = load_catalogue()
UTC = 1_700_000_000.0


class HostNode:
    """The engine's state of one node, and a clock that the test turns."""

    def __init__(self, catalogue: Catalogue = SHIPPED) -> None:
        self.catalogue = catalogue
        self.now = Instant(1_000.0, UTC, "boot-1")
        self.state = beginning(self.now)

    def see(self, observations: Iterable[Observation], *, check: str = "c", complete: bool = False, after: float = 0.0) -> None:
        """Let `after` seconds pass, then take in one run of one check."""
        self.now = self.now._replace(mono=self.now.mono + after, utc=self.now.utc + after)
        report = Report(check, tuple(observations), complete)
        self.state = step(self.state, (report,), self.catalogue, self.now).state

    def wait(self, seconds: float) -> None:
        """Let time pass in which nothing is seen."""
        self.see((), after=seconds)

    def reboot(self) -> None:
        """Come back five minutes later with a new boot id."""
        self.now = Instant(30.0, self.now.utc + 300.0, self.now.boot_id + "'")
        self.state = step(self.state, (), self.catalogue, self.now).state

    @property
    def active(self) -> list[tuple[str, str]]:
        """Return code and component of each active fault."""
        return sorted((f.code, f.component) for f in self.state.faults.values() if f.state is FaultState.ACTIVE)

    @property
    def pending(self) -> list[tuple[str, str]]:
        """Return code and component of each fault that does not count yet."""
        return sorted((f.code, f.component) for f in self.state.faults.values() if f.state is FaultState.PENDING)

    @property
    def verdict(self) -> Verdict:
        """Return the verdict."""
        return self.state.verdict

    def fault(self, code: str) -> Fault:
        """Return the only live fault of this code."""
        (fault,) = (f for f in self.state.faults.values() if f.code == code)
        return fault
