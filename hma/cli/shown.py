"""How verdicts, checks and faults are shown at a terminal, by every command that shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hma.cli.common import FAILED, OK, UNKNOWN, table
from hma.yamlread import printable

WIDTH = 110
REASON = 220
"""What cannot be looked at says at its end what to mend."""
_RANK = {"failed": FAILED, "degraded": FAILED, "unknown": UNKNOWN, "waiting": UNKNOWN}


def exit_code(statuses: Iterable[str]) -> int:
    """Return 1 if anything failed or is degraded, else 2 if anything is not known, else 0."""
    codes = {_RANK.get(status, OK) for status in statuses}
    return FAILED if FAILED in codes else UNKNOWN if UNKNOWN in codes else OK


def checks_text(checks: Iterable[Mapping[str, Any]]) -> str:
    """Return the table of checks."""
    rows = [(row["check"], row["status"], short(row["reason"], REASON)) for row in checks]
    return table([("CHECK", "STATUS", "REASON"), *rows])


def faults_text(faults: Iterable[Mapping[str, Any]]) -> str:
    """Return the table of live faults."""
    head = ("FAULT", "CODE", "COMPONENT", "STATE", "ACTION", "SEEN", "SINCE", "DETAIL")
    rows = [
        (
            *(row["fault_id"], row["code"], row["component"], _state(row), row["action"]),
            *(f"{row['count']}x", row["first_seen"][:19] + "Z", short(row["detail"] or row["title"], 80)),
        )
        for row in faults
    ]
    return table([head, *rows]) if rows else "no live fault"


def verdict_text(verdict: Mapping[str, Any] | None) -> str:
    """Return the verdict in a few lines."""
    if verdict is None:
        return "no verdict yet: the journal is still being read"
    placed = "schedulable" if verdict["schedulable"] else "NOT schedulable"
    when = f" ({verdict['when']})" if verdict["action"] in ("reboot", "replace") else ""
    lines = [f"{verdict['health']}, {placed}, action {verdict['action']}{when}"]
    lines += [f"  because {why['code']} on {why['component']}: {short(why['rule'])}" for why in verdict["why"]]
    lines += [f"  {short(waiting)}" for waiting in verdict.get("awaiting", ())]
    if verdict.get("blind"):
        lines.append(f"  could not look for long: {', '.join(verdict['blind'])}")
    return "\n".join(lines)


def short(text: str, width: int = WIDTH) -> str:
    """Return `text` on one harmless line of at most `width` characters."""
    line = printable(str(text))
    return line if len(line) <= width else f"{line[: width - 3]}..."


def _state(fault: Mapping[str, Any]) -> str:
    if fault["inhibited_by"]:
        return "inhibited"
    return "confirmed" if fault["confirmed_by"] else str(fault["state"])
