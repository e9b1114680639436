"""Reading the catalogue: the operator's file over the shipped one, and one line for everything that is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hma.catalogue import Catalogue, Confirm, End, Inhibit, Policy, Times
from hma.catalogue_file import SHIPPED, load_catalogue
from hma.cli.pages import EXAMPLE
from hma.model import Action
from hma.yamlread import ConfigError, Problems

SHIPPED_ROWS = load_catalogue()
DATA = Path(__file__).parent / "data/catalogue"
COMPLETE = "title: Fan, component: fan, ends: ok, source: us, about: Look at it."


def override(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "ours.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def load(tmp_path: Path, text: str, known: frozenset[str] | None = frozenset({"FAN-SLOW"})) -> Catalogue:
    return load_catalogue(override(tmp_path, text), known)


def complaints(tmp_path: Path, text: str, known: frozenset[str] | None = frozenset({"FAN-SLOW"})) -> list[str]:
    """Return the problems as people read them, without the folder."""
    with pytest.raises(ConfigError) as err:
        load(tmp_path, text, known)
    return str(err.value).replace(f"{tmp_path}/", "").splitlines()


# -- what is read -----------------------------------------------------------------------------------------------------


def test_every_key_of_a_row(tmp_path: Path) -> None:
    text = f"""
    FAN-SLOW: {{{COMPLETE}}}
    FAN-STOPS:
      title: Fan stops again and again
      component: fan
      action: replace
      again: none
      again_within: 2d
      when: idle
      hold: 90s
      times: {{count: 3, within: 24h, same_unit: true, distinct_actors: true}}
      counts: FAN-SLOW
      confirm: {{by: [XID-79, XID-48], within: 1.5m, otherwise: reboot, count: 2}}
      inhibit: {{by: "*", within: 30s, node: true}}
      ends: [ok 60s, boot, quiet 24h, by GPU-RESET]
      evidence: strong
      raised_by: failed
      fault_type: FanError
      fault_reason: FanSlow
      source: Fan manual
      about: >-
        Two sentences.
        On two lines.
    """
    assert load(tmp_path, text)["FAN-STOPS"] == Policy(
        code="FAN-STOPS",
        title="Fan stops again and again",
        component="fan",
        action=Action.REPLACE,
        again=Action.NONE,
        again_within_s=172_800.0,
        when="idle",
        hold_s=90.0,
        times=Times(3, 86_400.0, same_unit=True, distinct_actors=True),
        counts="FAN-SLOW",
        confirm=Confirm(("XID-79", "XID-48"), 90.0, Action.REBOOT, 2),
        inhibit=Inhibit(("*",), 30.0, node=True),
        ends=(End("ok", 60.0), End("boot"), End("quiet", 86_400.0), End("by", code="GPU-RESET")),
        evidence="strong",
        raised_by="failed",
        fault_type="FanError",
        fault_reason="FanSlow",
        source="Fan manual",
        about="Two sentences. On two lines.",
    )


def test_keys_left_out_take_the_defaults(tmp_path: Path) -> None:
    row = load(tmp_path, f"FAN-SLOW: {{{COMPLETE}}}")["FAN-SLOW"]
    assert row == Policy("FAN-SLOW", "Fan", "fan", ends=(End("ok"),), source="us", about="Look at it.")


def test_row_that_counts_is_indexed_by_what_it_counts(tmp_path: Path) -> None:
    text = f"FAN-OFTEN: {{{COMPLETE}, counts: XID-62, times: {{count: 2, within: 1h}}}}"
    assert load(tmp_path, text).counted["XID-62"] == ("FAN-OFTEN",)
    assert SHIPPED_ROWS.counted == {
        "XID-13": ("XID-13-REPEAT",),
        "XID-31": ("XID-31-REPEAT",),
        "NVLINK-DOWN": ("NVLINK-DOWN-LASTS",),
    }


# -- laid over --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "changed"),
    [
        ("XID-46: {hold: 5m}", "XID-46", {"hold_s": 300.0}),
        ("XID-46: {again: null}", "XID-46", {"again": None}),
        ("XID-46: {action: replace}", "XID-46", {"action": Action.REPLACE}),
        ("XID-46: {when: idle, title: Hangs}", "XID-46", {"when": "idle", "title": "Hangs"}),
        ("XID-79: {confirm: null}", "XID-79", {"confirm": None}),
        ("XID-43: {inhibit: null}", "XID-43", {"inhibit": None}),
        ("XID-46: {ends: boot}", "XID-46", {"ends": (End("boot"),)}),
        ("XID-46:", "XID-46", {}),
    ],
)
def test_override_changes_the_keys_it_names_and_no_other(
    tmp_path: Path, text: str, code: str, changed: dict[str, object]
) -> None:
    before, after = SHIPPED_ROWS[code], load(tmp_path, text)[code]
    different = {name for name in Policy.__slots__ if getattr(before, name) != getattr(after, name)}
    assert different == set(changed)
    assert {name: getattr(after, name) for name in changed} == changed


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("XID-46: {action: none}", None),
        ("XID-46: {action: restart_app}", None),
        ("XID-46: {action: none, again: replace}", Action.REPLACE),
        ("XID-46: {action: reboot}", Action.REPLACE),
        ("XID-157: {when: now}", Action.REPLACE),
    ],
)
def test_milder_action_does_not_keep_the_shipped_replacement(tmp_path: Path, text: str, again: Action | None) -> None:
    assert load(tmp_path, text)[text.partition(":")[0]].again is again


def test_empty_override_changes_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, "# nothing yet\n") == SHIPPED_ROWS


def test_example_of_the_page_is_good(tmp_path: Path) -> None:
    rows = load(tmp_path, EXAMPLE)
    assert rows["XID-79"].action is Action.REBOOT
    assert rows["XID-94-REPEAT"].when == "idle"


def test_own_row_needs_no_shipped_one_when_its_check_is_known(tmp_path: Path) -> None:
    assert load(tmp_path, f"FAN-SLOW: {{{COMPLETE}}}", frozenset({"FAN-SLOW"}))["FAN-SLOW"].title == "Fan"
    assert load(tmp_path, f"FAN-SLOW: {{{COMPLETE}}}", None)["FAN-SLOW"].title == "Fan"


# -- what is wrong: one line each -------------------------------------------------------------------------------------

MISTAKES = [
    tuple(line.strip() for line in case.splitlines())
    for case in (DATA / "mistakes.txt").read_text(encoding="utf-8").split("\n\n")[1:]
]


@pytest.mark.parametrize(("text", "line"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_mistake_gets_one_line_with_place_and_mend(tmp_path: Path, text: str, line: str) -> None:
    assert complaints(tmp_path, text) == [f"ours.yaml:1: {line}"]


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = "XID-79: {hodl: 5s}\nXID-48:\n  action: rebot\n  hold: now\nPUMP-DRY: {action: none}\n"
    assert [line.split(": ")[:2] for line in complaints(tmp_path, text)] == [
        ["ours.yaml:1", "XID-79.hodl"],
        ["ours.yaml:3", "XID-48.action"],
        ["ours.yaml:4", "XID-48.hold"],
        ["ours.yaml:5", "PUMP-DRY"],
        ["ours.yaml:5", "PUMP-DRY"],
    ]


def test_override_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as err:
        load_catalogue(tmp_path / "none.yaml")
    assert str(err.value) == f"{tmp_path}/none.yaml: does not exist; create it, or remove `catalogue` from the configuration"


def test_override_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory; name the YAML file in it"):
        load_catalogue(tmp_path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("XID-79: {title: Lost}", "XID-79: is a new row and lacks component"),
        ("XID-79: [", "is not YAML"),
        (None, "install hma again"),
    ],
)
def test_broken_catalogue_of_our_own_is_an_error_and_no_traceback(tmp_path: Path, text: str | None, what: str) -> None:
    shipped = tmp_path / "catalogue.yaml"
    if text is not None:
        shipped.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as err:
        load_catalogue(shipped=shipped)
    assert what in str(err.value)


# -- with problems collected: the shipped row stands in ---------------------------------------------------------------


def test_what_is_wrong_falls_back_to_the_shipped_row_as_a_whole(tmp_path: Path) -> None:
    problems = Problems()
    path = override(tmp_path, f"XID-46: {{hold: 5m, action: rebot}}\nXID-48: {{hold: 5m}}\nFAN-SLOW: {{{COMPLETE}, hold: 7}}\n")
    catalogue = load_catalogue(path, {"FAN-SLOW"}, problems)
    assert len(problems) == 2
    assert catalogue["XID-46"] == SHIPPED_ROWS["XID-46"]
    assert catalogue["XID-48"].hold_s == 300.0
    assert "FAN-SLOW" not in catalogue


def test_flood_of_mistakes_lets_none_of_them_in(tmp_path: Path) -> None:
    problems = Problems()
    text = "".join(f"XID-{number}: {{hold: x, title: Ours}}\n" for number in range(1, 150))
    catalogue = load_catalogue(override(tmp_path, text), None, problems)
    assert problems.full
    assert catalogue == SHIPPED_ROWS


# -- cost -------------------------------------------------------------------------------------------------------------

COST = """
import resource, time
from hma.catalogue_file import load_catalogue
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
load_catalogue()
print(time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_loading_is_a_small_part_of_the_start() -> None:
    """Measured 45 ms and 2.6 MiB, yaml included; the bounds leave room for a slow machine, not for a second parser."""
    runs = [subprocess.run([sys.executable, "-c", COST], capture_output=True, text=True, check=True).stdout for _ in range(3)]
    spent, grown = min((float(run.split()[0]), int(run.split()[1])) for run in runs)
    assert spent < 0.2
    assert grown < 8_192


def test_shipped_file_keeps_one_row_a_line() -> None:
    rows = [line for line in SHIPPED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert [line.partition(":")[0] for line in rows] == list(SHIPPED_ROWS.rows)
