"""A real agent as a child process, on a simulated node whose kernel log is a file that tests append to.

The file holds records as /dev/kmsg gives them, so it is read by the same code; like the kernel's ring it is still there after
the agent has died.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from hma.cli.demo_command import OF_THIS_MACHINE
from hma.cli.simulated_node import build

Record = dict[str, Any]
T = TypeVar("T")
PATIENCE_S = 20.0
"""How long anything may take on a loaded machine before a test gives up; no test comes near it."""

XID_79 = "NVRM: Xid (PCI:0000:97:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
XID_13 = (
    "NVRM: Xid (PCI:0000:53:00): 13, pid=1240, name=python3, Graphics SM Warp Exception on (GPC 1, TPC 2, SM 0): Out Of Range"
)


class KernelFile:
    """A kernel log in a regular file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seq = 0
        path.touch()

    def record(self, text: str, facility: int = 0, level: int = 4) -> str:
        """Return the next record."""
        line = f"{facility << 3 | level},{self.seq},{time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000},-;{text}\n"
        self.seq += 1
        return line

    def write(self, *texts: str, facility: int = 0) -> None:
        """Append records."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("".join(self.record(text, facility) for text in texts))


class Node:
    """Directories of one simulated node, and agents on it one after the other."""

    def __init__(self, place: Path, instance_type: str = "p5.48xlarge", programs: Mapping[str, Path] | None = None) -> None:
        self.root, self.state_dir, self.run_dir = place / "root", place / "state", place / "run"
        place.mkdir(exist_ok=True)
        build(self.root, instance_type)
        self.kernel_log = KernelFile(place / "kmsg")
        self.config = place / "config.yaml"
        nowhere = place / "not-installed"
        self.settings = {
            "node.imds": "false",
            "log.format": "json",
            **{f"checks.{name}.enabled": "false" for name in OF_THIS_MACHINE},
            # The driver of the machine that tests run on is none of the node's.
            "nvml.library": str(nowhere),
            "dcgm.bindings": str(nowhere),
            "commands.dcgmi": str(nowhere),
            **{f"commands.{name}": str(path) for name, path in (programs or {}).items()},
        }
        self.config.write_text("")

    def options(self) -> list[str]:
        """Return the options that every command on this node takes."""
        places = [
            "--root",
            self.root,
            "--state-dir",
            self.state_dir,
            "--run-dir",
            self.run_dir,
            "--kernel-log",
            self.kernel_log.path,
        ]
        settings = [word for key, value in self.settings.items() for word in ("--set", f"{key}={value}")]
        return ["--config", str(self.config), *map(str, places), *settings]

    def start(self, **environ: str) -> Running:
        """Start an agent."""
        return Running([*HMA, "agent", *self.options()], environ)

    def hma(self, command: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run another command on this node."""
        argv = [*HMA, *command.split(), *self.options(), *args]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE_S * 3)


HMA = [sys.executable, "-m", "hma.cli.main"]


class Running:
    """One agent process, whose lines are read as they come."""

    def __init__(self, argv: list[str], environ: Mapping[str, str]) -> None:
        self.started = time.monotonic()
        env = {**os.environ, **environ}
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        self.records: list[Record] = []
        self.stderr = ""
        self._arrived: queue.Queue[tuple[float, Record] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.finish()

    def wait_for(self, kind: str, *, limit_s: float = PATIENCE_S, **wanted: object) -> Record:
        """Return the next record of the event `kind` with these keys; what comes before it is kept in `records`."""
        return self._next(kind, limit_s, wanted)[1]

    def arrival_of(self, kind: str, *, limit_s: float = PATIENCE_S, **wanted: object) -> float:
        """Return when (time.monotonic) the next such record came."""
        return self._next(kind, limit_s, wanted)[0]

    def _next(self, kind: str, limit_s: float, wanted: Mapping[str, object]) -> tuple[float, Record]:
        until = time.monotonic() + limit_s
        while (left := until - time.monotonic()) > 0:
            try:
                got = self._arrived.get(timeout=left)
            except queue.Empty:
                break
            if got is None:
                break
            if got[1]["msg"] == kind and all(got[1].get(key) == value for key, value in wanted.items()):
                return got
        raise AssertionError(f"no {kind} {wanted or ''} came; got {[r['msg'] for r in self.records]}; {self.process.poll()}")

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.finish()

    def terminate(self) -> int:
        """End it as systemd would, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.finish()

    def finish(self) -> int:
        """Wait for the end, and return the exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        if not self.process.stderr.closed:
            self.stderr = self.process.stderr.read()
            self.process.stderr.close()
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            record = json.loads(line)
            self.records.append(record)
            self._arrived.put((time.monotonic(), record))
        self._arrived.put(None)


def until(true: Callable[[], T | Literal[False, ""]], what: str, limit_s: float = PATIENCE_S) -> T:
    """Return the first true answer of `true`."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if got := true():
            return got
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {limit_s:g} s")
