"""Logging: every line the agent prints is a structlog event, as JSON for collectors or as short text for a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, MutableMapping

# structlog imports `rich` where it finds it, for pretty tracebacks that a daemon never prints: 10 MiB for nothing.
if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog

from hma.reporting.record import timestamp, to_line

if sys.modules.get("rich", structlog) is None:
    del sys.modules["rich"]

EventDict = MutableMapping[str, object]
Write = Callable[[str], object]

_COLOURS = {"warn": "\x1b[33m", "error": "\x1b[31m", "info": ""}
_LONG = 180


class Printer:
    """The sink at the end of the structlog chain: hands finished lines to `write`."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def msg(self, line: str) -> None:
        """Write one finished line."""
        self._write(line)


def make_logger(write: Write, form: str, colour: bool = False) -> structlog.typing.FilteringBoundLogger:
    """Return a logger that renders as `form` (`json` or `human`) and gives lines to `write`."""
    render = human_renderer(colour) if form == "human" else json_renderer
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        Printer(write), processors=[add_head, render], wrapper_class=Bound
    )
    return logger


class Bound(structlog.BoundLoggerBase):
    """A bound logger with one method: `emit(record)`; levels are data in the record."""

    def emit(self, **fields: object) -> None:
        """Print one record; `msg` is its name, `level` and `ts` are filled in where missing."""
        # structlog calls the message "event"; our records have a key of that name, which travels beside it.
        named = fields.pop("event", None)
        self._proxy_to_logger("msg", str(fields.pop("msg", "")), event_name=named, **fields)


def add_head(logger: object, method: str, event_dict: EventDict) -> EventDict:
    """Put `level`, `ts` and `msg` first, as HyperPod's agent does, filling in what is missing."""
    message = event_dict.pop("event", "")
    named = event_dict.pop("event_name", None)
    head: EventDict = {
        "level": event_dict.pop("level", "info"),
        "ts": event_dict.pop("ts", None) or timestamp(time.time()),
        "msg": message,
    }
    if named:
        head["event"] = named
    head.update(event_dict)
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
    """Return the record as one readable line."""
    clock = str(body.get("ts", ""))[11:23]
    name = str(body.get("msg", ""))
    if "fault_id" in body:
        text = f"{body['code']} {body['component']}: {body.get('title', '')}"
        if body.get("note"):
            text += f" ({body['note']})"
        if body.get("action") not in (None, "none"):
            text += f" -> {body['action']}"
        evidence = str(body.get("evidence") or body.get("detail") or "")
        if evidence and name == "fault_active":
            text += f"\n             | {evidence[:_LONG]}"
    elif "health" in body:
        text = f"{body['health']}, {'schedulable' if body.get('schedulable') else 'NOT schedulable'}, action {body['action']}"
        why = body.get("why")
        if isinstance(why, list) and why:
            text += "; " + ", ".join(f"{w['code']} {w['component']}" for w in why[:4])
        text += "".join(f"; {waiting}" for waiting in _list(body, "awaiting"))
        if body.get("note"):
            text += f" ({body['note']})"
    else:
        shown = {k: v for k, v in body.items() if k not in ("level", "ts", "msg", "event", "event_id", "node", "boot_id")}
        text = " ".join(f"{k}={v}" if k != "note" else str(v) for k, v in shown.items())
    return f"{clock}  {name:<16} {text}"


def _list(body: Mapping[str, object], key: str) -> list[str]:
    value = body.get(key)
    return [str(item) for item in value] if isinstance(value, list) else []
