"""What one check makes of one sample, as a report.

Rules of this file:
- A check is somebody else's code: what it returns is looked through before anything later relies on it.
- Beside what it saw, a report says whether the check could look (BLIND) and whether it works (CHECK-BROKEN).
"""

from __future__ import annotations

import math
from collections.abc import Generator

from hma.check import Nvml, Sample
from hma.config import ConfiguredCheck
from hma.model import NodeFacts, Observation, Report, Status

BLIND = "BLIND"
BROKEN = "CHECK-BROKEN"
FLOOD = 2_000
TEXT_MAX = 65_536


def report_of(item: ConfiguredCheck, sample: Sample, node: NodeFacts) -> Report:
    """Return what the check says of one sample, and last, as observations of the runner's own, that it could look and works."""
    name = item.check.name
    seen = _collect(item, sample, node)
    status, reason = summary(seen)
    seen_some = any(o.status is not Status.UNKNOWN for o in seen)
    # What keeps a whole driver or one GPU from being looked at is told by the checks nvml_driver and nvml_gpus, as a fault of
    # its own: twenty checks that are blind for the same reason would bury it.
    told_elsewhere = isinstance(item.check.source, Nvml)
    sight = blind(name, reason) if status == Status.UNKNOWN and not told_elsewhere else seeing(name)
    whole = item.check.complete and (status != Status.UNKNOWN or (told_elsewhere and seen_some))
    return Report(name, (*seen, sight, working(name)), whole)


def _collect(item: ConfiguredCheck, sample: Sample, node: NodeFacts) -> tuple[Observation, ...]:
    seen: list[Observation] = []
    found = item.check.observe(sample, node, item.options)
    try:
        for observation in found:
            _refuse_rubbish(observation)
            if observation.code not in item.check.codes:
                raise ValueError(f"emitted the code {observation.code[:60]!r}, which it does not declare")
            if len(seen) == FLOOD:
                raise ValueError(f"emitted more than {FLOOD} observations from one sample")
            seen.append(observation)
    finally:
        # Here and not when it is collected: what a generator does at its end is under the same limit of time.
        if isinstance(found, Generator):
            found.close()
    return tuple(seen)


def _refuse_rubbish(seen: object) -> None:
    """Raise TypeError or ValueError unless `seen` is an observation of which everything later can rely."""
    if not isinstance(seen, Observation):
        raise TypeError(f"returned {type(seen).__name__} where an Observation belongs")
    texts = (seen.code, seen.component, seen.detail, seen.evidence, seen.unit, seen.actor, seen.cause)
    pairs = tuple(text for pair in seen.attrs for text in pair)
    status: object = seen.status
    if not isinstance(status, Status) or not all(isinstance(text, str) for text in (*texts, *pairs)):
        raise TypeError(f"an Observation of the code {seen.code!r:.60} with a field of the wrong type")
    if seen.counter is not None and not (_finite(seen.counter)):
        raise TypeError(f"an Observation of the code {seen.code!r:.60} whose counter is no number")
    if seen.at is not None and not math.isfinite(seen.at):
        raise ValueError(f"an Observation of the code {seen.code[:60]!r} at no time")
    if not seen.code or not seen.component or len("".join((*texts, *pairs)).encode()) > TEXT_MAX:
        raise ValueError(f"an Observation of the code {seen.code[:60]!r} without a component, or of more than {TEXT_MAX} bytes")


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def summary(seen: tuple[Observation, ...]) -> tuple[str, str]:
    """Return the worst status of what was seen, and in words what it is about."""
    for status in (Status.FAILED, Status.DEGRADED, Status.UNKNOWN):
        found = [o for o in seen if o.status is status]
        if found:
            more = f" (+{len(found) - 1} more)" if len(found) > 1 else ""
            # What could not be looked for must not read as if it were there.
            what = found[0].component if status is Status.UNKNOWN else f"{found[0].code} {found[0].component}"
            return status.value, f"{what}: {found[0].detail}{more}"
    # A count says little by itself: what is said beside it is what people read.
    said = [o.detail for o in sorted(seen, key=lambda o: o.counter is not None) if o.detail]
    return Status.OK.value, said[0] if said else ""


def working(name: str) -> Observation:
    """Return that the check works."""
    return Observation(BROKEN, f"check:{name}", Status.OK)


def blind(name: str, reason: str) -> Observation:
    """Return that the check could not look, and why."""
    return Observation(BLIND, f"check:{name}", Status.UNKNOWN, reason)


def broken(name: str, reason: str) -> Observation:
    """Return that the check does not work, and why."""
    return Observation(BROKEN, f"check:{name}", Status.FAILED, reason)


def seeing(name: str) -> Observation:
    """Return that the check could look."""
    return Observation(BLIND, f"check:{name}", Status.OK)


def told(err: BaseException) -> str:
    """Return an exception as one short text."""
    return f"{type(err).__name__}: {err}"[:300] if str(err) else type(err).__name__
