"""The NVML probe as the agent starts it, on the stand-in driver library: up, down, changed, lost, hung."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from hma.gpu import GpuEvent, GpuEvents, GpuReadings
from hma.sources.nvml_events import XID
from tests.sources.nvml_node import Libraries, Node, libraries
from tests.sources.probe_run import Running
from tests.sources.stuck import NEEDS, frozen

GPU_3, UUID_3 = "0000:86:00", "GPU-509665ad-b600-ac93-3616-d754b23d6363"
SILENT_TICK = 1000.0
"""With so long a tick it reads once, and again only when an event comes."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Libraries:
    """Give compiled libraries."""
    return libraries(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def node(tmp_path: Path, library: Libraries) -> Node:
    """Give a p5.48xlarge."""
    return Node(tmp_path, library)


def up(said: GpuReadings) -> bool:
    return said.driver.state == "up"


# -- the driver -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "state", "code", "text"),
    [
        ({"init": 9}, "no_driver", 9, "nvmlInit: Driver Not Loaded (9)"),
        ({"init": 18}, "mismatch", 18, "nvmlInit: RM has detected an NVML/RM version mismatch. (18)"),
        ({"init": 4}, "no_permission", 4, "nvmlInit: Insufficient Permissions (4)"),
        ({"init": 17}, "no_permission", 17, "nvmlInit: The operating system has blocked the request. (17)"),
        ({"init": 999}, "failed", 999, "nvmlInit: Unknown Error (999)"),
        ({"count_code": 999}, "failed", 999, "nvmlDeviceGetCount: Unknown Error (999)"),
    ],
)
def test_what_is_wrong_with_the_driver_is_told_apart(
    node: Node, changed: dict[str, int], state: str, code: int, text: str
) -> None:
    node.state.update(changed)
    with node.probe() as probe:
        said = probe.next(GpuReadings)
    assert (said.driver.state, said.driver.code, said.driver.text, said.gpus) == (state, code, text, ())


@pytest.mark.parametrize("missing", ["nvmlInitWithFlags", "nvmlDeviceGetCount_v2"])
def test_a_library_too_old_to_work_with_is_told(node: Node, missing: str) -> None:
    with node.probe(missing=(missing,)) as probe:
        assert probe.next(GpuReadings).driver.state == "old_library"


def test_a_library_that_is_not_there_is_told(node: Node, tmp_path: Path) -> None:
    with node.probe(library=str(tmp_path / "libnvidia-ml.so.1")) as probe:
        driver = probe.next(GpuReadings).driver
    assert driver.state == "no_library"
    assert driver.text.startswith(f"{tmp_path}/libnvidia-ml.so.1: cannot open shared object file")


