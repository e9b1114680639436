"""Floods of losses and forgeries are told at once, then summed up; the cursor that is saved is the one reached."""

from __future__ import annotations

import pytest

from hma.kernel_watch import DAMP_S, Damper
from hma.loop import Loop


class Hands:
    """A damper and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.mono = 10.0
        self.loop = Loop(lambda: self.mono)
        self.said: list[tuple[int, str]] = []
        self.damper = Damper(self.loop, lambda count, example: self.said.append((count, example)))

    def pass_time(self, seconds: float) -> None:
        self.mono += seconds
        self.loop.run_once(0.0)


def test_first_is_said_at_once_and_the_rest_as_one_sum_with_its_first_example() -> None:
    hands = Hands()
    hands.damper.add(3, "a")
    assert hands.said == [(3, "a")]
    for count, example in ((1, "b"), (5, "c")):
        hands.damper.add(count, example)
    hands.pass_time(DAMP_S - 0.1)
    assert len(hands.said) == 1
    hands.pass_time(0.2)
    assert hands.said == [(3, "a"), (6, "b")]
    hands.loop.close()


@pytest.mark.parametrize("quiet", [DAMP_S * 1.01, DAMP_S * 10])
def test_after_a_quiet_time_the_next_is_said_at_once_again(quiet: float) -> None:
    hands = Hands()
    hands.damper.add(1, "a")
    hands.pass_time(quiet)
    hands.damper.add(2, "b")
    assert hands.said == [(1, "a"), (2, "b")]
    hands.loop.close()


def test_what_is_left_is_said_at_the_end() -> None:
    hands = Hands()
    hands.damper.add(1, "a")
    hands.damper.add(2, "b")
    hands.damper.flush()
    hands.damper.flush()
    assert hands.said == [(1, "a"), (2, "b")]
    hands.loop.close()
