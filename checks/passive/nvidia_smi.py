"""What `nvidia-smi` says of the driver and of each GPU: its error texts, its exit code, and its field placeholders.

Rules of this file:
- Errors come on stdout, stderr stays empty (seen with 535.261.03), so texts are looked for in both.
- A code about the host (driver, library) is disproved by any other outcome of the same run; a code about one GPU only by a
  row of that GPU. Nothing is disproved by a run that failed in a way this file does not know.
- NVIDIA does not promise the texts (man page: not backward compatible): an unknown failure is SMI-FAILED, never a GPU fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from hma.check import Check, Command, NoOptions, Output
from hma.model import NodeFacts, Observation, Status

QUERY = Command(
    (
        "nvidia-smi",
        # power.draw and temperature make the driver ask the GPU; the rest would be answered from memory.
        "--query-gpu=index,pci.bus_id,uuid,serial,name,temperature.gpu,power.draw",
        "--format=csv,noheader,nounits",
    )
)
INTERVAL_S = 60.0
TIMEOUT_S = 45.0  # without persistence mode every run initialises each GPU first, seconds apiece
FIELDS = 7

HOST = "host"
HOST_CODES = (
    "SMI-NO-DRIVER", "SMI-NO-LIBRARY", "SMI-NO-PERMISSION", "SMI-MISMATCH", "SMI-NO-DEVICES", "SMI-INIT-ERR", "SMI-FAILED",
)  # fmt: skip
GPU_CODES = (
    "SMI-GPU-LOST", "SMI-RESET-REQUIRED", "SMI-INFOROM", "SMI-INTERRUPT", "SMI-POWER", "SMI-ERR", "SMI-FIELD-ERR",
)  # fmt: skip
IDENTITY = "GPU-IDENTITY"

_ADDRESS = re.compile(r"([0-9A-Fa-f]{4,8}):([0-9A-Fa-f]{2}):([0-9A-Fa-f]{2})(?:\.[0-7])?\b")
_HANDLE = re.compile(r"Unable to determine the device handle for gpu", re.IGNORECASE)

# First match wins. Origin: strings of the nvidia-smi and libnvidia-ml 535.261.03 binaries (nvmlErrorString).
_TEXTS: tuple[tuple[re.Pattern[str], str, Status], ...] = (
    (re.compile(r"couldn't communicate with the NVIDIA driver|Driver Not Loaded", re.I), "SMI-NO-DRIVER", Status.FAILED),
    (re.compile(r"couldn't find libnvidia-ml|Shared Library Not Found", re.I), "SMI-NO-LIBRARY", Status.DEGRADED),
    (re.compile(r"Driver/library version mismatch|NVML/RM version mismatch", re.I), "SMI-MISMATCH", Status.FAILED),
    (re.compile(r"readable by current user|Insufficient Permissions|access blocked by the op", re.I),
     "SMI-NO-PERMISSION", Status.DEGRADED),
    (re.compile(r"No devices were found", re.I), "SMI-NO-DEVICES", Status.FAILED),
    (re.compile(r"GPU is lost", re.I), "SMI-GPU-LOST", Status.FAILED),
    (re.compile(r"requires (?:reset|restart)|GPU reset must occur", re.I), "SMI-RESET-REQUIRED", Status.FAILED),
    (re.compile(r"infoROM is corrupted|Corrupted infoROM", re.I), "SMI-INFOROM", Status.DEGRADED),
    (re.compile(r"Insufficient External Power", re.I), "SMI-POWER", Status.FAILED),
    (re.compile(r"Interrupt Request Issue", re.I), "SMI-INTERRUPT", Status.FAILED),
    (_HANDLE, "SMI-ERR", Status.FAILED),
    (re.compile(r"Failed to initialize NVML|Unable to determine the number of GPUs", re.I), "SMI-INIT-ERR", Status.DEGRADED),
    (re.compile(r"Failed to determine the number of available devices", re.I), "SMI-INIT-ERR", Status.DEGRADED),
)  # fmt: skip

# Exit codes of the man page (535.261.03), used where no text said more.
_EXITS: dict[int, tuple[str, Status]] = {
    4: ("SMI-NO-PERMISSION", Status.DEGRADED),
    8: ("SMI-POWER", Status.FAILED),
    9: ("SMI-NO-DRIVER", Status.FAILED),
    10: ("SMI-INTERRUPT", Status.FAILED),
    12: ("SMI-NO-LIBRARY", Status.DEGRADED),
    14: ("SMI-INFOROM", Status.DEGRADED),
    15: ("SMI-GPU-LOST", Status.FAILED),
}

# What a field shows in place of a value. `[N/A]` and `[Not Supported]` are answers, not faults.
_PLACEHOLDERS: dict[str, tuple[str, Status]] = {
    "[gpu is lost]": ("SMI-GPU-LOST", Status.FAILED),
    "[gpu requires reset]": ("SMI-RESET-REQUIRED", Status.FAILED),
    "[unknown error]": ("SMI-FIELD-ERR", Status.DEGRADED),
    "err!": ("SMI-FIELD-ERR", Status.DEGRADED),
    "[err!]": ("SMI-FIELD-ERR", Status.DEGRADED),
}


class Row(NamedTuple):
    """One GPU of the list; `component` is empty where not even the bus address could be read."""

    component: str
    uuid: str
    serial: str
    values: tuple[str, ...]
    line: str


class Listing(NamedTuple):
    """The output taken apart: one row per GPU, and every other line."""

    rows: tuple[Row, ...]
    texts: tuple[str, ...]


def has_gpus(node: NodeFacts) -> bool:
    """Return whether the node shows, or should show, an NVIDIA GPU."""
    expected = node.expected.gpus if node.expected else None
    return bool(node.gpus or expected)


def component_of(text: str) -> str:
    """Return `gpu:0000:9b:00` for the first PCI address in `text` (nvidia-smi prints an eight-digit domain), else ""."""
    match = _ADDRESS.search(text)
    if match is None:
        return ""
    domain, bus, device = match.groups()
    return f"gpu:{int(domain, 16):04x}:{bus.lower()}:{device.lower()}"


def parse(sample: Output) -> Listing:
    """Return the rows and the other lines of both streams, in order, without blank lines."""
    rows: list[Row] = []
    texts: list[str] = []
    for line in f"{sample.stdout}\n{sample.stderr}".splitlines():
        values = tuple(value.strip() for value in line.split(","))
        if len(values) == FIELDS and values[0].isdecimal():
            rows.append(Row(component_of(values[1]), values[2], values[3], values, line))
        elif line.strip():
            texts.append(line.strip())
    return Listing(tuple(rows), tuple(texts))


def observe(sample: Output, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Tell what failed, then what this run has disproved, then which GPU bears which UUID and serial number."""
    listing = parse(sample)
    found = {(o.code, o.component): o for o in _failures(sample, listing)}
    yield from found.values()
    yield from _disproved(sample, listing, found)
    for row in listing.rows:
        if row.component and row.uuid.startswith("GPU-"):
            serial = () if row.serial.startswith("[") else (("serial", row.serial),)
            yield Observation(IDENTITY, row.component, Status.OK, attrs=(("uuid", row.uuid), *serial))


