"""The shipped catalogue played through the engine: what each code is worth, alone and together with others."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.passive import sxid
from hma.catalogue import Catalogue, Policy
from hma.catalogue_file import load_catalogue
from hma.check import KernelLog
from hma.engine.step import beginning, step
from hma.loader import find_checks
from hma.model import Action, Fault, FaultState, Instant, Observation, Report, Status, Verdict

CATALOGUE = load_catalogue()
WORTH = Path(__file__).parent / "data/catalogue/worth.txt"
GPU, OTHER, SWITCH = "gpu:0000:9b:00", "gpu:0000:ab:00", "nvswitch:0000:05:00"
UUID = "GPU-509665ad-b600-ac93-3616-d754b23d636d"


class Node:
    """A node on which things are seen, with the real engine and the real catalogue."""

    def __init__(self, catalogue: Catalogue = CATALOGUE) -> None:
        self.catalogue = catalogue
        self.mono, self.utc, self.boot = 1_000.0, 1_700_000_000.0, 1
        self.state = beginning(self.now)
        self.ended: list[Fault] = []

    @property
    def now(self) -> Instant:
        return Instant(self.mono, self.utc, f"boot-{self.boot}")

    def see(self, code: str, component: str = GPU, status: Status = Status.FAILED, **more: object) -> Node:
        """See one thing now (`unit`, `actor`, `cause`, `attrs` as in Observation)."""
        return self.report(Observation(code, component, status, **more))  # type: ignore[arg-type]

    def report(self, *observations: Observation) -> Node:
        stepped = step(self.state, (Report("test", observations),), self.catalogue, self.now)
        self.state = stepped.state
        self.ended += [change.fault for change in stepped.changes if change.fault and change.kind == "fault_resolved"]
        return self

    def wait(self, seconds: float) -> Node:
        """Let time pass as the agent does: it wakes when something is due, here every ten seconds at most."""
        while seconds > 0:
            part = min(seconds, 10.0)
            self.mono, self.utc, seconds = self.mono + part, self.utc + part, seconds - part
            self.report()
        return self

    def reboot(self) -> Node:
        self.boot, self.mono, self.utc = self.boot + 1, 60.0, self.utc + 300.0
        return self.report()

    @property
    def verdict(self) -> Verdict:
        return self.state.verdict

    @property
    def asks(self) -> str:
        """Return the verdict in words: `reboot idle`, `none, awaits replace`."""
        words = self.verdict.action.value + (" idle" if self.verdict.when == "idle" else "")
        awaited = sorted(text.partition(": ")[2].split()[0] for text in self.verdict.awaiting)
        return words + "".join(f", awaits {word}" for word in awaited)

    def fault(self, code: str, component: str = GPU) -> Fault | None:
        return next((f for f in self.state.faults.values() if (f.code, f.component) == (code, component)), None)

    def active(self, code: str, component: str = GPU) -> bool:
        fault = self.fault(code, component)
        return fault is not None and fault.state is FaultState.ACTIVE and not fault.inhibited_by

    def inhibited(self, code: str, component: str = GPU) -> bool:
        fault = self.fault(code, component)
        assert fault is not None
        return bool(fault.inhibited_by)


# -- every row: one observation alone ---------------------------------------------------------------------------------


def component_of(row: Policy) -> str:
    return row.component if row.component in ("host", "node") else f"{row.component}:x"


def once(node: Node, row: Policy) -> Node:
    status = Status.UNKNOWN if row.raised_by == "unknown" else Status.FAILED
    return node.see(row.counts or row.code, component_of(row), status, unit="part 1", actor=f"pid {node.boot}")


def worth_of(row: Policy) -> str:
    """Return one line: what one observation asks for at once, ten minutes later, and when it comes again after a reboot."""
    node = once(Node(), row)
    seen = [node.asks, node.wait(600).asks, once(node.reboot(), row).wait(600).asks]
    return f"{row.code:28}" + " | ".join(f"{words:22}" for words in seen).rstrip()


def worth_table(catalogue: Catalogue = CATALOGUE) -> str:
    head = f"{'code':28}{'at once':22} | {'after ten minutes':22} | again after a reboot"
    return "\n".join((head, *(worth_of(row) for row in catalogue.rows.values()))) + "\n"


def test_every_row_is_worth_what_the_table_says() -> None:
    """The whole table in one look; `python -m tests.test_catalogue` writes it anew after a change that is meant."""
    assert worth_table().splitlines() == WORTH.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("row", CATALOGUE.rows.values(), ids=list(CATALOGUE.rows))
def test_row_is_neither_endless_nor_reckless(row: Policy) -> None:
    worst = max(row.action, row.again or Action.NONE, key=lambda action: action.rank)
    assert row.action is not Action.REBOOT or row.again is not None or row.code in EACH_TIME_NEWS
    assert not worst.destructive or row.evidence == "strong" or (row.confirm and not row.confirm.otherwise.destructive)
    assert not worst.destructive or row.raised_by == "failed"
    assert row.fault_type != "NvidiaErrorReboot" or row.action is Action.REBOOT
    assert row.fault_type != "NvidiaErrorTerminate" or row.action is Action.REPLACE
    assert row.fault_type != "SoftwareError" or not worst.destructive


EACH_TIME_NEWS = {"XID-63", "XID-156"}
"""Rows that may ask for a reboot every time: the driver tells each bad memory row once, and the reboot cures that one."""


KERNEL_LOG_CODES = sorted({code for check in find_checks() if isinstance(check.source, KernelLog) for code in check.codes})


@pytest.mark.parametrize("code", KERNEL_LOG_CODES)
def test_what_a_kernel_line_tells_ends_without_a_line_that_all_is_well(code: str) -> None:
    assert any(end.kind != "ok" for end in CATALOGUE[code].ends)


# -- 13, 31: repetition -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "asks_for_diagnostics"),
    [
        ({"unit": "GPC 1 TPC 2", "actor": "pid 2"}, True),
        ({"unit": "GPC 1 TPC 2", "actor": "pid 1"}, False),
        ({"unit": "GPC 1 TPC 3", "actor": "pid 2"}, False),
        ({"unit": "", "actor": "pid 2"}, False),
        ({"unit": "GPC 1 TPC 2", "actor": ""}, False),
        ({"unit": "GPC 1 TPC 2", "actor": "pid 2", "component": OTHER}, False),
    ],
    ids=["same unit, other process", "one process looping", "other unit", "no unit", "no process", "other GPU"],
)
def test_xid_13_repeats_only_in_one_unit_by_different_processes(second: dict[str, str], asks_for_diagnostics: bool) -> None:
    node = Node().see("XID-13", unit="GPC 1 TPC 2", actor="pid 1").wait(7_200).see("XID-13", **second)  # type: ignore[arg-type]
    assert node.active("XID-13-REPEAT") is asks_for_diagnostics
    assert (node.verdict.action, node.verdict.schedulable) == (Action.NONE, True)


@pytest.mark.parametrize(("actor", "repeats"), [("pid 2", True), ("pid 1", False), ("", False)])
def test_xid_31_repeats_only_by_different_processes(actor: str, repeats: bool) -> None:
    node = Node().see("XID-31", actor="pid 1").wait(7_200).see("XID-31", actor=actor)
    assert node.active("XID-31-REPEAT") is repeats
    assert (node.verdict.action, node.verdict.schedulable) == (Action.NONE, True)


def test_repetition_is_forgotten_after_a_day() -> None:
    node = Node().see("XID-31", actor="pid 1")
    node.mono, node.utc = node.mono + 86_500, node.utc + 86_500
    assert not node.see("XID-31", actor="pid 2").active("XID-31-REPEAT")


def test_a_storm_of_one_looping_job_asks_for_nothing() -> None:
    node = Node()
    for _ in range(200):
        node.see("XID-13", unit="GPC 1 TPC 2", actor="pid 1").see("XID-31", actor="pid 1").see("XID-43", actor="pid 1")
        node.mono, node.utc = node.mono + 1, node.utc + 1
    assert (node.verdict.action, node.verdict.schedulable) == (Action.NONE, True)
    assert not node.active("XID-13-REPEAT")
    assert not node.active("XID-31-REPEAT")


def test_page_fault_on_another_gpu_right_after_a_hardware_fault_is_a_consequence() -> None:
    node = Node().see("XID-79", GPU).wait(5).see("XID-31", OTHER)
    assert node.inhibited("XID-31", OTHER)
    assert not Node().see("XID-79", GPU).wait(90).see("XID-31", OTHER).inhibited("XID-31", OTHER)


# -- 43, 45: consequences ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["XID-43", "XID-45"])
@pytest.mark.parametrize("cause", ["XID-13", "XID-31", "XID-48", "XID-79", "XID-94", "XID-154-GPU_RESET", "XID-UNKNOWN"])
def test_consequence_of_any_other_xid_within_a_minute(code: str, cause: str) -> None:
    assert Node().see(cause).wait(50).see(code).inhibited(code)
    assert Node().see(code).wait(50).see(cause).inhibited(code)
    assert not Node().see(cause).wait(70).see(code).inhibited(code)
    assert not Node().see(cause, OTHER).see(code).inhibited(code)


def test_43_and_45_do_not_silence_each_other() -> None:
    node = Node().see("XID-43").see("XID-45")
    assert node.active("XID-43")
    assert node.active("XID-45")
    assert node.asks == "none"


def test_repetition_row_is_nobodys_cause() -> None:
    node = Node().see("XID-31", actor="pid 1").wait(7_200).see("XID-31", actor="pid 2").see("XID-43")
    assert node.active("XID-31-REPEAT")
    fault, cause = node.fault("XID-43"), node.fault("XID-31")
    assert fault is not None
    assert cause is not None
    assert fault.inhibited_by == cause.id


def test_45_obeys_the_cause_that_its_line_names_however_old() -> None:
    node = Node().see("XID-94").wait(600).see("XID-45", cause="XID-94")
    fault, cause = node.fault("XID-45"), node.fault("XID-94")
    assert fault is not None
    assert cause is not None
    assert fault.inhibited_by == cause.id
    assert not Node().see("XID-94", OTHER).wait(600).see("XID-45", cause="XID-94").inhibited("XID-45")


# -- 48, 63, 64, 94, 171, 172: memory ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "asks"),
    [
        (["XID-63"], "reboot idle"),
        (["XID-48"], "reboot"),
        (["XID-48", "XID-63"], "reboot"),
        (["XID-63", "XID-48"], "reboot"),
        (["XID-48", "XID-64"], "reboot, awaits replace"),
        (["XID-48", "XID-64", "ROW-REMAP-FAILED"], "replace"),
        (["XID-94"], "restart_app"),
        (["XID-94", "XID-63"], "reboot idle"),
        (["XID-95"], "reboot"),
        (["XID-92"], "none"),
        (["XID-171"], "none"),
        (["XID-172"], "none"),
    ],
    ids=" ".join,
)
def test_memory_errors_together(codes: list[str], asks: str) -> None:
    node = Node()
    for code in codes:
        node.see(code)
    if "ROW-REMAP-FAILED" in codes:
        node.wait(120)
    assert node.asks == asks


@pytest.mark.parametrize("detail", ["XID-171", "XID-172"])
def test_171_and_172_only_qualify_48(detail: str) -> None:
    assert Node().see("XID-48").see(detail).inhibited(detail)
    assert Node().see(detail).see("XID-48").inhibited(detail)


def test_a_new_remapped_row_after_the_reboot_waits_for_idle_again_and_never_replaces() -> None:
    assert Node().see("XID-63").reboot().see("XID-63").asks == "reboot idle"


def test_94_is_never_destructive_however_often() -> None:
    node = Node()
    for _ in range(30):
        node.see("XID-94", actor="pid 1").wait(600)
        assert (node.verdict.action, node.verdict.schedulable) == (Action.RESTART_APP, True)
    assert node.reboot().see("XID-94").asks == "restart_app"


# -- 79: a second source ----------------------------------------------------------------------------------------------


def test_79_awaits_a_second_source_and_takes_no_new_work_meanwhile() -> None:
    node = Node().see("XID-79")
    assert node.asks == "none, awaits replace"
    assert (node.verdict.schedulable, node.verdict.health) == (False, Status.FAILED)


@pytest.mark.parametrize(("code", "component"), [("SMI-GPU-LOST", GPU), ("SMI-ERR", GPU), ("SMI-GPU-LOST", "host")])
def test_79_confirmed_by_the_lost_gpu_replaces_at_once(code: str, component: str) -> None:
    assert Node().see("XID-79").wait(30).see(code, component).asks == "replace"
    assert Node().see(code, component).wait(30).see("XID-79").asks == "replace"


@pytest.mark.parametrize("code", ["SMI-GPU-LOST", "SMI-ERR"])
def test_79_is_not_confirmed_by_another_gpu(code: str) -> None:
    assert "replace" not in Node().see("XID-79").see(code, OTHER).wait(125).asks


def test_79_without_a_second_source_reboots_after_two_minutes() -> None:
    node = Node().see("XID-79")
    assert node.wait(110).asks == "none, awaits replace"
    assert node.wait(10).asks == "reboot"


def test_79_confirmed_late_by_a_count_replaces() -> None:
    """nvidia-smi's count has to last for two minutes: the milder action comes first."""
    node = Node().see("XID-79").wait(40).see("GPU-COUNT-SMI", "node").wait(90)
    assert node.asks.startswith("reboot")
    assert node.see("GPU-COUNT-SMI", "node").wait(60).asks == "replace"


