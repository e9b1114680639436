"""What the codes of the host checks are worth: how each fault begins, how it ends, and which of them justify a repair."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks.passive import (
    clock_sync,
    disk_space,
    edac,
    hung_task,
    io_errors,
    kernel_limits,
    mce,
    memory_pressure,
    mounts,
    oom,
    oops,
    pcie_aer,
    pstore,
    stuck_process,
    zombies,
)
from hma.catalogue import End, Policy
from hma.check import AnyCheck, Process, Table
from hma.model import Action, FaultState, Observation, Status
from tests.checks.host_node import SHIPPED, HostNode
from tests.checks.kernel_lines import NODE, cases, look

MODULES = (
    *(hung_task, oops, oom, io_errors, mce, pcie_aer, edac, mounts, pstore, memory_pressure, kernel_limits, zombies),
    *(stuck_process, clock_sync, disk_space),
)
CHECKS: tuple[AnyCheck, ...] = tuple(module.CHECK for module in MODULES)
CODES = sorted({code for check in CHECKS for code in check.codes})
ROWS = [SHIPPED[code] for code in CODES]
ENDS = [(row, end) for row in ROWS for end in row.ends]
REPAIRS = {"HARD-LOCKUP", "MCE-UNCORRECTED", "MEMORY-UE", "FS-ROOT-READ-ONLY", "AER-FATAL"}


def seen(code: str, component: str = "x:1", status: Status = Status.FAILED) -> Observation:
    return Observation(code, component, status, "detail", "evidence")


def active(row: Policy) -> HostNode:
    """Return a node on which a fault of this row counts."""
    node = HostNode()
    for _ in range(row.times.count if row.times else 1):
        node.see([seen(row.code)], after=1.0)
    if row.hold_s:
        node.see([seen(row.code)], after=row.hold_s)
    assert node.active == [(row.code, "x:1")]
    return node


@pytest.mark.parametrize("row", ROWS, ids=CODES)
def test_fault_counts_once_it_held_and_came_often_enough(row: Policy) -> None:
    node = HostNode()
    for _ in range(row.times.count - 1 if row.times else 0):
        node.see([seen(row.code)], after=1.0)
        assert node.active == []
    node.see([seen(row.code)], after=1.0)
    assert bool(node.active) is (row.hold_s == 0)
    node.wait(row.hold_s)
    assert node.active == [(row.code, "x:1")]


@pytest.mark.parametrize(("row", "end"), ENDS, ids=[f"{row.code} {end}" for row, end in ENDS])
def test_fault_ends_as_its_row_says(row: Policy, end: End) -> None:
    node = active(replace(row, ends=(end,)))
    if end.kind == "ok":
        node.see([seen(row.code, status=Status.UNKNOWN)], after=1.0)
        assert node.active
        node.see([seen(row.code, status=Status.OK)], after=1.0)
        node.wait(end.for_s)
    elif end.kind == "quiet":
        node.wait(end.for_s - 1.0)
        assert node.active
        node.wait(1.0)
    else:
        assert end.kind == "boot"
        node.reboot()
    assert (node.active, node.pending) == ([], [])


@pytest.mark.parametrize("row", [row for row in ROWS if row.times], ids=lambda row: row.code)
def test_rare_repetition_never_counts(row: Policy) -> None:
    assert row.times is not None
    node = HostNode()
    for _ in range(row.times.count * 3):
        node.see([seen(row.code)], after=row.times.within_s / (row.times.count - 1) + 1.0)
        assert node.active == []


@pytest.mark.parametrize("row", ROWS, ids=CODES)
def test_only_few_are_worth_a_repair_and_none_of_them_at_once(row: Policy) -> None:
    assert row.action.destructive is (row.code in REPAIRS)
    if row.code in REPAIRS:
        assert (row.action, row.when) == (Action.REBOOT, "idle")
    else:
        assert (row.action, row.again) == (Action.NONE, None)


@pytest.mark.parametrize("row", [row for row in ROWS if row.evidence == "weak"], ids=lambda row: row.code)
def test_weak_evidence_alone_neither_repairs_nor_keeps_work_away(row: Policy) -> None:
    node = active(row)
    assert (node.verdict.action, node.verdict.schedulable) == (Action.NONE, True)
    node.wait(700.0)
    assert (node.verdict.action, node.verdict.schedulable) == (Action.NONE, True)


@pytest.mark.parametrize("code", ["MCE-UNCORRECTED", "MEMORY-UE", "FS-ROOT-READ-ONLY"])
def test_same_fault_after_the_reboot_asks_for_a_replacement(code: str) -> None:
    node = active(SHIPPED[code])
    actions = [node.verdict.action]
    node.reboot()
    actions.append(node.verdict.action)
    node.see([seen(code)], after=1.0)
    node.see([seen(code)], after=60.0)
    assert [*actions, node.verdict.action] == [Action.REBOOT, Action.NONE, Action.REPLACE]


def test_hard_lockup_repairs_only_with_a_second_sign() -> None:
    node = HostNode()
    node.see(look(hung_task.CHECK, "watchdog: Watchdog detected hard LOCKUP on cpu 5"))
    assert node.verdict.action is Action.NONE
    node.see(look(hung_task.CHECK, "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:"), after=20.0)
    assert (node.verdict.action, node.verdict.when) == (Action.REBOOT, "idle")


def test_lockup_of_another_processor_is_no_second_sign() -> None:
    node = HostNode()
    node.see(look(hung_task.CHECK, "watchdog: Watchdog detected hard LOCKUP on cpu 5"))
    node.see(look(hung_task.CHECK, "watchdog: BUG: soft lockup - CPU#6 stuck for 23s! [kworker/2:1:25629]"), after=1.0)
    assert node.verdict.action is Action.NONE


def test_captured_fatal_error_of_a_link_that_did_not_come_back_repairs() -> None:
    node = HostNode()
    texts = [case.text for case in cases("host-aer.txt") if "00:04.0" in case.text][:10]
    node.see(look(pcie_aer.CHECK, *texts))
    assert ("AER-FATAL", "pci:0000:00:04.0") in node.active
    assert (node.verdict.action, node.verdict.when) == (Action.REBOOT, "idle")


def test_fatal_error_that_the_driver_recovered_from_repairs_nothing() -> None:
    node = HostNode()
    node.see([seen("AER-FATAL", "pci:0000:00:04.0")])
    assert (node.verdict.action, node.verdict.schedulable) == (Action.NONE, True)
    node.wait(601.0)
    assert (node.verdict.action, node.verdict.schedulable) == (Action.NONE, True)


def test_fatal_error_and_a_lost_gpu_confirm_each_other() -> None:
    node = HostNode()
    node.see([seen("AER-FATAL", "gpu:0000:9b:00")])
    node.see([seen("XID-79", "gpu:0000:9b:00")], after=1.0)
    assert node.fault("AER-FATAL").confirmed_by


def test_one_memory_error_told_by_log_and_counter_is_one_fault() -> None:
    line = next(case.text for case in cases("host-mce.txt") if case.code == "MEMORY-UE")
    node = HostNode()
    node.see(look(mce.CHECK, line), check="mce")
    node.see([seen("MEMORY-UE", "dimm:mc0")], check="edac", after=30.0)
    assert node.active == [("MEMORY-UE", "dimm:mc0")]


def test_counter_at_zero_does_not_end_what_the_log_told() -> None:
    node = HostNode()
    node.see([seen("MEMORY-UE", "dimm:mc0")], check="mce")
    node.see([seen("MEMORY-UE", "dimm:mc0", Status.OK)], check="edac", after=30.0)
    assert node.active == [("MEMORY-UE", "dimm:mc0")]


def processes(*pids: int) -> list[Observation]:
    table = Table(tuple(Process(pid, "python3", "D", 900, 100.0, "io_schedule") for pid in pids))
    return list(stuck_process.CHECK.observe(table, NODE, stuck_process.CHECK.options))


def test_only_the_process_that_stays_in_state_d_becomes_a_fault() -> None:
    node = HostNode()
    for n in range(11):
        node.see(processes(1240, 2_000 + n), check="stuck_process", complete=True, after=60.0)
    assert node.active == [("STUCK-PROCESS", "process:1240")]
    node.see(processes(3_000), check="stuck_process", complete=True, after=60.0)
    assert node.active == []
    assert [fault.state for fault in node.state.faults.values()] == [FaultState.PENDING]


def test_file_system_that_is_gone_from_the_table_is_no_fault_any_more() -> None:
    node = HostNode()
    for _ in range(2):
        node.see([seen("FS-READ-ONLY", "fs:/data")], check="mounts", complete=True, after=60.0)
    assert node.active == [("FS-READ-ONLY", "fs:/data")]
    node.see([seen("FS-ROOT-READ-ONLY", "fs:/", Status.OK)], check="mounts", complete=True, after=60.0)
    assert node.active == []


def test_tenant_s_own_limit_ends_soon() -> None:
    node = HostNode()
    node.see([seen("OOM-LIMIT", "host", Status.DEGRADED)])
    assert (node.verdict.health, node.verdict.schedulable) == (Status.DEGRADED, True)
    node.wait(600.0)
    assert node.verdict.health is Status.OK
