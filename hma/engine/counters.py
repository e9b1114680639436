"""Counters: how much a count that a device keeps has grown within the time that its row names.

Rules of this file:
- Kept are the points at which the count changed, as many as the window needs, and one before it: the value where it begins.
- The first sight of a counter is its baseline. So is a smaller value (the driver was loaded again, the GPU reset) and the first
  one of a boot. A baseline is never a fault.
- What grew while nobody looked counts as growth of the moment at which it is seen: told late, but never lost.
- Beyond `KEPT` points neighbours become one, and the later growth is taken to have come with the earlier: growth may then leave
  the window a little too soon, and is never made larger than it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from hma.catalogue import Catalogue, Grows
from hma.engine.seen import Seen
from hma.model import Counter, FaultKey, Instant, Observation, Point, Status

KEPT = 16


class Counters:
    """The counters during one step; `known` holds those that are known after it."""

    def __init__(self, known: Mapping[FaultKey, Counter], boot_id: str) -> None:
        # All are of one boot: those of an earlier one go with the first step on the new.
        one = next(iter(known.values()), None)
        self.known: Mapping[FaultKey, Counter] = known if one is None or one.boot_id == boot_id else {}
        self._before = self.known

    def judged(self, seen: Seen, catalogue: Catalogue) -> Seen | None:
        """Return the sighting that the growth of a counter is, where its row has a word on that; None = it says nothing."""
        observation, grows = seen.observation, catalogue[seen.observation.code].grows
        if observation.counter is None or grows is None or observation.status is Status.UNKNOWN:
            return seen
        if not math.isfinite(observation.counter):
            return None
        key = FaultKey(observation.code, observation.component)
        before = self.known.get(key)
        counter = looked(before, float(observation.counter), seen.at, grows.within_s)
        growth = grown(counter, seen.at.mono, grows.within_s)
        occurs = growth >= grows.by and (counter.counted is None or counter.points[-1].value >= counter.counted + grows.by)
        if occurs:
            counter = replace(counter, counted=counter.points[-1].value)
        if counter is not before:
            self._keep(key, counter)
        return _as_fine(seen) if growth < grows.by else _as_grown(seen, counter, growth, grows, occurs)

    def _keep(self, key: FaultKey, counter: Counter) -> None:
        # The mapping of the state before is not ours to change.
        known = dict(self.known) if self.known is self._before else self.known
        assert isinstance(known, dict)
        known[key] = counter
        self.known = known


def looked(known: Counter | None, value: float, at: Instant, within_s: float) -> Counter:
    """Return the counter after `value` was read at the moment `at`: the very same where it has not changed."""
    if known is None or known.boot_id != at.boot_id:
        return Counter(at.boot_id, (Point(at.mono, value),))
    last = known.points[-1]
    if value == last.value or at.mono < last.mono:
        return known
    if value < last.value:
        return Counter(at.boot_id, (Point(at.mono, value),))
    before = known.points[:-1] if last.mono == at.mono else known.points
    return replace(known, points=thinned(needed((*before, Point(at.mono, value)), at.mono - within_s)))


def grown(counter: Counter, now: float, within_s: float) -> float:
    """Return by how much the counter has grown in the `within_s` before the boottime second `now`."""
    return counter.points[-1].value - needed(counter.points, now - within_s)[0].value


def needed(points: tuple[Point, ...], start: float) -> tuple[Point, ...]:
    """Return the points after `start`, and the last one before it: the value at that time."""
    first = max((place for place, point in enumerate(points) if point.mono <= start), default=0)
    return points[first:]


def thinned(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """Return at most `KEPT` of the points; the first (the baseline) and the last (when it changed) stay as they are."""
    while len(points) > KEPT:
        gaps = [later.mono - earlier.mono for earlier, later in pairwise(points[1:-1])]
        place = 1 + min(range(len(gaps)), key=gaps.__getitem__)
        one = Point(points[place].mono, points[place + 1].value)
        points = (*points[:place], one, *points[place + 2 :])
    return points


def joined(older: Counter, newer: Counter) -> Counter:
    """Return one counter of two that were kept apart, the newer without knowing of the older."""
    if older.boot_id != newer.boot_id or newer.points[0].value < older.points[-1].value:
        return newer
    later = tuple(point for point in newer.points if point.mono > older.points[-1].mono)
    counted = max((c for c in (older.counted, newer.counted) if c is not None), default=None)
    return Counter(newer.boot_id, thinned((*older.points, *later)), counted)


def _as_fine(seen: Seen) -> Seen:
    if seen.observation.status is Status.OK:
        return seen
    return seen._replace(observation=replace(seen.observation, status=Status.OK))


def _as_grown(seen: Seen, counter: Counter, growth: float, grows: Grows, occurs: bool) -> Seen:
    """Return the growth as an event of the moment at which the counter changed: it is the same event until it changes again."""
    observation, changed = seen.observation, counter.points[-1].mono
    words = f"{observation.detail}, " if observation.detail else ""
    event: Observation = replace(
        observation,
        status=Status.DEGRADED if observation.status is Status.OK else observation.status,
        detail=f"{words}+{growth:.15g} within {grows.within_s:g} s",
        at=changed,
    )
    ago = seen.at.mono - changed
    at = Instant(changed, seen.at.utc - ago, seen.at.boot_id)
    return seen._replace(at=at, observation=event, occurs=occurs)
