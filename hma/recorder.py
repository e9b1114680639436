"""The agent's side of the journal: hands commits to the child that keeps it, and goes on when that child or its disk does not.

Rules of this file:
- Nothing is written before the journal has been read: what is true now is laid on what it holds, never over it.
- One commit is under way at a time; what arrives meanwhile becomes one next commit. A part is never laid on a failed one: after
  trouble, and with a new child, everything that is true now goes first (`whole`). Only events and marks outlive a failure here.
- A child that lives and does not answer is left alone: its disk is gone, and a second one would find the journal locked.
- `Told` and `saved` are called from the loop or from `stop`, never from inside `commit`, `mark_emitted` or `trace`.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hma.codec import decode, encode
from hma.journal_link import Link, LossyLines, keeper_argv
from hma.journal_records import Commit, Pending, Snapshot
from hma.loop import Loop, Timer

Saved = Callable[[bool], None]

SILENCE_S = 5.0
RETRY_S = (1.0, 60.0)
COMMIT_EVENTS = 2_000
"""Events of one commit at most: a backlog of hours goes in portions, so that neither side is away for long."""
MARKS_S = 1.0
"""Marks wait for the next second; what a crash forgets is printed a second time, with the same id."""
END_S = 0.1
WORDS = 300
NUMBERS = str.maketrans("", "", "0123456789")


class Told(Protocol):
    """What the recorder tells its owner."""

    def loaded(self, snapshot: Snapshot) -> None:
        """Begin from `snapshot`. Late, after `trouble`, where the disk was: then what it holds is to be added to what is true
        now. A second time where a journal came to light that was not there before.
        """

    def trouble(self, text: str) -> None:
        """Say why the journal cannot be read or written, or what it had lost. Once per reason."""

    def recovered(self) -> None:
        """All that is true now is in the journal again."""

    def whole(self) -> Commit:
        """Return all that is true now, as a full commit."""


class _Flight(NamedTuple):
    """A commit that the child has and has not answered; `since` is when the oldest of it was asked for."""

    number: int
    commit: Commit
    saved: tuple[Saved, ...]
    since: float
    sent: float


class Recorder:
    """Keeps the journal by way of a child process.

    `retired` counts events that retention removed before a sink had taken them, `trace_dropped` lines left out of the trace.
    """

    def __init__(
        self,
        loop: Loop,
        state_dir: Path,
        told: Told,
        *,
        keep_s: float,
        max_bytes: int,
        trace: Path | None = None,
        max_events: int = 10_000,
    ) -> None:
        self._loop = loop
        self._state_dir = os.path.abspath(state_dir)
        self._told = told
        options = ["--state-dir", self._state_dir, "--keep-s", str(keep_s), "--max-bytes", str(max_bytes)]
        options += ["--trace", os.path.abspath(trace)] if trace else []
        self._argv = keeper_argv(options)
        self._link: Link | None = None
        self._last_words = ""
        self._asked: float | None = None
        self._loaded = False
        self._blank = False
        self._whole = False
        self._stopping = False
        self._pending = Pending(max_events)
        self._pending_since: float | None = None
        self._waiting: list[Saved] = []
        self._flights: deque[_Flight] = deque()
        self._number = 0
        self._trouble = ""
        self._copy_trouble = ""
        self._silent = False
        self._delay = RETRY_S[0]
        self._retry: Timer | None = None
        self._watch: Timer | None = None
        self._marks: Timer | None = None
        self._trace = LossyLines(loop, self._send_trace) if trace else None
        self.trace_trouble = ""
        self.retired = 0

    # -- what the agent asks for --------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Return the process id of the child, None where none runs."""
        return self._link.pid if self._link else None

    @property
    def dropped(self) -> int:
        """Return how many events were lost because nothing could be written for too long."""
        return self._pending.dropped

    @property
    def trace_dropped(self) -> int:
        """Return how many lines were left out of the trace."""
        return self._trace.dropped if self._trace else 0

    def start(self) -> None:
        """Start the child; it opens the journal, and `loaded` is told what that holds."""
        self._last_words = ""
        try:
            self._link = Link(self._loop, self._argv, self._heard, self._gone)
        except OSError as err:
            self._fail(f"the journal's process cannot be started: {err.strerror}; mend: free memory or process ids")
            self._try_later(self.start)
            return
        self._asked = self._loop.clock()
        self._watch_answers()

    def commit(self, commit: Commit, saved: Saved | None = None) -> None:
        """Save `commit` after all earlier ones; `saved` is called once, later, with whether it is durable."""
        if self._pending_since is None:
            self._pending_since = self._loop.clock()
        self._pending.add(commit)
        if self._trouble or self._whole:
            self._pending.drop_state()
        if saved and self._trouble:
            self._loop.call_later(0.0, partial(saved, False))
        elif saved:
            self._waiting.append(saved)
        self._pump()

    def mark_emitted(self, ids: Iterable[str]) -> None:
        """Note that a sink has taken these events."""
        self._pending.mark_emitted(ids)
        if self._marks is None:
            self._marks = self._loop.call_at((self._loop.clock() // MARKS_S + 1) * MARKS_S, self._send_marks)

    def trace(self, line: str) -> None:
        """Append `line` to the trace, if there is one and the child keeps up."""
        if self._trace:
            self._trace.add(line, self._link.unsent if self._link else None)

    def lag(self) -> float:
        """Return the seconds since the oldest commit that is not yet durable, 0 if there is none."""
        since = self._flights[0].since if self._flights else self._pending_since
        return 0.0 if since is None else self._loop.clock() - since

    def stop(self, wait_s: float) -> None:
        """Send what is left and wait `wait_s` at most until the child has written it; a stuck one is not waited for."""
        self._stopping = True
        for timer in (self._retry, self._watch, self._marks):
            if timer:
                timer.cancel()
        if self._trace:
            self._trace.flush()
        link = self._link
        if link:
            if self._loaded and (self._trouble or self._whole):
                self._pending.add(self._told.whole())
            while self._loaded and self._pending:
                self._send(link)
            _say(link, {"close": True})
            link.wait(0.0 if self._silent else wait_s)
            link.close()
            link.ended()
            self._link = None
        _answer(self._take_back(), durable=False)

    # -- sending ------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send the next commit, if it is time for one."""
        ready = self._loaded and not (self._flights or self._trouble or self._whole or self._stopping)
        if ready and self._link and self._pending:
            self._send(self._link)

    def _send_whole(self) -> None:
        """Send all that is true now and the events that were kept; where the journal has not been read yet, ask for that."""
        link = self._link
        if link is None or self._flights or self._silent or self._stopping:
            return
        if not self._loaded:
            self._asked = self._loop.clock()
            _say(link, {"open": True})
            self._watch_answers()
            return
        self._whole = False
        self._pending.add(self._told.whole())
        self._send(link)

    def _send(self, link: Link) -> None:
        now = self._loop.clock()
        since = now if self._pending_since is None else self._pending_since
        commit = self._pending.take(COMMIT_EVENTS)
        self._pending_since = now if self._pending else None
        # Those who wait are told when everything that was pending with theirs is durable.
        saved = () if self._pending.events else self._take_waiting()
        self._number += 1
        self._flights.append(_Flight(self._number, commit, saved, since, now))
        _say(link, {"commit": encode(commit), "n": self._number})
        self._watch_answers()

    def _send_marks(self) -> None:
        self._marks = None
        self._pump()

    def _send_trace(self, lines: Iterable[str]) -> None:
        for line in lines:
            if self._link:
                _say(self._link, {"trace": line})

    # -- answers ------------------------------------------------------------------------------------------------------

    def _heard(self, line: bytes) -> None:
        try:
            message = json.loads(line) if line.startswith(b"{") else None
        except ValueError:
            message = None
        if message is None:
            # Meant for standard error: the last line of a traceback says what the child died of.
            self._last_words = line.decode("utf-8", "replace").strip()[:WORDS] or self._last_words
            return
        was_silent, self._silent = self._silent, False
        self._understand(message)
        if was_silent and self._trouble and self._retry is None:
            self._send_whole()

    def _understand(self, message: Mapping[str, Any]) -> None:
        if "saved" in message:
            self._on_saved(message["saved"], "; ".join(message.get("notes", ())))
        elif "loaded" in message:
            self._on_loaded(decode(Snapshot, message["loaded"]), message.get("error", ""))
        elif "failed" in message or "error" in message:
            self._on_error(message.get("failed"), message["error"])
        elif "copy" in message:
            self._on_copy(message["copy"])
        elif "pruned" in message:
            self.retired += message["pruned"]
        elif "trace" in message:
            self.trace_trouble = message["trace"]

    def _on_loaded(self, snapshot: Snapshot, error: str) -> None:
        self._asked = None
        if not self._loaded or (self._blank and snapshot.state is not None):
            self._whole = self._loaded or bool(self._trouble or self._pending)
            self._loaded, self._blank = True, snapshot.state is None and bool(error)
            self._told.loaded(snapshot)
        elif snapshot.notes:
            self._told.trouble("; ".join(snapshot.notes))
        if error:
            self._on_error(None, error)
        elif self._whole or self._trouble:
            self._cancel_retry()
            self._send_whole()
        else:
            self._pump()

    def _on_saved(self, number: int, notes: str) -> None:
        if not self._flights or self._flights[0].number != number:
            return  # given up long ago; what is true now follows
        flight = self._flights.popleft()
        self._blank = False
        self._delay = RETRY_S[0]
        _answer(flight.saved, durable=True)
        if notes:
            self._told.trouble(notes)
        if self._trouble or notes:
            self._trouble = ""
            self._cancel_retry()
            self._well()
        self._pump()

    def _on_error(self, number: int | None, error: str) -> None:
        if number is not None and self._flights and self._flights[0].number != number:
            return
        self._asked = None
        self._fail(error)
        self._try_later(self._send_whole)

    def _on_copy(self, text: str) -> None:
        self._copy_trouble = text
        if text:
            self._told.trouble(text)
        elif not self._trouble:
            self._well()

    def _well(self) -> None:
        if not self._copy_trouble:
            self._told.recovered()

    # -- trouble ------------------------------------------------------------------------------------------------------

    def _fail(self, text: str) -> None:
        """Give up what is under way: its events are kept, its state is left to the next `whole`."""
        # The free bytes of a full disk change all the time, and are no news.
        news = text.translate(NUMBERS) != self._trouble.translate(NUMBERS)
        self._trouble, self._copy_trouble = text, ""
        _answer(self._take_back(), durable=False)
        if news:
            self._told.trouble(text)

    def _take_back(self) -> tuple[Saved, ...]:
        """Return whom to tell that nothing is durable, after taking back what is under way."""
        flights, self._flights = tuple(self._flights), deque()
        for flight in reversed(flights):
            self._pending.put_back(flight.commit)
            self._pending_since = flight.since
        self._pending.drop_state()
        return (*(saved for flight in flights for saved in flight.saved), *self._take_waiting())

    def _take_waiting(self) -> tuple[Saved, ...]:
        waiting, self._waiting = tuple(self._waiting), []
        return waiting

    def _watch_answers(self) -> None:
        if self._watch is None and not self._stopping:
            self._watch = self._loop.call_later(SILENCE_S, self._look)

    def _look(self) -> None:
        """Notice that the child owes an answer for too long."""
        self._watch = None
        asked = self._flights[0].sent if self._flights else self._asked
        if asked is None:
            return
        left = asked + SILENCE_S - self._loop.clock()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
            return
        self._silent = True
        self._asked = None
        self._fail(f"state directory {self._state_dir} does not answer; mend: look for errors of its disk in the kernel log")

    def _gone(self) -> None:
        link, self._link = self._link, None
        if link is None or self._stopping:
            return
        self._asked, self._silent = None, False
        # The channel closes a moment before the end, and the end says why.
        self._loop.call_later(END_S, partial(self._bury, link))

    def _bury(self, link: Link) -> None:
        if self._stopping:
            return
        words = f" ({self._last_words})" if self._last_words else ""
        self._fail(f"the journal's process {link.ended() or 'has closed its channel'}{words}; it is started again")
        self._try_later(partial(self._restart, link))

    def _restart(self, lost: Link) -> None:
        # Stuck on its way out, it still holds the journal.
        if not lost.ended():
            self._try_later(partial(self._restart, lost))
            return
        self.start()

    def _try_later(self, call: Callable[[], None]) -> None:
        self._cancel_retry()
        if not self._stopping:
            self._retry = self._loop.call_later(self._delay, partial(self._try, call))
            self._delay = min(2 * self._delay, RETRY_S[1])

    def _try(self, call: Callable[[], None]) -> None:
        self._retry = None
        call()

    def _cancel_retry(self) -> None:
        if self._retry:
            self._retry.cancel()
            self._retry = None


def _answer(waiting: Iterable[Saved], *, durable: bool) -> None:
    for saved in waiting:
        saved(durable)


def _say(link: Link, message: Mapping[str, Any]) -> None:
    link.send(json.dumps(message, separators=(",", ":")).encode())
