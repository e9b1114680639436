"""Whether the NVIDIA driver answers NVML at all, and if not, what is in the way.

Rules of this file:
- Library, driver, devices come in this order. A state proves the steps before the one at which it was met, and says nothing
  of those after it: so a driver that is not up leaves every later code as it was (one `unknown` for the host says so).
- Nothing here is a GPU fault. An upgrade, a container without the driver's mounts and missing rights all look like this.
- A call that does not come back is told of the GPU that was asked; it is no fault that asks for anything, but as a second
  route it counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from checks.passive._gpus import HOST, has_gpus, of_the_driver
from hma.check import Check, NoOptions, Nvml
from hma.gpu import GpuReadings, NvmlDriver
from hma.model import Attrs, NodeFacts, Observation, Status

NO_LIBRARY = "NVML-NO-LIBRARY"
HUNG = "NVML-HUNG"
NO_DEVICES = "NVML-NO-DEVICES"
INIT_ERR = "NVML-INIT-ERR"

_STATES: dict[str, tuple[str, Status]] = {
    "no_library": (NO_LIBRARY, Status.DEGRADED),
    "no_driver": ("NVML-NO-DRIVER", Status.FAILED),
    "mismatch": ("NVML-MISMATCH", Status.FAILED),
    "no_permission": ("NVML-NO-PERMISSION", Status.DEGRADED),
    "old_library": ("NVML-OLD-LIBRARY", Status.DEGRADED),
    "failed": (INIT_ERR, Status.DEGRADED),
    "hung": (HUNG, Status.FAILED),
}
_INIT = tuple(code for code, _ in _STATES.values() if code not in (NO_LIBRARY, HUNG))
"""Met at the one call that begins: one of them disproves the others."""

CODES = frozenset({*(code for code, _ in _STATES.values()), NO_DEVICES})


def observe(sample: GpuReadings, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Tell what keeps the driver from answering, or that it answers and has devices."""
    driver = sample.driver
    if driver.state == "up":
        yield _up(driver, node)
        return
    code, status = _STATES.get(driver.state, (INIT_ERR, Status.DEGRADED))
    yield _failure(code, status, driver)
    if code != NO_LIBRARY:
        yield Observation(NO_LIBRARY, HOST, Status.OK)
    if code in _INIT:
        yield from (Observation(other, HOST, Status.OK) for other in _INIT if other != code)
    yield Observation(NO_DEVICES, HOST, Status.UNKNOWN, f"the driver does not answer ({driver.state})")


def _up(driver: NvmlDriver, node: NodeFacts) -> Observation:
    count = driver.gpu_count
    theirs = of_the_driver(node)
    about = f"driver {driver.version or 'of unknown version'}, NVML {driver.nvml_version or 'of unknown version'}"
    attrs: Attrs = (("driver", driver.version), ("nvml", driver.nvml_version))
    if count == 0 and theirs:
        detail = f"NVML finds no GPU, {len(theirs)} on the PCI bus are for the driver ({about})"
        return Observation(NO_DEVICES, HOST, Status.FAILED, detail, f"on the bus: {' '.join(theirs)}", attrs=attrs)
    gpus = "" if count is None else f", {count} GPUs"
    return Observation(NO_LIBRARY, HOST, Status.OK, about + gpus, attrs=attrs)


def _failure(code: str, status: Status, driver: NvmlDriver) -> Observation:
    if code == HUNG:
        where = f"gpu:{driver.gpu}" if driver.gpu else HOST
        about = f", {driver.text}" if driver.text else ""
        detail = f"{driver.call or 'a call of NVML'} has not come back for {driver.call_s:.0f} s{about}"
        attrs: Attrs = (("call", driver.call), ("seconds", f"{driver.call_s:.0f}"))
        return Observation(HUNG, where, status, detail, detail, attrs=attrs)
    text = driver.text or driver.state
    if driver.code and f"({driver.code})" not in text:
        text = f"{text} ({driver.code})"
    return Observation(code, HOST, status, f"NVML: {text}"[:300], text[:2_000], attrs=(("code", str(driver.code)),))


CHECK: Check[GpuReadings, NoOptions] = Check(
    name="nvml_driver",
    title="The NVIDIA driver answers NVML",
    source=Nvml(),
    observe=observe,
    codes=CODES,
    applies=has_gpus,
    needs="NVIDIA GPUs and the driver library libnvidia-ml.so.1",
    complete=True,
    optional=True,
)
