"""The limit on other people's code, with code that tries hard to outlast it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from hma.guard_time import Overrun, arm, limited


@pytest.fixture(autouse=True)
def armed() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    arm()
    yield
    signal.signal(signal.SIGALRM, before)


def spin() -> None:
    """Loop for ever."""
    while True:
        pass


def spin_and_swallow() -> None:
    """Loop for ever, taking every error for a reason to go on, a few times."""
    for _ in range(3):
        try:
            spin()
        except BaseException:  # noqa: BLE001  (what bad code does)
            pass
    spin()


def spin_in_finally() -> None:
    """Loop, and loop again when that is ended."""
    with contextlib.suppress(ValueError):
        try:
            spin()
        finally:
            spin()


def backtrack() -> None:
    """Take exponential time inside the regular-expression engine."""
    re.match(r"^(\w+\s?)+:$", "a" * 40)


def sleep() -> None:
    """Use no processor, for ever."""
    time.sleep(600.0)


@pytest.mark.parametrize("bad", [spin, spin_and_swallow, spin_in_finally, backtrack, sleep])
def test_code_that_does_not_end_is_ended(bad: Callable[[], None]) -> None:
    with pytest.raises(Overrun):
        limited(0.05, bad)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_good_code_that_was_not_let_run_is_not_ended() -> None:
    """A machine that stands still, or has no processor to spare: here the process is stopped while it is under way."""
    wake = f"sleep 0.4; kill -CONT {os.getpid()}"
    stop = partial(os.kill, os.getpid(), signal.SIGSTOP)
    with subprocess.Popen(["sh", "-c", wake]):
        assert limited(0.05, lambda: (stop(), 7)[1]) == 7
    assert limited(5.0, lambda: 7) == 7


def test_result_and_errors_pass() -> None:
    assert limited(5.0, lambda: 7) == 7
    with pytest.raises(KeyError):
        limited(5.0, lambda: dict[str, str]()["x"])
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_alarm_during_the_end_does_not_leave_the_timer_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment between the end of the code and the end of the timer: an alarm there must not keep the timer alive."""
    real, late = signal.setitimer, [True, True]

    def slow(which: int, seconds: float, interval: float = 0.0) -> tuple[float, float]:
        if seconds == 0.0 and late:
            late.pop()
            raise Overrun
        return real(which, seconds, interval)

    monkeypatch.setattr(signal, "setitimer", slow)
    assert limited(5.0, lambda: 7) == 7
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_overrun_is_nothing_that_a_check_catches_by_accident() -> None:
    assert not issubclass(Overrun, Exception)
