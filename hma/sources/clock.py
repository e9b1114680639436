"""The kernel's view of the clock, from adjtimex(2) in its reading mode, which needs no privilege.

Rules of this file:
- `synchronised` is the flag STA_UNSYNC alone. The call's return value (TIME_ERROR) also tells of a lost pulse-per-second signal
  and of a leap second that is near, neither of which makes this clock wrong.
- `offset` is in microseconds, or nanoseconds where STA_NANO is set; `maxerror` is always in microseconds.
"""

from __future__ import annotations

import ctypes
import os
from typing import NamedTuple

from hma.check import Clock, SourceError

STA_UNSYNC = 0x0040
STA_NANO = 0x2000


class _Timex(ctypes.Structure):
    """`struct timex` of <sys/timex.h>; `long` follows the platform. The tail is reserved by the kernel."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("counts", ctypes.c_long * 4),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


class Timex(NamedTuple):
    """The part of `struct timex` that is looked at, in the kernel's units."""

    status: int
    offset: int
    maxerror: int


def read_clock() -> Clock:
    """Return the state of the clock; raises SourceError where the call is refused."""
    return clock_of(_adjtimex())


def clock_of(timex: Timex) -> Clock:
    """Return the kernel's numbers in seconds."""
    unit = 1e-9 if timex.status & STA_NANO else 1e-6
    return Clock(not timex.status & STA_UNSYNC, timex.offset * unit, timex.maxerror * 1e-6)


def _adjtimex() -> Timex:
    libc = ctypes.CDLL(None, use_errno=True)
    timex = _Timex()  # modes 0: read only
    if libc.adjtimex(ctypes.byref(timex)) < 0:
        number = ctypes.get_errno()
        raise SourceError(f"adjtimex: {os.strerror(number)} (a container's seccomp profile may forbid it; allow adjtimex)")
    return Timex(timex.status, timex.offset, timex.maxerror)
