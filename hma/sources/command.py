"""Runs commands on the loop: each with a time limit and a cap on what it prints, none ever waited for.

Rules of this file:
- At the limit the whole group gets SIGTERM, then SIGKILL. Who does not die of that is in the kernel's hands (state D): it is
  left behind, answered for, and reaped whenever it ends. Until then the same command is not started again.
- Who asks for a command that runs already, within its limit, gets the answer of that run.
- A leader that ended is the answer, whatever it left running: the rest of its group is killed, not waited for.
- Reading is bounded: `READ` bytes a wakeup, the cap kept, and beyond `FLOOD` times the cap the group is killed.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from hma.check import Command, Output, SourceError
from hma.loop import Loop, Timer
from hma.sources.child import LOST, Child, clean_environment, launch
from hma.sources.processes import standing

MOST_RUNNING = 8
"""The others wait their turn: a node under load should not see all checks of an agent at once."""
MOST_LEFT = 16
TERM_S = 0.5
KILL_S = 2.0
READ = 65_536
FLOOD = 16
FLOOD_MIN = 4 * 1_048_576

Done = Callable[[Output | SourceError], None]


class _Run:
    """One run of one command: waiting its turn, running, ending, left behind, gone."""

    def __init__(
        self, loop: Loop, command: Command, timeout_s: float, told: Callable[[_Run, Output | SourceError], None]
    ) -> None:
        self.command = command
        self.dones: list[Done] = []
        self.began = loop.clock()
        self.ending = ""
        self.child: Child | None = None
        self.left = False
        self.reaped = False
        self._loop = loop
        self._timeout_s = timeout_s
        self._told = told
        self._kept: dict[int, bytearray] = {}
        self._read = 0
        self._truncated = False
        self._timer: Timer | None = None

    @property
    def name(self) -> str:
        """Return the program's name, for people."""
        return Path(self.command.argv[0]).name if self.command.argv else "(empty command)"

    @property
    def gone(self) -> bool:
        """Return whether nothing of it is left."""
        return self.reaped and (self.child is None or not self.child.group_lives)

    def start(self, programs: Mapping[str, str], environ: Mapping[str, str]) -> None:
        """Start the program; raises SourceError."""
        self.began = self._loop.clock()
        child = self.child = launch(self.command.argv, programs, environ)
        for fd in (child.stdout, child.stderr):
            self._kept[fd] = bytearray()
            self._loop.add_reader(fd, partial(self._readable, fd))
        self._timer = self._loop.call_later(self._timeout_s, partial(self._end, f"no answer in {self._timeout_s:g} s"))
        child.watch(self._loop, self._ended)

    def cancel(self, wait_s: float) -> None:
        """Kill it and close all that belongs to it; it may live on in state D."""
        if self._timer is not None:
            self._timer.cancel()
        if self.child is None or self.reaped:
            return
        self.child.signal(signal.SIGKILL)
        if not self.left:
            self.child.wait(wait_s)
        self.child.reap()
        self.child.forget()

    # -- reading -------------------------------------------------------------------------------------------------------

    def _readable(self, fd: int) -> None:
        if not self._take(fd):
            self._loop.remove_reader(fd)
        elif self._read > max(FLOOD * self.command.max_bytes, FLOOD_MIN):
            self._stop_reading()
            self._end(f"printed more than {self._read // 1024} KiB")

    def _take(self, fd: int) -> bool:
        """Read once; return whether there may be more."""
        try:
            piece = os.read(fd, READ)
        except BlockingIOError:
            return True
        kept = self._kept[fd]
        room = self.command.max_bytes - len(kept)
        kept += piece[: max(0, room)]
        self._truncated = self._truncated or len(piece) > room
        self._read += len(piece)
        return bool(piece)

    def _drain(self) -> None:
        """Take what the pipes still hold; bounded, because a pipe holds 64 KiB and nobody of the group writes any more."""
        for fd in self._kept:
            before = -1
            while before != self._read and self._read <= max(FLOOD * self.command.max_bytes, FLOOD_MIN):
                before = self._read
                self._take(fd)

    def _stop_reading(self) -> None:
        for fd in self._kept:
            self._loop.remove_reader(fd)

    # -- ending --------------------------------------------------------------------------------------------------------

    def _end(self, why: str) -> None:
        if self.ending or self.child is None:
            return
        self.ending = f"{why}; its program file cannot be read" if self.child.unread else why
        self._signal(signal.SIGTERM, TERM_S, partial(self._signal, signal.SIGKILL, KILL_S, self._leave))

    def _signal(self, number: int, wait_s: float, following: Callable[[], None]) -> None:
        assert self.child is not None
        if self._timer is not None:
            self._timer.cancel()
        self.child.signal(number)
        self._timer = self._loop.call_later(wait_s, following)

    def _leave(self) -> None:
        assert self.child is not None
        self.left = True
        self._stop_reading()
        said = f"{self.name}: {self.ending}; pid {self.child.pid} {standing(self.child.pid)} and was left behind"
        self.child.close()
        self._told(self, SourceError(said))

    def _ended(self) -> None:
        assert self.child is not None
        if self._timer is not None:
            self._timer.cancel()
        self.child.signal(signal.SIGKILL)
        if not self.left:
            self._stop_reading()
            self._drain()
        code = self.child.reap()
        refusal = self.child.refusal()
        self.child.forget()
        self.reaped = True
        if not self.left:
            self._told(self, self._answer(LOST if code is None else code, refusal))

    def _answer(self, code: int, refusal: SourceError | None) -> Output | SourceError:
        stdout, stderr = (bytes(kept).decode("utf-8", "backslashreplace") for kept in self._kept.values())
        if self.ending:
            said = stderr.strip().rpartition("\n")[2][:200]
            return SourceError(f"{self.name}: {self.ending}" + (f"; it last said: {said}" if said else ""))
        if refusal is not None:
            return refusal
        if code == LOST:
            return SourceError(f"{self.name}: ended, and how is not known: somebody else reaped it")
        return Output(code, stdout, stderr, self._truncated)


