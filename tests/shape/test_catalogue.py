"""Checks and catalogue fit: nothing is emitted that has no row, and no row waits for what nobody emits."""

from __future__ import annotations

import pytest

from hma.catalogue import Policy
from hma.check import AnyCheck
from tests.shape.fit import ROWS, checks, emitted

MADE_ELSEWHERE = {
    "BLIND": "made by the runner: a check could not look for long",
    "JOURNAL-LOST": "made by the agent: its journal cannot be read or written",
    "CHECK-BROKEN": "made by the runner: a check crashed, looped, flooded or returned rubbish",
}
"""Rows that no check emits, each with who does."""

every_row = pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))


@pytest.mark.parametrize("check", checks(), ids=lambda check: check.name)
def test_every_code_of_a_check_is_a_row(check: AnyCheck) -> None:
    assert check.codes
    assert sorted(check.codes - ROWS.keys()) == []


@every_row
def test_every_row_is_raised_by_somebody(row: Policy) -> None:
    assert row.counts in ROWS if row.counts else row.code in emitted() or row.code in MADE_ELSEWHERE


@every_row
def test_every_row_has_a_way_to_end(row: Policy) -> None:
    assert row.ends
    assert {end.kind for end in row.ends} <= {"ok", "boot", "quiet", "by"}
    assert [end for end in row.ends if end.kind == "by" and end.code not in ROWS] == []


@every_row
def test_every_row_says_what_it_is_and_who_says_so(row: Policy) -> None:
    assert all((row.title, row.about, row.source))


@pytest.mark.parametrize("code", MADE_ELSEWHERE)
def test_row_made_elsewhere_exists_and_no_check_emits_it(code: str) -> None:
    assert code in ROWS
    assert code not in emitted()
