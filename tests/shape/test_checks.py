"""Every check is one file with one test file, under one name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.shape.fit import checks
from tests.shape.tree import ROOT, named

FILES = [path for path in sorted((ROOT / "checks").glob("*/*.py")) if not path.stem.startswith("_")]


@pytest.mark.parametrize("path", FILES, ids=named)
def test_check_has_a_test_that_names_it(path: Path) -> None:
    tests = ROOT / "tests" / "checks" / f"test_{path.stem}.py"
    assert tests.is_file(), f"{named(path)} has no {named(tests)}"
    text = tests.read_text(encoding="utf-8")
    assert re.search(rf"\bchecks\.{path.parent.name}\b.*\b{path.stem}\b", text), f"{named(tests)} does not use {named(path)}"
    assert "def test_" in text


def test_checks_are_found() -> None:
    assert {check.name for check in checks()}


def test_names_of_checks_are_unique() -> None:
    names = [check.name for check in checks()]
    assert sorted(set(names)) == sorted(names)