def test_a_library_that_is_none_is_told(node: Node, tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not today")
    with node.probe(library=str(tmp_path / "libnvidia-ml.so.1")) as probe:
        assert probe.next(GpuReadings).driver.state == "no_library"


def test_without_nvidia_ml_py_it_cannot_look(tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text("raise ImportError('No module named pynvml')")
    with Running("-m", "hma.sources.nvml_probe", "--root", "/", env={"PYTHONPATH": str(tmp_path)}) as probe:
        assert probe.complaint() == "nvidia-ml-py is not installed (No module named pynvml): pip install nvidia-ml-py\n"
        assert probe.process.returncode == 1


def test_a_driver_that_comes_late_is_read_then(node: Node) -> None:
    node.state.set("init", 9)
    with node.probe() as probe:
        assert probe.next(GpuReadings).driver.state == "no_driver"
        node.state.drop("init")
        listen(probe)


def test_a_driver_that_goes_is_told_and_read_again_when_it_is_back(node: Node) -> None:
    with node.probe() as probe:
        probe.reading(up)
        node.state.update({"init": 9, "code": 9})
        assert probe.reading(lambda said: not up(said)).driver.state == "no_driver"
        node.state.drop("init", "code")
        assert len(probe.reading(up).gpus) == 8
        node.state.set("gpu.3.remap.pending", 1)
        assert probe.reading(lambda said: up(said) and said.gpus[3].rows and said.gpus[3].rows.pending)
        assert probe.end() == 0


def test_a_count_that_fails_for_a_while_is_told_and_forgotten(node: Node) -> None:
    with node.probe(tick=0.3) as probe:
        probe.reading(up)
        node.state.set("count_code", 27)
        failed = probe.reading(lambda said: not up(said)).driver
        assert (failed.state, failed.code, failed.gpu_count) == ("failed", 27, 8)
        node.state.drop("count_code")
        assert probe.reading(up).driver.text == ""


def test_a_driver_is_up_since_its_device_was_made(node: Node) -> None:
    (node.root / "dev").mkdir()
    (node.root / "dev/nvidiactl").symlink_to(sys.executable)  # its ctime cannot be set; this file is older than the test
    with node.probe(tick=SILENT_TICK) as probe:
        assert probe.reading(up).driver.up_s > 5


def test_a_driver_is_not_up_for_longer_than_since_it_was_seen_down(node: Node) -> None:
    node.state.set("init", 9)
    (node.root / "dev").mkdir()
    (node.root / "dev/nvidiactl").symlink_to(sys.executable)
    with node.probe() as probe:
        probe.reading(lambda said: not up(said))
        began = time.monotonic()
        node.state.drop("init")
        assert probe.reading(up).driver.up_s <= time.monotonic() - began + 1.0


# -- what makes a reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clocks.reasons", 0x8),
        ("clocks.reasons", 0x40),
        ("clocks.reasons", 0x80),
        ("recovery_action", 1),
        ("remap.pending", 1),
        ("remap.failed", 1),
        ("retired.pending", 1),
        ("ecc.volatile.uncorrected", 1),
        ("code", 15),
    ],
)
def test_what_changes_a_verdict_is_read_at_once(node: Node, key: str, value: int) -> None:
    node.state.set("gpu.*.retired.pending", 0)
    with node.probe(tick=1.0) as probe:  # the next whole reading would be due after 12 s
        before = probe.reading(up)
        node.state.set(f"gpu.3.{key}", value)
        after = probe.next(GpuReadings)
    assert after.driver.up_s - before.driver.up_s < 10
    assert after.gpus[3] != before.gpus[3]


def test_jitter_prints_nothing(node: Node) -> None:
    with node.probe(tick=0.5) as probe:
        probe.reading(up)
        for degrees in range(40, 44):
            node.state.update(
                {"gpu.*.temperature": degrees, "gpu.*.power_mw": degrees * 1000, "gpu.*.clocks.reasons": degrees % 2}
            )
            time.sleep(0.5)
        node.state.set("gpu.3.remap.pending", 1)
        heat = probe.next(GpuReadings).gpus[3].heat
    assert heat is not None
    assert heat.gpu_c == 43


def test_now_and_then_all_is_read_anew(node: Node) -> None:
    with node.probe(tick=0.05) as probe:
        first, second = probe.next(GpuReadings), probe.next(GpuReadings)
        assert [gpu._replace(inforom=None) for gpu in second.gpus] == [gpu._replace(inforom=None) for gpu in first.gpus]
        assert [gpu.inforom and gpu.inforom.valid for gpu in (first.gpus[0], second.gpus[0])] == [True, None]


def test_a_gpu_that_the_driver_no_longer_lists_is_missed_at_once(node: Node) -> None:
    with node.probe(tick=0.5) as probe:
        assert len(probe.reading(up).gpus) == 8
        node.state.set("gpu.3.absent", 1)
        fewer = probe.next(GpuReadings)
        assert fewer.driver.gpu_count == len(fewer.gpus) == 7
        assert GPU_3 not in [gpu.pci for gpu in fewer.gpus]
        node.state.drop("gpu.3.absent")
        assert [gpu.pci for gpu in probe.next(GpuReadings).gpus].index(GPU_3) == 3


def test_a_gpu_that_falls_off_the_bus_keeps_its_name_and_comes_back(node: Node) -> None:
    with node.probe(tick=0.5) as probe:
        probe.reading(up)
        node.state.update({"gpu.3.code": 15, "gpu.3.handle_code": 15})
        lost = probe.next(GpuReadings).gpus
        assert (lost[3].pci, lost[3].uuid, lost[3].code) == (GPU_3, UUID_3, 15)
        assert {gpu.code for gpu in lost if gpu.number != 3} == {0}
        node.state.drop("gpu.3.code", "gpu.3.handle_code")
        assert probe.next(GpuReadings).gpus[3].code == 0


