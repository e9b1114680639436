"""XID lines: every format of the driver, the lines that say as much without the word, and forged ones.

Where each kept line is from: tests/data/kernel/ORIGIN.md.
"""

from __future__ import annotations

import re
import time

import pytest

from checks.passive import xid
from checks.passive.xid import CHECK, CODES
from hma.check import KernelLine, Lines, NoOptions
from hma.model import Expected, NodeFacts, Observation, PciDevice, Status
from tests.checks.kernel_lines import NODE, Case, cases, look

UUID = "GPU-509665ad-b600-ac93-3616-d754b23d636d"


def one(*texts: str) -> Observation:
    """Return the only observation of these lines."""
    (seen,) = look(CHECK, *texts)
    return seen


def attr(seen: Observation, key: str) -> str:
    """Return one fact of an observation, or nothing."""
    return dict(seen.attrs).get(key, "")


def said(*texts: str) -> list[tuple[str, str]]:
    """Return code and component of all that is said of these lines."""
    return [(seen.code, seen.component) for seen in look(CHECK, *texts)]


# -- all kept lines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("nvidia-xid.txt", "nvidia-other.txt"), ids=lambda case: case.text[:60])
def test_kept_line_says_what_it_must(case: Case) -> None:
    assert said(case.text) == ([(case.code, case.component)] if case.code else [])


@pytest.mark.parametrize("case", [case for case in cases("nvidia-xid.txt") if case.code], ids=lambda case: case.text[:60])
def test_kept_xid_line_is_kept_as_evidence_at_its_own_time(case: Case) -> None:
    seen = one(case.text)
    assert (seen.evidence, seen.at) == (case.text, 7.5)
    assert attr(seen, "xid") in case.text


# -- prefixes, bodies, names -------------------------------------------------------------------------------------------

PREFIXES = [
    ("PCI:0000:b9:00", "gpu:0000:b9:00", "", ""),
    ("PCI:0000:B9:1C", "gpu:0000:b9:1c", "", ""),
    ("PCI:0000:b9:00.0", "gpu:0000:b9:00", "", ""),
    ("0000:03:00", "gpu:0000:03:00", "", ""),
    ("03:00", "gpu:0000:03:00", "", ""),
    ("PCI:000d:00:00", "gpu:000d:00:00", "", ""),
    ("PCI:00000008:01:00", "gpu:0008:01:00", "", ""),
    ("PCI:0000:b9:00 GPU-I:05", "gpu:0000:b9:00", "05", ""),
    ("PCI:0000:b9:00 GPU-I:05 GPU-CI:00", "gpu:0000:b9:00", "05", "00"),
]
BODIES = [
    (", pid='<unknown>', name=<unknown>, Ch 00000008", "", "", "Ch 00000008"),
    (", pid=<unknown>, name=<unknown>, Ch 00000008", "", "", "Ch 00000008"),
    (", pid=4294967295, name=python3, Ch 00000008", "4294967295", "python3", "Ch 00000008"),
    (", pid=7, Ch 00000008", "7", "", "Ch 00000008"),
    (", pid=7, name=nvc:[driver], Ch 00000008", "7", "nvc:[driver]", "Ch 00000008"),
    (", pid=7, name=train.3, Ch 00000008", "7", "train.3", "Ch 00000008"),
    (", pid=7, name=ray::WorkerDict, Ch 00000008", "7", "ray::WorkerDict", "Ch 00000008"),
    (", pid=7, name=a b, Ch 00000008", "7", "a b", "Ch 00000008"),
    (", pid=7, name=, Ch 00000008", "7", "", "Ch 00000008"),
    (", pid=7, name=a,b, Ch 00000008", "7", "a,b", "Ch 00000008"),
    (", pid=7, name=a, b, Ch 00000008", "7", "a", "b, Ch 00000008"),
    (", pid=7, name=x): 79, y, Ch 0", "7", "x): 79", "y, Ch 0"),
    (", pid=7, name=python3, ", "7", "python3", ""),
    (", pid=7", "7", "", ""),
    (", Ch 00000008", "", "", "Ch 00000008"),
    (", ", "", "", ""),
    ("", "", "", ""),
    (" ", "", "", ""),
]


