"""A loop whose clock stands still unless told otherwise, turned until something holds."""

from __future__ import annotations

from collections.abc import Callable

from hma.loop import Loop


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def pump(loop: Loop, until: Callable[[], bool], turns: int = 2_000) -> None:
    """Turn `loop` until `until()` holds; fail after `turns` turns of at most 5 ms."""
    for _ in range(turns):
        if until():
            return
        loop.run_once(0.005)
    raise AssertionError("it did not come to that")
