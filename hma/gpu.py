"""What the NVIDIA driver and DCGM say of the GPUs, as values: the samples of the sources Nvml, NvmlEvents, Dcgm and DcgmEvents.

Rules of this file:
- None is "this GPU, driver or library cannot tell", never zero and never an error. A value that could not be read for another
  reason is None as well, and `errors` says why, by the name of the value: such a GPU was not looked at in this respect.
- Units stand in the name; counters are as the driver counts them (since when: beside each), and only ever grow but for a reset.
- Numbers of NVML (return codes, states, masks) are kept as they are: what they mean is for the checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class NvmlDriver(NamedTuple):
    """Whether the driver answers.

    `state` is one of `up`, `no_library` (libnvidia-ml.so.1 is not here), `no_driver` (NVML 9), `mismatch` (18), `no_permission`
    (4, 17), `old_library` (a function that we cannot do without is missing), `failed` (any other error: `code` and `text`) and
    `hung` (`call` has not come back for `call_s` seconds; `gpu` is the PCI address it asked, "" where it asked none).

    `gpu_count` is nvmlDeviceGetCount_v2. `up_s` tells for how long the driver has been up as far as anybody here knows.
    """

    state: str
    code: int = 0
    text: str = ""
    version: str = ""
    nvml_version: str = ""
    gpu_count: int | None = None
    up_s: float = 0.0
    call: str = ""
    gpu: str = ""
    call_s: float = 0.0


class Ecc(NamedTuple):
    """ECC: whether it is on (now, after the next reset), and error counts (volatile: since the driver was loaded or the GPU
    reset; aggregate: in the life of the GPU). `sram_threshold` is bThresholdExceeded of nvmlDeviceGetSramEccErrorStatus."""

    enabled: bool | None = None
    pending: bool | None = None
    volatile_corrected: int | None = None
    volatile_uncorrected: int | None = None
    aggregate_corrected: int | None = None
    aggregate_uncorrected: int | None = None
    sram_threshold: bool | None = None


class Rows(NamedTuple):
    """Row remapping (A100 and later): rows remapped for corrected and uncorrected errors in the life of the GPU, whether
    one waits for a reset, whether one failed, and how many banks have all, many, some, few or no spare rows left."""

    corrected: int
    uncorrected: int
    pending: bool
    failed: bool
    banks_max: int | None = None
    banks_high: int | None = None
    banks_partial: int | None = None
    banks_low: int | None = None
    banks_none: int | None = None


class Pages(NamedTuple):
    """Retired pages (before A100): for repeated corrected errors, for an uncorrected one, and whether one waits."""

    corrected: int | None = None
    uncorrected: int | None = None
    pending: bool | None = None


class Repair(NamedTuple):
    """Repairs of memory that wait for a reboot (channel, TPC), and whether memory can no longer be repaired (newer drivers)."""

    channel_pending: bool | None = None
    tpc_pending: bool | None = None
    unrepairable: bool | None = None


class Clocks(NamedTuple):
    """Why the clocks are low now (the mask of nvmlDeviceGetCurrentClocksEventReasons), and for how many nanoseconds in all they
    were held down since the driver was loaded, per reason (fields 74, 75, 269-271; None on older drivers)."""

    reasons: int | None = None
    power_ns: int | None = None
    thermal_ns: int | None = None
    sw_thermal_ns: int | None = None
    hw_thermal_ns: int | None = None
    hw_brake_ns: int | None = None


class Heat(NamedTuple):
    """Temperatures in degrees Celsius. `margin_c` is what is left to the hardware slowdown (may be negative)."""

    gpu_c: int | None = None
    memory_c: int | None = None
    margin_c: int | None = None
    slowdown_c: int | None = None
    shutdown_c: int | None = None
    memory_max_c: int | None = None
    gpu_max_c: int | None = None


class Power(NamedTuple):
    """Watts: drawn now, the limit that is enforced, and the limit the board came with."""

    draw_w: float | None = None
    limit_w: float | None = None
    default_limit_w: float | None = None


class Link(NamedTuple):
    """One NVLink of a GPU: whether it is up (None = it cannot tell), and its errors since the driver was loaded.

    Up to NVLink 4 `crc` sums flit and data CRC errors; on NVLink 5 `recovery_failed`, `recovery_ok` and the bit error rates
    (raw values: mantissa and exponent packed by the driver) take their place.
    """

    number: int
    up: bool | None = None
    crc: int | None = None
    replay: int | None = None
    recovery: int | None = None
    recovery_failed: int | None = None
    recovery_ok: int | None = None
    effective_ber: int | None = None
    symbol_ber: int | None = None


class Pcie(NamedTuple):
    """PCIe: generation and lanes now and at most (of this GPU in this slot), and replays since the driver was loaded."""

    generation: int | None = None
    width: int | None = None
    max_generation: int | None = None
    max_width: int | None = None
    replays: int | None = None


class Fabric(NamedTuple):
    """The NVLink fabric as this GPU sees it (nvmlDeviceGetGpuFabricInfoV): state 0 not supported, 1 not started, 2 in progress,
    3 completed; `status` an NVML return code, valid when completed; the health mask (two bits a subject) and summary, where the
    driver gives them."""

    state: int
    status: int = 0
    clique: int | None = None
    cluster: str = ""
    health_mask: int | None = None
    summary: int | None = None


class Inforom(NamedTuple):
    """The InfoROM: whether its checksum is right (None = not looked at in this reading), and its image version."""

    valid: bool | None = None
    image: str = ""


class GpuProcess(NamedTuple):
    """A process with a compute context. `state` and `parent` as in proc(5), "" and 0 where no such process is to be seen from
    here; `job` names the Slurm job or Kubernetes pod of its control group, "" where it has none."""

    pid: int
    used_bytes: int | None = None
    comm: str = ""
    state: str = ""
    parent: int = 0
    age_s: float = 0.0
    job: str = ""


class Gpu(NamedTuple):
    """One GPU. `code` is what NVML returned when the GPU itself was asked (0 = it answers, 15 lost, 16 needs a reset, …), `pci`
    is `0000:9b:00` ("" where even that could not be read). A part that is None cannot be told on this GPU; `errors` names those
    that could not be read for another reason than "not supported", with NVML's words."""

    number: int
    pci: str
    uuid: str = ""
    serial: str = ""
    name: str = ""
    code: int = 0
    text: str = ""
    vbios: str = ""
    persistence: bool | None = None
    mig: bool | None = None
    mig_pending: bool | None = None
    gsp: bool | None = None
    gsp_default: bool | None = None
    recovery_action: int | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    ecc: Ecc | None = None
    rows: Rows | None = None
    pages: Pages | None = None
    repair: Repair | None = None
    clocks: Clocks | None = None
    heat: Heat | None = None
    power: Power | None = None
    links: tuple[Link, ...] | None = None
    pcie: Pcie | None = None
    fabric: Fabric | None = None
    inforom: Inforom | None = None
    processes: tuple[GpuProcess, ...] | None = None
    errors: Mapping[str, str] = {}


