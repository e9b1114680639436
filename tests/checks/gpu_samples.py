"""What the driver library says of whole nodes, made up as values: the healthy readings that tests of GPU checks start from.

The counts of GPUs, links and lanes and the PCI addresses are those of the instance types; temperatures, watts, versions and
serial numbers are invented within the range of such GPUs.
"""

from __future__ import annotations

from typing import Any

from hma.check import AnyCheck
from hma.cli.simulated_node import LAYOUTS
from hma.gpu import (
    Clocks,
    Ecc,
    Fabric,
    FabricManager,
    Gpu,
    GpuReadings,
    Heat,
    Inforom,
    Link,
    NvmlDriver,
    Pages,
    Pcie,
    Power,
    Repair,
    Rows,
)
from hma.instance_types import expected
from hma.model import NodeFacts, Observation, PciDevice, Status


def _pci(instance_type: str) -> tuple[PciDevice, ...]:
    return tuple(
        PciDevice(address, group.vendor, group.device, group.pci_class, group.driver)
        for group in LAYOUTS[instance_type]
        for address in group.addresses
    )


def _node(instance_type: str) -> NodeFacts:
    return NodeFacts("n1", "b1", instance_type, expected=expected(instance_type), pci=_pci(instance_type))


P5 = _node("p5.48xlarge")
G5 = _node("g5.12xlarge")
UNKNOWN_TYPE = NodeFacts("n1", "b1", "new.48xlarge", pci=P5.pci)
"""A node with the devices of p5 and a type that is in no table."""
NO_GPU = NodeFacts("n1", "b1", "m5.large")

P5_GPUS = tuple(f"gpu:{device.address[:-2]}" for device in P5.gpus)
G5_GPUS = tuple(f"gpu:{device.address[:-2]}" for device in G5.gpus)
"""The components, by number."""

UP = NvmlDriver("up", version="550.163.01", nvml_version="12.550.163.01", gpu_count=8, up_s=86_400.0)

LOST, RESET_REQUIRED = 15, 16
_WORDS = {LOST: "GPU is lost", RESET_REQUIRED: "GPU requires restart"}


def h100(number: int, pci: str) -> Gpu:
    """Return a healthy H100 of p5, at work."""
    return Gpu(
        number,
        pci,
        uuid=f"GPU-509665ad-b600-ac93-3616-d754b23d636{number}",
        serial=f"165012401424{number}",
        name="NVIDIA H100 80GB HBM3",
        vbios="96.00.89.00.01",
        persistence=True,
        mig=False,
        mig_pending=False,
        gsp=True,
        gsp_default=True,
        recovery_action=0,
        memory_used_bytes=0,
        memory_total_bytes=81_559 * 1_048_576,
        ecc=Ecc(True, True, 0, 0, 0, 0, sram_threshold=False),
        rows=Rows(0, 0, pending=False, failed=False, banks_max=2560, banks_high=0, banks_partial=0, banks_low=0, banks_none=0),
        repair=Repair(channel_pending=False, tpc_pending=False, unrepairable=None),
        clocks=Clocks(0, power_ns=0, thermal_ns=0, sw_thermal_ns=0, hw_thermal_ns=0, hw_brake_ns=0),
        heat=Heat(gpu_c=46, memory_c=58, margin_c=41, slowdown_c=89, shutdown_c=92, memory_max_c=95, gpu_max_c=87),
        power=Power(draw_w=412.5, limit_w=700.0, default_limit_w=700.0),
        links=tuple(Link(link, up=True, crc=0, replay=0, recovery=0) for link in range(18)),
        pcie=Pcie(generation=5, width=16, max_generation=5, max_width=16, replays=0),
        fabric=Fabric(state=3, status=0, clique=0, cluster="00000000-0000-0000-0000-000000000000"),
        inforom=Inforom(valid=True, image="G520.0200.00.05"),
        processes=(),
    )


def a10g(number: int, pci: str) -> Gpu:
    """Return a healthy A10G of g5, at work: x8 of x16 lanes, no NVLink, no fabric, no remapping of channels."""
    return h100(number, pci)._replace(
        name="NVIDIA A10G",
        vbios="94.02.75.00.01",
        mig=None,
        mig_pending=None,
        recovery_action=None,
        memory_total_bytes=23_028 * 1_048_576,
        rows=Rows(0, 0, pending=False, failed=False, banks_max=192, banks_high=0, banks_partial=0, banks_low=0, banks_none=0),
        repair=None,
        heat=Heat(gpu_c=44, slowdown_c=95, shutdown_c=98, gpu_max_c=88),
        power=Power(draw_w=152.0, limit_w=300.0, default_limit_w=300.0),
        links=None,
        pcie=Pcie(generation=4, width=8, max_generation=4, max_width=16, replays=0),
        fabric=None,
        inforom=Inforom(valid=True, image="G133.0200.00.05"),
    )


