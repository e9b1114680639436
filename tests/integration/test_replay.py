"""A trace recorded by a real agent is judged again to the same verdicts, and to others where the catalogue differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent_run import XID_13, XID_79, Node


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Node, Path]:
    """Return a node whose agent has recorded a user error and a lost GPU, across a restart."""
    node, trace = Node(tmp_path / "node"), tmp_path / "trace.jsonl"
    node.config.write_text(f"record: {trace}\n")
    with node.start() as agent:
        agent.wait_for("agent_ready")
        node.kernel_log.write(XID_13)
        agent.wait_for("fault_active", code="XID-13")
        node.kernel_log.write("usb 1-1: noise", XID_79)
        agent.wait_for("verdict_changed", health="failed")
        agent.terminate()
    node.config.write_text("")
    return node, trace


def test_same_verdicts_come_out_again(recorded: tuple[Node, Path]) -> None:
    node, trace = recorded
    done = node.hma("replay", str(trace))
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 of them differ from the recorded ones" in done.stdout
    for said in ("XID-13 gpu:0000:53:00", "XID-79 gpu:0000:97:00", "verdict_changed"):
        assert said in done.stdout


def test_other_rows_give_other_verdicts_and_say_where(recorded: tuple[Node, Path], tmp_path: Path) -> None:
    node, trace = recorded
    rows = tmp_path / "rows.yaml"
    rows.write_text("XID-79: {action: none, confirm: null}\n")
    node.config.write_text(f"catalogue: {rows}\n")
    done = node.hma("replay", str(trace))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "# here the recorded verdict was: failed" in done.stdout


def test_trace_without_its_head_or_with_a_damaged_line_is_refused_in_one_line(recorded: tuple[Node, Path]) -> None:
    node, trace = recorded
    lines = trace.read_text().splitlines(keepends=True)
    trace.write_text("".join(lines[1:]))
    beheaded = node.hma("replay", str(trace))
    trace.write_text("".join([*lines[:2], "{nonsense}\n", *lines[2:]]))
    damaged = node.hma("replay", str(trace))
    assert (beheaded.returncode, damaged.returncode) == (3, 3)
    assert beheaded.stderr == f"hma: {trace}: does not begin with a start; is its head missing?\n"
    assert damaged.stderr.startswith(f"hma: {trace}:3: not a line of a trace")


def test_trace_cut_short_by_a_crash_is_played_to_there(recorded: tuple[Node, Path]) -> None:
    node, trace = recorded
    trace.write_text(trace.read_text()[:-40])
    assert node.hma("replay", str(trace)).returncode == 0
