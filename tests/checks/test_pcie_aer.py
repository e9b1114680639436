"""PCI Express errors. Where the kept lines are from: tests/data/kernel/ORIGIN-host.md."""

import pytest

from checks.passive.pcie_aer import CHECK, component_of
from hma.check import KernelLine, Lines
from hma.model import NodeFacts, Observation, PciDevice, Status
from tests.checks.kernel_lines import Case, cases, look

NODE = NodeFacts(
    "n1",
    "b1",
    pci=(
        PciDevice("0000:9b:00.0", "10de", "2330", "030200", "nvidia"),
        PciDevice("0000:05:00.0", "10de", "22a3", "068000", "nvidia-nvswitch"),
        PciDevice("0000:00:04.0", "1d0f", "8061", "010802", "nvme"),
    ),
)
PORT = "pcieport 0000:97:01.0: AER: Uncorrected (Fatal) error message received from 0000:9b:00.0"
DEVICE = "nvidia 0000:9b:00.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Inaccessible, (Unregistered Agent ID)"


def observe(*texts: str) -> list[Observation]:
    lines = tuple(KernelLine(n, 7.5 + n, 3, text) for n, text in enumerate(texts))
    return list(CHECK.observe(Lines(lines), NODE, CHECK.options))


@pytest.mark.parametrize("case", cases("host-aer.txt"), ids=lambda case: case.text[:90])
def test_kept_line_says_what_it_must(case: Case) -> None:
    assert [(seen.code, seen.component) for seen in look(CHECK, case.text)] == (
        [(case.code, case.component)] if case.code else []
    )


def test_every_code_has_a_kept_line() -> None:
    assert {case.code for case in cases("host-aer.txt")} - {""} == CHECK.codes


@pytest.mark.parametrize(
    ("address", "component"),
    [
        ("0000:9b:00.0", "gpu:0000:9b:00"),
        ("0000:05:00.0", "nvswitch:0000:05:00"),
        ("0000:00:04.0", "pci:0000:00:04.0"),
        ("0000:9b:00.1", "pci:0000:9b:00.1"),
    ],
)
def test_device_bears_the_name_that_other_checks_use(address: str, component: str) -> None:
    assert component_of(address, NODE) == component


def test_message_and_error_of_one_event_are_one_observation() -> None:
    (seen,) = observe(PORT, DEVICE)
    assert (seen.code, seen.component, seen.status, seen.evidence) == ("AER-FATAL", "gpu:0000:9b:00", Status.FAILED, DEVICE)


def test_message_alone_names_the_device_that_sent_it() -> None:
    (seen,) = observe(PORT, "pcieport 0000:97:01.0: AER: found no error details for 0000:9b:00.0")
    assert (seen.code, seen.component, dict(seen.attrs)["told_by"]) == ("AER-FATAL", "gpu:0000:9b:00", "0000:97:01.0")


def test_corrected_error_does_not_hide_the_fatal_message() -> None:
    corrected = "pcieport 0000:97:01.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)"
    assert sorted(seen.code for seen in observe(corrected, PORT)) == ["AER-CORRECTED", "AER-FATAL"]
