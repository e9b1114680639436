"""The PCI bus as the kernel lists it, from sysfs.

Rules of this file:
- Only `vendor`, `device`, `class` and the `driver` link are read: the kernel answers these from memory. `config`,
  `current_link_width` and their like make the hardware answer, which a dead device may never do; they belong behind a Command.
- A GPU that has fallen off the bus stays listed until the kernel removes it: presence here does not prove life.
"""

from __future__ import annotations

import os
from pathlib import Path

from hma.check import NotInstalled, SourceError
from hma.model import PciDevice

DEVICES = "sys/bus/pci/devices"


def read_pci(root: Path) -> tuple[PciDevice, ...]:
    """Return every function on the bus below `root` (the node's `/`), by address.

    Raises NotInstalled where the node has no PCI bus, SourceError where it cannot be listed. A device that goes away
    while it is read is left out.
    """
    bus = root / DEVICES
    try:
        places = sorted(bus.iterdir())
    except FileNotFoundError:
        raise NotInstalled(f"{bus}: not there, no PCI bus on this node (in a container: mount the node's /sys)") from None
    except OSError as err:
        raise SourceError(f"{bus}: {err.strerror}") from err
    found = (_device(place) for place in places)
    return tuple(device for device in found if device is not None)


def _device(place: Path) -> PciDevice | None:
    try:
        return PciDevice(
            address=place.name.lower(),
            vendor=_hex(place, "vendor"),
            device=_hex(place, "device"),
            pci_class=_hex(place, "class"),
            driver=_driver(place),
        )
    except (OSError, ValueError):
        return None


def _hex(place: Path, name: str) -> str:
    """Return a hexadecimal attribute without `0x`; raises ValueError on anything else."""
    fd = os.open(place / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        text = os.read(fd, 64).decode("ascii").strip().lower()
    finally:
        os.close(fd)
    int(text, 16)
    return text.removeprefix("0x")


def _driver(place: Path) -> str:
    try:
        return (place / "driver").readlink().name
    except OSError:
        return ""
