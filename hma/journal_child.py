"""The process that keeps the journal, so that a disk which is gone blocks it and not the agent: `python -m hma.journal_child`.

Rules of this file:
- One JSON object a line, on standard input and output. Each `commit` gets exactly one answer, `saved` or `failed`, in order.
- After a failure only a whole commit is taken: the next part would be laid on a state that the journal has missed.
- The answer comes first; the copy, the checkpoint and retention have time while nothing is asked.
- Its life is the agent's: it ends when standard input does, after all that was read, and not by a signal meant for the agent.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hma.codec import CodecError, decode, encode
from hma.journal import DB_NAME, Journal, realtime
from hma.journal_read import last_known
from hma.journal_records import Commit, JournalError, Snapshot

Say = Callable[[Mapping[str, Any]], None]

QUIET_S = 0.05
"""A pause after which the copy is written: longer than a round trip of the agent."""
LATEST_S = 1.0
"""Under a stream of commits the copy is written this often."""
PRUNE_FIRST_S = 60.0
PRUNE_EVERY_S = 3600.0
RETRY_S = (1.0, 60.0)
CHUNK = 1 << 16


class Keeper:
    """Takes messages and answers them with `say`."""

    def __init__(self, path: Path, keep_s: float, max_bytes: int, trace: Path | None, say: Say) -> None:
        self._path = path
        self._keep_s = keep_s
        self._max_bytes = max_bytes
        self._trace_path = trace
        self._trace: int | None = None
        self._say = say
        self._journal: Journal | None = None
        self._said_nothing_there = False
        self._trouble = ""
        self._untidy_since: float | None = None
        self._tidy_at: float | None = None
        self._tidy_delay = RETRY_S[0]
        self._prune_at = time.monotonic() + PRUNE_FIRST_S

    def open(self) -> None:
        """Open the journal and say what it holds."""
        try:
            self._say({"loaded": encode(self._opened())})
            self._plan_tidying()
        except JournalError as err:
            self._abandon(err)
            try:
                snapshot = last_known(self._path)
            except JournalError:
                self._say({"error": str(err)})
                return
            self._said_nothing_there = snapshot == Snapshot(None)
            self._say({"loaded": encode(snapshot), "error": str(err)})

    def take(self, message: Mapping[str, Any]) -> None:
        """Do what one message asks for."""
        if "commit" in message:
            self._take_commit(message["n"], message["commit"])
        elif "open" in message:
            self.open()
        elif "trace" in message:
            self._append(message["trace"])

    def idle(self) -> None:
        """Do what is due while nothing is asked."""
        now = time.monotonic()
        if self._tidy_at is not None and now >= self._tidy_at:
            self._tidy(now)
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_EVERY_S
            self._prune()

    def due_in(self) -> float:
        """Return the seconds until `idle` has something to do."""
        due = self._prune_at if self._tidy_at is None else min(self._prune_at, self._tidy_at)
        return max(0.0, due - time.monotonic())

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            with contextlib.suppress(JournalError):
                self._journal.close()
        if self._trace is not None:
            os.close(self._trace)

    # -- commits ------------------------------------------------------------------------------------------------------

    def _take_commit(self, number: int, data: Any) -> None:
        try:
            notes = self._commit(decode(Commit, data))
        except (JournalError, CodecError) as err:
            self._abandon(err)
            self._say({"failed": number, "error": str(err)})
            return
        self._say({"saved": number, "notes": notes} if notes else {"saved": number})
        self._plan_tidying()

    def _commit(self, commit: Commit) -> tuple[str, ...]:
        notes: tuple[str, ...] = ()
        if self._journal is None:
            if not commit.full:
                raise JournalError(self._trouble)
            snapshot = self._opened()
            notes = snapshot.notes
            if self._said_nothing_there and snapshot.state is not None:
                # The disk with the journal came late. What it knows must be heard before it is written over.
                self._said_nothing_there = False
                self._say({"loaded": encode(snapshot)})
                raise JournalError(f"{self._path} has only now been read")
        assert self._journal is not None
        self._journal.commit(commit)
        self._said_nothing_there = False
        return notes

    def _opened(self) -> Snapshot:
        self._abandon_quietly()
        self._journal = Journal(self._path)
        return self._journal.load()

    def _abandon(self, err: Exception) -> None:
        self._trouble = str(err)
        self._abandon_quietly()

    def _abandon_quietly(self) -> None:
        journal, self._journal = self._journal, None
        self._untidy_since = self._tidy_at = None
        self._tidy_delay = RETRY_S[0]
        if journal is not None:
            journal.abandon()

    # -- when there is time -------------------------------------------------------------------------------------------

    def _plan_tidying(self) -> None:
        if self._journal is None or not self._journal.untidy:
            return
        now = time.monotonic()
        if self._untidy_since is None:
            self._untidy_since = now
        if self._tidy_delay == RETRY_S[0] or self._tidy_at is None:
            self._tidy_at = min(now + QUIET_S, self._untidy_since + LATEST_S)

    def _tidy(self, now: float) -> None:
        self._untidy_since = self._tidy_at = None
        if self._journal is None:
            return
        try:
            self._journal.tidy()
        except JournalError as err:
            self._say({"copy": str(err)})
            self._tidy_at = now + self._tidy_delay
            self._tidy_delay = min(2 * self._tidy_delay, RETRY_S[1])
            return
        if self._tidy_delay != RETRY_S[0]:
            self._tidy_delay = RETRY_S[0]
            self._say({"copy": ""})

    def _prune(self) -> None:
        if self._journal is None:
            return
        try:
            gone = self._journal.prune(realtime(), self._keep_s, self._max_bytes)
        except JournalError as err:
            self._abandon(err)
            self._say({"error": str(err)})
            return
        if gone.unsent:
            self._say({"pruned": gone.unsent})

    def _append(self, line: str) -> None:
        try:
            if self._trace is None and self._trace_path is not None:
                self._trace = os.open(self._trace_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            if self._trace is not None:
                os.write(self._trace, line.encode("utf-8", "surrogateescape") + b"\n")
        except OSError as err:
            self._trace_path = None
            self._say({"trace": f"{err.filename or 'the trace'} cannot be written: {err.strerror}; it ends here"})


def say(message: Mapping[str, Any]) -> None:
    """Answer the agent; it does not matter if it is gone."""
    line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    with contextlib.suppress(OSError):
        while line:
            line = line[os.write(1, line) :]


def read() -> bytes:
    """Return what the agent has sent, nothing when it is gone."""
    try:
        return os.read(0, CHUNK)
    except ConnectionResetError:
        return b""  # it went without reading our last answer


def serve(keeper: Keeper) -> None:
    """Answer messages until standard input ends or says `close`."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    unread = bytearray()
    while True:
        if not poll.poll(keeper.due_in() * 1000 + 1):
            keeper.idle()
            continue
        data = read()
        *lines, rest = data.split(b"\n")
        for line in lines:
            message = json.loads(bytes(unread) + line)
            unread.clear()
            if "close" in message:
                return
            keeper.take(message)
        unread += rest
        if not data:
            return
        keeper.idle()


def detach() -> None:
    """Hold nothing of the agent but the channel, and outlive the signals that end it: its last words are yet to be written."""
    for fd in sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir()):
        if fd > 2:
            with contextlib.suppress(OSError):  # the one that listed them is closed already
                os.close(fd)
    os.chdir("/")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write("hma-journal")


def main(arguments: Sequence[str]) -> None:
    """Run until the agent is gone; `arguments` are pairs of `--name value`."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    directory, trace = os.path.abspath(options["--state-dir"]), options.get("--trace")
    detach()
    keeper = Keeper(
        Path(directory) / DB_NAME, float(options["--keep-s"]), int(options["--max-bytes"]), Path(trace) if trace else None, say
    )
    keeper.open()
    serve(keeper)
    keeper.close()


if __name__ == "__main__":
    main(sys.argv[1:])