@pytest.mark.parametrize(("prefix", "component", "gi", "ci"), PREFIXES)
@pytest.mark.parametrize(("body", "pid", "process", "message"), BODIES)
def test_every_prefix_with_every_body(
    prefix: str, component: str, gi: str, ci: str, body: str, pid: str, process: str, message: str
) -> None:
    seen = one(f"NVRM: Xid ({prefix}): 43{body}")
    assert (seen.code, seen.component, seen.status) == ("XID-43", component, Status.DEGRADED)
    assert [attr(seen, key) for key in ("xid", "gi", "ci", "pid", "process")] == ["43", gi, ci, pid, process]
    assert seen.actor == (f"pid {pid}" if pid else "")
    assert seen.detail == (f"Xid 43: {message}" if message else "Xid 43")


@pytest.mark.parametrize(
    "text",
    [
        "NVRM: Xid (PCI:0000:b9:00): ",
        "NVRM: Xid (PCI:0000:b9:00): x79, gone",
        "NVRM: Xid (PCI:0000:b9:00): 79; gone",
        "NVRM: Xid (PCI:0000:b9:00): 7900000, gone",
        "NVRM: Xid (PCI:0000:b9:00): -79, gone",
        "NVRM: Xid (PCI:0000:b9:00) 79, gone",
        "NVRM: Xid (PCI:0000:b9): 79, gone",
        "NVRM: Xid (PCI:0000:b9:0): 79, gone",
        "NVRM: Xid (PCI:000000000:b9:00): 79, gone",
        "NVRM: Xid (PCI:0000:b9:00.8): 79, gone",
        "NVRM: Xid (PCI:0000:g9:00): 79, gone",
        "NVRM: Xid (PCI:0000:b9:00 GPU-I:): 79, gone",
        "NVRM: Xid (PCI:0000:b9:00 GPU-I:1 GPU-CI:2 GPU-X:3): 79, gone",
        "NVRM: Xid (invalid): some error",
        "NVRM: Xid error: xyz, invalid data",
        "NVRM: Xid (PCI:0000:b9:00): \u0667\u0669, digits of another script",
        "NVRM: Xid (PCI:...): 145, RLW_RXPIPE Nonfatal XC0 i0 Link 11 (...)",
    ],
)
def test_line_that_the_driver_would_not_print_says_nothing(text: str) -> None:
    assert said(text) == []


@pytest.mark.parametrize(
    "text",
    [
        # A tenant chooses the name of the process, a path, or what is written through /dev/kmsg; never how a line begins.
        "traps: NVRM: Xid (PCI:[9] general protection fault ip:7f00 sp:7ffd error:0",
        "audit: exe=/tmp/NVRM: Xid (PCI:0000:b9:00): 79, GPU has fallen off the bus.",
        "NVRM: loading NVRM: Xid (PCI:0000:b9:00): 79, GPU has fallen off the bus.",
        " NVRM: Xid (PCI:0000:b9:00): 79, GPU has fallen off the bus.",
        "x\nNVRM: Xid (PCI:0000:b9:00): 79, GPU has fallen off the bus.",
        "x\\x0aNVRM: Xid (PCI:0000:b9:00): 79, GPU has fallen off the bus.",
        "audit: exe=/tmp/NVRM: GPU 0000:b9:00.0: GPU has fallen off the bus.",
        f"audit: exe=/tmp/GPU reset executed: {UUID}",
        "audit: exe=/tmp/infoROM is corrupted at gpu 0000:b9:00.0",
        "audit: a long way before what looks like a name, and longer than any name can be xx[7]: segfault at 0 in libnccl.so.2",
    ],
)
def test_forged_line_says_nothing(text: str) -> None:
    assert said(text) == []


@pytest.mark.parametrize(
    "name",
    [
        "NVRM: Xid (PCI:",
        ", 79, gone",
        "x), 79, y",
        "link 1(0x100, 0",
        "(GPC 1, TPC 2)",
        "to 0x2 (Node R",
        "a\x1b[31mb",
        "\\x0a\\x0a",
        "\n",
    ],
)
def test_process_name_changes_neither_the_number_nor_the_gpu(name: str) -> None:
    seen = one(f"NVRM: Xid (PCI:0000:b9:00): 13, pid=7, name={name}, Graphics Exception: ESR 0x1=0x2")
    assert (seen.code, seen.component, seen.actor, seen.unit, seen.cause) == ("XID-13", "gpu:0000:b9:00", "pid 7", "", "")


