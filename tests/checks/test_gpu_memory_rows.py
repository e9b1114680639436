"""What the codes of the GPU memory checks are worth: real readings, the real catalogue, the real engine."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from checks.passive import ecc, inforom, memory_repair, recovery_action, retired_pages, row_remap
from hma.check import AnyCheck
from hma.gpu import Ecc, GpuReadings, Inforom, Pages, Repair, Rows
from hma.model import Action, Observation, Status
from tests.checks.gpu_samples import P5_GPUS, down, healthy, lost, observe, old, with_gpu
from tests.checks.host_node import SHIPPED, HostNode

THIRD = P5_GPUS[3]
MINUTE = 60.0


class Case(NamedTuple):
    """A reading in which one code shows on GPU 3 (or on the node), the same node well, and what the code is worth."""

    check: AnyCheck
    code: str
    bad: GpuReadings
    well: GpuReadings
    action: Action
    when: str = "now"


def ecc_of(**parts: Any) -> GpuReadings:
    """Return a healthy p5 but for the ECC of GPU 3."""
    return with_gpu(healthy(), 3, ecc=Ecc(True, True, 0, 0, 0, 0, sram_threshold=False)._replace(**parts))


def rows_of(**parts: Any) -> GpuReadings:
    """Return a healthy p5 but for the rows of GPU 3."""
    return with_gpu(healthy(), 3, rows=Rows(0, 0, pending=False, failed=False)._replace(**parts))


def pages_of(corrected: int = 0, uncorrected: int = 0, pending: bool = False) -> GpuReadings:
    """Return eight old GPUs, well but for the pages of GPU 3."""
    return with_gpu(old(), 3, pages=Pages(corrected, uncorrected, pending))


def wants(action: int) -> GpuReadings:
    """Return a healthy p5 but for what the driver wants done to GPU 3."""
    return with_gpu(healthy(), 3, recovery_action=action)


NONE, REBOOT, REPLACE = Action.NONE, Action.REBOOT, Action.REPLACE
ODD_IMAGE = with_gpu(healthy(), 3, inforom=Inforom(valid=True, image="G520.0200.00.03"))
CASES = [
    Case(ecc.CHECK, "ECC-UNCORRECTED", ecc_of(volatile_uncorrected=1), healthy(), NONE),
    Case(ecc.CHECK, "ECC-SRAM-THRESHOLD", ecc_of(sram_threshold=True), healthy(), REPLACE, "idle"),
    Case(ecc.CHECK, "ECC-OFF", ecc_of(enabled=False, pending=False), healthy(), NONE),
    Case(ecc.CHECK, "ECC-MODE-PENDING", ecc_of(pending=False), healthy(), NONE),
    Case(row_remap.CHECK, "ROW-REMAP-PENDING", rows_of(pending=True), healthy(), REBOOT, "idle"),
    Case(row_remap.CHECK, "ROW-REMAP-FAILED", rows_of(failed=True), healthy(), REPLACE, "idle"),
    Case(row_remap.CHECK, "ROW-REMAP-LOW", rows_of(banks_none=1), healthy(), NONE),
    Case(row_remap.CHECK, "ROW-REMAP-MANY", rows_of(uncorrected=512), healthy(), NONE),
    Case(retired_pages.CHECK, "PAGES-PENDING", pages_of(pending=True), old(), REBOOT, "idle"),
    Case(retired_pages.CHECK, "PAGES-FULL", pages_of(60, 4), old(), REPLACE, "idle"),
    Case(memory_repair.CHECK, "REPAIR-PENDING", with_gpu(healthy(), 3, repair=Repair(True)), healthy(), REBOOT, "idle"),
    Case(
        *(memory_repair.CHECK, "MEMORY-UNREPAIRABLE", with_gpu(healthy(), 3, repair=Repair(unrepairable=True))),
        *(healthy(), REPLACE, "idle"),
    ),
    Case(recovery_action.CHECK, "RECOVERY-GPU_RESET", wants(1), healthy(), REBOOT),
    Case(recovery_action.CHECK, "RECOVERY-NODE_REBOOT", wants(2), healthy(), REBOOT),
    Case(recovery_action.CHECK, "RECOVERY-DRAIN_P2P", wants(3), healthy(), NONE),
    Case(recovery_action.CHECK, "RECOVERY-DRAIN_AND_RESET", wants(4), healthy(), REBOOT, "idle"),
    Case(recovery_action.CHECK, "RECOVERY-IMEX", wants(5), healthy(), NONE),
    Case(recovery_action.CHECK, "RECOVERY-BUS_RESET", wants(6), healthy(), REBOOT),
    Case(recovery_action.CHECK, "RECOVERY-SYSTEM_REBOOT", wants(7), healthy(), REBOOT),
    Case(recovery_action.CHECK, "RECOVERY-UNKNOWN", wants(8), healthy(), NONE),
    Case(inforom.CHECK, "INFOROM-CORRUPT", with_gpu(healthy(), 3, inforom=Inforom(valid=False)), healthy(), REBOOT, "idle"),
    Case(inforom.CHECK, "INFOROM-DIFFERS", ODD_IMAGE, healthy(), NONE),
    Case(inforom.CHECK, "VBIOS-DIFFERS", with_gpu(healthy(), 3, vbios="96.00.74.00.01"), healthy(), NONE),
]
COUNTERS = {"ECC-CORRECTED", "PAGES-DBE"}
CHECKS = (ecc.CHECK, inforom.CHECK, memory_repair.CHECK, recovery_action.CHECK, retired_pages.CHECK, row_remap.CHECK)


def tried_with(cases: list[Case]) -> pytest.MarkDecorator:
    """Return the mark that tries a test with each of `cases`."""
    return pytest.mark.parametrize("case", cases, ids=[case.code for case in cases])


each_case = tried_with(CASES)


def read(node: HostNode, check: AnyCheck, sample: GpuReadings, *, minutes: float = 0.0) -> HostNode:
    """Let a node take in one reading, and again each minute for as long as asked."""
    seen = observe(check, sample)
    grey = all(one.status is Status.UNKNOWN for one in seen)
    for after in (0.0, *([MINUTE] * int(minutes))):
        node.see(seen, check=check.name, complete=check.complete and not grey, after=after)
    return node


def event(node: HostNode, code: str) -> None:
    """Let the kernel log tell one XID of GPU 3."""
    node.see([Observation(code, THIRD, Status.FAILED)], check="xid")


def codes(node: HostNode) -> list[str]:
    """Return the codes that count and are nobody's consequence."""
    return [reason.code for reason in node.verdict.why]