class CommandRunner:
    """Runs commands for whoever asks. `programs` (name to absolute path) may be replaced at any time."""

    def __init__(
        self, loop: Loop, programs: Mapping[str, str] = MappingProxyType({}), environ: Mapping[str, str] | None = None
    ) -> None:
        self.programs = programs
        self._loop = loop
        self._environ = clean_environment(os.environ if environ is None else environ)
        self._runs: dict[tuple[str, ...], _Run] = {}
        self._queue: deque[_Run] = deque()
        self._stopped = False

    @property
    def outstanding(self) -> int:
        """Return how many runs have not been answered yet."""
        return sum(not (run.left or run.reaped) for run in self._runs.values())

    @property
    def abandoned(self) -> int:
        """Return how many runs were answered for and live on."""
        for argv, run in list(self._runs.items()):
            if run.gone:
                del self._runs[argv]
        return len(self._runs) - self.outstanding

    def start(self, command: Command, timeout_s: float, done: Done) -> None:
        """Run `command`; call `done` once, perhaps before this returns, with what it printed or why there is nothing."""
        left = self.abandoned
        run = self._runs.get(command.argv)
        if run is not None and (run.reaped or run.ending):
            done(SourceError(self._still_out(run)))
        elif run is not None:
            run.dones.append(done)
        elif self._stopped or left >= MOST_LEFT:
            why = "the agent is stopping" if self._stopped else f"{left} earlier programs hang and were left behind"
            done(SourceError(f"{command.argv[0]}: not started: {why}"))
        else:
            run = self._runs[command.argv] = _Run(self._loop, command, timeout_s, self._told)
            run.dones.append(done)
            self._queue.append(run)
            self._start_next()

    def stop(self, wait_s: float = 0.1) -> None:
        """Kill what runs and close everything, within about `wait_s`; nobody is answered any more."""
        self._stopped = True
        self._queue.clear()
        until = self._loop.clock() + wait_s
        for run in self._runs.values():
            run.cancel(max(0.0, until - self._loop.clock()))
        self._runs.clear()

    def _start_next(self) -> None:
        while self._queue and self.outstanding - len(self._queue) < MOST_RUNNING:
            run = self._queue.popleft()
            try:
                run.start(self.programs, self._environ)
            except SourceError as err:
                run.reaped = True
                self._told(run, err)

    def _told(self, run: _Run, answer: Output | SourceError) -> None:
        if run.gone:
            self._runs.pop(run.command.argv, None)
        dones, run.dones = run.dones, []
        for done in dones:
            done(answer)
        self._start_next()

    def _still_out(self, run: _Run) -> str:
        assert run.child is not None
        since = f"started {self._loop.clock() - run.began:.0f} s ago"
        if run.reaped:
            return f"{run.name}: not started: what the previous run (pid {run.child.pid}, {since}) started has not ended"
        return (
            f"{run.name}: not started: the previous run (pid {run.child.pid}, {since}) has not ended; it {run.child.standing}"
        )
