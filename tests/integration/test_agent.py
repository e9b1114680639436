"""The agent as its users meet it: a process that is started, told things by the kernel, asked, reloaded and stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import time
from pathlib import Path

import pytest

from tests.agent_run import HMA, XID_13, XID_79, Node, Record, until

GPU = "gpu:0000:97:00"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_first_verdict_comes_with_every_check_and_its_reason(node: Node) -> None:
    with node.start() as agent:
        started = agent.wait_for("agent_started")
        ready = agent.wait_for("agent_ready")
        assert agent.terminate() == 0
    assert started["note"] == "nothing is recorded of this node"
    assert (ready["health"], ready["action"], ready["schedulable"]) == ("ok", "none", True)
    rows = {row["check"]: row for row in ready["checks"]}
    assert rows["xid"]["status"] == "ok"
    assert rows["nvidia_smi"]["status"] == "not applicable"
    assert "nvidia-smi" in rows["nvidia_smi"]["reason"]
    assert all(row["reason"] for row in rows.values() if row["status"] != "ok")
    assert agent.stderr == ""


def test_kernel_line_becomes_an_explained_verdict(node: Node) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        node.kernel_log.write("usb 1-1: new high-speed USB device", XID_79, "usb 1-1: gone")
        fault = agent.wait_for("fault_active", code="XID-79")
        verdict = agent.wait_for("verdict_changed")
        explained = node.hma("explain", "XID-79")
        status = node.hma("status")
        assert agent.terminate() == 0
    assert (fault["component"], fault["xid"], fault["evidence"]) == (GPU, 79, XID_79)
    assert (verdict["health"], verdict["schedulable"]) == ("failed", False)
    assert explained.returncode == 0, explained.stderr
    for said in (XID_79, f"XID-79 on {GPU}", "policy row", "verdict", "confirmed by"):
        assert said in explained.stdout
    assert (status.returncode, status.stderr) == (1, "")
    assert "XID-79" in status.stdout


def test_same_line_from_user_space_is_counted_and_not_trusted(node: Node) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        node.kernel_log.write(XID_79, facility=1)
        spoof = agent.wait_for("spoof_suspected")
        node.kernel_log.write(XID_13)
        agent.wait_for("fault_active", code="XID-13")
        log = json.loads(node.hma("status", "--json").stdout)["kernel_log"]
        agent.terminate()
    assert spoof["lines"] == 1
    assert (log["foreign"], log["spoofed"], log["lost"]) == (1, 1, 0)
    assert "XID-79" not in {record.get("code") for record in agent.records}


def test_restart_neither_heals_nor_doubles_and_reads_what_came_meanwhile(node: Node) -> None:
    node.settings["nvml.library"] = str(node.root / "nowhere.so")
    with node.start() as agent:
        agent.wait_for("agent_ready")
        node.kernel_log.write(XID_79)
        first = agent.wait_for("fault_active")
        agent.wait_for("verdict_changed")
        # A node of which only the kernel log is there misses the driver library: a fault that still has to last.
        until(lambda: "NVML-NO-LIBRARY" in {fault["code"] for fault in faults_of(node)}, "the missing library")
        before = {(fault["fault_id"], fault["code"]) for fault in faults_of(node)}
        agent.terminate()
    node.kernel_log.write(XID_13)
    with node.start() as agent:
        started = agent.wait_for("agent_started")
        ready = agent.wait_for("agent_ready")
        until(lambda: "XID-13" in {fault["code"] for fault in faults_of(node)}, "the line that came meanwhile")
        faults = faults_of(node)
        agent.terminate()
    assert started["restored_faults"] == len(before) == 2
    assert ready["health"] == "failed"
    assert {(fault["code"], fault["count"]) for fault in faults} >= {("XID-79", 1), ("XID-13", 1)}
    assert before <= {(fault["fault_id"], fault["code"]) for fault in faults}
    assert first["fault_id"] in {fault["fault_id"] for fault in faults}
    assert "XID-79" not in {r.get("code") for r in agent.records if r["msg"] == "fault_active"}
    assert [r["msg"] for r in agent.records].count("agent_stopping") == 1


def test_new_boot_ends_what_a_boot_ends(node: Node) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        node.kernel_log.write(XID_79)
        agent.wait_for("verdict_changed")
        agent.terminate()
    boot = node.root / "proc/sys/kernel/random/boot_id"
    boot.write_text("11111111-2222-3333-4444-555555555555\n")
    node.kernel_log.path.write_text("")
    with node.start() as agent:
        resolved = agent.wait_for("fault_resolved")
        verdict = agent.wait_for("verdict_changed")
        agent.terminate()
    assert (resolved["code"], resolved["note"]) == ("XID-79", "the node has a new boot id")
    assert (verdict["health"], verdict["action"]) == ("ok", "none")


def test_second_agent_on_the_node_is_refused_in_one_line(node: Node) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        with node.start() as second:
            code = second.finish()
        assert code == 3
        assert second.stderr == (
            f"hma: {node.run_dir}: another agent (pid {agent.process.pid}) watches this node; stop it, or set another run_dir\n"
        )
        assert agent.terminate() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_asks_it_to_stop_again_and_again_gets_one_clean_end(node: Node, number: int) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        while agent.process.poll() is None:
            agent.process.send_signal(number)
            time.sleep(0.001)
        assert agent.finish() == 0
    assert agent.stderr == ""
    assert [r["msg"] for r in agent.records].count("agent_stopping") == 1
    with node.start() as agent:
        agent.wait_for("agent_started")
        agent.terminate()
    assert [r["msg"] for r in agent.records].count("agent_stopping") == 1, "the first end was not saved as told"


def test_hangup_takes_a_good_configuration_and_keeps_the_last_good_one(node: Node) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        node.config.write_text("checks: {xid: {enabled: fals}}\nkernel_lg: /dev/kmsg\n")
        agent.process.send_signal(signal.SIGHUP)
        rejected = agent.wait_for("config_rejected")
        node.config.write_text("checks: {xid: {enabled: false}}\nrun_dir: /elsewhere\n")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for("config_reloaded")
        checks = json.loads(node.hma("status", "--json").stdout)["checks"]
        agent.terminate()
    assert rejected["note"].startswith(f"the last good configuration stays: {node.config}:1: checks.xid.enabled")
    assert "hma: " not in rejected["note"]
    assert f"{node.config}:2: kernel_lg: is not a known key; did you mean kernel_log?" in rejected["note"]
    assert {row["check"]: row["status"] for row in checks}["xid"] == "disabled"


def test_many_hangups_are_one_or_two_reloads_and_the_last_one_counts(node: Node) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        node.config.write_text("checks: {xid: {enabled: fals}}\n")
        for _ in range(50):
            agent.process.send_signal(signal.SIGHUP)
            time.sleep(0.002)
        node.config.write_text("checks: {xid: {enabled: false}}\n")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for("config_reloaded")
        agent.terminate()
    assert len([r for r in agent.records if r["msg"].startswith("config_")]) <= 2


def test_fault_of_a_check_that_is_switched_off_ends_at_a_reload_and_at_a_start(node: Node, tmp_path: Path) -> None:
    rows = tmp_path / "rows.yaml"
    rows.write_text("MEMORY-PRESSURE: {hold: 0s}\n")
    pressure = node.root / "proc/pressure/memory"
    on = f"catalogue: {rows}\nchecks: {{memory_pressure: {{interval: 1s}}}}\n"
    off = f"catalogue: {rows}\nchecks: {{memory_pressure: {{enabled: false}}}}\n"
    pressure.write_text(pressure.read_text().replace("avg10=0.00 avg60=0.00", "avg10=99.00 avg60=99.00"))
    node.config.write_text(on)
    with node.start() as agent:
        agent.wait_for("fault_active", code="MEMORY-PRESSURE")
        node.config.write_text(off)
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for("fault_resolved", code="MEMORY-PRESSURE")
        node.config.write_text(on)
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for("fault_active", code="MEMORY-PRESSURE")
        agent.terminate()
    node.config.write_text(off)
    with node.start() as agent:
        agent.wait_for("fault_resolved", code="MEMORY-PRESSURE")
        assert agent.terminate() == 0


def test_systemd_is_told_ready_alive_and_stopping(node: Node, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(20)
        with node.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="600000") as agent:
            told = [notify.recv(4096).decode()]
            while not any("READY=1" in said for said in told) or told.count("WATCHDOG=1") < 3:
                told.append(notify.recv(4096).decode())
            agent.process.send_signal(signal.SIGTERM)
            while told[-1] != "STOPPING=1":
                told.append(notify.recv(4096).decode())
            assert agent.finish() == 0


def test_socket_is_for_the_owner_and_the_group_and_goes_with_the_agent(node: Node) -> None:
    path = node.run_dir / "agent.sock"
    with node.start() as agent:
        agent.wait_for("agent_ready")
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        agent.terminate()
    assert not path.exists()
    asked = node.hma("status")
    assert (asked.returncode, asked.stdout) == (2, "")
    assert asked.stderr == f"hma: {path}: no agent runs here; start one (hma agent), or name its run_dir\n"


def test_kernel_log_without_permission_is_said_once_and_the_rest_goes_on(node: Node) -> None:
    node.kernel_log.path.unlink()
    with node.start() as agent:
        unreadable = agent.wait_for("kernel_log_unreadable")
        ready = agent.wait_for("agent_ready")
        rows = {row["check"]: row["status"] for row in ready["checks"]}
        node.kernel_log.write(XID_79)
        agent.wait_for("kernel_log_readable")
        agent.wait_for("fault_active", code="XID-79")
        agent.terminate()
    assert str(node.kernel_log.path) in unreadable["note"]
    assert rows["xid"] == "unknown"
    assert rows["gpu_count_pci"] == "ok"
    assert [r["msg"] for r in agent.records].count("kernel_log_unreadable") == 1


@pytest.mark.needs("root")
def test_read_only_state_directory_costs_the_record_and_not_the_detection(node: Node, tmp_path: Path) -> None:
    node.state_dir.mkdir()
    os.system(f"mount -t tmpfs -o ro none {node.state_dir}")
    try:
        with node.start() as agent:
            lost = agent.wait_for("journal_lost")
            agent.wait_for("agent_ready", health="degraded")
            node.kernel_log.write(XID_79)
            agent.wait_for("fault_active", code="XID-79")
            agent.wait_for("verdict_changed", health="failed")
            assert agent.terminate() == 0
    finally:
        os.system(f"umount {node.state_dir}")
    assert f"state directory {node.state_dir} is read-only" in lost["note"]


def test_reader_of_stdout_that_stops_does_not_stop_the_agent(node: Node) -> None:
    read, write = os.pipe()
    pid = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", 'exec "$@"', "sh", *node_argv(node)],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_CLOSE, read)],
    )
    os.close(write)
    try:
        until((node.run_dir / "agent.sock").exists, "socket")
        for _ in range(20):
            node.kernel_log.write(*(XID_13.replace("pid=1240", f"pid={n}") for n in range(200)))
        asked = until(lambda: node.hma("status", "--json").stdout, "status")
        assert json.loads(asked)["verdict"]
    finally:
        os.kill(pid, signal.SIGTERM)
        started = time.monotonic()
        os.waitpid(pid, 0)
        os.close(read)
    assert time.monotonic() - started < 10


def faults_of(node: Node) -> list[Record]:
    faults: list[Record] = json.loads(node.hma("status", "--json").stdout)["faults"]
    return faults


def node_argv(node: Node) -> list[str]:
    return [*HMA, "agent", *node.options()]
