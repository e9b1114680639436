"""Checks of another package that misbehave cost themselves: the agent goes on, and says so wherever somebody looks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.agent_run import HMA, PATIENCE_S, XID_79, Node

CHECK = """
import sys, threading, time
from hma.check import Check, Processes
from hma.model import Observation, Status

print("on standard output at import")

def observe(sample, node, options):
    print("on standard output at work", flush=True)
    {body}

CHECK = Check(name="{name}", title="{name}", source=Processes(), codes=frozenset({{"OTHER"}}), observe=observe, interval_s=1.0)
"""
ROW = "OTHER: {title: Other, component: host, action: none, ends: [ok], about: nothing, source: a test}\n"
BODIES = {
    "prints": 'return [Observation("OTHER", "host", Status.OK, "fine")]',
    "finds_nothing": "return []",
    "keeps_a_thread": "threading.Thread(target=time.sleep, args=(60,)).start(); return []",
    "loops": "while True: pass",
}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Return a node on which a package with all of them is installed."""
    site = tmp_path / "site"
    about = site / "other-1.0.dist-info"
    about.mkdir(parents=True)
    for name, body in BODIES.items():
        (site / f"other_{name}.py").write_text(CHECK.format(name=name, body=body))
    (site / "other_torn.py").write_text("class Skip(BaseException): pass\nraise Skip('\\x1b[2J')\n")
    entries = "".join(f"{name} = other_{name}:CHECK\n" for name in (*BODIES, "torn"))
    (about / "entry_points.txt").write_text(f"[hma.checks]\n{entries}")
    (tmp_path / "rows.yaml").write_text(ROW)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
    one = Node(tmp_path / "node")
    one.settings["catalogue"] = str(tmp_path / "rows.yaml")
    return one


def test_they_cost_themselves_and_are_told(node: Node) -> None:
    with node.start() as agent:
        told = agent.wait_for("check_problem")
        agent.wait_for("agent_ready")
        node.kernel_log.write(XID_79)
        agent.wait_for("fault_active", code="XID-79")
        status = node.hma("status").stdout
        assert agent.terminate() == 0, "every line on stdout was a record, and no thread held up the end"
    assert "check torn (other_torn:CHECK): cannot be imported: Skip: " in told["note"]
    assert "on standard output at work\n" in agent.stderr
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in status.splitlines() if line}
    assert rows["prints"] == "ok fine"
    assert rows["finds_nothing"] == "not applicable nothing of its kind is here"
    assert rows["loops"].startswith("unknown the check itself is broken: took longer than 0.1 s")
    assert rows["problem:"].startswith(
        "other: check torn (other_torn:CHECK): cannot be imported: Skip: \\x1b[2J; mend or remove"
    )


def test_check_by_hand_tells_them_on_standard_error(node: Node) -> None:
    argv = [*HMA, "check", "prints", *node.options()]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0
    assert "hma: other: check torn (other_torn:CHECK): cannot be imported: Skip: \\x1b[2J; mend or remove" in done.stderr
