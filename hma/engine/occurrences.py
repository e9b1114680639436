"""Occurrences: which sightings of a fault are kept, and whether they are often enough for its row.

Rules of this file:
- Kept is what can still matter: per group (the part and the process, where the row tells them apart) the newest few.
- An event that a restart delivers again is recognised here, so that nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from hma.catalogue import Times
from hma.model import Occurrence

KEPT = 128
"""Of one fault at most; one exception of a graphics engine can name 72 units (8 GPC of 9 TPC)."""
KEPT_UNCOUNTED = 16
"""Where the row counts nothing: only to recognise what is delivered again."""

Group = tuple[str, str]


def covered(kept: tuple[Occurrence, ...], new: Occurrence, times: Times | None) -> bool:
    """Return whether `new` is in `kept`, or older than all that is kept of a full group."""
    group = [o for o in kept if _group(o, times) == _group(new, times)]
    return new in group or (len(group) >= _limit(times) and new.at < group[0].at)


def added(kept: tuple[Occurrence, ...], new: Occurrence, times: Times | None) -> tuple[Occurrence, ...]:
    """Return `kept` with `new`, oldest first, without what no longer matters."""
    if new in kept:
        return kept
    group = sorted((*(o for o in kept if _group(o, times) == _group(new, times)), new))[-_limit(times) :]
    others = (o for o in kept if _group(o, times) != _group(new, times))
    return tuple(sorted((*others, *group))[-max(KEPT, times.count if times else 0) :])


def often_enough(kept: Iterable[Occurrence], times: Times) -> bool:
    """Return whether some `within_s` holds `count` of them, whenever it was: what came while nobody looked counts as well."""
    units: dict[str, list[Occurrence]] = {}
    for occurrence in sorted(kept):
        if (times.same_unit and not occurrence.unit) or (times.distinct_actors and not occurrence.actor):
            continue
        units.setdefault(occurrence.unit if times.same_unit else "", []).append(occurrence)
    return any(_dense(unit, times) for unit in units.values())


def _dense(unit: list[Occurrence], times: Times) -> bool:
    starts_and_ends = zip(unit, unit[times.count - 1 :], strict=False)
    return any(end.at < start.at + times.within_s for start, end in starts_and_ends)


def _group(occurrence: Occurrence, times: Times | None) -> Group:
    if times is None:
        return ("", "")
    return (occurrence.unit if times.same_unit else "", occurrence.actor if times.distinct_actors else "")


def _limit(times: Times | None) -> int:
    if times is None:
        return KEPT_UNCOUNTED
    return 1 if times.distinct_actors else times.count
