"""A single-threaded event loop: file descriptors and timers, nothing else.

asyncio would cost 8 MiB and twice the processor time (it pulls in ssl); a node agent that must not be noticed has better use
for both. Callbacks must not block and must not raise: what they raise ends the loop, because the agent would be wrong.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import time
from collections.abc import Callable

Callback = Callable[[], None]


class Timer:
    """A call that is due at `at` (boottime seconds) and can be cancelled."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callback) -> None:
        self.at = at
        self.call: Callback | None = call

    def cancel(self) -> None:
        """Forget the call; safe at any time."""
        self.call = None


def boottime() -> float:
    """Return seconds since boot, suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Loop:
    """Runs callbacks when descriptors are ready and when timers are due."""

    def __init__(self, clock: Callable[[], float] = boottime) -> None:
        self.clock = clock
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._stopping = False

    def add_reader(self, fd: int, call: Callback) -> None:
        """Call `call` whenever `fd` can be read (or has hung up)."""
        self._set(fd, selectors.EVENT_READ, call)

    def add_writer(self, fd: int, call: Callback) -> None:
        """Call `call` whenever `fd` can be written."""
        self._set(fd, selectors.EVENT_WRITE, call)

    def remove_reader(self, fd: int) -> None:
        """Stop watching `fd` for reading."""
        self._unset(fd, selectors.EVENT_READ)

    def remove_writer(self, fd: int) -> None:
        """Stop watching `fd` for writing."""
        self._unset(fd, selectors.EVENT_WRITE)

    def call_at(self, at: float, call: Callback) -> Timer:
        """Call `call` at boottime second `at`."""
        timer = Timer(at, call)
        heapq.heappush(self._timers, (at, next(self._order), timer))
        return timer

    def call_later(self, delay_s: float, call: Callback) -> Timer:
        """Call `call` in `delay_s` seconds."""
        return self.call_at(self.clock() + delay_s, call)

    def stop(self) -> None:
        """Let `run` return after the callback now running."""
        self._stopping = True

    def run(self) -> None:
        """Run until `stop`."""
        self._stopping = False
        while not self._stopping:
            self.run_once()

    def run_once(self, max_wait_s: float | None = None) -> None:
        """Wait for the next descriptor or timer (at most `max_wait_s`) and run what is due."""
        wait = self._until_next_timer()
        if max_wait_s is not None:
            wait = max_wait_s if wait is None else min(wait, max_wait_s)
        for key, mask in self._selector.select(wait):
            for bit, call in key.data.items():
                # An earlier callback of this round may have removed this one.
                if mask & bit and self._watched(key.fd, bit, call):
                    call()
        now = self.clock()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            due = timer.call
            if due is not None:
                due()

    def close(self) -> None:
        """Release the selector."""
        self._selector.close()

    def _until_next_timer(self) -> float | None:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - self.clock())

    def _watched(self, fd: int, bit: int, call: Callback) -> bool:
        try:
            return self._selector.get_key(fd).data.get(bit) is call
        except KeyError:
            return False

    def _set(self, fd: int, bit: int, call: Callback) -> None:
        try:
            calls = {**self._selector.get_key(fd).data, bit: call}
        except KeyError:
            self._selector.register(fd, bit, {bit: call})
            return
        self._selector.modify(fd, sum(calls), calls)

    def _unset(self, fd: int, bit: int) -> None:
        try:
            calls = {b: c for b, c in self._selector.get_key(fd).data.items() if b != bit}
        except (KeyError, ValueError):
            return
        if calls:
            self._selector.modify(fd, sum(calls), calls)
        else:
            self._selector.unregister(fd)