@pytest.mark.parametrize("count", ["GPU-COUNT-NVML", "GPU-COUNT-PCI"])
def test_79_confirmed_by_a_quick_count_replaces(count: str) -> None:
    assert Node().see("XID-79").wait(40).see(count, "node").wait(5).asks == "replace"


def test_79_again_after_a_reboot_still_needs_its_second_source() -> None:
    node = Node().see("XID-79").wait(130).reboot()
    assert node.asks == "none"
    assert node.see("XID-79").wait(130).asks == "reboot"
    assert node.see("XID-79").see("SMI-GPU-LOST").asks == "replace"


def test_79_is_not_confirmed_by_what_is_seen_much_later() -> None:
    assert Node().see("XID-79").wait(130).see("SMI-GPU-LOST").asks.startswith("reboot")


# -- counts and nvidia-smi: never alone -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "component"),
    [("GPU-COUNT-SMI", "node"), ("GPU-COUNT-PCI", "node"), ("SMI-GPU-LOST", GPU), ("SMI-ERR", GPU), ("SMI-NO-DRIVER", "host"),
     ("SMI-MISMATCH", "host"), ("SMI-NO-LIBRARY", "host"), ("SMI-FAILED", "host"), ("SMI-INIT-ERR", "host"),
     ("SMI-NO-DEVICES", "host")],
)  # fmt: skip
def test_one_route_alone_never_destroys_however_long(code: str, component: str) -> None:
    node = Node()
    for _ in range(60):
        node.see(code, component).wait(60)
        assert (node.verdict.action, node.verdict.schedulable) == (Action.NONE, True)
    node.reboot()
    for _ in range(30):
        node.see(code, component).wait(60)
        assert (node.verdict.action, node.verdict.schedulable) == (Action.NONE, True)