def _failures(sample: Output, listing: Listing) -> Iterator[Observation]:
    known = False
    for line in listing.texts:
        for pattern, code, status in _TEXTS:
            if pattern.search(line):
                known = True
                yield _failure(code, status, line, sample.returncode)
                break
    for row in listing.rows:
        for value in row.values:
            if (placeholder := _PLACEHOLDERS.get(value.lower())) is not None:
                known = True
                yield Observation(
                    placeholder[0], row.component or HOST, placeholder[1], f"GPU {row.values[0]} shows {value}", row.line
                )
    if known or (sample.returncode == 0 and listing.rows):
        return
    first = listing.texts[0] if listing.texts else ""
    code, status = _EXITS.get(sample.returncode, ("SMI-FAILED", Status.DEGRADED))
    yield _failure(code, status, first, sample.returncode)


def _failure(code: str, status: Status, line: str, returncode: int) -> Observation:
    component = HOST if code in HOST_CODES else component_of(line) or HOST
    detail = f"nvidia-smi: {line or 'no output'}"[:300]
    return Observation(code, component, status, f"{detail} (exit {returncode})", line, attrs=(("exit", str(returncode)),))


def _disproved(sample: Output, listing: Listing, found: dict[tuple[str, str], Observation]) -> Iterator[Observation]:
    if ("SMI-FAILED", HOST) in found:
        return
    for code in HOST_CODES:
        if (code, HOST) not in found:
            yield Observation(code, HOST, Status.OK)
    components = [row.component for row in listing.rows if row.component]
    if sample.returncode == 0 and listing.rows:
        components.append(HOST)  # a failure that named no GPU
    for component in components:
        for code in GPU_CODES:
            if (code, component) not in found:
                yield Observation(code, component, Status.OK)


CHECK: Check[Output, NoOptions] = Check(
    name="nvidia_smi",
    title="nvidia-smi reaches the driver and every GPU",
    source=QUERY,
    observe=observe,
    codes=frozenset((*HOST_CODES, *GPU_CODES, IDENTITY)),
    interval_s=INTERVAL_S,
    timeout_s=TIMEOUT_S,
    applies=has_gpus,
    needs="NVIDIA GPUs and the program nvidia-smi",
    optional=True,
)
