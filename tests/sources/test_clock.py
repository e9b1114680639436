"""The kernel's clock: the real call, and the meaning of its numbers."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from hma.check import Clock
from hma.sources import clock
from hma.sources.clock import Timex, clock_of, read_clock

UNSYNC = 0x0040
PLL = 0x0001
NANO = 0x2000
PPS_SIGNAL_LOST = 0x0004


@pytest.mark.parametrize(
    ("timex", "expected"),
    [
        (Timex(PLL, 1_500, 250_000), Clock(True, 0.0015, 0.25)),
        (Timex(PLL | NANO, -1_500, 250_000), Clock(True, -0.0000015, 0.25)),
        (Timex(UNSYNC, 0, 16_000_000), Clock(False, 0.0, 16.0)),
        (Timex(UNSYNC | NANO, 0, 16_000_000), Clock(False, 0.0, 16.0)),
        (Timex(PLL | NANO | PPS_SIGNAL_LOST, 0, 1_000), Clock(True, 0.0, 0.001)),
    ],
    ids=["microseconds", "nanoseconds", "never synchronised", "unsynchronised, nanoseconds", "a lost pulse is no lost clock"],
)
def test_numbers_of_the_kernel_in_seconds(timex: Timex, expected: Clock) -> None:
    found = clock_of(timex)
    assert found.synchronised is expected.synchronised
    assert (found.offset_s, found.max_error_s) == pytest.approx((expected.offset_s, expected.max_error_s))


def test_layout_is_that_of_this_machine() -> None:
    """208 bytes with a long of 8 (x86-64, aarch64), 128 with one of 4; a wrong one would read the wrong numbers silently."""
    assert ctypes.sizeof(clock._Timex) == {8: 208, 4: 128}[ctypes.sizeof(ctypes.c_long)]


def test_real_clock_answers() -> None:
    found = read_clock()
    assert 0.0 <= found.max_error_s < 1e6
    assert abs(found.offset_s) < 1.0


UNPRIVILEGED = """
import os
from hma.sources.clock import read_clock
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(read_clock().max_error_s >= 0)
"""
FORBIDDEN = """
import ctypes, struct
from hma.check import SourceError
from hma.sources.clock import read_clock
libc = ctypes.CDLL(None, use_errno=True)
# A filter as a container's: adjtimex (159 on x86-64, 171 on aarch64) and clock_adjtime (305, 266) give EPERM.
import os
numbers = {"x86_64": (159, 305), "aarch64": (171, 266)}[os.uname().machine]
def op(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
program = op(0x20, 0, 0, 0) + op(0x15, 1, 0, numbers[0]) + op(0x15, 0, 1, numbers[1])
program += op(0x06, 0, 0, 0x50001) + op(0x06, 0, 0, 0x7FFF0000)
class Fprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Fprog(len(program) // 8, program)), 0, 0) == 0
try:
    read_clock()
except SourceError as err:
    print(err)
"""


def said(code: str) -> str:
    """Return what a Python of its own prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.needs("root")
def test_reading_needs_no_privilege() -> None:
    assert said(UNPRIVILEGED) == "True\n"


@pytest.mark.skipif(
    os.uname().machine not in ("x86_64", "aarch64"), reason="not possible here: system call numbers of another machine"
)
def test_forbidden_call_is_an_error_that_tells_the_mend() -> None:
    assert (
        said(FORBIDDEN) == "adjtimex: Operation not permitted (a container's seccomp profile may forbid it; allow adjtimex)\n"
    )
