"""SXid lines: all bodies, the driver's word against the lists, continuation lines.

Where each kept line is from: tests/data/kernel/ORIGIN.md.
"""

from __future__ import annotations

import time

import pytest

from checks.passive.sxid import CHECK, CODES, FATAL, NOT_FATAL
from hma.model import Expected, NodeFacts, Observation, PciDevice, Status
from tests.checks.kernel_lines import Case, cases, look

HEAD = "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): "


def one(text: str) -> Observation:
    """Return the only observation of this line."""
    (seen,) = look(CHECK, text)
    return seen


@pytest.mark.parametrize("case", cases("nvidia-sxid.txt"), ids=lambda case: case.text[:70])
def test_kept_line_says_what_it_must(case: Case) -> None:
    said = [(seen.code, seen.component) for seen in look(CHECK, case.text)]
    assert said == ([(case.code, case.component)] if case.code else [])


@pytest.mark.parametrize("case", cases("nvidia-xid.txt", "nvidia-other.txt"), ids=lambda case: case.text[:60])
def test_line_about_a_gpu_is_none_of_its_own(case: Case) -> None:
    assert look(CHECK, case.text) == []


def test_facts_of_the_line_are_kept() -> None:
    seen = one(HEAD + "12028, Non-fatal, Link 32 egress non-posted PRIV error (First)")
    assert (seen.unit, seen.at, seen.status) == ("link 32", 7.5, Status.DEGRADED)
    assert seen.attrs == (("sxid", "12028"), ("severity", "nonfatal"), ("link", "32"), ("switch", "nvswitch3"))
    assert seen.detail == "SXid 12028: Non-fatal, Link 32 egress non-posted PRIV error (First)"


def test_lists_are_those_of_the_guide() -> None:
    guide_fatal = """
        11001 11009 11013 11018 11019 11020 12001 12002 12022 12024 12025 12026 12027 12030 12031 12032 14017 15001 15006 15009
        15010 15012 15013 19047 19048 19054 19056 19058 19060 19061 19063 19064 19066 19067 19069 19070 20034 24004 24005 24006
        24007 22012 10003 12020 22003 22011
        23001 23002 23003 23004 23005 23006 23007 23008 23009 23010 23011 23012 23013 23014 23015 23016 23017
    """
    guide_not_fatal = """
        11012 11021 11022 11023 12021 12023 15008 15011 19049 19055 19057 19059 19062 19065 19068 19071 24001 24002 24003
        20001 20009 20012 22013 11004 12028 19084 10001 10002 10004 10005
    """
    assert {int(number) for number in guide_fatal.split()} == FATAL
    assert {int(number) for number in guide_not_fatal.split()} | {26006, 26007, 26008} == NOT_FATAL
    assert not FATAL & NOT_FATAL


@pytest.mark.parametrize("number", sorted(FATAL))
@pytest.mark.parametrize(
    ("word", "code", "status"),
    [
        ("Fatal, Link 30 x", "", Status.FAILED),
        ("Fatal", "", Status.FAILED),
        ("x", "", Status.FAILED),
        ("Non-fatal, Link 30 x", "SXID-OVERRIDE-NONFATAL", Status.DEGRADED),
        ("Nonfatal, Link 30 x", "SXID-OVERRIDE-NONFATAL", Status.DEGRADED),
    ],
)
def test_number_listed_as_fatal(number: int, word: str, code: str, status: Status) -> None:
    seen = one(f"{HEAD}{number:05d}, {word}")
    assert (seen.code, seen.status) == (code or f"SXID-{number}", status)


@pytest.mark.parametrize("number", sorted(NOT_FATAL))
@pytest.mark.parametrize(
    ("word", "code", "status"),
    [
        ("Non-fatal, Link 30 x", "", Status.DEGRADED),
        ("Non-fatal", "", Status.DEGRADED),
        ("x", "", Status.DEGRADED),
        ("Fatal, Link 30 x", "SXID-OVERRIDE-FATAL", Status.FAILED),
    ],
)
def test_number_listed_as_not_fatal(number: int, word: str, code: str, status: Status) -> None:
    seen = one(f"{HEAD}{number:05d}, {word}")
    assert (seen.code, seen.status) == (code or f"SXID-{number}", status)


