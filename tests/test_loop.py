"""The loop, on real descriptors; its clock by hand where time itself is the case."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from hma.loop import Loop, Timer, boottime


class Hand:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def loop(hand: Hand) -> Iterator[Loop]:
    one = Loop(hand)
    yield one
    one.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


def test_clock_is_boottime() -> None:
    assert boottime() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1.0)


def test_timers_run_in_order_of_time_then_of_asking(loop: Loop, hand: Hand) -> None:
    ran: list[str] = []
    loop.call_at(103.0, lambda: ran.append("late"))
    loop.call_at(102.0, lambda: ran.append("first"))
    loop.call_later(2.0, lambda: ran.append("second"))
    hand.now = 101.999
    loop.run_once(0.0)
    assert ran == []
    hand.now = 102.0
    loop.run_once(0.0)
    assert ran == ["first", "second"]
    hand.now = 200.0
    loop.run_once(0.0)
    assert ran == ["first", "second", "late"]


def test_cancelled_timer_does_not_run_even_by_one_of_the_same_moment(loop: Loop, hand: Hand) -> None:
    ran: list[str] = []
    later: list[Timer] = []

    def cancel() -> None:
        later[0].cancel()

    loop.call_at(101.0, cancel)
    later.append(loop.call_at(101.0, lambda: ran.append("cancelled")))
    hand.now = 102.0
    loop.run_once(0.0)
    assert ran == []


def test_cancelled_timer_wakes_nobody() -> None:
    loop = Loop()
    loop.call_later(0.0, lambda: None).cancel()
    began = time.monotonic()
    loop.run_once(0.1)
    assert time.monotonic() - began >= 0.09
    loop.close()


def test_real_timer_is_never_early_and_hardly_late() -> None:
    loop = Loop()
    at = loop.clock() + 0.05
    ran: list[float] = []
    loop.call_at(at, lambda: ran.append(loop.clock()))
    loop.call_at(at, loop.stop)
    loop.run()
    assert 0.0 <= ran[0] - at < 0.5
    loop.close()


def test_reader_is_called_while_there_is_something_and_at_the_end(loop: Loop, pipe: tuple[int, int]) -> None:
    read, write = pipe
    seen: list[bytes] = []
    loop.add_reader(read, lambda: seen.append(os.read(read, 2)))
    loop.run_once(0.0)
    os.write(write, b"abc")
    loop.run_once(0.0)
    loop.run_once(0.0)
    loop.run_once(0.0)
    assert seen == [b"ab", b"c"]
    os.close(write)
    loop.run_once(0.0)
    assert seen == [b"ab", b"c", b""]


def test_writer_and_reader_of_one_descriptor_are_apart(loop: Loop) -> None:
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        calls: list[str] = []
        loop.add_reader(ours.fileno(), lambda: calls.append("read"))
        loop.add_writer(ours.fileno(), lambda: calls.append("write"))
        theirs.send(b"x")
        loop.run_once(0.0)
        assert sorted(calls) == ["read", "write"]
        loop.remove_writer(ours.fileno())
        calls.clear()
        loop.run_once(0.0)
        assert calls == ["read"]
        loop.remove_reader(ours.fileno())
        calls.clear()
        loop.run_once(0.0)
        assert calls == []


def test_reader_removed_by_another_of_the_same_round_is_not_called(loop: Loop, pipe: tuple[int, int]) -> None:
    others = os.pipe()
    called: list[int] = []

    def first_of(fd: int, other: int) -> None:
        called.append(fd)
        loop.remove_reader(other)

    loop.add_reader(pipe[0], lambda: first_of(pipe[0], others[0]))
    loop.add_reader(others[0], lambda: first_of(others[0], pipe[0]))
    os.write(pipe[1], b"x")
    os.write(others[1], b"x")
    loop.run_once(0.0)
    assert len(called) == 1
    for fd in others:
        os.close(fd)


def test_descriptor_closed_and_reused_in_a_round_is_not_taken_for_the_old_one(loop: Loop, pipe: tuple[int, int]) -> None:
    read, write = pipe
    first = os.pipe()
    called: list[str] = []

    def replace() -> None:
        loop.remove_reader(read)
        os.dup2(first[0], read)
        loop.add_reader(read, lambda: called.append("new"))

    loop.add_reader(first[0], replace)
    loop.add_reader(read, lambda: called.append("old"))
    os.write(first[1], b"x")
    os.write(write, b"x")
    loop.run_once(0.0)
    assert called == []
    loop.remove_reader(first[0])
    loop.run_once(0.0)
    assert called == ["new"]
    loop.remove_reader(read)
    for fd in first:
        os.close(fd)


def test_removing_what_is_not_watched_is_harmless(loop: Loop, pipe: tuple[int, int]) -> None:
    loop.remove_reader(pipe[0])
    loop.add_reader(pipe[0], lambda: None)
    loop.remove_writer(pipe[0])
    loop.remove_reader(pipe[0])
    loop.remove_reader(pipe[0])
    loop.remove_reader(-1)


def test_stop_ends_run_after_the_callback(loop: Loop, hand: Hand) -> None:
    ran: list[str] = []

    def last() -> None:
        loop.stop()
        ran.append("went on")

    loop.call_at(100.0, last)
    loop.run()
    assert ran == ["went on"]


def test_stop_from_before_does_not_end_the_next_run(loop: Loop, hand: Hand) -> None:
    loop.stop()
    ran: list[str] = []
    loop.call_at(100.0, lambda: ran.append("ran"))
    loop.call_at(100.0, loop.stop)
    loop.run()
    assert ran == ["ran"]


def test_error_of_a_callback_is_not_hidden(loop: Loop, hand: Hand) -> None:
    def bad() -> None:
        raise KeyError("x")

    loop.call_at(100.0, bad)
    with pytest.raises(KeyError):
        loop.run_once(0.0)
