"""A time limit on a piece of pure Python that somebody else wrote.

A check is a pure function, but nothing stops a third party's from looping for ever or from handing a hard case to `re`. The
interval timer interrupts both: CPython runs signal handlers between bytecodes, and the regular-expression engine looks for
signals every few thousand steps.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

T = TypeVar("T")
REPEAT_S = 0.02


class Overrun(BaseException):
    """The limit was hit; a BaseException, so that a check's own `except Exception` cannot swallow it."""


def _raise(signum: int, frame: FrameType | None) -> None:
    raise Overrun


def arm() -> None:
    """Take SIGALRM for this process; call once, in the main thread, before `limited`."""
    signal.signal(signal.SIGALRM, _raise)


def limited(limit_s: float, call: Callable[[], T]) -> T:
    """Return `call()`; raise `Overrun` when it takes longer than `limit_s` seconds (again and again, if it is caught)."""
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
