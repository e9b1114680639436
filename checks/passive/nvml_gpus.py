"""Whether each GPU that the driver lists answers NVML, and by which error if not.

Rules of this file:
- A GPU that answers with an error says one thing about itself; all else about it is unknown then, and stays as it was.
- That a GPU answers is said for each GPU under the codes that confirm or refute an XID (lost, needs a reset): this is the
  explicit word that ends the waiting for a second route. Everything else that is fine is left out.
- Numbers are the return codes of the NVML header (nvmlReturn_t); the texts differ between the library and its bindings.
"""

from __future__ import annotations

from collections.abc import Iterator

from checks.passive._gpus import NODE, component, has_gpus, unlisted
from hma.check import Check, NoOptions, Nvml
from hma.gpu import Gpu, GpuReadings
from hma.model import NodeFacts, Observation, Status

LOST = "NVML-GPU-LOST"
RESET_REQUIRED = "NVML-RESET-REQUIRED"
ERR = "NVML-GPU-ERR"
FIELD_ERR = "NVML-FIELD-ERR"
IDENTITY = "GPU-IDENTITY"

_CODES: dict[int, tuple[str, Status]] = {
    4: ("NVML-BLOCKED", Status.DEGRADED),
    8: ("NVML-POWER", Status.FAILED),
    11: ("NVML-INTERRUPT", Status.FAILED),
    15: (LOST, Status.FAILED),
    16: (RESET_REQUIRED, Status.FAILED),
    17: ("NVML-BLOCKED", Status.DEGRADED),
}
"""What a return code of a GPU means; any other is ERR."""

ROUTES = (LOST, RESET_REQUIRED)
"""Said of each GPU that answers, since rows of XIDs wait for them."""


def observe(sample: GpuReadings, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Tell of each GPU whether it answers, which values it cannot give, and which UUID and serial number it bears."""
    if sample.driver.state != "up":
        detail = f"the driver does not answer ({sample.driver.state}); see nvml_driver"
        yield Observation(LOST, NODE, Status.UNKNOWN, detail)
        return
    for gpu in sample.gpus:
        yield from _answer(gpu) if gpu.code == 0 else _error(gpu)
        if gpu.uuid and gpu.pci:
            serial = (("serial", gpu.serial),) if gpu.serial.isalnum() else ()
            yield Observation(IDENTITY, component(gpu), Status.OK, attrs=(("uuid", gpu.uuid), *serial))
    for place in unlisted(sample, node):
        yield Observation(LOST, place, Status.UNKNOWN, "the driver does not list this GPU; see gpu_count_nvml")


def _answer(gpu: Gpu) -> Iterator[Observation]:
    place = component(gpu)
    for code in ROUTES:
        yield Observation(code, place, Status.OK, f"GPU {gpu.number} answers")
    if gpu.errors:
        shown = "; ".join(f"{name}: {why}" for name, why in sorted(gpu.errors.items()))
        names = ", ".join(sorted(gpu.errors))
        yield Observation(FIELD_ERR, place, Status.DEGRADED, f"GPU {gpu.number} gives errors for {names}"[:300], shown[:2_000])


def _error(gpu: Gpu) -> Iterator[Observation]:
    code, status = _CODES.get(gpu.code, (ERR, Status.FAILED))
    place, text = component(gpu), gpu.text or "NVML error"
    if f"({gpu.code})" not in text:
        text = f"{text} ({gpu.code})"
    yield Observation(code, place, status, f"GPU {gpu.number}: {text}"[:300], text[:2_000], attrs=(("code", str(gpu.code)),))
    yield Observation(FIELD_ERR, place, Status.UNKNOWN, "the GPU does not answer")


CHECK: Check[GpuReadings, NoOptions] = Check(
    name="nvml_gpus",
    title="Every GPU answers NVML",
    source=Nvml(),
    observe=observe,
    codes=frozenset({*(code for code, _ in _CODES.values()), ERR, FIELD_ERR, IDENTITY}),
    applies=has_gpus,
    needs="NVIDIA GPUs and the driver library libnvidia-ml.so.1",
    complete=True,
    optional=True,
)
