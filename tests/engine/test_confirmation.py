"""Second routes, with the shipped catalogue and what the real checks make of what a driver, a bus and a kernel log say."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from checks.passive import (
    ecc,
    gpu_count_nvml,
    gpu_count_pci,
    gpu_count_smi,
    nvlink,
    nvml_driver,
    nvml_events,
    nvml_gpus,
    row_remap,
    xid,
)
from hma.catalogue import Catalogue
from hma.catalogue_file import load_catalogue
from hma.check import AnyCheck, KernelLine, Lines, Output, Sample, Tree
from hma.config import ConfiguredCheck
from hma.gpu import GpuEvent, GpuEvents, GpuReadings, NvmlDriver
from hma.model import Action
from hma.reports import report_of
from tests.checks.gpu_samples import P5, P5_GPUS, down, healthy, lost, missing, with_gpu
from tests.engine.rows import Node

CATALOGUE = load_catalogue()
NVML = (nvml_driver.CHECK, nvml_gpus.CHECK, gpu_count_nvml.CHECK, ecc.CHECK, row_remap.CHECK, nvlink.CHECK)
PCI = P5_GPUS[3].removeprefix("gpu:")
OTHER = P5_GPUS[5].removeprefix("gpu:")
BUS = "".join(f"{bus}00\t10de2330\t0\n" for bus in ("53", "64", "75", "86", "97", "a8", "b9", "ca"))
LOST = lost(healthy(), 3)


@dataclass
class Gpus(Node):
    """A p5 on which the checks look at what they are shown."""

    catalogue: Catalogue = field(default_factory=lambda: CATALOGUE)
    mono: float = 10_000.0

    def show(self, *checks: AnyCheck, sample: Sample) -> Gpus:
        """Let the checks look at one sample now, as the runner does."""
        items = (ConfiguredCheck(check, check.interval_s, check.timeout_s, check.options) for check in checks)
        self.take(*(report_of(item, sample, P5) for item in items))
        return self

    def nvml(self, sample: GpuReadings, up_s: float | None = None) -> Gpus:
        """Let NVML say so now."""
        driver = sample.driver if up_s is None else sample.driver._replace(up_s=up_s)
        return self.show(*NVML, sample=sample._replace(driver=driver))

    def bus(self, *absent: str) -> Gpus:
        """Look at the PCI bus now."""
        gone = {f"{pci[5:7]}00" for pci in absent}
        return self.show(
            gpu_count_pci.CHECK,
            sample=Tree({gpu_count_pci.DEVICES: "".join(line for line in BUS.splitlines(True) if line[:4] not in gone)}, {}),
        )

    def smi(self, count: int) -> Gpus:
        """Let nvidia-smi list the first `count` GPUs."""
        values = "GPU-509665ad-b600-ac93-3616-d754b23d6360, 1650, NVIDIA H100 80GB HBM3, 31, 69.12"
        places = enumerate(gpu[9:11].upper() for gpu in P5_GPUS[:count])
        rows = "".join(f"{number}, 00000000:{bus}:00.0, {values}\n" for number, bus in places)
        return self.show(gpu_count_smi.CHECK, sample=Output(0, rows, ""))

    def kernel(self, number: int, text: str = "text", pci: str = PCI) -> Gpus:
        """Log an XID in the kernel."""
        line = KernelLine(int(self.mono), self.mono, 3, f"NVRM: Xid (PCI:{pci}): {number}, pid=1, name=x, {text}")
        return self.show(xid.CHECK, sample=Lines((line,)))

    def event(self, number: int, pci: str = PCI) -> Gpus:
        """Let NVML tell the event of an XID."""
        return self.show(nvml_events.CHECK, sample=GpuEvents((GpuEvent(pci, nvml_events.XID, number, self.mono),)))

    def after(self, seconds: float) -> Gpus:
        """Let time pass."""
        self.wait(seconds)
        return self

    def rebooted(self) -> Gpus:
        """Come up again, well looked at."""
        self.reboot()
        return self.nvml(healthy()).bus()

    @property
    def asks(self) -> str:
        """Return the verdict in words."""
        verdict = self.state.verdict
        awaited = sorted({text.partition(": ")[2].split()[0] for text in verdict.awaiting})
        return " ".join(
            (verdict.action.value, *(["idle"] if verdict.when == "idle" else []), *(f"awaits {w}" for w in awaited))
        )


# -- 79 ---------------------------------------------------------------------------------------------------------------


def test_79_and_a_gpu_that_nvml_calls_lost_is_a_replacement() -> None:
    assert Gpus().nvml(healthy()).kernel(79).nvml(LOST).asks == "replace"
    assert Gpus().nvml(LOST).kernel(79).asks == "replace"


@pytest.mark.parametrize("second", [down("hung", call="nvmlDeviceGetPowerUsage", gpu=PCI, call_s=12), lost(healthy(), 3, 999)])
def test_79_and_a_gpu_that_does_not_answer_is_a_replacement(second: GpuReadings) -> None:
    assert Gpus().nvml(healthy()).kernel(79).nvml(second).after(20).asks == "replace"


def test_79_of_one_gpu_is_not_confirmed_by_another() -> None:
    node = Gpus().kernel(79, pci=OTHER).nvml(LOST)
    assert node.asks == "none awaits replace"


def test_79_alone_is_a_reboot_after_the_wait() -> None:
    node = Gpus().nvml(healthy()).kernel(79)
    assert node.asks == "none awaits replace"
    assert node.after(119).asks == "none awaits replace"
    assert node.after(1).asks == "reboot"


def test_79_that_nvml_refutes_is_a_reboot_at_once() -> None:
    node = Gpus().nvml(healthy()).kernel(79)
    # Too soon: the answer may be older than the fault.
    assert node.nvml(healthy()).asks == "none awaits replace"
    assert node.after(11).nvml(healthy()).asks == "reboot"
    # The GPU goes after all, within the time of the row.
    assert node.after(60).nvml(LOST).asks == "replace"


@pytest.mark.parametrize("look", ["bus", "smi"])
def test_79_is_not_refuted_by_a_count(look: str) -> None:
    """A GPU that has fallen off the bus stays on the lists of the kernel and of the driver."""
    node = Gpus().kernel(79).after(30)
    node = node.bus() if look == "bus" else node.smi(8)
    assert node.asks == "none awaits replace"


@pytest.mark.parametrize("state", ["no_driver", "no_library", "mismatch", "failed"])
def test_79_is_neither_confirmed_nor_refuted_by_a_driver_that_does_not_answer(state: str) -> None:
    node = Gpus().kernel(79).after(30).nvml(down(state))
    assert node.asks == "none awaits replace"
    assert node.after(90).asks == "reboot"


def test_79_told_by_two_routes_is_one_fault() -> None:
    node = Gpus().kernel(79).event(79)
    fault = node.alive("XID-79", f"gpu:{PCI}")
    assert (fault.count, fault.routes) == (1, ("xid", "nvml_events"))
    assert Gpus().event(79).nvml(LOST).asks == "replace"


# -- a GPU that only NVML misses --------------------------------------------------------------------------------------


def test_lost_gpu_by_nvml_alone_is_a_reboot_once_it_has_lasted() -> None:
    node = Gpus().nvml(LOST)
    assert node.asks == "none awaits replace"
    assert node.after(179).asks == "none awaits replace"
    assert node.after(1).asks == "reboot"


def test_gpu_that_is_lost_for_a_moment_costs_nothing() -> None:
    node = Gpus().nvml(LOST).after(30).nvml(healthy()).after(600)
    assert (node.asks, node.state.verdict.schedulable) == ("none", True)


def test_gpu_that_needs_a_reset_is_a_reboot_after_a_minute() -> None:
    node = Gpus().nvml(lost(healthy(), 3, 16))
    assert (node.asks, node.after(60).asks) == ("none", "reboot")
    assert node.nvml(healthy()).asks == "none"


def test_gpu_that_answers_less_and_less_keeps_its_faults() -> None:
    """Lost after it needed a reset: that it is lost does not say that it needs none."""
    node = Gpus().nvml(lost(healthy(), 3, 16)).after(60).nvml(LOST).after(60)
    assert node.asks.startswith("reboot")


@pytest.mark.parametrize("state", ["no_library", "no_driver", "mismatch", "no_permission", "old_library", "failed", "hung"])
def test_driver_that_does_not_answer_repairs_nothing(state: str) -> None:
    node = Gpus().nvml(healthy())
    for _ in range(30):
        node.nvml(GpuReadings(NvmlDriver(state, call="nvmlDeviceGetCount_v2"))).bus().after(60)
        assert (node.asks, node.state.verdict.schedulable) == ("none", True)
    assert node.nvml(healthy()).state.faults == {}


# -- counts -----------------------------------------------------------------------------------------------------------


def test_count_that_driver_and_bus_share_reboots_within_15_seconds_and_after_it_replaces() -> None:
    """The probe looks every 5 s, the bus is read at once then, here ten seconds late all the same."""
    node = Gpus().nvml(healthy()).bus()
    gone = missing(healthy(), 3)
    assert node.after(5).nvml(gone).after(4.9).bus(PCI).after(3).asks == "reboot"
    assert node.mono - 10_000.0 < 15
    node.rebooted()
    assert node.asks == "none"
    assert node.after(300).nvml(gone).bus(PCI).after(5).asks == "replace"


@pytest.mark.parametrize(
    ("seen", "up_s"), [(0, 1.0), (0, 40.0), (7, 119.0)], ids=["none at all", "none, settling", "one short, settling"]
)
def test_driver_that_settles_costs_nothing_whatever_the_bus_says(seen: int, up_s: float) -> None:
    """Healthy nodes have been rebooted elsewhere while NVML still listed no GPU."""
    node = Gpus(mono=30.0).nvml(healthy(seen), up_s).bus().after(60)
    assert (node.asks, node.state.verdict.schedulable) == ("none", True)
    assert node.nvml(healthy(), 200.0).bus().after(600).state.faults == {}


def test_gpu_that_is_missing_since_the_boot_is_judged_when_the_driver_has_settled() -> None:
    node = Gpus(mono=30.0).nvml(healthy(7), 5.0).bus(PCI).after(100)
    assert node.asks == "none awaits reboot"
    assert node.state.verdict.schedulable
    assert node.bus(PCI).nvml(healthy(7), 125.0).after(5).asks == "reboot"


@pytest.mark.parametrize("routes", [("nvml",), ("smi",), ("bus",), ("nvml", "smi")])
def test_one_route_and_two_programs_of_one_driver_never_reboot(routes: tuple[str, ...]) -> None:
    node = Gpus()
    for _ in range(20):
        node.nvml(missing(healthy(), 7) if "nvml" in routes else healthy())
        node.smi(7 if "smi" in routes else 8)
        node.bus(*(["0000:ca:00"] if "bus" in routes else [])).after(60)
        assert node.state.verdict.action is Action.NONE
        assert node.state.verdict.schedulable


def test_bus_and_nvidia_smi_agree_after_two_minutes() -> None:
    node = Gpus()
    for _ in range(2):
        node.bus("0000:ca:00").smi(7).after(59)
    assert node.state.verdict.action is Action.NONE
    assert node.after(5).asks == "reboot"


def test_count_that_comes_back_costs_nothing() -> None:
    node = Gpus().nvml(missing(healthy(), 3)).after(4).nvml(healthy()).bus().after(60)
    assert node.state.faults == {}


# -- the other fatal XIDs: reboot first, replace only by two routes ---------------------------------------------------


def hung(gpu: str = PCI) -> GpuReadings:
    """Return what is told while a call on a GPU does not come back."""
    return down("hung", call="nvmlDeviceGetPowerUsage", gpu=gpu, call_s=12)


UNCORRECTED = with_gpu(healthy(), 3, ecc=healthy().gpus[3].ecc._replace(volatile_uncorrected=1))  # type: ignore[union-attr]
REMAP_FAILED = with_gpu(healthy(), 3, rows=healthy().gpus[3].rows._replace(failed=True))  # type: ignore[union-attr]
LINK_DOWN = with_gpu(healthy(), 3, links=tuple(link._replace(up=link.number != 4) for link in healthy().gpus[3].links or ()))
LINK_4 = "NVLink: fatal error detected on link 4(0x400000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"


@pytest.mark.parametrize(
    ("number", "text", "second", "wait_s"),
    [
        (48, "DBE", UNCORRECTED, 0),
        (95, "Uncontained", UNCORRECTED, 0),
        (140, "escape", UNCORRECTED, 0),
        (119, "Timeout after 6s of waiting for RPC response", hung(), 20),
        (119, "Timeout after 6s of waiting for RPC response", LOST, 0),
        (120, "GSP task exception", lost(healthy(), 3, 16), 60),
        (143, "init", lost(healthy(), 3, 999), 10),
        (167, "PCIe", LOST, 0),
        (74, LINK_4, LINK_DOWN, 20),
    ],
)
def test_again_after_a_reboot_is_a_replacement_with_a_second_route_only(
    number: int, text: str, second: GpuReadings, wait_s: float
) -> None:
    def again() -> Gpus:
        node = Gpus().nvml(healthy()).kernel(number, text)
        assert node.asks == "reboot", "the milder one comes first, and waits for nobody"
        node.rebooted()
        assert node.after(3_600).kernel(number, text).asks == "none awaits replace"
        assert not node.state.verdict.schedulable
        return node

    assert again().nvml(second).after(wait_s).state.verdict.action is Action.REPLACE
    assert again().after(300).asks == "reboot"
    assert again().after(11).nvml(healthy()).asks == "reboot", "refuted"


def test_row_that_could_not_be_recorded_is_a_replacement_where_the_gpu_says_that_it_remaps_no_more() -> None:
    assert Gpus().nvml(healthy()).kernel(64, "recorded").nvml(REMAP_FAILED).after(120).asks == "replace"
    assert Gpus().nvml(healthy()).kernel(64, "recorded").after(11).nvml(healthy()).asks == "reboot"
    node = Gpus().kernel(64, "recorded")
    assert (node.asks, node.after(300).asks) == ("none awaits replace", "reboot")


@pytest.mark.parametrize("first", ["kernel", "event"])
@pytest.mark.parametrize(
    ("registers", "asks"), [("0x1", "none"), ("0x2", "none"), ("0x400000", "reboot")], ids=["ignore", "sympathetic", "signal"]
)
def test_74_by_its_number_adds_nothing_to_74_by_its_registers(first: str, registers: str, asks: str) -> None:
    node, text = Gpus().nvml(healthy()), f"NVLink: fatal error detected on link 4({registers}, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"
    node = node.kernel(74, text).event(74) if first == "kernel" else node.event(74).kernel(74, text)
    assert node.asks == asks
    assert node.after(30).asks == asks
    assert [c.fault.code for c in node.changes if c.kind == "fault_active" and c.fault] != ["XID-74"]


def test_74_by_its_number_alone_is_a_reboot() -> None:
    """Where the kernel log cannot be read nobody knows the registers."""
    node = Gpus().event(74)
    assert (node.asks, node.after(5).asks) == ("none", "reboot")


@pytest.mark.parametrize("number", range(144, 151))
def test_nvlink_5_by_its_number_alone_is_told(number: int) -> None:
    node = Gpus().event(number).after(60)
    assert (node.asks, node.state.verdict.schedulable) == ("none", True)


@pytest.mark.parametrize("number", [13, 31, 43, 45, 94, 63, 154])
def test_what_the_kernel_log_does_not_repair_for_an_event_does_not_either(number: int) -> None:
    assert Gpus().event(number).after(60).asks == {94: "restart_app", 63: "reboot idle"}.get(number, "none")


# -- what has been wrong with the node for long -------------------------------------------------------------------------


@pytest.mark.parametrize(("stood_s", "action"), [(60.0, Action.REPLACE), (3_600.0, Action.REBOOT)])
def test_count_that_has_long_been_low_does_not_confirm_what_fails_today(stood_s: float, action: Action) -> None:
    node = Gpus().nvml(missing(healthy(), 5))
    node.wait(stood_s)
    node.nvml(missing(healthy(), 5)).kernel(79)
    node.wait(60.0)
    node.nvml(missing(healthy(), 5))
    node.wait(60.0)
    assert node.state.verdict.action is action


def test_count_that_has_long_been_low_is_not_confirmed_by_what_fails_today() -> None:
    node = Gpus().nvml(missing(healthy(), 5))
    node.wait(3_600.0)
    node.nvml(missing(healthy(), 5)).kernel(143)
    assert [one.action for one in node.state.verdict.why if one.code == "GPU-COUNT-NVML"] == [Action.NONE]


def test_count_that_has_long_been_low_is_confirmed_by_the_bus() -> None:
    node = Gpus().nvml(missing(healthy(), 3))
    node.wait(3_600.0)
    node.nvml(missing(healthy(), 3)).bus(PCI)
    node.wait(5.0)
    assert node.state.verdict.action is Action.REBOOT
