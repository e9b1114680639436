"""The clock: whether something keeps it right, and how wrong the kernel thinks it may be.

Rules of this file:
- The kernel calls the clock unsynchronised until a time daemon tells it otherwise, so after boot that is normal for minutes.
  chrony tells it only with `rtcsync` in its configuration (every distribution's default has it).
- Without news the possible error grows by half a millisecond a second; at 16 s the kernel gives up and says unsynchronised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hma.check import Check, Clock, ClockState
from hma.model import NodeFacts, Observation, Status

CODE = "CLOCK-UNSYNCED"


@dataclass(frozen=True, slots=True)
class Options:
    """`offset_s`: correction still to be made, `error_s`: possible error, from which the clock counts as wrong."""

    offset_s: float = 0.5
    error_s: float = 5.0


def observe(sample: Clock, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Return whether the clock can be trusted."""
    wrong = []
    if not sample.synchronised:
        wrong.append("nothing keeps the clock synchronised")
    if abs(sample.offset_s) >= options.offset_s:
        wrong.append(f"the clock is {sample.offset_s:+.3f} s off")
    if sample.synchronised and sample.max_error_s >= options.error_s:
        wrong.append(f"the clock may be wrong by {sample.max_error_s:.3f} s")
    evidence = (
        f"adjtimex: synchronised {sample.synchronised}, offset {sample.offset_s:.6f} s, maxerror {sample.max_error_s:.6f} s"
    )
    status = Status.DEGRADED if wrong else Status.OK
    yield Observation(CODE, "host", status, "; ".join(wrong), evidence if wrong else "")


CHECK = Check(
    name="clock_sync",
    title="The clock is synchronised",
    source=ClockState(),
    observe=observe,
    codes=frozenset({CODE}),
    interval_s=300.0,  # its row holds for longer than that
    options=Options(),
)
