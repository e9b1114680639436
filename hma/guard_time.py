"""A time limit on a piece of pure Python that somebody else wrote.

A check is a pure function, but nothing stops a third party's from looping for ever or from handing a hard case to `re`. The
interval timer interrupts both: CPython runs signal handlers between bytecodes, and the regular-expression engine looks for
signals every few thousand steps.

The limit is processor time. By the clock on the wall a good check would be ended because a busy node did not let it run, or a
virtual machine stood still, and the kernel lines that it was just given would be lost. Who sleeps uses no processor: the
timer's own ticks end him.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

T = TypeVar("T")
REPEAT_S = 0.02
ASLEEP_TICKS = 50


class Overrun(BaseException):
    """The limit was hit; a BaseException, so that a check's own `except Exception` cannot swallow it."""


class _Limit:
    """What is allowed to the code under way; there is one thread, and one such code at a time."""

    until_s = 0.0
    ticks = 0


def _tick(signum: int, frame: FrameType | None) -> None:
    _Limit.ticks += 1
    if time.process_time() >= _Limit.until_s or _Limit.ticks > ASLEEP_TICKS:
        raise Overrun


def arm() -> None:
    """Take SIGALRM for this process; call once, in the main thread, before `limited`."""
    signal.signal(signal.SIGALRM, _tick)


def limited(limit_s: float, call: Callable[[], T]) -> T:
    """Return `call()`; raise `Overrun` when it takes longer than `limit_s` seconds of the processor's time, or sleeps for a
    second beyond that (again and again, if it is caught).
    """
    _Limit.until_s, _Limit.ticks = time.process_time() + limit_s, 0
    try:
        signal.setitimer(signal.ITIMER_REAL, limit_s, REPEAT_S)
        return call()
    finally:
        _disarm()


def _disarm() -> None:
    """Stop the timer, whatever it interrupts: one that went on would raise somewhere in the agent."""
    while True:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        except Overrun:
            continue
        return
