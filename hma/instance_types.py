"""What an instance type should show: our own table of accelerated types, `instance_types.csv`.

Rules of this file:
- Not known is None, never 0: a check that compares a count with None says nothing.
- `efa` is the most that can be attached, not what a launch template attached; the width in `pcie_width` is that of a
  healthy link, which on many types is x8 though the GPU could do x16.
- The file is plain comma-separated text without quoting, so that reading it costs no parser.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hma.model import Expected

T = TypeVar("T")

TABLE = Path(__file__).with_name("instance_types.csv")


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One row of the table. `gpu_fraction` is the share of one GPU that a slice (vGPU) type gets; None = whole GPUs.

    `neuron_cores` counts physical cores; `neuron-ls` may show half as many (logical cores of two).
    """

    instance_type: str
    kind: str
    accelerator: str
    gpus: int | None
    gpu_fraction: float | None
    neuron_devices: int | None
    neuron_cores: int | None
    efa: int | None
    nvlinks_per_gpu: int | None
    nvswitch: bool | None
    pcie_width: int | None
    vcpu: int | None
    memory_gib: int | None
    local_nvme: int | None


def canonical(name: str) -> str:
    """Return the EC2 name of an instance type: SageMaker writes `ml.p5.48xlarge` for `p5.48xlarge`."""
    return name.strip().lower().removeprefix("ml.")


def lookup(name: str | None) -> InstanceType | None:
    """Return the row of `name` (with or without `ml.`), None where the table has none."""
    if not name:
        return None
    start = canonical(name) + ","
    for line in _lines():
        if line.startswith(start):
            return _row(line)
    return None


def expected(instance_type: str | None) -> Expected | None:
    """Return what a whole node of this type shows, None for a type that is not in the table."""
    row = lookup(instance_type)
    if row is None:
        return None
    return Expected(
        instance_type=row.instance_type,
        accelerator=row.accelerator,
        gpus=row.gpus,
        neuron_devices=row.neuron_devices,
        efa=row.efa,
        nvlinks_per_gpu=row.nvlinks_per_gpu,
        pcie_width=row.pcie_width,
    )


def all_types() -> tuple[InstanceType, ...]:
    """Return every row, in the order of the file."""
    return tuple(_row(line) for line in _lines())


@functools.cache
def _lines() -> tuple[str, ...]:
    """Return the data lines; kept (9 KiB), so that a disk lost later cannot take the table away."""
    text = TABLE.read_text(encoding="ascii")
    return tuple(line for line in text.splitlines() if line and not line.startswith(("#", "instance_type,")))


def _row(line: str) -> InstanceType:
    name, kind, accelerator, gpus, fraction, devices, cores, efa, links, switch, width, vcpu, memory, nvme = line.split(",")
    return InstanceType(
        instance_type=name,
        kind=kind,
        accelerator=accelerator,
        gpus=_known(int, gpus),
        gpu_fraction=_known(float, fraction),
        neuron_devices=_known(int, devices),
        neuron_cores=_known(int, cores),
        efa=_known(int, efa),
        nvlinks_per_gpu=_known(int, links),
        nvswitch=_known("yes".__eq__, switch),
        pcie_width=_known(int, width),
        vcpu=_known(int, vcpu),
        memory_gib=_known(int, memory),
        local_nvme=_known(int, nvme),
    )


def _known(read: Callable[[str], T], text: str) -> T | None:
    return read(text) if text else None
