"""A check of somebody else's may name a component with half a surrogate pair: no reason for the agent to end."""

from __future__ import annotations

import pytest

from hma.catalogue_file import load_catalogue
from hma.engine.step import beginning, step
from hma.model import Instant, NodeFacts, Observation, Report, Status
from hma.reporting.record import record, to_line

NOW = Instant(100.0, 1_795_525_331.0, "b1")


@pytest.mark.parametrize("component", ["gpu:\udcff", "gpu:\x00", "gpu:\n", "gpu:" + "x" * 100_000, ""])
def test_fault_on_an_oddly_named_component_is_told(component: str) -> None:
    report = Report("acme", (Observation("XID-79", component, Status.FAILED),))
    catalogue = load_catalogue()
    changes = step(beginning(NOW), [report], catalogue, NOW).changes
    assert [change.kind for change in changes] == ["fault_active", "verdict_changed"]
    assert all(to_line(record(change, NodeFacts("n1", "b1"), catalogue)).encode() for change in changes)
