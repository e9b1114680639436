"""What `nvidia-smi` says of the driver and of each GPU: its error texts, its exit code, and its field placeholders.

Rules of this file:
- Errors come on stdout, stderr stays empty (535.261.03 and 550.163.01), so texts are looked for in both. One GPU that has
  no handle costs the whole list: one text and no row. A field that fails shows NVML's error text in brackets, exit 0.
- Library, driver, devices, rows come in this order. A run proves the steps before the one at which it failed, and nothing
  of those after it: without a library nothing is known of the driver. A code about one GPU ends only by a row of that GPU.
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

_DEPTH = {
    "SMI-FAILED": 0, "SMI-NO-LIBRARY": 0,
    "SMI-NO-DRIVER": 1, "SMI-NO-PERMISSION": 1, "SMI-MISMATCH": 1, "SMI-INIT-ERR": 1,
    "SMI-NO-DEVICES": 2,
}  # fmt: skip
"""At which step of the run a code about the host is found."""

_ADDRESS = re.compile(r"([0-9A-Fa-f]{4,8}):([0-9A-Fa-f]{2}):([0-9A-Fa-f]{2})(?:\.[0-7])?\b")
_UUID = re.compile(r"GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LONG = 2_000  # characters of a line kept as evidence: the whole output may be one

# First match wins. Origin: strings of the binaries 535.261.03 and 550.163.01, and NVML's error texts (nvmlErrorString).
_TEXTS: tuple[tuple[re.Pattern[str], str, Status], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), code, status)
    for pattern, code, status in (
        ("couldn't communicate with the NVIDIA driver|Driver Not Loaded", "SMI-NO-DRIVER", Status.FAILED),
        ("couldn't find libnvidia-ml|Shared Library Not Found", "SMI-NO-LIBRARY", Status.DEGRADED),
        ("Driver/library version mismatch|NVML/RM version mismatch", "SMI-MISMATCH", Status.FAILED),
        ("readable by current user|Insufficient Permissions|Check permissions", "SMI-NO-PERMISSION", Status.DEGRADED),
        ("access blocked by the operating system", "SMI-NO-PERMISSION", Status.DEGRADED),
        ("No devices were found|No supported GPUs were found", "SMI-NO-DEVICES", Status.FAILED),
        ("GPU is lost", "SMI-GPU-LOST", Status.FAILED),
        ("requires (?:reset|restart)|GPU reset must occur", "SMI-RESET-REQUIRED", Status.FAILED),
        ("infoROM is corrupted|Corrupted infoROM", "SMI-INFOROM", Status.DEGRADED),
        ("Insufficient External Power|insufficiently powered", "SMI-POWER", Status.FAILED),
        ("Interrupt Request Issue|issue with GPU interrupts", "SMI-INTERRUPT", Status.FAILED),
        ("Unable to determine the device handle for gpu", "SMI-ERR", Status.FAILED),
        ("Failed to initialize NVML|Unable to determine the number of ", "SMI-INIT-ERR", Status.DEGRADED),
        ("Failed to determine the number of available devices", "SMI-INIT-ERR", Status.DEGRADED),
    )
)

# Exit codes of the man page, used where the text says no more than that it failed ("… for GPU0000:91:00.0: Unknown Error").
# 11, 17 and 18 are not in it: both versions exit with NVML's own number (an interrupt issue is 11 there, 10 in the man page).
_EXITS: dict[int, tuple[str, Status]] = {
    4: ("SMI-NO-PERMISSION", Status.DEGRADED),
    8: ("SMI-POWER", Status.FAILED),
    9: ("SMI-NO-DRIVER", Status.FAILED),
    10: ("SMI-INTERRUPT", Status.FAILED),
    11: ("SMI-INTERRUPT", Status.FAILED),
    12: ("SMI-NO-LIBRARY", Status.DEGRADED),
    14: ("SMI-INFOROM", Status.DEGRADED),
    15: ("SMI-GPU-LOST", Status.FAILED),
    17: ("SMI-NO-PERMISSION", Status.DEGRADED),
    18: ("SMI-MISMATCH", Status.FAILED),
}
_VAGUE = frozenset({"SMI-ERR", "SMI-INIT-ERR"})

# What a field may show in place of a value without being at fault; anything else in brackets is an error of NVML.
_ANSWERS = frozenset(
    {
        "[n/a]", "[not supported]", "[function not found]", "[not found]", "[no data]",
        "[requested functionality has been deprecated]",
    }
)  # fmt: skip


class Row(NamedTuple):
    """One GPU of the list; `component` is named by the UUID, or empty, where the bus address could not be read."""

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
            uuid = values[2] if _UUID.fullmatch(values[2]) else ""
            component = component_of(values[1]) or (f"gpu:{uuid}" if uuid else "")
            rows.append(Row(component, uuid, values[3], values, line[:_LONG]))
        elif line.strip():
            texts.append(line.strip()[:_LONG])
    return Listing(tuple(rows), tuple(texts))


def observe(sample: Output, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Tell what failed, then what this run has disproved, then which GPU bears which UUID and serial number."""
    listing = parse(sample)
    found = {(o.code, o.component): o for o in _failures(sample, listing)}
    yield from found.values()
    yield from _disproved(sample, listing, found)
    for row in listing.rows:
        if row.uuid and (component := component_of(row.values[1])):
            serial = (("serial", row.serial),) if row.serial.isalnum() else ()
            yield Observation(IDENTITY, component, Status.OK, attrs=(("uuid", row.uuid), *serial))


