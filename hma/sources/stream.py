"""A long-lived child that prints one line per reading: its lines as they come, and a new child when it ends or falls silent.

Rules of this file:
- Complete lines only. One longer than `max_line` is half a reading at best: it is left out, and said.
- It dies, falls silent or floods: said once, killed if need be, started again after 1 s, doubling up to 5 min; back to 1 s when
  a child has been good for `GOOD_S`. One whose library is not installed (exit code 69) waits 5 min, doubling up to an hour.
- A second one is never started while the first is out, in state D or otherwise.
- `stop` asks (end of its input, SIGTERM) and returns; what does not go is killed from the loop, or with the agent.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from hma.check import Feed, NotInstalled, SourceError, Stream
from hma.loop import Loop, Timer
from hma.sources.child import LOST, Child, clean_environment, launch

READ = 65_536
TERM_S = 1.0
KILL_S = 2.0
RETRY_S = 1.0
RETRY_MAX_S = 300.0
ABSENT_MAX_S = 3_600.0
GOOD_S = 60.0
FLOOD = 16 * 1_048_576
FLOOD_S = 10.0
SAID_MAX = 4_096
STOPPED = "stopped"
UNAVAILABLE = os.EX_UNAVAILABLE


class StreamChild:
    """Keeps one child of `source` running between `start` and `stop`; may be started again after a stop."""

    def __init__(
        self,
        loop: Loop,
        source: Stream,
        on_feed: Callable[[Feed], None],
        on_error: Callable[[SourceError], None],
        programs: Mapping[str, str] = MappingProxyType({}),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.on_feed = on_feed
        self.on_error = on_error
        self._loop = loop
        self._source = source
        self._programs = programs
        self._environ = clean_environment(os.environ if environ is None else environ)
        self._wanted = False
        self._child: Child | None = None
        self._stdin = -1
        self._ending = ""
        self._timer: Timer | None = None
        self._silence: Timer | None = None
        self._retry_s = RETRY_S
        self._began = 0.0
        self._heard = 0.0
        self._fresh()

    @property
    def out(self) -> bool:
        """Return whether a child of ours lives, wanted or not."""
        return self._child is not None

    def start(self) -> None:
        """Begin, or begin again; waits for a child that is still on its way out."""
        if self._wanted:
            return
        self._wanted = True
        self._retry_s = RETRY_S
        if self._child is None:
            self._launch()

    def stop(self) -> None:
        """Ask the child to go and return; nobody is called any more."""
        if not self._wanted:
            return
        self._wanted = False
        if self._child is None:
            self._cancel()
        elif not self._ending:
            self._end(STOPPED)

    # -- one child -----------------------------------------------------------------------------------------------------

    def _fresh(self) -> None:
        self._line = bytearray()
        self._too_long = False
        self._said = b""
        self._window = (0.0, 0)

    def _launch(self) -> None:
        self._fresh()
        self._ending = ""
        self._began = self._heard = self._loop.clock()
        try:
            self._child = self._started()
        except SourceError as err:
            self._again()
            self.on_error(err)
            return
        self._loop.add_reader(self._child.stdout, partial(self._readable, self._child))
        self._loop.add_reader(self._child.stderr, partial(self._complains, self._child))
        self._silence = self._loop.call_later(self._source.silence_s, self._listen)
        self._child.watch(self._loop, self._ended)

    def _started(self) -> Child:
        theirs, ours = os.pipe()
        try:
            child = launch(self._source.argv, self._programs, self._environ, theirs)
        except SourceError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._stdin = ours
        return child

    def _readable(self, child: Child) -> None:
        piece = _read(child.stdout)
        if piece is None:
            return
        if not piece:
            self._loop.remove_reader(child.stdout)
            return
        now = self._loop.clock()
        began, count = self._window
        self._window = (began, count + len(piece)) if now - began < FLOOD_S else (now, len(piece))
        if self._window[1] > FLOOD:
            self._fail(child, f"printed more than {FLOOD // 1_048_576} MiB within {FLOOD_S:g} s")
            return
        self._feed(piece)

    def _feed(self, piece: bytes) -> None:
        *complete, rest = piece.split(b"\n")
        lines: list[str] = []
        cut = 0
        for end in complete:
            whole = bytes(self._line) + end if self._line else end
            cut += self._too_long or len(whole) > self._source.max_line
            if not self._too_long and len(whole) <= self._source.max_line:
                lines.append(whole.decode("utf-8", "backslashreplace"))
            self._line.clear()
            self._too_long = False
        self._line += rest
        if len(self._line) > self._source.max_line:
            self._line.clear()
            self._too_long = True
        if lines or cut:
            self._heard = self._loop.clock()
        if lines and self._wanted:
            self.on_feed(Feed(tuple(lines)))
        if cut and self._wanted:
            most = self._source.max_line
            self.on_error(SourceError(f"{self._name}: {cut} lines left out that are longer than {most} bytes"))

    def _complains(self, child: Child) -> None:
        piece = _read(child.stderr)
        if piece:
            self._said = (self._said + piece)[-SAID_MAX:]
        elif piece is not None:
            self._loop.remove_reader(child.stderr)

    def _listen(self) -> None:
        """Look whether a line came within the time it may take."""
        due = self._heard + self._source.silence_s
        if self._child is not None and due <= self._loop.clock():
            self._fail(self._child, f"no line within {self._source.silence_s:g} s")
        else:
            self._silence = self._loop.call_at(due, self._listen)

    # -- its end -------------------------------------------------------------------------------------------------------

    def _fail(self, child: Child, why: str) -> None:
        """Say what is wrong and put an end to the child; a new one is started when it is gone."""
        state = child.standing
        self._end(why)
        self.on_error(SourceError(f"{self._name}: {why}; pid {child.pid} {state} and is ended{self._last_words()}"))

    def _end(self, why: str) -> None:
        assert self._child is not None
        self._ending = why
        self._stop_reading(self._child)
        self._close_stdin()
        self._signal(signal.SIGTERM, TERM_S, partial(self._signal, signal.SIGKILL, KILL_S, self._leave))

    def _signal(self, number: int, wait_s: float, following: Callable[[], None]) -> None:
        self._cancel()
        if self._child is not None:
            self._child.signal(number)
            self._timer = self._loop.call_later(wait_s, following)

    def _leave(self) -> None:
        """Say that it does not die; it is still watched, and the next one waits for its end."""
        if self._child is None:
            return
        said = f"{self._name}: {self._ending}; pid {self._child.pid} {self._child.standing} and was left behind"
        self._child.close()
        if self._wanted:
            self.on_error(SourceError(f"{said}; it is started again when that has ended"))

    def _ended(self) -> None:
        child = self._child
        assert child is not None
        child.signal(signal.SIGKILL)
        self._cancel()
        refusal = None
        if not self._ending:
            self._drain(child)
            refusal = child.refusal()
        code = child.reap()
        child.forget()
        self._close_stdin()
        self._child = None
        if not self._wanted:
            return
        lived = self._loop.clock() - self._began
        if self._heard - self._began >= GOOD_S:
            self._retry_s = RETRY_S
        if self._ending == STOPPED:
            self._launch()
            return
        if not self._ending and code == UNAVAILABLE:
            self._retry_s = max(RETRY_MAX_S, self._retry_s)
            self._again(ABSENT_MAX_S)
            self.on_error(NotInstalled(self._last_line() or f"{self._name}: not installed"))
            return
        again = self._again()
        if not self._ending:
            said = f"{self._name}: {_how(code)} after {lived:.0f} s{self._last_words()}; started again in {again:g} s"
            self.on_error(refusal or SourceError(said))

    def _drain(self, child: Child) -> None:
        for _ in range(64):
            piece = _read(child.stdout)
            if not piece:
                break
            self._feed(piece)
        self._complains(child)

    def _again(self, most_s: float = RETRY_MAX_S) -> float:
        """Start a new child after the back-off; return it."""
        wait_s = min(self._retry_s, most_s)
        self._retry_s = min(most_s, 2 * wait_s)
        self._timer = self._loop.call_later(wait_s, self._launch)
        return wait_s

    # -- small things --------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return self._source.name or Path(self._source.argv[0]).name if self._source.argv else "(empty command)"

    def _last_words(self) -> str:
        said = self._last_line()[:200]
        return f"; it last said: {said}" if said else ""

    def _last_line(self) -> str:
        return self._said.decode("utf-8", "backslashreplace").strip().rpartition("\n")[2]

    def _stop_reading(self, child: Child) -> None:
        self._loop.remove_reader(child.stdout)
        self._loop.remove_reader(child.stderr)

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def _cancel(self) -> None:
        for timer in (self._timer, self._silence):
            if timer is not None:
                timer.cancel()


def _read(fd: int) -> bytes | None:
    """Return what there is, b"" at the end, None where nothing is there yet."""
    try:
        return os.read(fd, READ)
    except BlockingIOError:
        return None


def _how(code: int | None) -> str:
    if code is None or code == LOST:
        return "ended"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
