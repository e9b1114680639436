"""What sequence numbers say: which records are new, how many are missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hma.sources.kmsg_numbers import REMEMBERED, REPEAT, CopiedNumbers, Numbers

START_US = 1_000_000_000
"""Our start, on the clock of the records."""


def now_us() -> int:
    return START_US + 60_000_000


class Clock:
    """First our start, then a minute later."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> int:
        """Return microseconds."""
        self.asked += 1
        return START_US if self.asked == 1 else now_us()


@pytest.mark.parametrize("kind", [Numbers, CopiedNumbers])
@pytest.mark.parametrize(
    ("last", "numbers", "placed"),
    [
        (None, [0, 1, 2], [0, 0, 0]),
        (None, [4711, 4712], [0, 0]),
        (10, [11, 12], [0, 0]),
        (10, [13], [2]),
        (10, [11, 20, 21, 30], [0, 8, 0, 8]),
        (10, [5, 9, 10, 11], [REPEAT, REPEAT, REPEAT, 0]),
        (10, [5, 9, 10, 15], [REPEAT, REPEAT, REPEAT, 4]),
        (-1, [0], [0]),
        (-1, [100], [100]),
    ],
)
def test_numbers_tell_what_is_missing_and_what_was_seen(
    kind: type[Numbers], last: int | None, numbers: list[int], placed: list[int]
) -> None:
    counted = kind(last, Clock())
    assert [counted.place(n, 1000, b"%d" % n) for n in numbers] == placed
    assert counted.last == numbers[-1]
    assert counted.restarts == 0


@given(st.integers(0, 1000), st.sets(st.integers(0, 3000), min_size=1))
def test_seen_and_missing_are_all_there_was(cursor: int, numbers: set[int]) -> None:
    counted = Numbers(cursor, Clock())
    placed = [counted.place(n, 0, b"") for n in sorted(numbers)]
    new = [missing for missing in placed if missing != REPEAT]
    assert len(new) + sum(new) == max(0, max(numbers) - cursor)


def test_the_kernel_never_goes_back() -> None:
    counted = Numbers(None, Clock())
    counted.place(500, 10, b"a")
    assert counted.place(3, now_us(), b"another") == REPEAT


# -- a program's numbering --------------------------------------------------------------------------------------------

Step = tuple[int, int, bytes, int]
"""Number, microseconds, line, what it must be placed as."""


OLD = START_US - 1
AFTER = START_US + 1
INVENTED = 9 * START_US


@pytest.mark.parametrize(
    ("last", "steps", "restarts"),
    [
        (None, [(100, 5, b"a", 0), (101, 6, b"b", 0), (0, 7, b"c", 0), (1, 8, b"d", 0)], 1),
        (None, [(100, 5, b"a", 0), (101, 6, b"b", 0), (100, 9, b"x", 0), (102, 9, b"y", 1)], 1),
        (None, [(100, 5, b"a", 0), (101, 6, b"b", 0), (100, 5, b"a", REPEAT), (101, 6, b"b", REPEAT), (102, 7, b"c", 0)], 0),
        (None, [(5, 1, b"a", 0), (90_000, 2, b"b", 89_994), (6, 3, b"c", 0), (7, 4, b"d", 0)], 1),
        (None, [(100, 1, b"a", 0), (105, 1, b"b", 4), (110, 1, b"c", 4), (102, 1, b"d", 0)], 1),
        (None, [(90_000, 1, b"a", 0), (6, 1, b"b", 0), (7, 1, b"c", 0)], 1),
        (500, [(3, 1, b"a", REPEAT), (500, 1, b"b", REPEAT), (501, 1, b"c", 0)], 0),
        (500, [(3, OLD, b"a", REPEAT)], 0),
        (500, [(3, AFTER, b"a", 0)], 1),
        (500, [(3, INVENTED, b"a", REPEAT)], 0),
        (500, [(3, 1, b"a", REPEAT), (4, 1, b"b", REPEAT), (3, 1, b"x", 0)], 1),
        (9000, [(9001, INVENTED, b"a", 0), (0, AFTER, b"b", 0)], 1),
    ],
    ids=[
        "began anew: the number never came",
        "began anew: another line came under that number",
        "the same lines again",
        "after one wild number",
        "a number of an older gap",
        "began anew far below",
        "behind the cursor",
        "behind the cursor, logged before our start",
        "behind the cursor, logged after our start",
        "behind the cursor, of an invented time",
        "behind the cursor, a number with two lines",
        "an invented time does not make blind",
    ],
)
def test_lower_number_is_a_repeat_unless_something_speaks_against(last: int | None, steps: list[Step], restarts: int) -> None:
    counted = CopiedNumbers(last, Clock())
    assert [counted.place(number, usec, line) for number, usec, line, _ in steps] == [placed for *_, placed in steps]
    assert counted.restarts == restarts


@pytest.mark.parametrize(
    ("late_us", "placed"),
    [(-20_000, REPEAT), (1, 0)],
    ids=["a ring longer than our memory, copied again", "began anew with a running clock"],
)
def test_beyond_memory_the_time_decides(late_us: int, placed: int) -> None:
    counted = CopiedNumbers(None, Clock())
    many = 2 * REMEMBERED
    for n in range(many):
        assert counted.place(n, START_US + n, b"%d" % n) == 0
    assert counted.place(0, START_US + many + late_us, b"first") == placed


def test_a_ring_copied_twice_is_counted_once() -> None:
    counted = CopiedNumbers(None, Clock())
    ring = [(n, START_US + n * 100, b"line %d" % n) for n in range(3 * REMEMBERED)]
    assert [counted.place(*line) for line in ring] == [0] * len(ring)
    assert [counted.place(*line) for line in ring] == [REPEAT] * len(ring)
    assert counted.place(3 * REMEMBERED, START_US * 2, b"next") == 0
    assert counted.restarts == 0


def test_a_gap_of_the_numbering_before_says_nothing() -> None:
    counted = CopiedNumbers(None, Clock())
    for n in (0, 5 * REMEMBERED, *range(1, 2 * REMEMBERED)):
        assert counted.place(n, START_US + n, b"%d" % n) != REPEAT
    assert counted.place(3, START_US + 3, b"3") == REPEAT


@given(st.lists(st.tuples(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1)), max_size=30))
def test_no_history_makes_blind(history: list[tuple[int, int]]) -> None:
    counted = CopiedNumbers(None, Clock())
    for number, usec in history:
        counted.place(number, usec, b"old")
    fresh = now_us() - 1
    taken = [counted.place(n, fresh + n, b"new %d" % n) != REPEAT for n in range(3)]
    assert any(taken)
