"""A node with the stand-in driver library, and probes on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from hma.cli.nvml_stand_in import EVENTS, STATE, NvmlState, build, tell_event
from hma.cli.nvml_values import DRIVERS, healthy
from tests.sources.probe_run import Running

Libraries = Callable[[Iterable[str]], Path]


def libraries(folder: Path) -> Libraries:
    """Return what gives the library without some functions; each is compiled once."""
    built: dict[frozenset[str], Path] = {}

    def library(missing: Iterable[str]) -> Path:
        key = frozenset(missing)
        if key not in built:
            built[key] = build(folder / str(len(built)), missing=key)
        return built[key]

    return library


class Node:
    """The state of its driver, the pipe of its events and its root (empty but for what a test puts there)."""

    def __init__(self, folder: Path, library: Libraries, instance_type: str = "p5.48xlarge", driver: str = "580") -> None:
        self.root = folder / "root"
        self.root.mkdir()
        self.state = NvmlState(folder / "state", healthy(instance_type, driver))
        self.events = folder / "events"
        os.mkfifo(self.events)
        self._library = library
        self._missing = DRIVERS[driver].missing

    def probe(self, *arguments: str, tick: float = 0.1, missing: Iterable[str] = (), library: str = "") -> Running:
        """Start a probe."""
        path = library or str(self._library((*self._missing, *missing)))
        argv = ("-m", "hma.sources.nvml_probe", "--root", str(self.root), "--library", path, "--tick", str(tick), *arguments)
        return Running(*argv, env={STATE: str(self.state.path), EVENTS: str(self.events)})

    def event(self, gpu: int, kind: int, data: int, instance: tuple[int, int] | None = None) -> None:
        """Let an event happen."""
        tell_event(self.events, gpu, kind, data, instance)
