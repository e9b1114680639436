"""Node trees for tests, built from compact descriptions: one PCI device a line, `address vendor device class driver`."""

from __future__ import annotations

from pathlib import Path

from hma.cli.simulated_node import plug, write
from hma.model import PciDevice

BOOT_ID = "4f0c9d1e-6a52-4c3b-8f17-0d2be5a97c61"


def devices(description: Path) -> tuple[PciDevice, ...]:
    """Return the devices a description lists; `-` stands for no driver, `#` begins a comment."""
    rows = (line.partition("#")[0].split() for line in description.read_text().splitlines())
    return tuple(_device(*row) for row in rows if row)


def make_tree(tmp_path: Path, description: Path) -> Path:
    """Return a root below `tmp_path` with the described PCI bus and the kernel files every node has."""
    root = tmp_path / "node"
    (root / "sys/bus/pci/devices").mkdir(parents=True)
    for device in devices(description):
        plug(root, device)
    write(
        root,
        {
            "proc/sys/kernel/random/boot_id": f"{BOOT_ID}\n",
            "proc/sys/kernel/hostname": "ip-10-1-2-3\n",
            "proc/sys/kernel/osrelease": "6.8.0-1021-aws\n",
        },
    )
    return root


def _device(address: str, vendor: str, device: str, pci_class: str, driver: str) -> PciDevice:
    return PciDevice(address, vendor, device, pci_class, "" if driver == "-" else driver)