def short(node: Node, minutes: int, *codes: str) -> Node:
    for _ in range(minutes):
        node.report(*(Observation(code, "node" if "COUNT" in code else GPU, Status.FAILED) for code in codes)).wait(60)
    return node


@pytest.mark.parametrize(
    "codes", [("SMI-GPU-LOST", "GPU-COUNT-PCI"), ("SMI-ERR", "GPU-COUNT-PCI"), ("GPU-COUNT-NVML", "GPU-COUNT-PCI")]
)
def test_bus_and_driver_that_agree_reboot_and_after_it_replace(codes: tuple[str, str]) -> None:
    assert short(Node(), 1, *codes).asks == "reboot"
    assert short(short(Node(), 1, *codes).reboot(), 1, *codes).asks == "replace"


@pytest.mark.parametrize("codes", [("GPU-COUNT-NVML", "GPU-COUNT-SMI"), ("NVML-GPU-ERR", "SMI-ERR")])
def test_two_programs_that_ask_one_driver_are_one_route(codes: tuple[str, str]) -> None:
    """Device files that are missing in the agent's container look the same to both."""
    node = short(short(Node(), 30, *codes).reboot(), 30, *codes)
    assert (node.verdict.action, node.verdict.schedulable) == (Action.NONE, True)


@pytest.mark.parametrize("codes", [("GPU-COUNT-SMI", "GPU-COUNT-PCI")])
def test_two_routes_that_agree_for_two_minutes_reboot_and_after_it_replace(codes: tuple[str, str]) -> None:
    node = short(Node(), 1, *codes)
    assert node.verdict.action is Action.NONE
    assert short(node, 2, *codes).asks == "reboot"
    node.reboot()
    assert short(node, 1, *codes).verdict.action is Action.NONE
    assert short(node, 2, *codes).asks == "replace"


