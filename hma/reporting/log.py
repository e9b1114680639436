"""Logging: every line the agent prints is a structlog event, as JSON for collectors or as short text for a terminal.

Rules of this file:
- Text from outside (a kernel line holds what any process called itself) never reaches a terminal as it is: what cannot be
  printed is shown escaped, so that it can neither move the cursor nor look like a line of ours.
- A record's keys are data. None of them is ever a Python keyword argument: a check may call a fact `self`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, MutableMapping
from types import ModuleType
from typing import cast

# structlog imports `rich` where it finds it, for pretty tracebacks, and asyncio for loggers that are awaited. A daemon that
# prints finished lines uses neither, 10 and 3 MiB for nothing: while structlog is imported there is nothing behind these names.
if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
if "asyncio" not in sys.modules:
    sys.modules["asyncio"] = ModuleType("nothing")
import structlog

from hma.reporting.record import to_line
from hma.yamlread import printable

if sys.modules.get("rich", structlog) is None:
    del sys.modules["rich"]
if sys.modules["asyncio"].__name__ == "nothing":
    del sys.modules["asyncio"]

EventDict = MutableMapping[str, object]
Write = Callable[[str], object]

_COLOURS = {"warn": "\x1b[33m", "error": "\x1b[31m", "info": ""}
_LONG = 180
_EVIDENCE_LINES = 4
_EVERYWHERE = ("level", "ts", "msg", "event", "event_id", "node", "boot_id", "instance_id", "instance_type")
_MARGIN = f"\n{'':13}| "


class Printer:
    """The sink at the end of the structlog chain: hands finished lines to `write`."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def msg(self, line: str) -> None:
        """Write one finished line."""
        self._write(line)


def make_logger(write: Write, form: str, colour: bool = False) -> Bound:
    """Return a logger that renders as `form` (`json` or `human`) and gives lines to `write`."""
    render = human_renderer(colour) if form == "human" else json_renderer
    return cast("Bound", structlog.wrap_logger(Printer(write), processors=[add_head, render], wrapper_class=Bound))


class Bound(structlog.BoundLoggerBase):
    """A bound logger with one method: `emit(record)`; levels are data in the record."""

    def emit(self, /, **fields: object) -> None:
        """Print one record; `msg` is its name, `ts` its time: the loops own the clock, nothing here looks at one."""
        self._proxy_to_logger("msg", str(fields.pop("msg", "")), fields=fields)


def add_head(logger: object, method: str, event_dict: EventDict) -> EventDict:
    """Put `level`, `ts` and `msg` first, as HyperPod's agent does."""
    # structlog calls the message "event"; our records have a key of that name, which travels inside `fields`.
    message = event_dict.pop("event", "")
    fields = event_dict.pop("fields", {})
    body = {**event_dict, **fields} if isinstance(fields, dict) else dict(event_dict)
    head: EventDict = {
        "level": body.pop("level", "info"),
        "ts": body.pop("ts", ""),
        "msg": message,
    }
    head.update(body)
    return head


def json_renderer(logger: object, method: str, event_dict: EventDict) -> str:
    """Render one line of JSON."""
    return to_line(event_dict)


def human_renderer(colour: bool) -> Callable[[object, str, EventDict], str]:
    """Return a renderer of short lines for a person at a terminal."""

    def render(logger: object, method: str, event_dict: EventDict) -> str:
        line = human_line(event_dict)
        shade = _COLOURS.get(str(event_dict.get("level")), "") if colour else ""
        return f"{shade}{line}\x1b[0m" if shade else line

    return render


def human_line(body: Mapping[str, object]) -> str:
    """Return the record as one readable line, with the evidence of a new fault on lines of its own below."""
    clock = str(body.get("ts", ""))[11:23]
    name = str(body.get("msg", ""))
    if "fault_id" in body:
        text = _fault_words(body)
    elif "health" in body:
        text = _verdict_words(body)
    else:
        shown = {k: v for k, v in body.items() if k not in _EVERYWHERE}
        text = " ".join(f"{k}={v}" if k != "note" else str(v) for k, v in shown.items())
    below = _evidence(body) if name == "fault_active" else _checks(body) if "checks" in body and "health" in body else ""
    return f"{printable(clock)}  {printable(name):<16} {printable(text)}".rstrip() + below


def _fault_words(body: Mapping[str, object]) -> str:
    text = f"{body.get('code')} {body.get('component')}: {body.get('title', '')}"
    if body.get("note"):
        text += f" ({body['note']})"
    return f"{text} -> {body['action']}" if body.get("action") not in (None, "none") else text


def _verdict_words(body: Mapping[str, object]) -> str:
    text = f"{body['health']}, {'schedulable' if body.get('schedulable') else 'NOT schedulable'}, action {body.get('action')}"
    why = body.get("why")
    if isinstance(why, list) and why:
        text += "; " + ", ".join(f"{w['code']} {w['component']}" for w in why[:4]) + (", ..." if len(why) > 4 else "")
    text += "".join(f"; {waiting}" for waiting in _list(body, "awaiting"))
    if "after_ms" in body:
        text += f", {body['after_ms']} ms after the start"
    return f"{text} ({body['note']})" if body.get("note") else text


def _evidence(body: Mapping[str, object]) -> str:
    lines = [line for line in str(body.get("evidence") or body.get("detail") or "").splitlines() if line.strip()]
    shown = [printable(_cut(line)) for line in lines[:_EVIDENCE_LINES]]
    if len(lines) > _EVIDENCE_LINES:
        shown.append(f"... and {len(lines) - _EVIDENCE_LINES} lines more")
    return "".join(_MARGIN + line for line in shown)


def _checks(body: Mapping[str, object]) -> str:
    """Return the status of every check, one a line, as the first verdict brings them."""
    rows = body["checks"]
    if not isinstance(rows, list):
        return ""
    lines = (_cut(f"{row['check']:<16} {row['status']:<14} {row['reason']}".rstrip()) for row in rows)
    return "".join(_MARGIN + printable(line) for line in lines)


def _cut(line: str) -> str:
    return line if len(line) <= _LONG else f"{line[: _LONG - 3]}..."


def _list(body: Mapping[str, object], key: str) -> list[str]:
    value = body.get(key)
    return [str(item) for item in value] if isinstance(value, list) else []