class FabricManager(NamedTuple):
    """The fabric manager on this node: whether it is `running`, and whether it is `installed` (None = cannot be seen)."""

    running: bool
    installed: bool | None = None


class GpuReadings(NamedTuple):
    """All GPUs of the node, read at one time; sample of Nvml. Without a driver that is up there are none in it."""

    driver: NvmlDriver
    gpus: tuple[Gpu, ...] = ()
    fabric_manager: FabricManager | None = None


class GpuEvent(NamedTuple):
    """One event of NVML: `kind` is the event type bit (0x8 = XID), `data` its number, `at` the boottime second it was taken;
    `gi` and `ci` name the MIG instance, None outside of MIG."""

    pci: str
    kind: int
    data: int
    at: float
    uuid: str = ""
    gi: int | None = None
    ci: int | None = None


class GpuEvents(NamedTuple):
    """Events of NVML as they came, oldest first; sample of NvmlEvents. An empty one says that events are being listened to."""

    events: tuple[GpuEvent, ...] = ()


# -- DCGM -------------------------------------------------------------------------------------------------------------


class DcgmEngine(NamedTuple):
    """Whether a host engine answers: `state` is `up`, `no_engine` (nothing listens), `failed` (it answers with an error, or an
    error of ours; `code` is dcgmReturn_t) or `hung` (`text` says since when). `route` is `bindings` or `dcgmi`."""

    state: str
    route: str
    code: int = 0
    text: str = ""
    version: str = ""
    address: str = ""


class DcgmGpu(NamedTuple):
    """One GPU as DCGM numbers it; `pci` is `0000:9b:00`, "" where DCGM does not tell."""

    gpu_id: int
    pci: str = ""
    uuid: str = ""


class DcgmIncident(NamedTuple):
    """One finding of a health watch: `system` is its DCGM_HEALTH_WATCH bit, `health` `warn` or `fail`, `code` the DCGM_FR
    number (None where the route does not tell it), `group` and `entity` what it is about (group 1 = GPU, 3 = NVSwitch)."""

    system: int
    health: str
    code: int | None
    message: str
    group: int
    entity: int


class DcgmHealth(NamedTuple):
    """What the health watches say now; sample of Dcgm. `gpus` tells which GPU a number means."""

    engine: DcgmEngine
    gpus: tuple[DcgmGpu, ...] = ()
    incidents: tuple[DcgmIncident, ...] = ()


class DcgmViolation(NamedTuple):
    """One policy violation: `condition` is its DCGM_POLICY_COND bit, `value` what it told (a count, degrees, watts, an XID),
    `gpu` the GPU's address or "" where the route does not tell it, `at` the boottime second it arrived."""

    condition: int
    value: float
    at: float
    gpu: str = ""
    field: int = 0


class DcgmViolations(NamedTuple):
    """Policy violations as they came, oldest first; sample of DcgmEvents. An empty one says that they are being listened to."""

    violations: tuple[DcgmViolation, ...] = ()