def test_driver_that_still_says_none_after_a_boot_costs_nothing() -> None:
    """Healthy nodes were rebooted elsewhere because the driver listed no GPU yet."""
    node = short(Node(), 2, "GPU-COUNT-SMI", "GPU-COUNT-PCI").reboot()
    short(node, 1, "GPU-COUNT-SMI", "GPU-COUNT-PCI")
    node.report(*(Observation(code, "node", Status.OK) for code in ("GPU-COUNT-SMI", "GPU-COUNT-PCI"))).wait(600)
    assert (node.asks, node.verdict.health) == ("none", Status.OK)


@pytest.mark.parametrize(("code", "minutes", "asks"), [("SMI-RESET-REQUIRED", 3, "reboot"), ("SMI-INFOROM", 10, "reboot idle")])
def test_state_of_the_device_counts_once_it_has_lasted(code: str, minutes: int, asks: str) -> None:
    node = short(Node(), minutes - 1, code)
    assert node.verdict.action is Action.NONE
    assert short(node, 1, code).asks == asks
    assert node.see(code, status=Status.OK).asks == "none"


# -- recoverable and not: again ---------------------------------------------------------------------------------------


CONFIRMED_BY = {
    "XID-48": "ECC-UNCORRECTED", "XID-74-SIGNAL": "NVLINK-DOWN", "XID-95": "RECOVERY-GPU_RESET", "XID-119": "NVML-HUNG",
    "XID-120": "NVML-RESET-REQUIRED", "XID-140": "ECC-UNCORRECTED", "XID-143": "NVML-GPU-ERR", "XID-145-RESET": "NVLINK-DOWN",
    "XID-167": "NVML-GPU-LOST",
}  # fmt: skip