def test_a_library_that_misses_a_gpu_of_the_driver_is_left_behind(node: Node) -> None:
    for number in range(8):
        (node.root / f"proc/driver/nvidia/gpus/0000:5{number}:00.0").mkdir(parents=True)
    node.state.set("gpu.3.absent", 1)
    with node.probe(tick=0.05) as probe:
        assert len(probe.reading(up).gpus) == 7
        probe.reading(lambda _: arguments(probe)[-2:] == ["--relisted", "2"])
        node.state.drop("gpu.3.absent")
        assert len(probe.reading(lambda said: len(said.gpus) == 8).gpus) == 8


def arguments(probe: Running) -> list[str]:
    """Return the command line of a probe."""
    return Path(f"/proc/{probe.process.pid}/cmdline").read_text().split("\0")[:-1]


# -- events -----------------------------------------------------------------------------------------------------------


def listen(probe: Running) -> None:
    """Wait until a probe listens and has read all GPUs once."""
    listens = reads = False
    while not (listens and reads):
        said: object = probe.next(tuple)
        listens |= isinstance(said, GpuEvents)
        reads |= isinstance(said, GpuReadings) and len(said.gpus) == 8


@pytest.mark.parametrize("kind", [0x1, 0x2, 0x8, 0x200, 0x400, 0x800, 0x1000, 0x2000, 0x4000, 0x8000])
def test_an_event_is_told_and_all_is_read(node: Node, kind: int) -> None:
    with node.probe(tick=SILENT_TICK) as probe:
        listen(probe)
        node.event(3, kind, 79)
        (event,) = probe.next(GpuEvents).events
        assert event._replace(at=0.0) == GpuEvent(GPU_3, kind, 79, 0.0, UUID_3)
        assert 0 <= time.clock_gettime(time.CLOCK_BOOTTIME) - event.at < 60
        probe.next(GpuReadings)


def test_an_event_names_its_mig_instance(node: Node) -> None:
    with node.probe(tick=SILENT_TICK) as probe:
        listen(probe)
        node.event(3, XID, 31, (5, 0))
        (event,) = probe.next(GpuEvents).events
    assert (event.gi, event.ci) == (5, 0)


def test_a_storm_of_events_loses_none_and_does_not_read_all_the_time(node: Node) -> None:
    with node.probe(tick=60) as probe:
        listen(probe)
        for number in range(200):
            node.event(3, XID, number)
        heard: list[int] = []
        readings = 0
        while len(heard) < 200:
            said: object = probe.next(tuple)
            readings += isinstance(said, GpuReadings)
            if isinstance(said, GpuEvents):
                heard += [event.data for event in said.events]
    assert heard == list(range(200))
    assert readings < 20


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_lost_gpu_does_not_deafen_us_to_the_others(node: Node, when: str) -> None:
    if when == "before":
        node.state.set("gpu.3.code", 15)
    with node.probe(tick=SILENT_TICK) as probe:
        listen(probe)
        if when == "while":
            node.state.set("gpu.3.code", 15)
            assert probe.next(GpuEvents) == GpuEvents()  # listening anew, without it
        node.event(5, XID, 94)
        (event,) = probe.next(GpuEvents, lambda said: said.events).events
    assert (event.pci, event.data) == ("0000:a8:00", 94)


def test_a_lost_gpu_that_lets_itself_be_registered_is_left_out_all_the_same(node: Node) -> None:
    with node.probe(tick=SILENT_TICK) as probe:
        listen(probe)
        node.state.update({"gpu.3.code": 15, "gpu.3.events.code": 0})
        assert probe.next(GpuEvents) == GpuEvents()
        time.sleep(2.5)  # time enough to begin anew three times
        node.event(5, XID, 94)
        said: tuple[object, ...] = probe.next(tuple)
    assert isinstance(said, GpuEvents)
    assert [event.data for event in said.events] == [94]


