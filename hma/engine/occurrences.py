"""Occurrences: which sightings of a fault are kept, and whether they are often enough for its row.

Rules of this file:
- Kept is what can still matter: per group (the part and the process, where the row tells them apart) the newest few.
- An event that a restart delivers again is recognised here, so that nothing is counted twice.
- So is one that two checks tell. Two tellings match one to one: an event is the echo of the oldest occurrence within `ECHO_S`
  that another check told and its own check has not told yet. Each check tells its events in their order, so it does not matter
  how the two interleave: two kernel lines and two events of the driver are two occurrences, whichever comes first. In a burst
  of which some have been forgotten, an event that finds no partner is taken for the echo of one of those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hma.catalogue import Times
from hma.model import Echo, Occurrence

KEPT = 128
"""Of one fault at most; one exception of a graphics engine can name 72 units (8 GPC of 9 TPC)."""
KEPT_UNCOUNTED = 16
"""Where the row counts nothing: only to recognise what is delivered again."""
ECHO_S = 5.0
"""Between the times of an event by two routes: the kernel's own stamp, and when a driver under load delivered it."""

Group = tuple[str, str]


def covered(kept: tuple[Occurrence, ...], new: Occurrence, times: Times | None) -> bool:
    """Return whether its check has told `new` before: it is in `kept`, or older than all that is kept of a full group."""
    if not kept or (new.at > kept[-1].at and not any(o.echoes for o in kept)):
        return False
    group = _members(kept, _group(new, times), times)
    if any(_is(o, new) for o in kept):
        return True
    if len(group) < _limit(times):
        return False
    own = min((at for o in group for at in _told_at(o, new.route)), default=group[0].at)
    return new.at < max(own, group[0].at)


def echoed(kept: tuple[Occurrence, ...], count: int, new: Occurrence, times: Times | None) -> tuple[Occurrence, ...] | None:
    """Return what is `kept` of `count` with `new` noted as the echo of one of them, None where it is the echo of none."""
    partners = [o for o in kept if _near(o, new) and new.route not in routes_of(o)]
    if partners:
        # The oldest of the same part and process, where they are told; otherwise the oldest that may be.
        o = min(partners, key=lambda one: one[1:3] != new[1:3])
        one = Occurrence(o.at, o.unit or new.unit, o.actor or new.actor, o.route, (*o.echoes, Echo(new.route, new.at)))
        return _with(tuple(other for other in kept if other is not o), one, times)
    return kept if count > len(kept) and _may_echo_forgotten(kept, new, times) else None


def _may_echo_forgotten(kept: tuple[Occurrence, ...], new: Occurrence, times: Times | None) -> bool:
    # What was forgotten is older than the oldest that is kept of its group, and an echo is near what it echoes.
    for group in {_group(o, times) for o in kept if _near(o, new) and o.route != new.route}:
        members = _members(kept, group, times)
        if len(members) >= _limit(times) and new.at <= members[0].at + ECHO_S:
            return True
    return False


def routes_of(occurrence: Occurrence) -> tuple[str, ...]:
    """Return the checks that told an occurrence."""
    return (occurrence.route, *(echo.route for echo in occurrence.echoes)) if occurrence.route else ()


def added(kept: tuple[Occurrence, ...], new: Occurrence, times: Times | None) -> tuple[Occurrence, ...]:
    """Return `kept` with `new`, oldest first, without what no longer matters."""
    # Two checks that look at one moment see one thing; of two events at one moment, the first has its echo already.
    if any(o.at == new.at and o[:3] == new[:3] and (o.route == new.route or not o.echoes) for o in kept):
        return kept
    return _with(kept, new, times)


def _with(kept: tuple[Occurrence, ...], new: Occurrence, times: Times | None) -> tuple[Occurrence, ...]:
    group_of_new = _group(new, times)
    group = sorted((*_members(kept, group_of_new, times), new))[-_limit(times) :]
    others = () if times is None else (o for o in kept if _group(o, times) != group_of_new)
    return tuple(sorted((*others, *group))[-max(KEPT, times.count if times else 0) :])


def _is(old: Occurrence, new: Occurrence) -> bool:
    if not old.echoes:
        return old[:3] == new[:3] and old.route in (new.route, "")
    # What echoes have added to it, the first telling may have lacked.
    same_place = new.unit in ("", old.unit) and new.actor in ("", old.actor)
    return same_place and new.at in _told_at(old, new.route)


def _near(old: Occurrence, new: Occurrence) -> bool:
    """Return whether two tellings may be of one event, as far as time, part and process go."""
    return bool(old.route) and abs(old.at - new.at) <= ECHO_S and _fits(old.unit, new.unit) and _fits(old.actor, new.actor)


def _fits(one: str, other: str) -> bool:
    return one == other or not one or not other


def _told_at(occurrence: Occurrence, route: str) -> list[float]:
    """Return by which times `route` told an occurrence: none or one."""
    own = [occurrence.at] if occurrence.route == route else []
    return own + [echo.at for echo in occurrence.echoes if echo.route == route]


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


def _members(kept: tuple[Occurrence, ...], group: Group, times: Times | None) -> Sequence[Occurrence]:
    return kept if times is None else [o for o in kept if _group(o, times) == group]


def _limit(times: Times | None) -> int:
    if times is None:
        return KEPT_UNCOUNTED
    return 1 if times.distinct_actors else times.count