@pytest.mark.parametrize(("code", "second"), CONFIRMED_BY.items())
def test_same_gpu_again_after_a_reboot_is_replaced_where_a_second_route_agrees(code: str, second: str) -> None:
    node = Node().see(code)
    assert node.asks == "reboot"
    assert node.reboot().asks == "none"
    assert node.see(code).asks == "none, awaits replace"
    assert not node.verdict.schedulable
    assert node.see(second).wait(70).asks.startswith("replace")
    assert Node().see(code).reboot().see(code).see(second, OTHER).wait(310).asks.startswith("reboot")


@pytest.mark.parametrize("code", ["XID-46", "XID-62", "XID-109", "XID-169"])
def test_same_gpu_again_after_a_reboot_is_replaced(code: str) -> None:
    node = Node().see(code)
    assert node.asks == "reboot"
    assert node.reboot().asks == "none"
    assert node.see(code).asks == "replace"
    assert Node().see(code).reboot().see(code, OTHER).asks == "reboot"


@pytest.mark.parametrize("code", ["XID-151", "XID-168"])
def test_what_one_reboot_did_not_cure_is_left_to_a_person(code: str) -> None:
    node = Node().see(code)
    assert node.asks == "reboot"
    assert node.reboot().see(code).asks == "none"


def test_again_counts_for_a_week_only() -> None:
    node = Node().see("XID-62").reboot()
    node.mono, node.utc = node.mono + 8 * 86_400, node.utc + 8 * 86_400
    assert node.see("XID-62").asks == "reboot"


