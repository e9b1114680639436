"""A program that hangs in the kernel for real (state D) costs its check, and neither the rest nor the next agent anything."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.agent_run import XID_79, Node, Record, until
from tests.sources.stuck import NEEDS, frozen, state


def checks_of(node: Node) -> dict[str, Record]:
    rows: list[Record] = json.loads(node.hma("status", "--json").stdout)["checks"]
    return {row["check"]: row for row in rows}


@pytest.mark.slow
@pytest.mark.needs(*NEEDS)
def test_others_keep_their_schedule_and_the_agent_stops_and_starts_beside_a_stuck_child(tmp_path: Path) -> None:
    with frozen(tmp_path) as disk:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho $$ >>{tmp_path}/pids\nexec {' '.join(disk.writer)}\n")
        program.chmod(0o755)
        node = Node(tmp_path / "node", programs={"nvidia-smi": program})
        node.config.write_text(
            "checks: {nvidia_smi: {interval: 2s, timeout: 1s}, gpu_count_smi: {interval: 2s, timeout: 1s}, "
            "gpu_count_pci: {interval: 1s}}\n"
        )
        with node.start() as agent:
            agent.wait_for("agent_ready")
            until(lambda: "state D" in checks_of(node)["nvidia_smi"]["reason"], "the stuck child to be said")
            before, began = checks_of(node)["gpu_count_pci"]["runs"], time.monotonic()
            time.sleep(6)
            runs, took = checks_of(node)["gpu_count_pci"]["runs"] - before, time.monotonic() - began
            assert abs(runs - took) <= 2, "the other check lost its rhythm"
            pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
            assert [state(pid) for pid in pids] == ["D"], "a second copy was started while one is out"
            asked = time.monotonic()
            assert agent.terminate() == 0
            assert time.monotonic() - asked < 5
        with node.start() as again:
            again.wait_for("agent_ready")
            node.kernel_log.write(XID_79)
            again.wait_for("fault_active", code="XID-79")
            again.kill()
        with node.start() as third:
            third.wait_for("agent_ready", health="failed")
            assert third.terminate() == 0
        assert state(pids[0]) == "D"