@pytest.mark.parametrize("name", ["to 0x0 (None)", "x to 0x0 (None)", "x, to 0x0 (Non"])
def test_process_name_does_not_take_back_a_recovery_action(name: str) -> None:
    line = f"NVRM: Xid (PCI:0000:b9:00): 154, pid=7, name={name}, GPU recovery action changed from 0x0 (None) to 0x2 (x)"
    assert said(line) == [("XID-154-NODE_REBOOT", "gpu:0000:b9:00")]


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [n for n in range(1, 174) if n != 154])
def test_known_number_is_its_code(number: int) -> None:
    assert said(f"NVRM: Xid (PCI:0000:b9:00): {number}, x") == [(f"XID-{number}", "gpu:0000:b9:00")]


@pytest.mark.parametrize("number", ["0", "174", "999", "99999", "999999", "000000"])
def test_unknown_number_is_told_as_unknown_and_keeps_its_number(number: str) -> None:
    seen = one(f"NVRM: Xid (PCI:0000:b9:00): {number}, x")
    assert (seen.code, seen.status, attr(seen, "xid")) == ("XID-UNKNOWN", Status.DEGRADED, str(int(number)))


def test_number_with_leading_zeros_is_the_number() -> None:
    assert said("NVRM: Xid (PCI:0000:b9:00): 079, x") == [("XID-79", "gpu:0000:b9:00")]


@pytest.mark.parametrize(
    "number", [46, 48, 54, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, 151, 158, 167, 168, 169, 173]
)
def test_number_that_takes_something_out_of_service_is_failed(number: int) -> None:
    assert one(f"NVRM: Xid (PCI:0000:b9:00): {number}, x").status is Status.FAILED


@pytest.mark.parametrize("number", [13, 31, 43, 45, 63, 92, 94, 137, 149, 163, 171, 172])
def test_other_number_is_degraded(number: int) -> None:
    assert one(f"NVRM: Xid (PCI:0000:b9:00): {number}, x").status is Status.DEGRADED


def test_162_takes_back() -> None:
    assert one("NVRM: Xid (PCI:0000:b9:00): 162, Power Smoothing reengaged").status is Status.OK


# -- refinements -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "unit", "sm"),
    [
        ("Graphics SM Warp Exception on (GPC 10, TPC 1, SM 1): Out Of Range Address", "GPC 10 TPC 1", "1"),
        ("Graphics SM Global Exception on (GPC 0, TPC 05): Multiple Warp Errors", "GPC 0 TPC 5", ""),
        ("Graphics Exception: ESR 0x546fb0=0x11f000e 0x546fb4=0x24", "", ""),
        ("Graphics SM Warp Exception on (GPC x, TPC 1, SM 1): Out Of Range Address", "", ""),
    ],
)
def test_13_names_the_unit(message: str, unit: str, sm: str) -> None:
    seen = one(f"NVRM: Xid (PCI:0000:38:00): 13, pid='<unknown>', name=<unknown>, {message}")
    assert (seen.code, seen.unit, attr(seen, "sm")) == ("XID-13", unit, sm)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("Ch 00000001 caused by previous Xid 149", "XID-149"),
        (" caused by previous Xid 94", "XID-94"),
        ("Ch 00000001 caused by previous Xid 999", "XID-UNKNOWN"),
        ("Ch 00000001 caused by previous Xid 94, x", ""),
        ("Ch 00000001 caused by previous Xid 9494949494", ""),
        ("Ch 00000001", ""),
    ],
)
@pytest.mark.parametrize("by", ["", "pid=1818990, name=python3, "])
def test_45_names_its_cause(by: str, message: str, cause: str) -> None:
    seen = one(f"NVRM: Xid (PCI:0000:dc:00): 45, {by}{message}")
    assert (seen.code, seen.cause, attr(seen, "cause")) == ("XID-45", cause, cause)


def test_only_45_names_a_cause() -> None:
    assert one("NVRM: Xid (PCI:0000:dc:00): 43, Ch 00000001 caused by previous Xid 149").cause == ""