# -- 74, 144-150: links -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "asks"),
    [
        ("XID-74-MECHANICAL", "reboot"), ("XID-74-SIGNAL", "reboot"), ("XID-74-PARITY", "reboot"),
        ("XID-74-FABRIC", "reboot"), ("XID-74-SYMPATHETIC", "none"), ("XID-74-IGNORE", "none"),
        ("XID-144", "none"), ("XID-144-RESET", "reboot"), ("XID-145-FOLLOW", "restart_app"), ("XID-149-IGNORE", "none"),
    ],
)  # fmt: skip
def test_link_error_is_worth_its_registers(code: str, asks: str) -> None:
    assert Node().see(code).asks == asks


@pytest.mark.parametrize(
    ("refined", "asks"),
    [("", "reboot"), ("XID-74-IGNORE", "none"), ("XID-74-SYMPATHETIC", "none"), ("XID-74-SIGNAL", "reboot")],
)
def test_number_alone_counts_where_nothing_tells_the_registers(refined: str, asks: str) -> None:
    """NVML tells the number at the same moment as the kernel log tells all of it, and either may come first."""
    first, last = Node().see("XID-74"), Node()
    assert first.asks == "none"
    if refined:
        first.see(refined)
        last.see(refined)
    assert (first.wait(5).asks, last.see("XID-74").wait(5).asks) == (asks, asks)
    assert first.inhibited("XID-74") is last.inhibited("XID-74") is bool(refined)


def test_follow_obeys_154() -> None:
    assert Node().see("XID-145-FOLLOW").see("XID-154-GPU_RESET").asks == "reboot"


# -- 154: the driver's own word ---------------------------------------------------------------------------------------

TARGETS = {
    "GPU_RESET": "reboot",
    "NODE_REBOOT": "reboot",
    "BUS_RESET": "reboot",
    "SYSTEM_REBOOT": "reboot",
    "DRAIN_AND_RESET": "reboot idle",
    "DRAIN_P2P": "none",
    "IMEX": "none",
    "UNKNOWN": "none",
}


def taken_back(node: Node) -> Node:
    return node.see("XID-154-NONE", status=Status.OK)


@pytest.mark.parametrize(("to", "asks"), TARGETS.items())
def test_154_asks_for_its_target_until_it_is_taken_back(to: str, asks: str) -> None:
    node = Node().see(f"XID-154-{to}")
    assert node.asks == asks
    assert (taken_back(node).asks, node.verdict.health) == ("none", Status.OK)
    assert node.fault(f"XID-154-{to}") is None


@pytest.mark.parametrize(("first", "asked"), TARGETS.items())
@pytest.mark.parametrize(("then", "asks"), TARGETS.items())
def test_154_newest_target_stands_alone_unless_nobody_knows_it(first: str, asked: str, then: str, asks: str) -> None:
    node = Node().see(f"XID-154-{first}").see(f"XID-154-{then}")
    assert node.asks == (asked if then == "UNKNOWN" else asks)
    assert taken_back(node).asks == "none"


@pytest.mark.parametrize(
    ("code", "ends"),
    [("XID-48", True), ("XID-95", True), ("XID-63", True), ("XID-119", False), ("XID-64", False), ("XID-79", False)],
)
def test_154_none_ends_what_the_driver_reports_with_154(code: str, ends: bool) -> None:
    node = taken_back(Node().see(code))
    assert (node.fault(code) is None) is ends
    assert taken_back(Node().see(code, OTHER)).active(code, OTHER)


