"""An agent whose state directory does not answer: it detects, never says "ok", and takes over what was known when it can."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hma.cli.frozen_disk import ENVIRON
from tests.agent_run import XID_13, XID_79, Node
from tests.sources.stuck import NEEDS, frozen


@pytest.mark.slow
@pytest.mark.needs(*NEEDS)
def test_start_on_a_frozen_disk_is_never_healthy_and_the_faults_of_before_count_again_after_it(tmp_path: Path) -> None:
    with frozen(tmp_path) as disk:
        disk.thaw()
        node = Node(tmp_path / "node")
        node.state_dir = disk.place / "state"
        with node.start() as agent:
            agent.wait_for("agent_ready", health="ok")
            node.kernel_log.write(XID_79)
            agent.wait_for("verdict_changed", health="failed")
            agent.terminate()
        node.kernel_log.path.write_text("")  # what the ring no longer holds, only the journal knows
        subprocess.run(["fsfreeze", "--freeze", str(disk.place)], env=ENVIRON, check=True)
        try:
            with node.start() as agent:
                agent.wait_for("fault_active", code="JOURNAL-LOST")
                agent.wait_for("agent_ready")
                node.kernel_log.write(XID_13)
                agent.wait_for("fault_active", code="XID-13")
                subprocess.run(["fsfreeze", "--unfreeze", str(disk.place)], env=ENVIRON, check=True)
                agent.wait_for("verdict_changed", health="failed")
                agent.wait_for("fault_resolved", code="JOURNAL-LOST")
                assert agent.terminate() == 0
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", str(disk.place)], env=ENVIRON, check=False, capture_output=True)
    assert [record["health"] for record in agent.records if record.get("health") == "ok"] == []
