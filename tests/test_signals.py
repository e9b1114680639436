"""Signals arrive as calls from the loop, and what was there before is put back."""

from __future__ import annotations

import os
import signal

from hma.loop import Loop
from hma.signals import Signals


def test_signal_is_called_from_the_loop_and_not_before() -> None:
    loop, heard = Loop(), list[str]()
    signals = Signals(loop, {signal.SIGUSR1: lambda: heard.append("one"), signal.SIGUSR2: lambda: heard.append("two")})
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert heard == []
        loop.run_once(1.0)
        assert heard == ["one", "two"]
    finally:
        signals.close()
        loop.close()


def test_handlers_of_before_are_put_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    loop = Loop()
    signals = Signals(loop, {signal.SIGUSR1: lambda: None})
    assert signal.getsignal(signal.SIGUSR1) != before
    signals.close()
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == before


def test_signal_that_is_not_ours_does_nothing() -> None:
    loop, heard = Loop(), list[str]()
    signals = Signals(loop, {signal.SIGUSR1: lambda: heard.append("one")})
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    try:
        os.kill(os.getpid(), signal.SIGUSR2)
        loop.run_once(0.1)
        assert heard == []
    finally:
        signal.signal(signal.SIGUSR2, before)
        signals.close()
        loop.close()


def test_descriptors_are_given_back_to_the_loop() -> None:
    loop, heard = Loop(), list[str]()
    Signals(loop, {signal.SIGUSR1: lambda: None}).close()
    read, write = os.pipe()  # the numbers of before
    loop.add_reader(read, lambda: heard.append("read"))
    os.write(write, b"x")
    loop.run_once(1.0)
    assert heard == ["read"]
    loop.close()
    os.close(read)
    os.close(write)
