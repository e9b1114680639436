"""The generated pages: complete, safe to render, and the committed ones are today's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hma.catalogue import Catalogue, Confirm, End, Inhibit, Policy, Times
from hma.catalogue_file import _KEYS, load_catalogue
from hma.cli.pages import KEYS, catalogue_page, fault_states_page, pages, worth_words
from hma.engine.transitions import MOVES
from hma.model import Action

DOCS = Path(__file__).resolve().parents[2] / "docs"
CATALOGUE = load_catalogue()
PAGE = catalogue_page(CATALOGUE)


@pytest.mark.parametrize("name", pages())
def test_committed_page_is_what_is_made_today(name: str) -> None:
    """`make docs` writes the pages anew."""
    assert (DOCS / name).read_text(encoding="utf-8").splitlines() == pages()[name].splitlines()


def test_every_row_stands_on_the_page_once_with_an_anchor() -> None:
    anchors = re.findall(r'<a id="([^"]+)"></a>`([^`]+)`', PAGE)
    assert [anchor for anchor, _ in anchors] == [code.lower() for _, code in anchors]
    assert sorted(code for _, code in anchors) == sorted(CATALOGUE.rows)


def test_every_table_row_has_as_many_cells_as_its_head() -> None:
    width = 0
    for line in PAGE.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert cells in (0, width) or width == 0, line
        width = cells


def test_every_key_is_explained_in_the_order_of_the_parser() -> None:
    assert [entry.split(" | ")[0].strip() for entry in KEYS.split("\n\n")] == list(_KEYS)


def test_every_link_inside_the_page_leads_somewhere() -> None:
    headings = re.findall(r"^##+ (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\(#([^)]+)\)", PAGE)) <= anchors


def test_text_that_would_break_a_table_is_escaped() -> None:
    row = Policy("A-B", "one | two", "host", ends=(End("ok"),), source="s", about="x | y")
    assert "one \\| two" in catalogue_page(Catalogue.of([row]))


def test_component_that_has_no_group_is_still_shown() -> None:
    assert "## Other" in catalogue_page(Catalogue.of([Policy("FAN-SLOW", "Fan", "fan")]))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (Policy("A", "", ""), "none"),
        (Policy("A", "", "", Action.REBOOT, when="idle"), "reboot when idle"),
        (Policy("A", "", "", Action.REBOOT, Action.REPLACE), "reboot; replace when it fails again within 7d after a reboot"),
        (Policy("A", "", "", hold_s=120.0), "none; once it has lasted 2m"),
        (
            Policy("A", "", "", times=Times(2, 86_400.0, True, True), counts="B"),
            "none; from 2 times of B within 1d in the same unit by different processes",
        ),
        (
            Policy("A", "", "", Action.REPLACE, confirm=Confirm(("B", "C", "D"), 90.0, Action.REBOOT)),
            "replace; confirmed by B, C or D within 90s, otherwise reboot",
        ),
        (
            Policy("A", "", "", Action.REPLACE, confirm=Confirm(("B", "C"), 90.0, Action.NONE, 2)),
            "replace; confirmed by 2 of B or C within 90s, otherwise none",
        ),
        (
            Policy("A", "", "", inhibit=Inhibit(("*",), 60.0, node=True)),
            "none; a mere consequence within 1m of any other code of its family anywhere on the node",
        ),
        (Policy("A", "", "", raised_by="unknown", evidence="weak"), "none; raised by not being able to look; weak evidence"),
        (Policy("A", "", "", raised_by="never"), "no fault; ends others"),
    ],
)
def test_worth_of_a_row_in_words(row: Policy, words: str) -> None:
    assert worth_words(row) == words


def test_states_page_holds_every_move_as_picture_and_as_row() -> None:
    page = fault_states_page()
    for move in MOVES:
        start, to = (state.value if state else "[*]" for state in (move.start, move.to))
        assert f"{start} --> {to}: {move.signal.value}" in page
        assert move.about in page
