"""Samples as JSON, and the lines that a probe (a child of ours that reads a driver) prints: one object a line.

Rules of this file:
- `{"GpuReadings": {…}}` is a sample under the name of its type; traces keep samples in the same form.
- `{"same": {"of": "GpuReadings"}}` says that the last sample of that type still holds: nothing but jitter has changed.
- `{"blind": {"of": "GpuEvents", "text": "…"}}` says why there is none of that type: one line for people. With `told` that is
  no news: another sample says it as a fault.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hma.check import Clock, Feed, Lines, Output, Sample, Table, Tree
from hma.codec import CodecError, Json, decode, encode
from hma.gpu import DcgmHealth, DcgmViolations, GpuEvents, GpuReadings

_KINDS = (Lines, Output, Tree, Table, Clock, Feed, GpuReadings, GpuEvents, DcgmHealth, DcgmViolations)
_BY_NAME: dict[str, Any] = {kind.__name__: kind for kind in _KINDS}


class Blind(NamedTuple):
    """A probe cannot give samples of the type `of`; `text` says why. `told` = another sample of it says so as a fault."""

    of: str
    text: str
    told: bool = False


class Same(NamedTuple):
    """A probe has looked, and the last sample of the type `of` still tells it all."""

    of: str


class ProbeError(Exception):
    """A line that no probe of ours prints; the text says what is wrong with it."""


def told(sample: Sample) -> Json:
    """Return a sample as JSON-able data, under the name of its type."""
    return {type(sample).__name__: encode(sample)}


def untold(data: Json) -> Sample:
    """Return the sample that `told` gave `data` for. Raises CodecError, KeyError, ValueError, TypeError or AttributeError."""
    ((kind, body),) = data.items()
    sample: Sample = decode(_BY_NAME[kind], body)
    return sample


def probe_line(said: Sample | Blind | Same) -> str:
    """Return the line of a probe, without its end."""
    body = {type(said).__name__.lower(): said._asdict()} if isinstance(said, Blind | Same) else told(said)
    return json.dumps(body, ensure_ascii=True, separators=(",", ":"))


def read_probe_line(line: str) -> Sample | Blind | Same:
    """Return what a line of a probe says; raises ProbeError."""
    try:
        data = json.loads(line)
        if isinstance(data, dict) and "blind" in data:
            return decode(Blind, data["blind"])
        if isinstance(data, dict) and "same" in data:
            return decode(Same, data["same"])
        return untold(data)
    except (ValueError, KeyError, TypeError, AttributeError, CodecError, RecursionError) as err:
        raise ProbeError(f"printed what is no reading ({type(err).__name__}: {str(err)[:120]}): {line[:80]}") from err
