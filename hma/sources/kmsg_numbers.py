"""Which records of the kernel log are new, and how many are missing before one: told by their sequence numbers.

Rules of this file:
- The kernel numbers from 0 on each boot, without a hole, and never goes back. So on the device a number that is not above
  the last one has been seen, and a hole is what was overwritten before it could be read.
- A pipe or a file is filled by a program, which may begin its numbers anew on the same boot; believing only higher numbers
  would make us blind. There a lower number is a repeat only if nothing speaks against it, see `CopiedNumbers`.
- seen + lost = all that was logged, always.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

REPEAT = -1
REMEMBERED = 4096
"""As many short records as the kernel's default ring of 128 KiB holds: what a copying program repeats when it begins anew."""


class Numbers:
    """The kernel's own numbering. `last` is the last number seen on this boot, None before the first one."""

    def __init__(self, last: int | None, now_us: Callable[[], int]) -> None:
        self.last = last
        self.restarts = 0
        self._now_us = now_us

    def place(self, number: int, usec: int, line: bytes) -> int:  # noqa: ARG002  (the number says all here)
        """Return how many records are missing between the last one and this one, or REPEAT when this one has been seen."""
        last = self.last
        if last is None:
            self.last = number
            return 0
        if number <= last:
            return REPEAT
        self.last = number
        return number - last - 1


class CopiedNumbers(Numbers):
    """The numbering of a program that copies a kernel log, or plays one.

    A number that is not above the last one is a repeat when (a) the same line came under that number among the last
    `REMEMBERED`; or (b) it may have come and be forgotten, and its time is not after the newest seen (or after our start).
    Else the numbering has begun anew: the record is new, and the next gap counts from it.
    """

    def __init__(self, last: int | None, now_us: Callable[[], int]) -> None:
        super().__init__(last, now_us)
        self._numbers = array("q", [-1]) * REMEMBERED
        self._lines = array("q", [0]) * REMEMBERED
        self._cursor = -1 if last is None else last
        self._first: int | None = None
        self._gap = (0, -1)
        self._newest_us = self._latest_us = now_us()

    def place(self, number: int, usec: int, line: bytes) -> int:
        """Return how many records are missing between the last one and this one, or REPEAT when this one has been seen."""
        last = self.last
        slot = number % REMEMBERED
        missing = 0
        if last is not None and number <= last:
            if self._repeats(number, usec, line):
                if self._numbers[slot] < number:  # a ring copied again must not push out what is young
                    self._numbers[slot], self._lines[slot] = number, hash(line)
                return REPEAT
            self.restarts += 1
            self._gap = (0, -1)
        elif last is not None and number > last + 1:
            missing = number - last - 1
            self._gap = (last + 1, number - 1)
        self.last = number
        if self._first is None or number < self._first:
            self._first = number
        self._numbers[slot], self._lines[slot] = number, hash(line)
        if usec > self._newest_us and self._is_past(usec):
            self._newest_us = usec
        return missing

    def _repeats(self, number: int, usec: int, line: bytes) -> bool:
        slot = number % REMEMBERED
        if self._numbers[slot] == number:
            return self._lines[slot] == hash(line)
        if self._never_came(number):
            return False
        return not (usec > self._newest_us and self._is_past(usec))

    def _never_came(self, number: int) -> bool:
        """Return whether a number that is not remembered is known to be new, rather than forgotten."""
        if number <= self._cursor:
            return False
        young = self.last is not None and self.last - number < REMEMBERED
        return young or self._gap[0] <= number <= self._gap[1] or (self._first is not None and number < self._first)

    def _is_past(self, usec: int) -> bool:
        """Return whether a record can be of that time; one ahead of the clock is invented or damaged, and proves nothing."""
        if usec > self._latest_us:
            self._latest_us = self._now_us()
        return usec <= self._latest_us
