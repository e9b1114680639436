"""Kernel-log lines for tests of checks: those kept in tests/data/kernel, and a look that goes the way of the real one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from hma.check import Check, KernelLine, KernelLog, Lines, NoOptions
from hma.model import NodeFacts, Observation

DATA = Path(__file__).parents[1] / "data/kernel"
NODE = NodeFacts(hostname="n1", boot_id="b1")


class Case(NamedTuple):
    """A kept line, and the code and component that a check must make of it (empty: nothing)."""

    code: str
    component: str
    text: str


def cases(*names: str) -> list[Case]:
    """Return the lines kept in the named files."""
    return [_case(row) for name in names for row in _rows(name) if row and not row.startswith("# ")]


def _rows(name: str) -> list[str]:
    return (DATA / name).read_text(encoding="utf-8").split("\n")


def _case(row: str) -> Case:
    code, component, text = row.split(" ", 2)
    return Case(code.strip("-"), component.strip("-"), text)


def look(check: Check[Lines, NoOptions], *texts: str) -> list[Observation]:
    """Return what `check` says of consecutive records, of which only those that match its pattern reach it."""
    assert isinstance(check.source, KernelLog)
    pattern = re.compile(check.source.pattern)
    records = (KernelLine(100 + n, 7.5 + n, 4, text) for n, text in enumerate(texts))
    batch = tuple(record for record in records if pattern.search(record.text.encode("utf-8", "surrogateescape")))
    return list(check.observe(Lines(batch), NODE, check.options)) if batch else []