@pytest.mark.parametrize(
    ("message", "code", "link"),
    [
        ("NVLink: fatal error detected on link 14(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)", "XID-74", "14"),
        ("NVLink: fatal error detected on link 6(0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)", "XID-74-MECHANICAL", "6"),
        ("NVLink: fatal error detected on link 6 (0x200000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)", "XID-74-SIGNAL", "6"),
        ("NVLink: fatal error detected on link 00(0x10, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)", "XID-74-PARITY", "0"),
        ("NVLink: fatal error detected on link 6(0x1, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)", "XID-74-IGNORE", "6"),
        ("NVLink: fatal error detected on link 6(0x2, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)", "XID-74-SYMPATHETIC", "6"),
        ("NVLink: fatal error detected on link 6(0x0, 0x0, 0x0, 0x40000, 0x0, 0x0, 0x0)", "XID-74-FABRIC", "6"),
        ("NVLink: fatal error detected on link 6(0x1, 0x0, 0x0, 0x0, 0x0, 0x0)", "XID-74", "6"),
        ("NVLink: fatal error detected on link 6(0x1, 0x0, 0x0, 0x0, 0x0, 0x0, 0xx)", "XID-74", "6"),
        ("NVLink: fatal error detected on link 6(0x1, 0x0, 0x0", "XID-74", ""),
        ("NVLink: fatal error detected on link 6", "XID-74", ""),
        ("", "XID-74", ""),
    ],
)
def test_74_is_worth_what_its_registers_say(message: str, code: str, link: str) -> None:
    seen = one(f"NVRM: Xid (PCI:0003:00:00): 74, pid='<unknown>', name=<unknown>, {message}")
    assert (seen.code, seen.unit, attr(seen, "link")) == (code, f"link {link}" if link else "", link)


@pytest.mark.parametrize(
    ("message", "code", "unit", "injected"),
    [
        ("RLW_REMAP Nonfatal XC0 i0 Link 00 (0x00000082 0x00000040 0x0 0x0 0x0 0x0)", "XID-145-RESET", "link 0", ""),
        ("RLW_REMAP Fatal XC0 i1 Link 12 (0x00000082 0x00000001 0x0 0x0 0x0 0x0)", "XID-145-FOLLOW", "link 12", "yes"),
        ("RLW_RXPIPE Nonfatal XC1 i0 Link -1 (0x000000c2 0x00000008 0x0 0x0 0x0 0x0)", "XID-145-IGNORE", "", ""),
        ("RLW_REMAP Nonfatal XC0 i0 Link 00 (0x00000082 0x00000003 0x0 0x0 0x0 0x0)", "XID-145", "link 0", ""),
        ("RLW_REMAP Nonfatal XC0 i0 Link 00 (0x00000082)", "XID-145", "link 0", ""),
        ("RLW_REMAP Nonfatal XC0 i0 Link 00 (0x00000082 0x 0x0)", "XID-145", "link 0", ""),
        (f"RLW_REMAP Nonfatal XC0 i{'9' * 5000} Link 00 (0x00000082 0x00000040 0x0 0x0)", "XID-145", "", ""),
        ("RLW_REMAP Nonfatal XC0 i0 Link 00 (...)", "XID-145", "", ""),
        ("some later driver's text", "XID-145", "", ""),
    ],
)
def test_nvlink_5_is_worth_what_its_status_words_say(message: str, code: str, unit: str, injected: str) -> None:
    seen = one(f"NVRM: Xid (PCI:0008:01:00): 145, {message}")
    assert (seen.code, seen.unit, attr(seen, "injected")) == (code, unit, injected)
    assert seen.status is (Status.FAILED if code.endswith("RESET") else Status.DEGRADED)


