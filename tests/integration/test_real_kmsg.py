"""The real kernel log: what a program writes into it is seen and counted, and never trusted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.agent_run import XID_79, Node, until

KMSG = Path("/dev/kmsg")


def counted(node: Node) -> dict[str, int]:
    log: dict[str, int] = json.loads(node.hma("status", "--json").stdout)["kernel_log"]
    return log


@pytest.mark.needs("root", "kmsg")
def test_line_written_by_a_program_is_a_suspected_spoof_and_the_same_bytes_of_the_kernel_are_a_fault(tmp_path: Path) -> None:
    marked = f"{XID_79} hma test {os.getpid()}"
    real = Node(tmp_path / "real")
    real.kernel_log.path = KMSG
    with real.start() as agent:
        agent.wait_for("agent_ready")
        before = counted(real)
        KMSG.write_text(f"<7>{marked}\n")
        until(lambda: counted(real)["spoofed"] > before["spoofed"], "the line to be counted as a suspected spoof")
        assert agent.terminate() == 0
    assert [r["evidence"] for r in agent.records if marked in str(r.get("evidence"))] == []
    assert "spoof_suspected" in {record["msg"] for record in agent.records}

    written = Node(tmp_path / "written")
    with written.start() as agent:
        agent.wait_for("agent_ready")
        written.kernel_log.write(marked)
        assert agent.wait_for("fault_active", code="XID-79")["evidence"] == marked
        assert agent.terminate() == 0
