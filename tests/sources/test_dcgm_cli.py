"""What dcgmi prints, read as values: texts of tests/data/dcgm, written after the code that prints them (ORIGIN.md there)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hma.gpu import DcgmGpu, DcgmIncident
from hma.sources.dcgm_cli import (
    CliError,
    Violations,
    complaint,
    discovered,
    incidents,
    policy,
    returned,
    version,
    watched,
)
from hma.sources.dcgm_route import DBE, NVLINK, OURS, PAGES, PCI, POWER, THERMAL, XID, Told, foreign, pci_address

DATA = Path(__file__).parents[1] / "data" / "dcgm"
TWO = (DcgmGpu(0, "0000:53:00", "GPU-0"), DcgmGpu(1, "0000:64:00", "GPU-1"))


def text(name: str) -> str:
    return (DATA / f"dcgmi-{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("code", "number"),
    [(0, 0), (1, 0), (2, 0), (127, 0), (128, 0), (235, -21), (245, -11), (253, -3), (255, -1)],
)
def test_the_exit_code_is_the_last_byte_of_the_return_code(code: int, number: int) -> None:
    assert returned(code) == number


def test_version_is_read() -> None:
    assert version(text("3.3-version")) == "3.3.9"
    assert version("") == ""


@pytest.mark.parametrize(
    ("bus_id", "address"),
    [
        ("00000000:9B:00.0", "0000:9b:00"),
        ("0000:9B:00.0", "0000:9b:00"),
        ("00010001:00:1E.0", "0001:00:1e"),
        ("", ""),
        ("N/A", ""),
    ],
)
def test_addresses_are_those_of_all_samples(bus_id: str, address: str) -> None:
    assert pci_address(bus_id) == address


# -- discovery --------------------------------------------------------------------------------------------------------


def test_gpus_are_listed_and_switches_are_not() -> None:
    first = DcgmGpu(0, "0000:10:1c", "GPU-509665ad-b600-ac93-3616-d754b23d6360")
    second = DcgmGpu(1, "0000:10:1d", "GPU-509665ad-b600-ac93-3616-d754b23d6361")
    assert discovered(text("3.2-discovery")) == (first, second)


def test_a_gpu_without_attributes_costs_itself_only() -> None:
    assert [gpu.pci for gpu in discovered(text("4.2-discovery-attributes-lost"))] == ["0000:53:00"]


@pytest.mark.parametrize("said", ["", "Error: Cannot get GPU list from remote node. Return: Timeout", "0 GPUs", "\x00" * 99])
def test_what_is_no_list_is_refused(said: str) -> None:
    with pytest.raises(CliError, match="discovery"):
        discovered(said)


def test_more_gpus_than_are_said_to_be_there_are_refused() -> None:
    with pytest.raises(CliError, match="1 GPUs found, 2 listed"):
        discovered(text("3.2-discovery").replace("2 GPUs", "1 GPU"))


# -- health -----------------------------------------------------------------------------------------------------------


def test_watches_that_are_on_are_told() -> None:
    on = watched(text("3.3-health-fetch"))
    assert {name for name, state in on.items() if state} == {"InfoROM", "Memory", "PCIe"}
    assert len(on) == 10


def test_no_incident_is_none() -> None:
    assert incidents(text("3.3-health-pass"), TWO) == ()


def test_each_system_of_each_entity_is_an_incident() -> None:
    found = incidents(text("4.6-health-fail"), TWO)
    assert [(one.system, one.health, one.group, one.entity) for one in found] == [
        (0x80, "warn", 1, 0),
        (0x10, "fail", 1, 1),
        (0x1, "warn", 1, 1),
        (0, "fail", 3, 11),
    ]
    assert {one.code for one in found} == {None}
    assert found[1].message.startswith("Detected 2 volatile double-bit ECC error(s) in GPU 1. Drain the GPU")


def test_an_old_dcgmi_tells_that_something_fails_but_not_of_what() -> None:
    (one,) = incidents(text("3.1-health-fail"), TWO)
    assert one == DcgmIncident(0, "fail", None, "this version of dcgmi does not say of what", 1, -1)


def test_a_node_with_a_gpu_20_has_a_gpu_20() -> None:
    (one,) = incidents(text("3.1-health-fail"), (DcgmGpu(20),))
    assert one.entity == 20


def test_a_failure_without_an_entity_is_not_taken_for_health() -> None:
    (one,) = incidents(text("3.3-health-pass").replace("Healthy", "Failure"), TWO)
    assert (one.health, one.group, one.entity) == ("fail", 0, -1)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"body": []}',
        '{"body": {}}',
        '{"body": {"Overall Health": {"value": "Internal error"}}}',
        '{"body": {"Overall Health": "Healthy"}}',
        "{" * 100_000,
    ],
)
def test_what_is_no_report_is_no_health(said: str) -> None:
    with pytest.raises(CliError, match="health -c"):
        incidents(said, TWO)
    with pytest.raises(CliError, match="health -f"):
        watched(said)


def test_a_state_that_is_not_known_is_refused() -> None:
    with pytest.raises(CliError, match="'Odd'"):
        incidents(text("4.6-health-fail").replace("Warning", "Odd"), TWO)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("3.3-health-no-watches", "Error: Health watches not enabled. Please enable watches."),
        ("4.2-no-engine", "Error: unable to establish a connection to the specified host: localhost:5555"),
        ("3.3-health-pass", ""),
    ],
)
def test_complaints_are_told_in_their_own_words(name: str, said: str) -> None:
    assert complaint(text(name)) == said


# -- policy -----------------------------------------------------------------------------------------------------------


def test_no_policy_is_none() -> None:
    assert policy(text("4.2-policy-none")) == 0


def test_policies_of_all_gpus_count() -> None:
    assert policy(text("4.2-policy-two-gpus")) == OURS | POWER


@pytest.mark.parametrize(
    "said",
    [
        "",
        "Policy information\n",
        "{",
        '{"body": {}}',
        '{"body": {"Violation conditions": {"value": "Bad luck"}}}',
        "{" * 100_000,
    ],
)
def test_what_is_no_policy_is_refused(said: str) -> None:
    with pytest.raises(CliError, match="policy --get"):
        policy(said)


def test_a_foreign_policy_is_named_by_what_it_lacks() -> None:
    assert foreign(DBE | XID) == "somebody else has set the policy: no word of PCIe, retired pages, thermal, NVLink"
    assert foreign(OURS | POWER) == ""


def test_violations_are_read_line_by_line() -> None:
    reader = Violations()
    told = [reader.read(line, 5.0) for line in text("4.2-policy-reg").splitlines()]
    assert [one for one in told if one] == [
        Told(DBE, 1.0, 5.0),
        Told(PCI, 7.0, 5.0, counted=True),
        Told(PAGES, 61.0, 5.0, counted=True),
        Told(THERMAL, 101.0, 5.0),
        Told(POWER, 700.0, 5.0),
        Told(NVLINK, 5.0, 5.0, field=409, counted=True),
        Told(XID, 79.0, 5.0),
    ]


@pytest.mark.parametrize("line", ["", "Power: 700", "DBE error count: 2", "XID error detected.", "Temperature: hot", "\x00"])
def test_a_line_alone_is_no_violation(line: str) -> None:
    assert Violations().read(line, 5.0) is None
