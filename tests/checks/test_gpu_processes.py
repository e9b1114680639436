"""Processes and memory on the GPUs, made by hand; states are the letters of proc(5)."""

import pytest

from checks.passive.gpu_processes import CHECK, HELD, LEFT, Options
from hma.gpu import GpuProcess, GpuReadings
from tests.checks.gpu_samples import P5, P5_GPUS, down, fine, grey, healthy, lost, missing, observe, unread, with_gpu, wrong

GPU = P5_GPUS[3]
GIB = 1024**3
WORKER = GpuProcess(4_711, 60 * GIB, "python3", "R", 4_700, 3_600.0, "slurm job 77")
SERVICE = GpuProcess(900, 20 * GIB, "triton", "S", 1, 86_400.0)
UNSEEN = GpuProcess(31, 60 * GIB)


def on_gpu(*processes: GpuProcess, used_bytes: int | None = 0) -> GpuReadings:
    """Return a node with these processes on one GPU, and none elsewhere."""
    return with_gpu(healthy(), 3, processes=processes, memory_used_bytes=used_bytes)


@pytest.mark.parametrize(
    ("processes", "codes"),
    [
        ((), []),
        ((WORKER,), []),
        ((WORKER._replace(state="S"),), []),
        ((WORKER._replace(state="T"),), []),  # a debugger holds it: somebody wants it so
        ((WORKER._replace(state="Z"),), [LEFT]),
        ((WORKER._replace(state="X"),), [LEFT]),
        ((WORKER._replace(state="x"),), [LEFT]),
        ((WORKER._replace(state="D"),), [LEFT]),
        ((WORKER._replace(state="Z", job=""),), [LEFT]),
        ((WORKER, WORKER._replace(pid=4_712, state="D")), [LEFT]),
        ((WORKER._replace(state="D"), WORKER._replace(pid=4_712, state="Z")), [LEFT]),
        ((SERVICE,), []),
        ((WORKER._replace(parent=1, job=""),), []),
        ((UNSEEN,), []),
    ],
)
def test_what_has_ended_or_cannot_end_is_left_over(processes: tuple[GpuProcess, ...], codes: list[str]) -> None:
    assert wrong(observe(CHECK, on_gpu(*processes))) == [(code, GPU) for code in codes]


@pytest.mark.parametrize(
    ("process", "codes"),
    [
        (SERVICE, [LEFT]),
        (WORKER._replace(parent=1), []),  # its job is known
        (WORKER._replace(job=""), []),  # its parent is alive
        (UNSEEN._replace(parent=1), []),
        (WORKER._replace(state="Z"), [LEFT]),
    ],
)
def test_orphans_count_only_where_asked_for(process: GpuProcess, codes: list[str]) -> None:
    seen = list(CHECK.observe(on_gpu(process), P5, Options(orphans=True)))
    assert wrong(seen) == [(code, GPU) for code in codes]


def test_first_process_is_named_and_the_others_are_counted() -> None:
    one = observe(CHECK, on_gpu(WORKER._replace(state="Z"), WORKER._replace(pid=4_712, state="D", used_bytes=None)))[0]
    assert one.detail == "python3 (pid 4711) of slurm job 77 has ended, holds 60.0 GiB (+1 more)"
    assert one.evidence == "4711:python3:Z 4712:python3:D"
    assert one.attrs == (("pid", "4711"), ("state", "Z"), ("job", "slurm job 77"), ("processes", "2"))


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"memory_used_bytes": 600 * 1024**2}, []),  # what the driver keeps
        ({"memory_used_bytes": 2 * GIB - 1}, []),
        ({"memory_used_bytes": 2 * GIB}, [HELD]),
        ({"memory_used_bytes": 70 * GIB}, [HELD]),
        ({"memory_used_bytes": None}, []),
        ({"memory_used_bytes": 70 * GIB, "processes": (WORKER,)}, []),
        ({"memory_used_bytes": 70 * GIB, "processes": (UNSEEN,)}, []),
        ({"memory_used_bytes": 70 * GIB, "processes": None}, []),
        ({"memory_used_bytes": 70 * GIB, "mig": True}, []),
        ({"memory_used_bytes": 70 * GIB, "mig": None}, [HELD]),
        ({"memory_used_bytes": 70 * GIB, "name": "NVIDIA GB200"}, []),  # its memory is a NUMA node
        ({"memory_used_bytes": 70 * GIB, "name": "NVIDIA GH200 480GB"}, []),
        ({"memory_used_bytes": 70 * GIB, "name": "NVIDIA B200"}, [HELD]),
    ],
)
def test_memory_without_a_process_is_held(changes: dict[str, object], codes: list[str]) -> None:
    assert wrong(observe(CHECK, with_gpu(healthy(), 3, **changes))) == [(code, GPU) for code in codes]


@pytest.mark.parametrize(("held_bytes", "codes"), [(GIB, [HELD]), (4 * GIB, [])])
def test_memory_is_an_option(held_bytes: int, codes: list[str]) -> None:
    seen = list(CHECK.observe(on_gpu(used_bytes=3 * GIB), P5, Options(held_bytes=held_bytes)))
    assert wrong(seen) == [(code, GPU) for code in codes]


def test_no_memory_in_use_is_never_held() -> None:
    assert wrong(list(CHECK.observe(healthy(), P5, Options(held_bytes=0)))) == []


def test_processes_that_cannot_be_seen_from_here_make_the_gpu_grey() -> None:
    seen = observe(CHECK, on_gpu(UNSEEN, WORKER))
    assert (wrong(seen), grey(seen)) == ([], [(GPU, "has processes that cannot be seen from here")])
    assert fine(seen) == [("node", "7 GPUs, nothing left over (processes: 2)")]


def test_one_process_on_all_gpus_is_one_process() -> None:
    assert fine(observe(CHECK, healthy(processes=(WORKER,)))) == [("node", "8 GPUs, nothing left over (processes: 1)")]


def test_gpus_that_do_not_tell_who_uses_them_say_nothing() -> None:
    assert observe(CHECK, healthy(processes=None)) == []


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (unread(healthy(), 3, "processes"), [(GPU, "Unknown Error")]),
        (lost(healthy(), 3), [(GPU, "GPU is lost")]),
        (missing(healthy(), 3), [(GPU, "the driver does not list this GPU")]),
        (down("no_driver"), [("node", "the driver does not answer (no_driver); see nvml_driver")]),
    ],
)
def test_what_could_not_be_looked_at_is_grey(sample: GpuReadings, told: list[tuple[str, str]]) -> None:
    seen = observe(CHECK, sample)
    assert (wrong(seen), grey(seen)) == ([], told)