def _failures(sample: Output, listing: Listing) -> Iterator[Observation]:
    known = False
    for line in listing.texts:
        if (meaning := _meaning(line)) is not None:
            known = True
            code, status = _EXITS.get(sample.returncode, meaning) if meaning[0] in _VAGUE else meaning
            yield _failure(code, status, line, sample.returncode)
    for row in listing.rows:
        for value in row.values:
            if (meaning := _placeholder(value)) is not None:
                known = True
                code, status = meaning
                component = HOST if code in HOST_CODES else row.component or HOST
                yield Observation(code, component, status, f"GPU {row.values[0]} shows {value}"[:300], row.line)
    if known or (sample.returncode == 0 and listing.rows):
        return
    first = listing.texts[0] if listing.texts else ""
    code, status = _EXITS.get(sample.returncode, ("SMI-FAILED", Status.DEGRADED))
    yield _failure(code, status, first, sample.returncode)


def _meaning(text: str) -> tuple[str, Status] | None:
    for pattern, code, status in _TEXTS:
        if pattern.search(text):
            return code, status
    return None


def _placeholder(value: str) -> tuple[str, Status] | None:
    shown = value.lower()
    bracketed = shown.startswith("[") and shown.endswith("]")
    if shown in _ANSWERS or not (bracketed or shown == "err!"):
        return None
    return _meaning(value) or ("SMI-FIELD-ERR", Status.DEGRADED)


def _failure(code: str, status: Status, line: str, returncode: int) -> Observation:
    component = HOST if code in HOST_CODES else component_of(line) or HOST
    detail = f"nvidia-smi: {line or 'no output'}"[:300]
    return Observation(code, component, status, f"{detail} (exit {returncode})", line, attrs=(("exit", str(returncode)),))


def _disproved(sample: Output, listing: Listing, found: dict[tuple[str, str], Observation]) -> Iterator[Observation]:
    if ("SMI-FAILED", HOST) in found:
        return
    reached = _reached(listing, found)
    for code in HOST_CODES:
        if (code, HOST) not in found and _DEPTH[code] <= reached:
            yield Observation(code, HOST, Status.OK)
    components = list(dict.fromkeys(row.component for row in listing.rows if row.component))
    if sample.returncode == 0 and listing.rows:
        components.append(HOST)  # a failure that named no GPU
    for component in components:
        for code in GPU_CODES:
            if (code, component) not in found:
                yield Observation(code, component, Status.OK)


def _reached(listing: Listing, found: dict[tuple[str, str], Observation]) -> int:
    if listing.rows or any(component != HOST for _, component in found):
        return max(_DEPTH.values())
    return min((_DEPTH[code] for code, _ in found if code in HOST_CODES), default=_DEPTH["SMI-INIT-ERR"])


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
