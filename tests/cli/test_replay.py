"""`hma replay` on traces that a real agent wrote: the same verdicts, whatever the agent began from and through a reload."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.agent_run import XID_13, XID_79, Node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.settings["record"] = str(tmp_path / "trace")
    return node


def replayed(node: Node) -> list[str]:
    """Return what the replay prints, after seeing that it found no difference."""
    done = node.hma("replay", node.settings["record"])
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.endswith("0 of them differ from the recorded ones\n"), done.stdout
    return done.stdout.splitlines()


def test_trace_of_a_first_life_gives_the_same_verdict(node: Node) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        node.kernel_log.write(XID_79)
        agent.wait_for("verdict_changed", schedulable=False)
        agent.terminate()
    lines = replayed(node)
    assert [line for line in lines if "fault_active     XID-79 gpu:0000:97:00" in line]
    assert [line for line in lines if "verdict_changed  failed, NOT schedulable" in line]


def test_trace_of_a_second_life_begins_from_the_faults_of_the_first(node: Node, tmp_path: Path) -> None:
    with node.start() as agent:
        node.kernel_log.write(XID_79)
        agent.wait_for("verdict_changed", schedulable=False)
        agent.terminate()
    node.settings["record"] = str(tmp_path / "second")
    with node.start() as agent:
        agent.wait_for("agent_ready")
        node.kernel_log.write(XID_13)
        agent.wait_for("fault_active", code="XID-13")
        agent.terminate()
    lines = replayed(node)
    assert not [line for line in lines if "fault_active     XID-79" in line]
    assert [line for line in lines if "fault_active     XID-13" in line]


def test_trace_goes_on_over_a_reload(node: Node) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for("config_reloaded")
        node.kernel_log.write(XID_79)
        agent.wait_for("verdict_changed", schedulable=False)
        agent.terminate()
    assert [line for line in replayed(node) if "fault_active     XID-79" in line]
