"""GPUs that NVML lists, against how many the node should have: one of three routes, see `gpu_count_pci` and `gpu_count_smi`.

Rules of this file:
- A driver that has just come up may list fewer GPUs than it is going to, or none: until it has been up for its settling time
  a low count is unknown. Healthy nodes have been rebooted elsewhere for such a count.
- None at all while the bus shows some is no count but a driver that has none (`NVML-NO-DEVICES`): missing device files, a
  driver that does not fit. A whole fleet can have that after one bad image, and no reboot cures it.
- A GPU that is lost is still listed: that is `nvml_gpus`' to tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from checks.passive._gpu_counts import missing_of_driver, wanted_of_driver
from checks.passive._gpus import NODE, component, has_gpus
from hma.check import Check, Nvml
from hma.gpu import GpuReadings
from hma.model import Attrs, NodeFacts, Observation, Status

CODE = "GPU-COUNT-NVML"


@dataclass(frozen=True, slots=True)
class Options:
    """`settle_s`: for how long the driver must have been up before a low count counts."""

    settle_s: float = 120.0


def observe(sample: GpuReadings, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Compare the count with the instance type, or, where that is not known, with the PCI bus at start."""
    wanted = wanted_of_driver(node)
    if wanted is None:
        return
    driver = sample.driver
    if driver.state != "up":
        detail = f"the driver does not answer ({driver.state}); see nvml_driver"
        yield Observation(CODE, NODE, Status.UNKNOWN, detail)
        return
    seen = driver.gpu_count
    if seen is None:
        yield Observation(CODE, NODE, Status.UNKNOWN, "NVML does not tell how many GPUs there are")
        return
    attrs: Attrs = (("expected", str(wanted.gpus)), ("seen", str(seen)))
    count = f"NVML lists {seen} of {wanted.gpus} GPUs ({wanted.source})"
    if seen >= wanted.gpus:
        yield Observation(CODE, NODE, Status.OK, f"{seen} GPUs", attrs=attrs)
    elif seen == 0 and node.gpus:
        detail = f"{count}: no count but a driver without GPUs; see nvml_driver"
        yield Observation(CODE, NODE, Status.UNKNOWN, detail, attrs=attrs)
    elif driver.up_s < options.settle_s:
        settling = f"the driver has been up for {driver.up_s:.0f} s of {options.settle_s:g} s"
        yield Observation(CODE, NODE, Status.UNKNOWN, f"{count}, but {settling}", attrs=attrs)
    else:
        listed = tuple(component(gpu) for gpu in sample.gpus)
        missing = missing_of_driver(node, listed)
        evidence = f"nvmlDeviceGetCount_v2: {seen}; listed: {' '.join(listed) or 'none'}"
        detail = count + (f", not {missing}" if missing else "")
        yield Observation(CODE, NODE, Status.FAILED, detail, evidence, attrs=(*attrs, ("missing", missing)))


CHECK: Check[GpuReadings, Options] = Check(
    name="gpu_count_nvml",
    title="NVML lists every GPU",
    source=Nvml(),
    observe=observe,
    codes=frozenset({CODE}),
    applies=has_gpus,
    needs="NVIDIA GPUs and the driver library libnvidia-ml.so.1",
    options=Options(),
    complete=True,
    optional=True,
)