def test_every_code_is_tried() -> None:
    assert {case.code for case in CASES} | COUNTERS == {code for check in CHECKS for code in check.codes}


@each_case
def test_fault_that_stays_is_worth_what_its_row_says(case: Case) -> None:
    node = read(HostNode(), case.check, case.bad, minutes=15)
    assert codes(node) == [case.code]
    assert (node.verdict.action, node.verdict.when) == (case.action, case.when)
    assert node.verdict.schedulable is not case.action.destructive


@tried_with([case for case in CASES if case.code != "ECC-UNCORRECTED"])  # told at once, and worth nothing
def test_fault_of_one_reading_is_forgotten(case: Case) -> None:
    node = read(HostNode(), case.check, case.bad)
    assert node.verdict.action is NONE
    read(node, case.check, case.well)
    node.wait(4 * 3600.0)
    assert node.active == node.pending == []


@each_case
def test_fault_ends_when_the_driver_says_that_all_is_well(case: Case) -> None:
    node = read(HostNode(), case.check, case.bad, minutes=15)
    read(node, case.check, case.well)
    assert node.active == []
    assert node.verdict.health is Status.OK


@each_case
@pytest.mark.parametrize("sample", [down(), down("hung")], ids=["down", "hung"])
def test_fault_stays_while_nobody_can_look(case: Case, sample: GpuReadings) -> None:
    node = read(HostNode(), case.check, case.bad, minutes=15)
    read(node, case.check, sample, minutes=5)
    assert codes(node) == [case.code]


@tried_with([case for case in CASES if not case.code.endswith("DIFFERS")])  # these compare the GPUs that answer
@pytest.mark.parametrize("sample", [lost(healthy(), 3)], ids=["lost"])
def test_fault_of_a_gpu_stays_while_that_one_does_not_answer(case: Case, sample: GpuReadings) -> None:
    node = read(HostNode(), case.check, case.bad, minutes=15)
    read(node, case.check, sample, minutes=5)
    assert codes(node) == [case.code]


@each_case
def test_no_state_reboots_a_node_again_and_again(case: Case) -> None:
    node = HostNode()
    asked = []
    for _ in range(4):
        read(node, case.check, case.bad, minutes=15)
        asked.append(node.verdict.action)
        node.reboot()
    again = SHIPPED[case.code].again or case.action
    assert asked == [case.action, again, again, again]
    assert again is not REBOOT


@each_case
def test_replacement_that_is_due_stands_across_a_reboot(case: Case) -> None:
    node = read(HostNode(), case.check, case.bad, minutes=15)
    node.reboot()
    assert node.verdict.action is (REPLACE if case.action is REPLACE else NONE)