@pytest.mark.parametrize(
    ("code", "cured"),
    [
        ("XID-46", True),
        ("XID-119", True),
        ("XID-154-GPU_RESET", True),
        ("XID-64", False),
        ("XID-79", False),
        ("XID-154-NODE_REBOOT", False),
    ],
)
def test_gpu_reset_by_uuid_ends_what_a_reset_cures(code: str, cured: bool) -> None:
    node = Node().see("GPU-IDENTITY", status=Status.OK, attrs=(("uuid", UUID),)).see(code)
    node.see("GPU-RESET", f"gpu:{UUID}", Status.OK)
    assert (node.fault(code) is None) is cured


def test_power_smoothing_that_engages_again_ends_163() -> None:
    node = Node().see("XID-163").wait(3_600)
    assert node.active("XID-163")
    assert node.see("XID-162", status=Status.OK).fault("XID-163") is None


def test_switch_that_has_cooled_down_is_no_longer_too_warm() -> None:
    node = Node().see("SXID-10004", SWITCH)
    assert node.active("SXID-10004", SWITCH)
    assert node.see("SXID-10005", SWITCH).state.faults == {}


# -- unknown codes, switches, blindness -------------------------------------------------------------------------------

UNUSED = [code for code, row in CATALOGUE.rows.items() if row.title.endswith("listed as unused")]


@pytest.mark.parametrize("code", ["XID-UNKNOWN", "XID-154-UNKNOWN", "SXID-UNKNOWN-NONFATAL", *UNUSED])
def test_code_that_nobody_can_explain_is_an_event_only(code: str) -> None:
    node = Node().see(code).reboot().see(code)
    assert (node.asks, node.verdict.schedulable) == ("none", True)


def test_61_numbers_are_unused() -> None:
    assert len(UNUSED) == 61


@pytest.mark.parametrize("number", sorted(sxid.FATAL))
def test_fatal_sxid_reboots_and_again_replaces(number: int) -> None:
    node = Node().see(f"SXID-{number}", SWITCH)
    assert node.asks == "reboot"
    assert node.reboot().see(f"SXID-{number}", SWITCH).asks == "replace"


@pytest.mark.parametrize("number", sorted(sxid.NOT_FATAL - {19084}))
def test_sxid_that_is_not_fatal_is_told_only(number: int) -> None:
    node = Node().see(f"SXID-{number}", SWITCH).reboot().see(f"SXID-{number}", SWITCH)
    assert (node.asks, node.verdict.schedulable) == ("none", True)


@pytest.mark.parametrize(("word", "asks"), [("FATAL", "reboot"), ("NONFATAL", "none")])
def test_drivers_word_counts_against_the_list(word: str, asks: str) -> None:
    assert Node().see(f"SXID-OVERRIDE-{word}", SWITCH).asks == asks
    assert Node().see(f"SXID-UNKNOWN-{word}", SWITCH).asks == asks


@pytest.mark.parametrize("before", [None, "XID-13", "XID-48", "XID-79"])
def test_blindness_is_reported_and_changes_no_verdict(before: str | None) -> None:
    node, seeing = Node(), Node()
    for each in (node, seeing):
        each.see("GPU-IDENTITY", status=Status.OK)
        if before:
            each.see(before)
    for _ in range(20):
        node.see("BLIND", "check:xid", Status.UNKNOWN).wait(60)
        seeing.wait(60)
    assert node.verdict.blind == ("xid",)
    compared = ("health", "schedulable", "action", "when")
    assert [getattr(node.verdict, key) for key in compared] == [getattr(seeing.verdict, key) for key in compared]
    assert node.see("BLIND", "check:xid", Status.OK).verdict.blind == ()


def test_short_blindness_is_not_worth_a_word() -> None:
    node = Node().see("BLIND", "check:xid", Status.UNKNOWN).wait(240)
    assert node.verdict.blind == ()


def test_broken_check_repairs_nothing() -> None:
    node = Node().see("CHECK-BROKEN", "check:xid").wait(600)
    assert (node.asks, node.verdict.schedulable) == ("none", True)


if __name__ == "__main__":
    WORTH.write_text(worth_table(), encoding="utf-8")