@pytest.mark.parametrize("number", [0, 11000, 23018, 28002, 99999, 999999])
@pytest.mark.parametrize(
    ("word", "code", "status"),
    [
        ("Fatal, Link 30 x", "SXID-UNKNOWN-FATAL", Status.FAILED),
        ("Non-fatal, Link 30 x", "SXID-UNKNOWN-NONFATAL", Status.DEGRADED),
        ("x", "SXID-UNKNOWN-NONFATAL", Status.DEGRADED),
        ("Fatality, Link 30 x", "SXID-UNKNOWN-NONFATAL", Status.DEGRADED),
    ],
)
def test_number_on_no_list(number: int, word: str, code: str, status: Status) -> None:
    seen = one(f"{HEAD}{number:05d}, {word}")
    assert (seen.code, seen.status, dict(seen.attrs)["sxid"]) == (code, status, str(number))


@pytest.mark.parametrize(
    ("body", "link"),
    [
        ("Fatal, Link 30 LTSSM Fault Up", "30"),
        ("Fatal, Link 04 RX Short Error Rate", "4"),
        ("Link 30 LTSSM Fault Up", "30"),
        ("Fatal, LTSSM Fault Up on Link 30", ""),
        ("Fatal, Link x", ""),
        ("SOE HALTED", ""),
    ],
)
def test_link_is_the_one_at_the_front(body: str, link: str) -> None:
    seen = one(f"{HEAD}20034, {body}")
    assert seen.unit == (f"link {link}" if link else "")


def test_one_event_of_three_lines_is_one_observation() -> None:
    lines = ["Fatal, Link 62 LTSSM Fault Up", "Severity 1 Engine instance 62 Sub-engine instance 00", "Data {0x10000000}"]
    assert [seen.code for seen in look(CHECK, *(f"{HEAD}20034, {line}" for line in lines))] == ["SXID-20034"]


@pytest.mark.parametrize(
    "text",
    [
        "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): x, Fatal",
        "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 2003400, Fatal",
        "nvidia-nvswitch: SXid (PCI:0000:05:00.0): 20034, Fatal",
        "nvidia-nvswitch3: SXid (0000:05): 20034, Fatal",
        "nvidia-nvswitch3: SXid (PCI:0000:05:00.0) 20034, Fatal",
        "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 20034; Fatal",
        "SXid (PCI:0000:05:00.0): 20034, Fatal",
        " nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 20034, Fatal",
        "audit: exe=/tmp/nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 30 x",
        "x\\x0anvidia-nvswitch3: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 30 x",
        "x\nnvidia-nvswitch3: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 30 x",
        "nvidia-nvswitch\u0663: SXid (PCI:0000:05:00.0): 20034, Fatal",
    ],
)
def test_line_that_the_driver_would_not_print_says_nothing(text: str) -> None:
    assert look(CHECK, text) == []


def test_every_code_can_be_told() -> None:
    words = ("Fatal", "Non-fatal", "x")
    told = {one(f"{HEAD}{number:05d}, {word}").code for number in (*FATAL, *NOT_FATAL, 99999) for word in words}
    assert told == CODES


SWITCH = PciDevice("0000:cb:00.0", "10de", "22a3", "068000", "nvidia-nvswitch")
GPU = PciDevice("0000:53:00.0", "10de", "2330", "030200", "nvidia")


@pytest.mark.parametrize(
    ("node", "applies"),
    [
        (NodeFacts("n", "b", pci=(GPU, SWITCH)), True),
        (NodeFacts("n", "b", pci=(GPU,), expected=Expected("p6-b200.48xlarge", gpus=8)), False),
        (NodeFacts("n", "b", expected=Expected("p5.48xlarge", gpus=8)), True),
        (NodeFacts("n", "b", expected=Expected("trn1.32xlarge", gpus=0)), False),
        (NodeFacts("n", "b"), False),
    ],
)
def test_applies_where_a_switch_is_or_cannot_be_ruled_out(node: NodeFacts, applies: bool) -> None:
    assert CHECK.applies(node) is applies


LONG = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "nvidia-nvswitch" + "3" * LONG + ": SXid (",
        "nvidia-nvswitch3: SXid (" + "0" * LONG,
        HEAD + "2" * LONG,
        HEAD + "20034," + " " * LONG + "x",
        HEAD + "20034, " + "Fatal, " * (LONG // 7),
        HEAD + "20034, Fatal" + " " * LONG + "x",
        HEAD + "20034, Link " + "3" * LONG,
        HEAD + "20034, " + "Data {" * (LONG // 6),
    ],
    ids=lambda text: text[:60].strip(),
)
def test_no_line_takes_long(text: str) -> None:
    start = time.thread_time()
    look(CHECK, text)
    assert time.thread_time() - start < 0.5