@pytest.mark.parametrize(
    ("before", "after", "code", "status"),
    [
        ("0x0 (None)", "0x1 (GPU Reset Required)", "GPU_RESET", Status.FAILED),
        ("0x0 (None)", "0x2 (Node Reboot Required)", "NODE_REBOOT", Status.FAILED),
        ("0x0 (None)", "0x2 (OS Reboot)", "NODE_REBOOT", Status.FAILED),
        ("0x0 (None)", "0x3 (Drain P2P)", "DRAIN_P2P", Status.DEGRADED),
        ("0x0 (None)", "0x4 (Drain and Reset)", "DRAIN_AND_RESET", Status.FAILED),
        ("0x0 (None)", "0x5 (something)", "IMEX", Status.DEGRADED),
        ("0x0 (None)", "0x6 (something)", "BUS_RESET", Status.FAILED),
        ("0x0 (None)", "0x7 (something)", "SYSTEM_REBOOT", Status.FAILED),
        ("0x0 (None)", "0x8 (something)", "UNKNOWN", Status.DEGRADED),
        ("0x0 (None)", "0xffffffff (something)", "UNKNOWN", Status.DEGRADED),
        ("0x1 (GPU Reset Required)", "0x0 (None)", "NONE", Status.OK),
        ("0x2 (Node Reboot Required)", "0x0 (None)", "NONE", Status.OK),
        ("0x4 (Drain and Reset)", "0x1 (GPU Reset Required)", "GPU_RESET", Status.FAILED),
        ("0x1 (GPU Reset Required)", "0x0", "NONE", Status.OK),
        ("None", "(GPU Reset Required)", "GPU_RESET", Status.FAILED),
        ("GPU Reset Required", "(none)", "NONE", Status.OK),
        ("0x1 (GPU Reset Required)", "something", "UNKNOWN", Status.DEGRADED),
        ("0x1 (GPU Reset Required)", "", "UNKNOWN", Status.DEGRADED),
    ],
)
def test_154_is_what_the_driver_asks_for_now(before: str, after: str, code: str, status: Status) -> None:
    seen = one(f"NVRM: Xid (PCI:0018:01:00): 154, GPU recovery action changed from {before} to {after}")
    assert (seen.code, seen.status) == (f"XID-154-{code}", status)


def test_154_without_its_message_takes_nothing_back() -> None:
    assert said("NVRM: Xid (PCI:0018:01:00): 154") == [("XID-154-UNKNOWN", "gpu:0018:01:00")]
    assert said("NVRM: Xid (PCI:0018:01:00): 154, to 0x0 (None)") == [("XID-154-UNKNOWN", "gpu:0018:01:00")]


# -- the same without the word -----------------------------------------------------------------------------------------

LONG_FORMS = [
    (
        "NVRM: The NVIDIA GPU 0000:18:00.0",
        "NVRM: (PCI ID: 10de:2901) installed in this system has",
        "NVRM: fallen off the bus and is not responding to commands.",
    ),
    (
        "NVRM: The NVIDIA GPU 0000:18:00.0",
        "NVRM: installed in this system has",
        "NVRM: fallen off the bus and is not responding to commands.",
    ),
    (
        "NVRM: The NVIDIA GPU 0000:18:00.0 (PCI ID: 10de:1e07) installed in this",
        "NVRM: system has fallen off the bus and is not responding to commands.",
    ),
    (
        "NVRM: The NVIDIA GPU 0000:18:00.0 (PCI ID: 10de:1b06)",
        "NVRM: installed in this system has fallen off the bus and is",
        "NVRM: not responding to commands.",
    ),
]
every_long_form = pytest.mark.parametrize("records", LONG_FORMS, ids=lambda records: records[1][6:40])


@every_long_form
@pytest.mark.parametrize("join", ["\n", "\\x0a", "\n              "])
def test_long_message_in_one_record(records: tuple[str, ...], join: str) -> None:
    seen = one(join.join(records))
    assert (seen.code, seen.component, seen.status) == ("XID-79", "gpu:0000:18:00", Status.FAILED)


@every_long_form
def test_long_message_over_several_records_is_one_fault_with_all_of_it_as_evidence(records: tuple[str, ...]) -> None:
    told = [record for record in records if "fallen" in record or record is not records[-1]]
    seen = one("NVRM: before", *records, "NVRM: after")
    assert (seen.code, seen.component, seen.at) == ("XID-79", "gpu:0000:18:00", 8.5)
    assert seen.evidence.split("\n") == told
    assert attr(seen, "form") == "no-xid"


@every_long_form
def test_long_message_cut_between_two_batches_loses_the_gpu_and_not_the_fault(records: tuple[str, ...]) -> None:
    for cut in range(1, len(records)):
        told = said(*records[:cut]) + said(*records[cut:])
        assert [code for code, _ in told] == ["XID-79"]
        assert told[0][1] in ("gpu:unknown", "gpu:0000:18:00")


