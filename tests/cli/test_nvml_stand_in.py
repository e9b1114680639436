"""The stand-in for the driver library answers, fails and hangs as its state says, asked through the real nvidia-ml-py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hma.cli.nvml_stand_in as stand_in
from hma.cli.nvml_stand_in import NvmlState, StandInError, build, read_values
from hma.cli.nvml_values import DRIVERS, healthy
from tests.cli.nvml_asker import Asker
from tests.cli.nvml_calls import CALLS

pytestmark = pytest.mark.needs("gcc")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def state(tmp_path: Path) -> NvmlState:
    return NvmlState(tmp_path / "state", healthy("p5.48xlarge", "615"))


@pytest.fixture
def asker(library: Path, state: NvmlState) -> Iterator[Asker]:
    with Asker(library, state) as asker:
        yield asker


@pytest.fixture
def ready(asker: Asker) -> Asker:
    assert asker.ask("N.nvmlInit()") is None
    return asker


# -- every function ---------------------------------------------------------------------------------------------------


def exported() -> set[str]:
    """Return the names of the functions that the C source exports."""
    text = "".join(source.read_text() for source in Path(stand_in.__file__).parent.glob("nvml_stand_in*.c"))
    return set(re.findall(r"^(?:EXPORT [\w *]*?|TEXT\(|UNSIGNED\(|TWO\(|WIDE\()(nvml\w+)[(,]", text, re.MULTILINE))


def test_every_function_is_tried_here() -> None:
    assert exported() == set(CALLS)


@pytest.mark.parametrize("function", CALLS)
def test_function_answers_through_the_real_bindings(ready: Asker, state: NvmlState, function: str) -> None:
    changes, expression, answer = CALLS[function]
    state.update(changes)
    assert ready.ask(expression) == answer


# -- how it fails -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [4, 9, 18, 999])
def test_init_fails_as_told_and_comes_up_later(asker: Asker, state: NvmlState, code: int) -> None:
    state.set("init", code)
    assert asker.ask("N.nvmlInit()") == f"code {code}"
    assert asker.ask("N.nvmlDeviceGetCount()") == "code 1"
    state.set("init", 0)
    assert asker.ask("N.nvmlInit()") is None
    assert asker.ask("N.nvmlDeviceGetCount()") == 8


def test_init_counts_its_calls(asker: Asker) -> None:
    assert [asker.ask(f"N.{call}()") for call in ("nvmlInit", "nvmlInit", "nvmlShutdown", "nvmlDeviceGetCount")] == [
        None
    ] * 3 + [8]
    assert [asker.ask(f"N.{call}()") for call in ("nvmlShutdown", "nvmlDeviceGetCount", "nvmlShutdown")] == [None] + [
        "code 1"
    ] * 2


def test_a_driver_that_goes_away_fails_every_call(ready: Asker, state: NvmlState) -> None:
    ready.ask("globals().update(first=gpu(0))")
    state.set("code", 999)
    for expression in ("N.nvmlDeviceGetCount()", "gpu(0)", "N.nvmlDeviceGetUUID(first)", "N.nvmlSystemGetDriverVersion()"):
        assert ready.ask(expression) == "code 999"


@pytest.mark.parametrize("code", [15, 16, 17, 999])
def test_every_call_on_one_gpu_fails_and_none_on_the_others(ready: Asker, state: NvmlState, code: int) -> None:
    state.set("gpu.3.code", code)
    assert ready.ask("N.nvmlDeviceGetCount()") == 8
    asks = [expression.replace("gpu(0)", "gpu(3)") for _, expression, _ in CALLS.values() if "gpu(0)" in expression]
    asks += [
        "field(3, 230, 144)",
        "filled(N.nvmlDeviceGetRemappedRows_v2, N.c_nvmlRemappedRowsInfo_v2_t(), 3)",
        "listen((3, 8))",
    ]
    assert {expression: ready.ask(expression) for expression in asks} == dict.fromkeys(asks, f"code {code}")
    assert ready.ask("N.nvmlDeviceGetTemperature(gpu(2), 0)") == 31


def test_a_lost_gpu_may_still_tell_what_the_library_remembers(ready: Asker, state: NvmlState) -> None:
    state.update({"gpu.3.code": 15, "gpu.3.uuid.code": 0})
    assert ready.ask("N.nvmlDeviceGetUUID(gpu(3))").startswith("GPU-")
    assert ready.ask("N.nvmlDeviceGetTemperature(gpu(3), 0)") == "code 15"


@pytest.mark.parametrize(
    ("changes", "expression", "answer"),
    [
        ({"count_code": 999}, "N.nvmlDeviceGetCount()", "code 999"),
        ({"gpu.3.handle_code": 15}, "gpu(3)", "code 15"),
        ({"gpus": 7}, "gpu(7)", "code 2"),
        ({}, "N.nvmlDeviceGetHandleByPciBusId('0000:11:00.0')", "code 6"),
        ({"gpu.3.temperature.code": 999}, "N.nvmlDeviceGetTemperature(gpu(3), 0)", "code 999"),
        ({"gpu.*.temperature.code": 3}, "N.nvmlDeviceGetTemperature(gpu(3), 0)", "code 3"),
        ({"gpu.3.remap.pending.code": 999}, "N.nvmlDeviceGetRemappedRows(gpu(3))", "code 999"),
        ({"gpu.3.recovery_action.code": 999}, "field(3, 230, 144)", ["code 999", 0]),
        ({"gpu.3.nvlink.5.replay.code": 999}, "field(3, (161, 4), (161, 5))", [0, "code 999"]),
        ({"gpu.3.nvlink.*.state": 0}, "field(3, (165, 0), (165, 17))", [0, 0]),
        ({}, "field(3, (165, 18), 0, 307, 308)", ["code 2", "code 2", "code 3", "code 2"]),
        ({"field.230.type": 3, "gpu.0.recovery_action": 1 << 40}, "field(0, 230)", [1 << 40]),
        ({}, "N.nvmlDeviceGetFieldValues(gpu(0), [144])[0].value.ullVal == 0", False),
        ({"fabric_version": 2}, "filled(N.nvmlDeviceGetGpuFabricInfoV, N.c_nvmlGpuFabricInfo_v3_t())", "code 25"),
        ({}, "filled(N.nvmlDeviceGetSramEccErrorStatus, N.c_nvmlGpuFabricInfo_v3_t())", "code 25"),
        ({"gpu.0.name": "N" * 96}, "N.nvmlDeviceGetName(gpu(0))", "code 7"),
    ],
)
def test_failures_of_one_call(ready: Asker, state: NvmlState, changes: dict[str, Any], expression: str, answer: Any) -> None:
    state.update(changes)
    assert ready.ask(expression) == answer


def test_a_gpu_that_the_driver_does_not_know_leaves_no_gap(ready: Asker, state: NvmlState) -> None:
    state.set("gpu.3.absent", 1)
    assert ready.ask("N.nvmlDeviceGetCount()") == 7
    assert ready.ask("[N.nvmlDeviceGetPciInfo(gpu(i)).busId[9:11] for i in range(7)]") == [
        "53",
        "64",
        "75",
        "97",
        "A8",
        "B9",
        "CA",
    ]
    assert ready.ask("[N.nvmlDeviceGetIndex(gpu(i)) for i in range(7)]") == list(range(7))
    assert ready.ask("gpu(7)") == "code 2"


# -- drivers and types ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "recovery_action", "fabric"),
    [("535", "code 2", "code 13"), ("550", "code 2", "code 25"), ("580", 0, 3), ("615", 0, 3)],
)
def test_older_drivers_know_less(tmp_path: Path, driver: str, recovery_action: Any, fabric: Any) -> None:
    library = build(tmp_path / "lib", missing=DRIVERS[driver].missing)
    with Asker(library, NvmlState(tmp_path / "state", healthy("p5.48xlarge", driver))) as asker:
        asker.ask("N.nvmlInit()")
        assert asker.ask("N.nvmlSystemGetDriverVersion()") == DRIVERS[driver].version
        assert asker.ask("field(0, 230, 144)") == [recovery_action, 0]
        told = asker.ask("filled(N.nvmlDeviceGetGpuFabricInfoV, N.c_nvmlGpuFabricInfo_v3_t())")
        assert (told if isinstance(told, str) else told["state"]) == fabric
        for name in DRIVERS[driver].missing:
            assert asker.ask(f"symbol({name!r})") == "code 13", name


@pytest.mark.parametrize(
    ("instance_type", "count", "name", "links"),
    [
        ("p5.48xlarge", 8, "NVIDIA H100 80GB HBM3", 18),
        ("ml.p5.48xlarge", 8, "NVIDIA H100 80GB HBM3", 18),
        ("p4d.24xlarge", 8, "NVIDIA A100-SXM4-40GB", 12),
        ("p6-b200.48xlarge", 8, "NVIDIA B200", 18),
        ("g5.12xlarge", 4, "NVIDIA A10G", "code 3"),
    ],
)
def test_types(asker: Asker, state: NvmlState, instance_type: str, count: int, name: str, links: Any) -> None:
    state.replace(healthy(instance_type))
    asker.ask("N.nvmlInit()")
    assert asker.ask("N.nvmlDeviceGetCount()") == count
    assert asker.ask("N.nvmlDeviceGetName(gpu(0))") == name
    assert asker.ask("field(0, 91)") == [links]


@pytest.mark.parametrize(("instance_type", "driver"), [("trn1.32xlarge", "580"), ("p5.48xlarge", "1")])
def test_what_has_no_values_is_refused(instance_type: str, driver: str) -> None:
    with pytest.raises(ValueError, match="known are"):
        healthy(instance_type, driver)


# -- the state file, and what is not there -------------------------------------------------------------------------------


def test_threads_see_one_state_or_the_next_and_nothing_else(ready: Asker, state: NvmlState) -> None:
    ready.ask("globals().update(ThreadPool=__import__('multiprocessing.pool').pool.ThreadPool)")
    ready.say("sorted(set(ThreadPool(4).map(lambda n: tuple(field(n % 8, 230, 3, (163, 5))), range(4000))))")
    for turn in range(200):
        state.update({"gpu.*.recovery_action": turn % 2, "gpu.*.ecc.volatile.corrected": turn % 2})
    assert set(map(tuple, ready.answer())) <= {(0, 0, 0), (1, 1, 0)}


def test_every_change_is_seen_however_fast_they_come(ready: Asker, state: NvmlState) -> None:
    for degrees in (*range(30, 90), *range(30, 90)):
        state.set(
            "gpu.0.temperature", 29
        )  # never asked for: its file gives way to one that may have the inode of the one before
        state.set("gpu.0.temperature", degrees)
        assert ready.ask("N.nvmlDeviceGetTemperature(gpu(0), 0)") == degrees


def test_state_is_kept_between_writers(state: NvmlState) -> None:
    state.set("gpu.3.code", 15)
    other = NvmlState(state.path)
    assert other.values == state.values == read_values(state.path)
    other.drop("gpu.3.code", "never.there")
    assert "gpu.3.code" not in read_values(state.path)


@pytest.mark.parametrize(("key", "value"), [("", "1"), ("a b", "1"), ("a=b", "1"), ("#a", "1"), ("a", "1\ninit = 9")])
def test_what_is_no_line_of_a_state_is_refused(state: NvmlState, key: str, value: str) -> None:
    with pytest.raises(StandInError, match="a key is one word, a value one line"):
        state.set(key, value)


def test_comments_and_blank_lines_are_none(ready: Asker, state: NvmlState) -> None:
    state.path.write_text("# gpus = 3\n\n  gpus=2 \nno key\n")
    assert ready.ask("N.nvmlDeviceGetCount()") == 2


def test_without_a_state_there_is_no_gpu(ready: Asker, state: NvmlState) -> None:
    state.path.unlink()
    assert ready.ask("N.nvmlDeviceGetCount()") == 0


def test_without_the_library_it_is_not_found(tmp_path: Path, state: NvmlState) -> None:
    (tmp_path / "empty").mkdir()
    with Asker(tmp_path / "empty" / stand_in.SONAME, state) as asker:
        assert asker.ask("N.nvmlInit()") == "code 12"


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StandInError, match="apt-get install gcc"):
        build(tmp_path / "lib")
