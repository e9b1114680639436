"""Floods of losses and forgeries are told at once, then summed up; the cursor that is saved is the one reached."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from hma.check import KernelLine
from hma.kernel_watch import DAMP_S, Damper, KernelWatch
from hma.loop import Loop
from hma.runner import Runner


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


class Checks:
    """What the watch needs of a runner: one pattern, which is no good and is dropped at the first lines."""

    def __init__(self) -> None:
        self.kernel_pattern_sources: tuple[bytes, ...] = (rb"^(\w+\s?)+:$", rb"NVRM: ")
        self.batches: list[tuple[str, ...]] = []

    def on_kernel_lines(self, lines: tuple[KernelLine, ...]) -> None:
        self.batches.append(tuple(line.text for line in lines))
        self.kernel_pattern_sources = (rb"NVRM: ",)

    def on_kernel_log_readable(self) -> None:
        """Need nothing."""


@pytest.mark.parametrize(
    ("first", "batches", "passed_over"),
    [
        (True, [("NVRM: in the last two hours", "NVRM: now")], 2),
        (False, [("NVRM: weeks ago", "NVRM: this morning", "NVRM: in the last two hours", "NVRM: now")], 0),
    ],
)
def test_old_lines_count_only_where_something_is_recorded_of_the_node(
    tmp_path: Path, first: bool, batches: list[tuple[str, ...]], passed_over: int
) -> None:
    log, checks, now = tmp_path / "kmsg", Checks(), 1_000_000.0
    log.touch()
    loop = Loop(lambda: now)
    watch = KernelWatch(loop, log, "boot-1", cast(Runner, checks), lambda *_: None)
    watch.start(None, first=first)
    ages = (("weeks ago", 900_000.0), ("this morning", 7_300.0), ("in the last two hours", 7_100.0), ("now", 0.0))
    watch.lines(tuple(KernelLine(n, now - age, 4, f"NVRM: {text}") for n, (text, age) in enumerate(ages)))
    assert (checks.batches, watch.body()["passed_over"]) == (batches, passed_over)
    watch.stop()
    loop.close()


def test_pattern_that_the_runner_drops_is_not_tried_on_further_lines(tmp_path: Path) -> None:
    log, checks, loop = tmp_path / "kmsg", Checks(), Loop()
    log.write_text(f"4,1,1,-;{'a' * 60}\n4,2,2,-;usb\n")
    watch = KernelWatch(loop, log, "boot-1", cast(Runner, checks), lambda *_: None)
    watch.start(None)
    while not watch.caught_up:
        loop.run_once(1.0)
    with open(log, "a") as file:
        file.write(f"4,3,3,-;usb\n4,4,4,-;{'a' * 60}\n4,5,5,-;NVRM: x\n")
    while len(checks.batches) < 2:
        loop.run_once(1.0)
    assert checks.batches == [("a" * 60, "usb"), ("NVRM: x",)]
    watch.stop()
    loop.close()