def test_two_gpus_in_one_batch_are_two_faults() -> None:
    second = [record.replace("0000:18", "0001:2b") for record in LONG_FORMS[0]]
    assert said(*LONG_FORMS[0], *second) == [("XID-79", "gpu:0000:18:00"), ("XID-79", "gpu:0001:2b:00")]


def test_a_second_head_begins_a_second_message() -> None:
    assert said(LONG_FORMS[0][0], LONG_FORMS[0][0].replace("18", "19"), *LONG_FORMS[0][1:]) == [("XID-79", "gpu:0000:19:00")]


def test_an_xid_between_belongs_to_itself() -> None:
    head, middle, tail = LONG_FORMS[0]
    assert said(head, "NVRM: Xid (PCI:0000:2b:00): 43, Ch 8", middle, tail) == [
        ("XID-43", "gpu:0000:2b:00"),
        ("XID-79", "gpu:unknown"),
    ]


@pytest.mark.parametrize(
    "records",
    [
        ("NVRM: The NVIDIA GPU 0000:18:00.0",),
        ("NVRM: The NVIDIA GPU 0000:18:00.0", "NVRM: (PCI ID: 10de:2901) installed in this system has"),
        ("NVRM: The NVIDIA GPU 0000:18:00.0 (PCI ID: 10de:0fc6)", "NVRM: installed in this system is not supported by the"),
        ("NVRM: The NVIDIA GPU invalid-bdf.0",),
        ("NVRM: GPU 0000:18:00.0: GPU has fallen off the busy list",),
        ("NVRM: GPU 0000:18:00.0: RmInitAdapter failed! (0x23:0xffff:1401)",),
    ],
)
def test_other_words_about_a_gpu_say_nothing(records: tuple[str, ...]) -> None:
    assert said(*records) == []


def test_both_tellings_of_a_lost_gpu_are_the_same_fault() -> None:
    told = said(
        "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.", "NVRM: GPU 0000:01:00.0: GPU has fallen off the bus."
    )
    assert told == [("XID-79", "gpu:0000:01:00")] * 2


@pytest.mark.parametrize(
    ("records", "serial"),
    [
        ((f"NVRM: GPU at PCI:0000:9b:00: {UUID}", "NVRM: GPU Board Serial Number: 1650124014249"), "1650124014249"),
        ((f"NVRM: GPU at PCI:0000:9b:00: {UUID}", "x", "NVRM: GPU Board Serial Number: 1650124014249"), ""),
        ((f"NVRM: GPU at 0000:9b:00: {UUID.upper().replace('GPU', 'GPU')}",), ""),
    ],
)
def test_identity_line_maps_the_address_to_the_uuid(records: tuple[str, ...], serial: str) -> None:
    seen = one(*records)
    assert (seen.code, seen.component, seen.status) == ("GPU-IDENTITY", "gpu:0000:9b:00", Status.OK)
    assert (attr(seen, "uuid"), attr(seen, "serial")) == (UUID, serial)


def test_serial_number_in_a_later_batch_is_nobodys() -> None:
    assert said("NVRM: GPU Board Serial Number: 1650124014249") == []


def test_reset_line_names_the_gpu_by_its_uuid_and_takes_back() -> None:
    seen = one(f"GPU reset executed: {UUID.upper()}")
    assert (seen.code, seen.component, seen.status) == ("GPU-RESET", f"gpu:{UUID}", Status.OK)


@pytest.mark.parametrize("tail", [", success: false", ", success: maybe", "-1", " x"])
def test_reset_that_may_have_failed_takes_nothing_back(tail: str) -> None:
    assert said(f"GPU reset executed: {UUID}{tail}") == []


def test_nccl_crash_names_the_process() -> None:
    seen = one(
        "pt_main_thread[2536443]: segfault at 7f797fe00000 ip 00007f7c sp 00007f7c error 4 in libnccl.so.2.18.1[7f7c+d3]"
    )
    assert (seen.code, seen.component, seen.actor) == ("NCCL-SEGFAULT", "host", "pid 2536443")
    assert "libnccl.so.2.18.1" in seen.detail


# -- the check ---------------------------------------------------------------------------------------------------------


def test_order_and_times_of_a_batch_are_kept() -> None:
    lines = [f"NVRM: Xid (PCI:0000:b9:00): {number}, x" for number in (31, 43, 45)]
    seen = look(CHECK, *lines)
    assert [(o.code, o.at) for o in seen] == [("XID-31", 7.5), ("XID-43", 8.5), ("XID-45", 9.5)]


