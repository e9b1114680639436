"""The NVLinks of one GPU: whether each is up, and its error counters.

Rules of this file:
- Up to NVLink 4 the counters are the fields 161-163 (scope = link), or nvmlDeviceGetNvLinkErrorCounter on older drivers.
  Blackwell supports neither (change log of NVML): the counters of NVLink 5 are the fields 213-222.
- What a GPU refuses as not supported is not asked again: each field costs a call into the driver. A link that is down is not
  asked for its counters, so that its refusal is not taken for the GPU's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from hma.gpu import Link
from hma.sources.nvml_ask import CANNOT_TELL, INVALID_ARGUMENT, Field, Questions, Refused

PART = "links"
COUNT = Field(91, 0, PART)
MOST = 36
"""NVML_NVLINK_MAX_LINKS of CUDA 13."""
FIELDS = (213, 161, 162, 163, 214, 220, 222)
"""Successful recoveries (NVLink 5), replays, recoveries and CRC errors (up to 4), failed recoveries, effective and symbol bit
error rate (5)."""
OLD_COUNTERS = ((2, 3), (0,), (1,))
"""nvmlNvLinkErrorCounter_t: DL CRC flit and data; DL replay; DL recovery."""


def read_links(ask: Questions) -> tuple[Link, ...] | None:
    """Return the links, None where this GPU has none."""
    states = _states(ask)
    if not states:
        return None
    up = [link for link, state in states.items() if state]
    values = ask.fields([field for link in up for field in _fields(link)])
    if any(values.get(field) is not None for link in up for field in _fields(link)[:2]):
        ask.memory.old_link_counters = False
    return tuple(
        _link(ask, number, state, [values.get(field) for field in _fields(number)]) for number, state in states.items()
    )


@cache
def _fields(link: int) -> tuple[Field, ...]:
    return tuple(Field(number, link, PART) for number in FIELDS)


def _states(ask: Questions) -> Mapping[int, bool | None]:
    count = ask.fields((COUNT,)).get(COUNT)
    if count == 0 or (count is None and PART in ask.errors):
        return {}
    states: dict[int, bool | None] = {}
    for link in range(MOST if count is None else min(count, MOST)):
        try:
            states[link] = bool(ask.library.ask("nvmlDeviceGetNvLinkState", ask.handle, link))
        except Refused as err:
            absent = err.code in CANNOT_TELL or err.code == INVALID_ARGUMENT
            if absent and count is None:
                break  # the first that is not there: so many there are
            if not absent:
                ask.refused(PART, err)
            states[link] = None
    # A GPU with connectors but no bridge has links that cannot tell: it has no NVLink.
    return states if any(up is not None for up in states.values()) or PART in ask.errors else {}


def _link(ask: Questions, number: int, up: bool | None, of: Sequence[int | None]) -> Link:
    recovery_ok, replay, recovery, crc, recovery_failed, effective_ber, symbol_ber = of
    if up and ask.memory.old_link_counters:
        crc, replay, recovery = (_sum(ask, number, kinds) for kinds in OLD_COUNTERS)
    return Link(number, up, crc, replay, recovery, recovery_failed, recovery_ok, effective_ber, symbol_ber)


def _sum(ask: Questions, link: int, kinds: tuple[int, ...]) -> int | None:
    """Return the sum of these counters of a link; where this GPU has none, none is asked again."""
    total = 0
    for kind in kinds:
        if not ask.memory.old_link_counters:
            return None
        try:
            total += int(ask.library.ask("nvmlDeviceGetNvLinkErrorCounter", ask.handle, link, kind))
        except Refused as err:
            if err.code in CANNOT_TELL or err.code == INVALID_ARGUMENT:
                ask.memory.old_link_counters = False
            else:
                ask.refused(PART, err)
            return None
    return total
