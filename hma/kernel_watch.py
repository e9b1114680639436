"""The kernel log as the agent uses it: lines to the checks, and what went wrong with the log to people.

Rules of this file:
- Losses and suspected forgeries come in floods; each is told at once the first time, then summed up once in `DAMP_S`.
- The cursor that is saved never runs ahead of what the checks have been given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hma.check import KernelLine, SourceError
from hma.journal_records import Cursor
from hma.loop import Loop, Timer
from hma.model import Attrs
from hma.runner import Runner
from hma.sources.kernel_log import KernelLogReader

CURSOR = "kernel_log"
DAMP_S = 10.0
LOOKBACK_S = 7_200.0
"""How far back lines count on a node of which nothing is recorded. What is older may have been mended since, by a reset, say,
of which the log has no word; what still is wrong, other sources show."""

Tell = Callable[[str, str, Attrs], None]


class Damper:
    """Calls `say(count, example)` at once, then at most once in `DAMP_S` with the sum of what came meanwhile."""

    def __init__(self, loop: Loop, say: Callable[[int, str], None]) -> None:
        self._loop = loop
        self._say = say
        self._count = 0
        self._example = ""
        self._timer: Timer | None = None

    def add(self, count: int, example: str) -> None:
        """Take down `count` more; the first example of a sum is kept."""
        self._example = self._example if self._count else example
        self._count += count
        if self._timer is None:
            self.flush()
            self._timer = self._loop.call_later(DAMP_S, self._due)

    def flush(self) -> None:
        """Say what has come since the last time."""
        if self._count:
            count, self._count = self._count, 0
            self._say(count, self._example)

    def _due(self) -> None:
        self._timer = self._loop.call_later(DAMP_S, self._due) if self._count else None
        self.flush()


class KernelWatch:
    """Reads the kernel log for `runner` and tells what people should know of the reading."""

    def __init__(self, loop: Loop, path: Path, boot_id: str, runner: Runner, tell: Tell) -> None:
        self._loop = loop
        self._path = path
        self._boot_id = boot_id
        self._runner = runner
        self._tell = tell
        self._reader: KernelLogReader | None = None
        self._trouble = ""
        self._since = 0.0
        self._passed_over = 0
        self._lost = Damper(loop, self._say_lost)
        self._spoofed = Damper(loop, self._say_spoofed)

    def start(self, cursor: Cursor | None, *, first: bool = False) -> None:
        """Read on behind `cursor`, or from the oldest line there is; on the `first` start of all old ones are passed over."""
        self._since = self._loop.clock() - LOOKBACK_S if first else 0.0
        self._reader = KernelLogReader(self._loop, self._path, self._boot_id, cursor, self)
        self._reader.patterns(self._runner.kernel_pattern_sources)
        self._reader.start()

    def stop(self) -> None:
        """Stop reading and say what is left to say."""
        if self._reader is not None:
            self._reader.stop()
        self._lost.flush()
        self._spoofed.flush()

    def patterns_changed(self) -> None:
        """Look for what the checks now planned want."""
        if self._reader is not None:
            self._reader.patterns(self._runner.kernel_pattern_sources)

    @property
    def cursors(self) -> Mapping[str, Cursor]:
        """Return how far the log has been read, to be saved together with what was made of it."""
        reached = self._reader.cursor if self._reader is not None else None
        return {} if reached is None else {CURSOR: Cursor(*reached)}

    @property
    def caught_up(self) -> bool:
        """Return whether all that was in the log has been read (or it cannot be)."""
        return self._reader is not None and (self._reader.caught_up or bool(self._trouble))

    @property
    def stuck(self) -> tuple[str, ...]:
        """Return the log's path where there is something to read and nobody reads it: something of ours is wrong then."""
        stuck = self._reader is not None and self._reader.stuck(self._loop.clock())
        return (str(self._path),) if stuck else ()

    def body(self) -> dict[str, object]:
        """Return what the API says of the log."""
        if self._reader is None:
            return {"path": str(self._path), "trouble": "not opened yet"}
        reader = self._reader
        return {
            "path": str(self._path),
            "trouble": self._trouble,
            "seen": reader.seen,
            "passed_over": self._passed_over,
            "lost": reader.lost,
            "foreign": reader.foreign,
            "spoofed": reader.spoofed,
            "malformed": reader.malformed,
            "restarts": reader.restarts,
        }

    # -- told by the reader --------------------------------------------------------------------------------------------

    def lines(self, lines: tuple[KernelLine, ...]) -> None:
        """Hand lines to the checks."""
        before = self._runner.kernel_pattern_sources
        fresh = tuple(line for line in lines if line.at >= self._since) if self._since > 0.0 else lines
        self._passed_over += len(lines) - len(fresh)
        self._runner.on_kernel_lines(fresh)
        if self._runner.kernel_pattern_sources != before:
            self.patterns_changed()

    def lost_lines(self, count: int, from_seq: int, to_seq: int) -> None:
        """Take down a gap in the sequence."""
        self._lost.add(count, f"{from_seq}-{to_seq}")

    def spoofed_line(self, line: KernelLine, facility: int) -> None:
        """Take down a line that looks like the kernel's and is not."""
        self._spoofed.add(1, f"facility {facility}: {line.text}")

    def unreadable(self, error: SourceError) -> None:
        """Say that the log cannot be read."""
        self._trouble = str(error)
        self._runner.on_kernel_log_lost(error)
        self._tell("kernel_log_unreadable", str(error), ())

    def readable(self) -> None:
        """Say that the log can be read."""
        if self._trouble:
            self._tell("kernel_log_readable", f"{self._path} can be read again", ())
        self._trouble = ""
        self._runner.on_kernel_log_readable()

    def _say_lost(self, count: int, example: str) -> None:
        lines = "line of the kernel log was" if count == 1 else "lines of the kernel log were"
        note = f"{count} {lines} overwritten before they could be read (from sequence {example})"
        self._tell("kernel_log_lost", note, (("lost", str(count)), ("first_gap", example)))

    def _say_spoofed(self, count: int, example: str) -> None:
        said = "1 line looks like the kernel's but was" if count == 1 else f"{count} lines look like the kernel's but were"
        note = f"{said} written by a program; not trusted; the first: {example[:300]}"
        self._tell("spoof_suspected", note, (("lines", str(count)),))
