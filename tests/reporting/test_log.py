"""What a line looks like: JSON for collectors, words for a terminal, and that neither can be broken by what a process says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hma.reporting.log import human_line, make_logger

ROOT = Path(__file__).parents[2]
MARGIN = "             | "
HEAD: dict[str, object] = {"level": "warn", "ts": "2026-11-24T13:02:11.042Z", "msg": "fault_active", "event": "fault_active"}
FAULT: dict[str, object] = {
    **HEAD,
    "event_id": "e8451f473569-active",
    "fault_id": "e8451f473569",
    "code": "XID-79",
    "component": "gpu:0000:97:00",
    "title": "GPU has fallen off the bus",
    "action": "none",
    "evidence": "NVRM: Xid (PCI:0000:97:00): 79, GPU has fallen off the bus.",
    "node": "ip-10-1-2-3",
    "boot_id": "7d3a1c52",
}
VERDICT: dict[str, object] = {
    **HEAD,
    "msg": "verdict_changed",
    "health": "failed",
    "schedulable": False,
    "action": "replace",
    "why": [{"code": "XID-79", "component": "gpu:0000:97:00"}],
}


def printed(form: str, body: Mapping[str, object], colour: bool = False) -> str:
    lines: list[str] = []
    make_logger(lines.append, form, colour).emit(**body)
    assert len(lines) == 1
    return lines[0]


# -- JSON -------------------------------------------------------------------------------------------------------------


def test_json_is_the_record_in_its_order() -> None:
    line = printed("json", FAULT)
    assert json.loads(line) == FAULT
    assert list(json.loads(line)) == list(FAULT)


def test_json_begins_with_level_time_and_name_whatever_the_order() -> None:
    assert printed("json", dict(reversed(FAULT.items()))).startswith(
        '{"level":"warn","ts":"2026-11-24T13:02:11.042Z","msg":"fault_active",'
    )


@pytest.mark.parametrize(
    "key",
    ["self", "event", "event_name", "method", "method_name", "logger", "event_dict", "fields", "name", "exc_info", "details: "],
)
def test_any_key_is_data(key: str) -> None:
    """Some of these are names of arguments on the way through structlog; a check may call a fact like that."""
    body = {**HEAD, key: "value"}
    assert json.loads(printed("json", body)) == body
    assert printed("human", body)


@given(st.text(st.characters(), max_size=100))
def test_no_text_breaks_the_line_of_json_or_reaches_the_terminal(text: str) -> None:
    line = printed("json", {**FAULT, "evidence": f"one\ntwo\r\n{text}"})
    assert len(line.splitlines()) == 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line)
    assert json.loads(line)["evidence"] == f"one\ntwo\r\n{text}"


# -- words for a person -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {},
            "13:02:11.042  fault_active     XID-79 gpu:0000:97:00: GPU has fallen off the bus\n"
            + MARGIN
            + str(FAULT["evidence"]),
        ),
        (
            {"action": "replace", "note": "by fault 5e6a", "msg": "fault_confirmed"},
            "13:02:11.042  fault_confirmed  XID-79 gpu:0000:97:00: GPU has fallen off the bus (by fault 5e6a) -> replace",
        ),
        (
            {"evidence": "", "detail": "7 of 8 GPUs"},
            "13:02:11.042  fault_active     XID-79 gpu:0000:97:00: GPU has fallen off the bus\n" + MARGIN + "7 of 8 GPUs",
        ),
        (
            {"evidence": ""},
            "13:02:11.042  fault_active     XID-79 gpu:0000:97:00: GPU has fallen off the bus",
        ),
    ],
)
def test_a_fault_in_words(change: dict[str, object], line: str) -> None:
    assert printed("human", {**FAULT, **change}) == line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "failed, NOT schedulable, action replace; XID-79 gpu:0000:97:00"),
        ({"why": [], "health": "ok", "schedulable": True, "action": "none"}, "ok, schedulable, action none"),
        (
            {"awaiting": ["XID-79 awaits SMI-ERR"], "note": "still out: nvidia_smi"},
            "failed, NOT schedulable, action replace; XID-79 gpu:0000:97:00; XID-79 awaits SMI-ERR (still out: nvidia_smi)",
        ),
        (
            {"why": [{"code": f"C{n}", "component": "host"} for n in range(6)]},
            "failed, NOT schedulable, action replace; C0 host, C1 host, C2 host, C3 host, ...",
        ),
    ],
)
def test_a_verdict_in_words(change: dict[str, object], words: str) -> None:
    assert printed("human", {**VERDICT, **change}) == f"13:02:11.042  verdict_changed  {words}"


def test_other_events_show_what_they_carry_but_not_who_and_where() -> None:
    body = {**HEAD, "msg": "kernel_log_lost", "note": "12 lines lost", "lost": 12, "node": "n", "boot_id": "b", "event_id": "e"}
    assert printed("human", body) == "13:02:11.042  kernel_log_lost  12 lines lost lost=12"


def test_evidence_of_several_lines_stays_behind_the_margin_and_is_cut() -> None:
    lines = printed("human", {**FAULT, "evidence": "\n\n".join(f"line {n} {'x' * 300}" for n in range(9))}).split("\n")
    assert lines[0].startswith("13:02:11.042")
    assert [line[:21] for line in lines[1:]] == [
        f"{MARGIN}{start}" for start in ("line 0", "line 1", "line 2", "line 3", "... an")
    ]
    assert lines[1].endswith("xxx...")
    assert lines[-1].endswith("... and 5 lines more")
    assert max(map(len, lines)) < 200


# -- harm -------------------------------------------------------------------------------------------------------------

FORGED = "x\n13:02:12.000  verdict_changed  ok, schedulable, action none"


@pytest.mark.parametrize("key", ["evidence", "component", "code", "title", "note", "msg", "detail", "ts"])
@pytest.mark.parametrize("base", [FAULT, VERDICT, HEAD], ids=["fault", "verdict", "other"])
@pytest.mark.parametrize(
    "text",
    ["\x1b[2J\x1b[1;1H", "\x1b]0;owned\x07", "\x9b31m", "a\rb", "a\x08\x08", "\u202egnp", "\u2028", "\x00", "\udcff", FORGED],
)
def test_nothing_a_process_says_can_move_the_cursor_or_look_like_a_line_of_ours(
    key: str, base: dict[str, object], text: str
) -> None:
    # Of the time only the clock is shown, the characters from the twelfth on.
    shown = printed("human", {**base, key: f"2026-11-24T{text}" if key == "ts" else text})
    first, *others = shown.split("\n")
    assert all(line.isprintable() for line in (first, *others))
    assert all(line.startswith(MARGIN) for line in others)


def test_a_kernel_line_shows_its_escapes() -> None:
    shown = printed("human", {**FAULT, "evidence": "comm=\x1b[31mroot\x07 \udcff"})
    assert shown.endswith("| comm=\\x1b[31mroot\\x07 \\udcff")


@pytest.mark.parametrize(("level", "shade"), [("warn", "\x1b[33m"), ("error", "\x1b[31m"), ("info", "")])
def test_colour_is_that_of_the_level_and_ends_with_the_record(level: str, shade: str) -> None:
    body = {**FAULT, "level": level, "evidence": "\x1b[0mplain"}
    plain = printed("human", body)
    assert "\x1b" not in plain
    assert printed("human", body, colour=True) == (f"{shade}{plain}\x1b[0m" if shade else plain)
    assert printed("json", body, colour=True) == printed("json", body)


def test_a_record_without_the_usual_keys_is_shown_all_the_same() -> None:
    assert human_line({"fault_id": "f"}).strip() == "None None:"
    assert human_line({}).strip() == ""


def test_importing_brings_no_rich_and_hides_none(tmp_path: Path) -> None:
    """Where structlog finds `rich` it imports it: 10 MiB in the agent. One that is there must still be importable after us."""
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich/__init__.py").write_text("here = 'yes'\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import hma.reporting.log; "
        "print('rich' in sys.modules); import rich; print(rich.here)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\nyes\n"