def v100(number: int, pci: str) -> Gpu:
    """Return a healthy V100: it retires pages instead of remapping rows, and has nothing that came with A100."""
    return h100(number, pci)._replace(
        name="Tesla V100-SXM2-32GB",
        mig=None,
        mig_pending=None,
        gsp=None,
        gsp_default=None,
        recovery_action=None,
        ecc=Ecc(True, True, 0, 0, 0, 0),
        rows=None,
        pages=Pages(0, 0, pending=False),
        repair=None,
        links=tuple(Link(link, up=True, crc=0, replay=0, recovery=0) for link in range(6)),
        pcie=Pcie(generation=3, width=16, max_generation=3, max_width=16, replays=0),
        fabric=None,
    )


def healthy(n: int = 8, **changes: Any) -> GpuReadings:
    """Return the first `n` GPUs of p5, all well; `changes` are parts of every GPU (`mig=True`)."""
    gpus = tuple(h100(number, place[4:])._replace(**changes) for number, place in enumerate(P5_GPUS[:n]))
    return GpuReadings(UP._replace(gpu_count=n), gpus, FabricManager(running=True, installed=True))


def healthy_g5(n: int = 4, **changes: Any) -> GpuReadings:
    """Return the first `n` GPUs of g5.12xlarge, all well."""
    gpus = tuple(a10g(number, place[4:])._replace(**changes) for number, place in enumerate(G5_GPUS[:n]))
    return GpuReadings(UP._replace(gpu_count=n), gpus, FabricManager(running=False, installed=False))


def old(n: int = 8, **changes: Any) -> GpuReadings:
    """Return `n` V100 at the addresses of p5, all well."""
    gpus = tuple(v100(number, place[4:])._replace(**changes) for number, place in enumerate(P5_GPUS[:n]))
    return GpuReadings(UP._replace(gpu_count=n), gpus)


def with_gpu(sample: GpuReadings, number: int, **parts: Any) -> GpuReadings:
    """Return the sample with parts of one GPU replaced: `with_gpu(healthy(), 3, ecc=Ecc(…))`."""
    gpus = tuple(gpu._replace(**parts) if gpu.number == number else gpu for gpu in sample.gpus)
    return sample._replace(gpus=gpus)


def unread(sample: GpuReadings, number: int, name: str, why: str = "Unknown Error", **also: Any) -> GpuReadings:
    """Return the sample with one part of one GPU (`ecc`) not readable, as the probe tells it."""
    return with_gpu(sample, number, **{name: None}, errors={name: why}, **also)


def down(state: str = "no_driver", **parts: Any) -> GpuReadings:
    """Return what is told while the driver is in another state than `up`."""
    return GpuReadings(NvmlDriver(state, **parts))


def lost(sample: GpuReadings, number: int, code: int = LOST) -> GpuReadings:
    """Return the sample with one GPU that answers nothing any more but `code`."""
    gpus = tuple(
        Gpu(number, gpu.pci, uuid=gpu.uuid, code=code, text=_WORDS.get(code, "Unknown Error")) if gpu.number == number else gpu
        for gpu in sample.gpus
    )
    return sample._replace(gpus=gpus)


def missing(sample: GpuReadings, number: int) -> GpuReadings:
    """Return the sample with one GPU that the driver does not list any more."""
    gpus = tuple(gpu for gpu in sample.gpus if gpu.number != number)
    return sample._replace(driver=sample.driver._replace(gpu_count=len(gpus)), gpus=gpus)


# -- what a check says ------------------------------------------------------------------------------------------------


def observe(check: AnyCheck, sample: GpuReadings, node: NodeFacts = P5) -> list[Observation]:
    """Return what a check says, and that it says nothing it has not announced."""
    seen = list(check.observe(sample, node, check.options))
    assert {one.code for one in seen} <= check.codes
    return seen


def wrong(seen: list[Observation]) -> list[tuple[str, str]]:
    """Return code and component of all that is wrong."""
    return [(one.code, one.component) for one in seen if one.status in (Status.DEGRADED, Status.FAILED)]


def grey(seen: list[Observation]) -> list[tuple[str, str]]:
    """Return component and reason of all that could not be looked at."""
    return [(one.component, one.detail) for one in seen if one.status is Status.UNKNOWN]


def fine(seen: list[Observation]) -> list[tuple[str, str]]:
    """Return component and words of all that is fine and no counter."""
    return [(one.component, one.detail) for one in seen if one.status is Status.OK and one.counter is None]


def counters(seen: list[Observation]) -> dict[tuple[str, str], float]:
    """Return the counters by code and component."""
    return {(one.code, one.component): one.counter for one in seen if one.counter is not None}