def test_no_lines_say_nothing() -> None:
    assert list(CHECK.observe(Lines(()), NODE, NoOptions())) == []


GPU = PciDevice("0000:53:00.0", "10de", "2330", "030200", "nvidia")


@pytest.mark.parametrize(
    ("node", "applies"),
    [
        (NodeFacts("n", "b"), False),
        (NodeFacts("n", "b", pci=(GPU,)), True),
        (NodeFacts("n", "b", pci=(GPU._replace(vendor="1002"),)), False),
        (NodeFacts("n", "b", expected=Expected("p5.48xlarge", gpus=8)), True),
        (NodeFacts("n", "b", expected=Expected("trn1.32xlarge", gpus=0)), False),
        (NodeFacts("n", "b", expected=Expected("new.type")), False),
    ],
)
def test_applies_where_a_gpu_is_or_should_be(node: NodeFacts, applies: bool) -> None:
    assert CHECK.applies(node) is applies


def test_codes_are_shaped_and_statuses_known() -> None:
    assert all(re.fullmatch(r"[A-Z0-9]+(?:[-_][A-Z0-9]+)*", code) for code in CODES)
    assert xid._FAILED | xid._FINE <= CODES


HEAD = "NVRM: Xid (PCI:0000:b9:00): "
LONG = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "NVRM: Xid (" + "0" * LONG,
        HEAD + "9" * LONG,
        HEAD + "13, " + " " * LONG + "x",
        HEAD + "13, pid=" + "1" * LONG,
        HEAD + "13, pid=1, name=" + ", " * (LONG // 2),
        HEAD + "13, " + "Exception on (GPC 1, TPC 1, SM " * (LONG // 31),
        HEAD + "45, " + " caused by previous Xid 1 " * (LONG // 26) + "x",
        HEAD + "45, caused by previous Xid 1" + " " * LONG + "x",
        HEAD + "74, " + "link 1(" * (LONG // 7),
        HEAD + "74, " + "link 1(0x0, 0x0) " * (LONG // 17) + "x",
        HEAD + "74, link 1(" + "0" * LONG,
        HEAD + "74, link 1(0x0, 0x0)" + " " * LONG + "x",
        HEAD + "145, " + "A" * LONG,
        HEAD + "145, " + "A_A " * (LONG // 4),
        HEAD + "145, " + "AAA" + " " * LONG + "Fatal",
        HEAD + "145, " + "AAA Fatal XC0 i0 Link 1 (0x0 0x0) " * (LONG // 34) + "x",
        HEAD + "149, AAA Fatal XC0 i" + "0" * LONG,
        HEAD + "154, " + "GPU recovery action changed from " * (LONG // 33),
        HEAD + "154, GPU recovery action changed from " + "x to " * (LONG // 5),
        HEAD + "154, GPU recovery action changed from 0x0 (None) to 0x" + "1" * LONG,
        "NVRM: The NVIDIA GPU 0000:18:00.0 " + "\\x0a" * (LONG // 4),
        "NVRM: The NVIDIA GPU 0000:18:00.0\n" + " " * LONG,
        "NVRM: GPU at PCI:0000:9b:00: GPU-" + "0" * LONG,
        "NVRM: " + "knvlink" * (LONG // 7),
        "NVRM: " + "[" * LONG,
        "[1]: segfault at " * (LONG // 17) + " in libnccl.so",
        "infoROM is corrupted at gpu " * (LONG // 28),
        "GPU reset executed: GPU-" * (LONG // 24),
    ],
    ids=lambda text: f"{text[:12]}..{text[26:70].strip()}",
)
def test_no_line_takes_long(text: str) -> None:
    """A pattern that tries every split of a run would take minutes for these; the kernel keeps at most 1 kB of a line."""
    start = time.thread_time()
    look(CHECK, text)
    assert time.thread_time() - start < 0.5


def test_surrogates_and_control_characters_pass_unharmed() -> None:
    text = HEAD + "31, pid=7, name=\x00\x1b\udcff\u2028, Ch 8"
    (seen,) = CHECK.observe(Lines((KernelLine(1, 1.0, 4, text),)), NODE, NoOptions())
    assert (seen.code, seen.evidence) == ("XID-31", text)
