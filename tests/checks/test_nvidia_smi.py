"""What nvidia-smi printed in every state that it could be brought into; see tests/data/nvidia-smi/ORIGIN.md."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from checks.passive import nvidia_smi
from checks.passive.nvidia_smi import CHECK, GPU_CODES, HOST, HOST_CODES, IDENTITY, QUERY, component_of, parse
from hma.check import NoOptions, Output
from hma.model import Expected, NodeFacts, Observation, PciDevice, Status

DATA = Path(__file__).parents[1] / "data/nvidia-smi"
NODE = NodeFacts("n1", "b1")
BUSES = ("53", "64", "75", "86", "97", "a8", "b9", "ca")
GPUS = tuple(f"gpu:0000:{bus}:00" for bus in BUSES)
THIRD = "gpu:0000:86:00"  # number 3, the one that fails where one fails
NAMED_BY_UUID = "gpu:GPU-509665ad-b600-ac93-3616-d754b23d6363"

LIBRARY = {"SMI-NO-LIBRARY", "SMI-FAILED"}
INIT = {"SMI-NO-DRIVER", "SMI-NO-PERMISSION", "SMI-MISMATCH", "SMI-INIT-ERR"}
ALL = LIBRARY | INIT | {"SMI-NO-DEVICES"}


def run(name: str, returncode: int, truncated: bool = False) -> Output:
    """Return a kept output as the result of a run."""
    return Output(returncode, (DATA / f"{name}.txt").read_text(encoding="utf-8"), "", truncated)


def look(sample: Output) -> list[Observation]:
    """Return what the check says of one run."""
    return list(CHECK.observe(sample, NODE, NoOptions()))


def bad(seen: list[Observation]) -> list[tuple[str, str]]:
    """Return code and component of what is wrong."""
    return [(one.code, one.component) for one in seen if one.status is not Status.OK]


def fine(seen: list[Observation], component: str) -> set[str]:
    """Return the codes that a run has disproved of one component."""
    return {one.code for one in seen if one.status is Status.OK and one.component == component} - {IDENTITY}


def row(number: int, bus: str, *fields: str) -> str:
    """Return one row of the list, made up."""
    values = fields or (
        f"GPU-509665ad-b600-ac93-3616-d754b23d636{number}",
        f"165{number}",
        "NVIDIA H100 80GB HBM3",
        "31",
        "69.12",
    )
    return ", ".join((str(number), bus, *values))


# -- kept outputs ------------------------------------------------------------------------------------------------------

FAILED_RUNS = [
    # output, exit, what is wrong, what of the host is disproved
    ("535.261.03-no-library", 12, ("SMI-NO-LIBRARY", HOST), LIBRARY),
    ("535.261.03-no-driver", 9, ("SMI-NO-DRIVER", HOST), LIBRARY | INIT),
    ("535.261.03-init-permission", 4, ("SMI-NO-PERMISSION", HOST), LIBRARY | INIT),
    ("535.261.03-init-mismatch", 18, ("SMI-MISMATCH", HOST), LIBRARY | INIT),
    ("550.163.01-init-mismatch", 18, ("SMI-MISMATCH", HOST), LIBRARY | INIT),
    ("535.261.03-init-unknown", 255, ("SMI-INIT-ERR", HOST), LIBRARY | INIT),
    ("535.261.03-count-failed", 255, ("SMI-INIT-ERR", HOST), LIBRARY | INIT),
    ("535.261.03-count-gpu-lost", 15, ("SMI-GPU-LOST", HOST), LIBRARY | INIT),
    ("535.261.03-no-devices", 6, ("SMI-NO-DEVICES", HOST), ALL),
    ("550.163.01-no-supported-gpus", 6, ("SMI-NO-DEVICES", HOST), ALL),
    ("535.261.03-handle-power", 8, ("SMI-POWER", THIRD), ALL),
    ("535.261.03-handle-interrupt", 11, ("SMI-INTERRUPT", THIRD), ALL),
    ("535.261.03-handle-inforom", 14, ("SMI-INFOROM", THIRD), ALL),
    ("535.261.03-handle-lost", 15, ("SMI-GPU-LOST", THIRD), ALL),
    ("535.261.03-handle-reset", 255, ("SMI-RESET-REQUIRED", THIRD), ALL),
    ("535.261.03-handle-unknown", 255, ("SMI-ERR", THIRD), ALL),
    ("535.261.03-handle-blocked", 17, ("SMI-NO-PERMISSION", HOST), LIBRARY | INIT),
    ("535.261.03-library-mismatch", 255, ("SMI-FAILED", HOST), set()),
    ("535.261.03-bad-field", 2, ("SMI-FAILED", HOST), set()),
]


@pytest.mark.parametrize(("name", "returncode", "wrong", "disproved"), FAILED_RUNS, ids=[name for name, *_ in FAILED_RUNS])
def test_run_without_a_list(name: str, returncode: int, wrong: tuple[str, str], disproved: set[str]) -> None:
    seen = look(run(name, returncode))
    assert bad(seen) == [wrong]
    assert fine(seen, HOST) == disproved - {wrong[0]}
    assert {one.component for one in seen} == {HOST, wrong[1]}
    (first, *_) = (one for one in seen if one.status is not Status.OK)
    assert first.detail.endswith(f"(exit {returncode})")
    assert first.evidence
    assert dict(first.attrs) == {"exit": str(returncode)}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("535.261.03-eight-gpus", []),
        ("535.261.03-fields-unsupported", []),
        ("535.261.03-fields-lost", [("SMI-GPU-LOST", THIRD)]),
        ("535.261.03-fields-reset", [("SMI-RESET-REQUIRED", THIRD)]),
        ("535.261.03-power-unknown", [("SMI-FIELD-ERR", THIRD)]),
    ],
)
def test_run_with_a_list_disproves_all_else(name: str, wrong: list[tuple[str, str]]) -> None:
    seen = look(run(name, 0))
    assert bad(seen) == wrong
    assert fine(seen, HOST) == set(HOST_CODES) | set(GPU_CODES)
    for gpu in GPUS:
        assert fine(seen, gpu) == set(GPU_CODES) - {code for code, component in wrong if component == gpu}


def test_gpu_that_the_list_leaves_out_is_neither_bad_nor_fine() -> None:
    seen = look(run("535.261.03-handle-permission", 0))
    assert bad(seen) == []
    assert THIRD not in {one.component for one in seen}
    assert fine(seen, GPUS[7]) == set(GPU_CODES)


def test_gpu_without_an_address_goes_by_its_uuid_and_is_no_identity() -> None:
    seen = look(run("535.261.03-address-lost", 0))
    assert bad(seen) == [("SMI-GPU-LOST", NAMED_BY_UUID)]
    assert [one.component for one in seen if one.code == IDENTITY] == [gpu for gpu in GPUS if gpu != THIRD]


def test_every_gpu_says_who_it_is() -> None:
    told = {one.component: dict(one.attrs) for one in look(run("535.261.03-eight-gpus", 0)) if one.code == IDENTITY}
    assert list(told) == list(GPUS)
    assert told[THIRD] == {"uuid": "GPU-509665ad-b600-ac93-3616-d754b23d6363", "serial": "1650124014243"}


@pytest.mark.parametrize("name", sorted(path.stem for path in DATA.glob("*.txt")))
def test_every_kept_output_is_explained(name: str) -> None:
    origin = (DATA / "ORIGIN.md").read_text(encoding="utf-8")
    assert f"| `…-{name.partition('-')[2]}` |" in origin


# -- placeholders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "code", "component"),
    [
        ("[N/A]", "", ""),
        ("[Not Supported]", "", ""),
        ("[Function Not Found]", "", ""),
        ("[Not Found]", "", ""),
        ("[No data]", "", ""),
        ("[Requested functionality has been deprecated]", "", ""),
        ("N/A", "", ""),
        ("", "", ""),
        ("[Unknown Error]", "SMI-FIELD-ERR", THIRD),
        ("[Timeout]", "SMI-FIELD-ERR", THIRD),
        ("[In use by another client]", "SMI-FIELD-ERR", THIRD),
        ("[System is not in ready state]", "SMI-FIELD-ERR", THIRD),
        ("[Invalid Argument]", "SMI-FIELD-ERR", THIRD),
        ("[a text of some later version]", "SMI-FIELD-ERR", THIRD),
        ("ERR!", "SMI-FIELD-ERR", THIRD),
        ("[ERR!]", "SMI-FIELD-ERR", THIRD),
        ("[GPU is lost]", "SMI-GPU-LOST", THIRD),
        ("[GPU requires reset]", "SMI-RESET-REQUIRED", THIRD),
        ("[GPU requires restart]", "SMI-RESET-REQUIRED", THIRD),
        ("[Insufficient External Power]", "SMI-POWER", THIRD),
        ("[Interrupt Request Issue]", "SMI-INTERRUPT", THIRD),
        ("[Corrupted infoROM]", "SMI-INFOROM", THIRD),
        ("[Insufficient Permissions]", "SMI-NO-PERMISSION", HOST),
        ("[GPU access blocked by the operating system]", "SMI-NO-PERMISSION", HOST),
        ("[Driver Not Loaded]", "SMI-NO-DRIVER", HOST),
        ("[Driver/library version mismatch]", "SMI-MISMATCH", HOST),
    ],
)
def test_placeholder(value: str, code: str, component: str) -> None:
    fields = ("GPU-509665ad-b600-ac93-3616-d754b23d6363", "1650", "NVIDIA H100 80GB HBM3", "31", value)
    seen = look(Output(0, row(3, "00000000:86:00.0", *fields) + "\n", ""))
    assert bad(seen) == ([(code, component)] if code else [])
    assert fine(seen, THIRD) == set(GPU_CODES) - {code}


def test_several_placeholders_of_one_kind_are_one_fault() -> None:
    assert bad(look(run("535.261.03-fields-lost", 0))) == [("SMI-GPU-LOST", THIRD)]


@pytest.mark.parametrize("serial", ["[N/A]", "[GPU is lost]", "", "0"])
def test_serial_number_that_is_none_is_left_out(serial: str) -> None:
    text = row(3, "00000000:86:00.0", "GPU-509665ad-b600-ac93-3616-d754b23d6363", serial, "x", "31", "69.12")
    (identity,) = [one for one in look(Output(0, text, "")) if one.code == IDENTITY]
    assert dict(identity.attrs).get("serial") == ("0" if serial == "0" else None)


# -- texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "returncode", "code", "component"),
    [
        (
            "Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost.  Reboot",
            15,
            "SMI-GPU-LOST",
            "gpu:0000:02:00",
        ),
        ("Unable to determine the device handle for GPU0: 00000000:07:00.0: Unknown Error", 255, "SMI-ERR", "gpu:0000:07:00"),
        ("Unable to determine the device handle for gpu 000A:07:00.0: Unknown Error", 255, "SMI-ERR", "gpu:000a:07:00"),
        ("Unable to determine the device handle for GPU0: Unknown Error", 255, "SMI-ERR", HOST),
        ("Unable to determine the device handle for GPU 0000:07:00.0: Unknown Error", 15, "SMI-GPU-LOST", "gpu:0000:07:00"),
        ("WARNING: infoROM is corrupted at gpu 0000:86:00.0", 14, "SMI-INFOROM", THIRD),
        ("WARNING: infoROM is corrupted", 14, "SMI-INFOROM", HOST),
        ("Unable to communicate with GPU 0000:86:00.0.  Check permissions.", 4, "SMI-NO-PERMISSION", HOST),
        (
            "No devices were found. Please make sure /dev/nvidia* files are readable by current user.",
            6,
            "SMI-NO-PERMISSION",
            HOST,
        ),
        ("Failed to determine the number of available devices: Unknown Error", 255, "SMI-INIT-ERR", HOST),
        ("Unable to determine the number of available GPUs: Unknown Error", 255, "SMI-INIT-ERR", HOST),
        ("Failed to initialize NVML: GPU is lost", 15, "SMI-GPU-LOST", HOST),
        ("Failed to initialize NVML: GPU requires reset", 255, "SMI-RESET-REQUIRED", HOST),
        ("Failed to initialize NVML: RM has detected an NVML/RM version mismatch.", 18, "SMI-MISMATCH", HOST),
        ("Internal NVML error", 255, "SMI-FAILED", HOST),
        ("Segmentation fault", -11, "SMI-FAILED", HOST),
        ("", 255, "SMI-FAILED", HOST),
        ("", 0, "SMI-FAILED", HOST),
        ("", 4, "SMI-NO-PERMISSION", HOST),
        ("", 8, "SMI-POWER", HOST),
        ("", 9, "SMI-NO-DRIVER", HOST),
        ("", 10, "SMI-INTERRUPT", HOST),
        ("", 11, "SMI-INTERRUPT", HOST),
        ("", 12, "SMI-NO-LIBRARY", HOST),
        ("", 14, "SMI-INFOROM", HOST),
        ("", 15, "SMI-GPU-LOST", HOST),
        ("", 17, "SMI-NO-PERMISSION", HOST),
        ("", 18, "SMI-MISMATCH", HOST),
        ("", 1, "SMI-FAILED", HOST),
        ("", 3, "SMI-FAILED", HOST),
        ("", 13, "SMI-FAILED", HOST),
    ],
)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_text_or_else_the_exit_says_what_is_wrong(stream: str, text: str, returncode: int, code: str, component: str) -> None:
    sample = Output(returncode, text if stream == "stdout" else "", text if stream == "stderr" else "")
    assert bad(look(sample)) == [(code, component)]


@pytest.mark.parametrize(
    ("sample", "what"),
    [
        (Output(0, "\x00\xff\ufffd garbage\n" * 50, ""), "binary rubbish"),
        (Output(0, "<html>502 Bad Gateway</html>", ""), "another program's words"),
        (Output(0, "1, 2, 3\n4, 5, 6, 7, 8, 9, 10, 11\n", ""), "too few and too many columns"),
        (Output(0, "x, 00000000:53:00.0, a, b, c, d, e\n", ""), "no index"),
        (Output(0, "\n\n\n", ""), "blank lines"),
    ],
)
def test_rubbish_is_a_failure_of_the_tool_and_disproves_nothing(sample: Output, what: str) -> None:
    seen = look(sample)
    assert [(one.code, one.component) for one in seen] == [("SMI-FAILED", HOST)], what


def test_killed_half_way_disproves_only_what_it_showed() -> None:
    half = run("535.261.03-eight-gpus", -9)._replace(stdout="\n".join((row(0, "00000000:53:00.0"), "1, 0000")))
    seen = look(half)
    assert bad(seen) == [("SMI-FAILED", HOST)]
    assert fine(seen, HOST) == set()
    assert fine(seen, GPUS[0]) == set()


def test_cut_output_disproves_what_it_showed() -> None:
    whole = run("535.261.03-eight-gpus", 0)
    seen = look(Output(0, whole.stdout[:200], "", truncated=True))
    assert bad(seen) == []
    assert fine(seen, GPUS[0]) == set(GPU_CODES)
    assert THIRD not in {one.component for one in seen}


def test_warning_beside_a_list_is_told_and_the_list_counts() -> None:
    whole = run("535.261.03-eight-gpus", 14)
    seen = look(whole._replace(stdout=whole.stdout + "WARNING: infoROM is corrupted at gpu 0000:86:00.0\n"))
    assert bad(seen) == [("SMI-INFOROM", THIRD)]
    assert fine(seen, THIRD) == set(GPU_CODES) - {"SMI-INFOROM"}
    assert fine(seen, HOST) == set(HOST_CODES)


def test_two_lost_gpus_are_two_faults() -> None:
    text = "Unable to determine the device handle for GPU0000:{}:00.0: GPU is lost.  Reboot the system to recover this GPU\n"
    seen = look(Output(15, text.format("53") + text.format("64"), ""))
    assert bad(seen) == [("SMI-GPU-LOST", GPUS[0]), ("SMI-GPU-LOST", GPUS[1])]


def test_a_library_that_is_gone_ends_no_fault_of_the_driver() -> None:
    """A container that lost its library after an update must not heal a node on paper."""
    assert "SMI-NO-DRIVER" not in {one.code for one in look(run("535.261.03-no-library", 12))}


def test_one_endless_line_is_kept_short() -> None:
    (seen,) = look(Output(255, "x" * 200_000, ""))
    assert len(seen.detail) < 400
    assert len(seen.evidence) <= 2_000


# -- parts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "component"),
    [
        ("00000000:9B:00.0", "gpu:0000:9b:00"),
        ("GPU0000:91:00.0: GPU is lost", "gpu:0000:91:00"),
        ("00010000:01:00.0", "gpu:10000:01:00"),
        ("0000:9B:00", "gpu:0000:9b:00"),
        ("000:BA:80.0", ""),
        ("[GPU is lost]", ""),
        ("0" * 50_000, ""),
        ("0000:" * 20_000, ""),
        ("", ""),
    ],
)
def test_component_is_the_first_address(text: str, component: str) -> None:
    start = time.thread_time()
    assert component_of(text) == component
    assert time.thread_time() - start < 0.5


def test_a_whole_cap_of_output_is_parsed_quickly() -> None:
    text = row(3, "00000000:86:00.0") + "\n" + ", " * 50_000 + "\n" + "[" * 50_000 + "\n" + "0000:00:" * 10_000
    start = time.thread_time()
    look(Output(0, text, ""))
    assert time.thread_time() - start < 1.0


def test_blanks_and_line_ends_of_another_system_change_nothing() -> None:
    whole = run("535.261.03-eight-gpus", 0)
    assert look(whole._replace(stdout=whole.stdout.replace("\n", "  \r\n"))) == look(whole)


def test_rows_and_texts_are_told_apart_in_order() -> None:
    listing = parse(Output(0, "a\n" + row(0, "00000000:53:00.0") + "\n\nb\n", "c\n"))
    assert (listing.texts, [one.component for one in listing.rows]) == (("a", "b", "c"), [GPUS[0]])


def test_codes_are_all_declared() -> None:
    assert {code for _, code, _ in nvidia_smi._TEXTS} | {code for code, _ in nvidia_smi._EXITS.values()} <= CHECK.codes
    assert set(nvidia_smi._DEPTH) == set(HOST_CODES)


GPU = PciDevice("0000:53:00.0", "10de", "2330", "030200", "nvidia")


@pytest.mark.parametrize(
    ("node", "applies"),
    [
        (NodeFacts("n", "b"), False),
        (NodeFacts("n", "b", pci=(GPU,)), True),
        (NodeFacts("n", "b", expected=Expected("p5.48xlarge", gpus=8)), True),
        (NodeFacts("n", "b", expected=Expected("trn1.32xlarge", gpus=0)), False),
    ],
)
def test_applies_where_a_gpu_is_or_should_be(node: NodeFacts, applies: bool) -> None:
    assert CHECK.applies(node) is applies


@pytest.mark.needs("gpu")
def test_the_real_program_on_a_real_gpu_is_understood() -> None:
    done = subprocess.run(QUERY.argv, capture_output=True, text=True, check=False, timeout=CHECK.timeout_s)
    seen = look(Output(done.returncode, done.stdout, done.stderr))
    assert bad(seen) == []
    assert [one for one in seen if one.code == IDENTITY]