# -- the state and the event ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", sorted(code.removeprefix("RECOVERY-") for code in recovery_action.CHECK.codes))
def test_recovery_that_the_kernel_log_told_is_not_told_twice(word: str) -> None:
    number = next((n for n, (code, *_) in recovery_action.ACTIONS.items() if code == f"RECOVERY-{word}"), 8)
    node = HostNode()
    event(node, f"XID-154-{word}")
    read(node, recovery_action.CHECK, wants(number), minutes=15)
    assert codes(node) == [f"XID-154-{word}"]


def test_recovery_that_changed_unheard_stands_for_itself() -> None:
    node = HostNode()
    event(node, "XID-154-DRAIN_P2P")
    read(node, recovery_action.CHECK, wants(2), minutes=2)
    assert sorted(codes(node)) == ["RECOVERY-NODE_REBOOT", "XID-154-DRAIN_P2P"]
    assert node.verdict.action is REBOOT


@pytest.mark.parametrize(
    ("check", "sample", "code", "cause"),
    [
        (row_remap.CHECK, rows_of(pending=True), "ROW-REMAP-PENDING", "XID-63"),
        (retired_pages.CHECK, pages_of(pending=True), "PAGES-PENDING", "XID-63"),
        (memory_repair.CHECK, with_gpu(healthy(), 3, repair=Repair(tpc_pending=True)), "REPAIR-PENDING", "XID-156"),
        (ecc.CHECK, ecc_of(volatile_uncorrected=1), "ECC-UNCORRECTED", "XID-48"),
        (ecc.CHECK, ecc_of(volatile_uncorrected=1), "ECC-UNCORRECTED", "XID-94"),
        (ecc.CHECK, ecc_of(volatile_uncorrected=1), "ECC-UNCORRECTED", "XID-95"),
    ],
)
def test_state_is_a_consequence_of_the_event(check: AnyCheck, sample: GpuReadings, code: str, cause: str) -> None:
    node = HostNode()
    event(node, cause)
    read(node, check, sample, minutes=5)
    assert codes(node) == [cause]
    assert node.fault(code).inhibited_by == node.fault(cause).id


def test_contained_error_never_repairs_a_node() -> None:
    """XID 94 ended one job; the count of uncorrected errors stays until the next reset, and the GPU is sound."""
    node = HostNode()
    event(node, "XID-94")
    asked, told = set(), []
    for _ in range(30):
        read(node, ecc.CHECK, ecc_of(volatile_uncorrected=1, aggregate_uncorrected=1), minutes=60)
        asked.add(node.verdict.action)
        told.append(codes(node))
        assert node.verdict.schedulable
    assert asked <= {Action.RESTART_APP, NONE}
    # For a day the count is no news; then it is a state of its own.
    assert told[2:20] == [[]] * 18
    assert told[-1] == ["ECC-UNCORRECTED"]


# -- counters ---------------------------------------------------------------------------------------------------------


def grow(node: HostNode, check: AnyCheck, samples: list[GpuReadings], every: float) -> HostNode:
    """Let a node take in one reading after the other."""
    for sample in samples:
        node.see(observe(check, sample), check=check.name, complete=check.complete, after=every)
    return node


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ([5_000_000] * 60, []),  # what is there at first is no growth
        ([10 * n for n in range(60)], []),
        ([20 * n for n in range(60)], ["ECC-CORRECTED"]),
        ([0, 0, 999, 999], []),
        ([0, 0, 1_000], ["ECC-CORRECTED"]),
        ([5_000, 0, 900], []),  # the driver was loaded again
    ],
)
def test_corrected_errors_matter_when_a_thousand_come_within_an_hour(counts: list[int], found: list[str]) -> None:
    node = grow(HostNode(), ecc.CHECK, [ecc_of(volatile_corrected=count) for count in counts], MINUTE)
    assert codes(node) == found
    assert node.verdict.action is NONE


@pytest.mark.parametrize(
    ("pages", "days", "action"),
    [
        ([0, 8, 15], 1.0, NONE),
        ([40, 40, 40], 1.0, NONE),
        ([15, 16, 16], 1.0, NONE),
        ([15, 16, 17], 1.0, REPLACE),
        ([14, 18], 1.0, REPLACE),
        ([15, 16, 16, 17], 4.0, NONE),
    ],
)
def test_uncorrected_pages_matter_when_two_come_within_a_week(pages: list[int], days: float, action: Action) -> None:
    node = grow(HostNode(), retired_pages.CHECK, [pages_of(0, count) for count in pages], days * 86_400.0)
    assert node.verdict.action is action
    node.reboot()
    assert node.verdict.action is action
