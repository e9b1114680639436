"""A probe as a real child: its lines, as the agent would read them."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from hma.gpu import GpuReadings
from hma.samples import Blind, read_probe_line

PATIENCE_S = 30.0
T = TypeVar("T")


class Running:
    """A child that is killed at the end, whatever happened."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def line(self) -> str:
        """Return the next line; raises queue.Empty where none comes."""
        return self._lines.get(timeout=PATIENCE_S)

    def next(self, kind: type[T], so: Callable[[T], object] = lambda _: True) -> T:
        """Return the next sample of a kind that is as wanted; others are passed over."""
        while True:
            said: Any = read_probe_line(self.line())
            if isinstance(said, kind) and so(said):
                return said

    def reading(self, so: Callable[[GpuReadings], object]) -> GpuReadings:
        """Return the next reading that is as wanted."""
        return self.next(GpuReadings, so)

    def blind(self) -> Blind:
        """Return the next word of blindness."""
        return self.next(Blind)

    def end(self, by: str = "EOF") -> int:
        """Let it go: by the end of its input or by SIGTERM; return its exit code."""
        if by == "EOF":
            assert self.process.stdin is not None
            self.process.stdin.close()
        else:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def complaint(self) -> str:
        """Return what it said on standard error, once it has ended."""
        self.process.wait(PATIENCE_S)
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def state(self) -> str:
        """Return the states of all its threads: letters of proc(5)."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return "".join((thread / "stat").read_text().rpartition(") ")[2][0] for thread in threads)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