def test_a_lost_gpu_is_listened_to_again_when_it_is_back(node: Node) -> None:
    with node.probe(tick=0.2) as probe:
        listen(probe)
        node.state.set("gpu.3.code", 15)
        assert probe.next(GpuEvents) == GpuEvents()
        probe.reading(lambda said: said.gpus[3].code == 15)
        node.state.drop("gpu.3.code")
        probe.reading(lambda said: said.gpus[3].code == 0)
        node.event(5, XID, 1)  # the end of a wait, after which it looks whether something has changed
        assert probe.next(GpuEvents, lambda said: said.events)
        assert probe.next(GpuEvents) == GpuEvents()
        node.event(3, XID, 2)
        assert probe.next(GpuEvents, lambda said: said.events).events[0].pci == GPU_3


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"gpu.*.code": 15}, "nvmlDeviceGetHandleByIndex: GPU is lost (15)"),
        ({"gpu.*.events.code": 3}, "no GPU of this node supports events"),
        ({"gpu.*.events": 0x10}, "no GPU of this node supports events"),
    ],
)
def test_where_no_event_can_be_heard_that_is_said(node: Node, changed: dict[str, int], text: str) -> None:
    node.state.update(changed)
    with node.probe() as probe:
        said = probe.blind()
    assert said.of == "GpuEvents"
    assert said.text.partition(": ")[2] == text.partition(": ")[2]


# -- calls that hang --------------------------------------------------------------------------------------------------


def test_a_look_that_hangs_is_told_and_forgotten_when_it_comes_back(node: Node) -> None:
    with node.probe("--hung-after", "0.5", tick=3.0) as probe:  # the next whole reading would be due after 36 s
        probe.reading(up)
        node.state.update({"hang": "nvmlDeviceGetTemperature", "hang_gpu": 3})
        hung = probe.reading(lambda said: not up(said))
        assert (hung.driver.state, hung.driver.call, hung.driver.gpu) == ("hung", "nvmlDeviceGetTemperature", GPU_3)
        assert hung.driver.call_s >= 0.5
        assert hung.gpus == ()
        node.state.drop("hang", "hang_gpu")
        assert len(probe.reading(up).gpus) == 8


def test_while_a_look_hangs_events_are_heard(node: Node) -> None:
    with node.probe("--hung-after", "0.5") as probe:
        listen(probe)
        node.state.set("hang", "nvmlDeviceGetTemperature")
        probe.reading(lambda said: said.driver.state == "hung")
        node.event(3, XID, 119)
        assert probe.next(GpuEvents, lambda said: said.events).events[0].data == 119


def test_an_initialisation_may_take_longer_before_it_is_said_to_hang(node: Node) -> None:
    node.state.set("hang", "nvmlInit_v2")
    with node.probe("--hung-after", "0.3") as probe:
        hung = probe.next(GpuReadings).driver
        assert (hung.state, hung.call, hung.gpu) == ("hung", "nvmlInit", "")
        assert hung.call_s >= 1.8
        node.state.drop("hang")
        probe.reading(up)


def test_a_hung_registration_for_events_is_told_and_readings_go_on(node: Node) -> None:
    node.state.set("hang", "nvmlDeviceRegisterEvents")
    with node.probe("--hung-after", "0.5") as probe:
        probe.reading(up)
        assert probe.blind().text.startswith("nvmlDeviceRegisterEvents has not come back for ")
        node.state.set("gpu.3.remap.pending", 1)
        probe.reading(lambda said: said.gpus[3].rows and said.gpus[3].rows.pending)
        node.state.drop("hang")
        assert probe.next(GpuEvents) == GpuEvents()


@pytest.mark.parametrize("by", ["EOF", "SIGTERM"])
@pytest.mark.parametrize("call", ["", "nvmlDeviceGetTemperature", "nvmlInit_v2", "nvmlEventSetCreate"])
def test_leaves_whatever_hangs(node: Node, call: str, by: str) -> None:
    node.state.set("hang", call)
    with node.probe("--hung-after", "0.2") as probe:
        probe.line()
        assert probe.end(by) == 0


@pytest.mark.needs(*NEEDS)
def test_a_look_in_uninterruptible_sleep_is_told_and_costs_only_itself(node: Node, tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    with frozen(place) as disk, node.probe("--hung-after", "0.5") as probe:
        listen(probe)
        node.state.update({"hang": "nvmlDeviceGetTemperature", "hang_path": str(disk.place / "x")})
        assert probe.reading(lambda said: not up(said)).driver.state == "hung"
        assert "D" in probe.state()
        node.event(3, XID, 119)
        assert probe.next(GpuEvents, lambda said: said.events).events[0].data == 119
        assert probe.process.stdin is not None
        probe.process.stdin.close()
        disk.thaw()
        assert probe.process.wait(30) == 0
