"""A probe of DCGM that runs as a child, for tests: what it says is read as the agent reads it."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hma.cli import dcgm_stand_in
from hma.cli.dcgm_stand_in import DcgmState
from hma.gpu import DcgmHealth, DcgmViolation, DcgmViolations
from hma.samples import Blind, read_probe_line

ROOT = Path(__file__).parents[2]
BINDINGS = ("3.3.9", "4.2.3", "4.6.0")
ROUTES = (*(("bindings", version) for version in BINDINGS), ("dcgmi", "3.3.9"), ("dcgmi", "4.6.0"))
EVERY = 0xFFFFFFFF
DBE_ON_1: dict[str, Any] = {
    "system": 0x10,
    "health": 20,
    "code": 4,
    "msg": "Detected 2 volatile double-bit ECC errors",
    "group": 1,
    "entity": 1,
}
HOT_0: dict[str, Any] = {"system": 0x80, "health": 10, "code": 10, "msg": "Clocks are held down: heat", "group": 1, "entity": 0}
LATEST_S = 30.0
"""Only a probe that says nothing at all makes a test wait that long."""


class Running:
    """A probe that runs; what it says is read as the agent reads it."""

    def __init__(self, state: DcgmState, *arguments: str) -> None:
        argv = (sys.executable, "-m", "hma.sources.dcgm_probe", *arguments)
        quick = ("--poll", "0.2", "--retry", "0.2", "--hung-after", "0.5")
        env = {"PATH": os.defpath, dcgm_stand_in.STATE: str(state.path)}
        pipe = subprocess.PIPE
        self.child = subprocess.Popen([*argv[:3], *quick, *argv[3:]], cwd=ROOT, env=env, stdin=pipe, stdout=pipe, stderr=pipe)
        self._state = state
        self._lines: queue.Queue[str] = queue.Queue()
        self.said: list[Any] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self._lines.put(line.decode())

    def until(self, wanted: Callable[[Any], object]) -> Any:
        """Return the next thing said that is wanted."""
        end = time.monotonic() + LATEST_S
        while True:
            try:
                self.said.append(read_probe_line(self._lines.get(timeout=max(0.0, end - time.monotonic()))))
            except queue.Empty:
                pytest.fail(f"not said; but {self.said}, and {self.child.poll()}")
            if wanted(self.said[-1]):
                return self.said[-1]

    def health(self, wanted: Callable[[DcgmHealth], object] = lambda _: True) -> DcgmHealth:
        """Return the next health that is wanted."""
        found: DcgmHealth = self.until(lambda one: isinstance(one, DcgmHealth) and wanted(one))
        return found

    def state(self, name: str) -> DcgmHealth:
        """Return the next health whose host engine is in a state."""
        return self.health(lambda one: one.engine.state == name)

    def listening(self) -> None:
        """Wait until it is told that violations are listened to (again, where it was not for a while)."""
        heard = [one for one in self.said if isinstance(one, Blind) or one == DcgmViolations()]
        if not heard or isinstance(heard[-1], Blind):
            self.until(lambda one: one == DcgmViolations())
        end = time.monotonic() + LATEST_S
        while not self._state.was_set().get("registered"):  # dcgmi does not tell when it has
            assert time.monotonic() < end, self.said
            time.sleep(0.01)

    def violations(self, count: int) -> list[DcgmViolation]:
        """Return the next violations."""
        found: list[DcgmViolation] = []
        while len(found) < count:
            found += self.until(lambda one: isinstance(one, DcgmViolations)).violations
        return [one._replace(at=0.0) for one in found]

    def blind(self) -> str:
        """Return why violations are not told."""
        text: str = self.until(lambda one: isinstance(one, Blind) and one.of == "DcgmViolations").text
        return text

    def end(self) -> tuple[int, str]:
        """Have it leave; return exit code and last words."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return exit code and last words."""
        assert self.child.stderr is not None
        return self.child.wait(LATEST_S), self.child.stderr.read().decode()

    def close(self) -> None:
        """End it if it still runs."""
        self.child.kill()
        self.child.wait()
        self._reader.join(LATEST_S)
        for pipe in (self.child.stdin, self.child.stdout, self.child.stderr):
            if pipe is not None:
                pipe.close()


def alive(pid: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int, word: str) -> list[int]:
    """Return the children of a process whose command line has a word in it."""
    found: list[int] = []
    for child in Path(f"/proc/{pid}/task").glob("*/children"):
        numbers = child.read_text(encoding="ascii").split()
        found += [int(number) for number in numbers if word in _command_line(number)]
    return found


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):  # a run that has ended since it was listed
        return ""
