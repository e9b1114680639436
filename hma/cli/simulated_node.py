"""A node that is not there: the kernel files of a healthy accelerator instance, built below a directory.

`hma demo` and the tests read it as they would read a real `/`. Nothing in it moves by itself.

Where the layout is from: the addresses of GPUs and EFAs of p5.48xlarge and of the Neuron devices of trn1 and trn2 are those
that `nvidia-smi`, `ibv_devices` and `neuron-ls` print on such instances; vendor, device and class ids are those of the PCI
id database and of the drivers. Constructed, because no listing was to be had: the addresses of NVSwitches, disks, network
cards, of all of g5.12xlarge, and of the EFAs of trn2.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hma.instance_types import InstanceType, canonical, lookup
from hma.model import PciDevice

BOOT_ID = "7d3a1c52-0b8e-4f7e-9c64-2f1a5e9b6d10"
INSTANCE_ID = "i-0123456789abcdef0"
HOSTNAME = "ip-10-1-2-3"
KERNEL = "6.8.0-1021-aws"
PCI_LIST = "proc/bus/pci/devices"


@dataclass(frozen=True, slots=True)
class Group:
    """Equal devices at several addresses; `lanes` are the PCIe lanes in use and possible."""

    addresses: tuple[str, ...]
    vendor: str
    device: str
    pci_class: str
    driver: str
    lanes: tuple[int, int] | None = None


def _at(buses: str, slot: str = "00.0") -> tuple[str, ...]:
    return tuple(f"0000:{bus}:{slot}" for bus in buses.split())


def _in(*places: str) -> tuple[str, ...]:
    return tuple(f"0000:{place}.0" for place in places)


_BOARD = (
    Group(_in("00:00"), "8086", "1237", "060000", ""),
    Group(_in("00:01"), "8086", "7000", "060100", ""),
    Group(_in("00:03"), "1d0f", "1111", "030000", ""),
    Group(_in("00:04"), "1d0f", "8061", "010802", "nvme"),
    Group(_in("00:05"), "1d0f", "ec20", "020000", "ena"),
)
"""What every Nitro instance has: chipset, display, EBS disk, network card."""

LAYOUTS: dict[str, tuple[Group, ...]] = {
    "p5.48xlarge": (
        Group(_at("53 64 75 86 97 a8 b9 ca"), "10de", "2330", "030200", "nvidia", (16, 16)),
        Group(_at("cb cc cd ce"), "10de", "22a3", "068000", "nvidia-nvswitch"),
        Group(
            _at("4f 50 51 52 60 61 62 63 71 72 73 74 82 83 84 85 93 94 95 96 a4 a5 a6 a7 b5 b6 b7 b8 c6 c7 c8 c9"),
            *("1d0f", "efa2", "020000", "efa"),
        ),
        Group(_at("d0 d1 d2 d3 d4 d5 d6 d7"), "1d0f", "cd01", "010802", "nvme"),
    ),
    "trn2.48xlarge": (
        Group(_at("cc b5 b6 cb 6f 58 59 6e 9b 84 85 9a f8 e1 e2 f7"), "1d0f", "7364", "088000", "neuron"),
        Group(_at("50 51 52 53 60 61 62 63 90 91 92 93 d0 d1 d2 d3"), "1d0f", "efa2", "020000", "efa"),
        Group(_at("20 21 22 23"), "1d0f", "cd01", "010802", "nvme"),
    ),
    "trn1.32xlarge": (
        Group(
            _in("10:1b", "10:1c", "10:1d", "10:1e", "20:1b", "20:1c", "20:1d", "20:1e")
            + _in("90:1b", "90:1c", "90:1d", "90:1e", "a0:1b", "a0:1c", "a0:1d", "a0:1e"),
            *("1d0f", "7164", "088000", "neuron"),
        ),
        Group(
            _in("10:19", "10:1a", "20:19", "20:1a", "90:19", "90:1a", "a0:19", "a0:1a"),
            *("1d0f", "efa1", "020000", "efa"),
        ),
        Group(_in("10:1f", "20:1f", "90:1f", "a0:1f"), "1d0f", "cd01", "010802", "nvme"),
    ),
    "g5.12xlarge": (
        Group(_in("00:1b", "00:1c", "00:1d", "00:1e"), "10de", "2237", "030200", "nvidia", (8, 16)),
        Group(_in("00:06"), "1d0f", "efa1", "020000", "efa"),
        Group(_in("00:1f"), "1d0f", "cd01", "010802", "nvme"),
    ),
}

PROCESSES = (
    # pid, comm, state, parent, start in ticks after boot
    (1, "systemd", "S", 0, 2),
    (2, "kthreadd", "S", 0, 2),
    (14, "migration/0", "S", 2, 3),
    (412, "systemd-journal", "S", 1, 310),
    (903, "nvidia-persiste", "S", 1, 620),
    (1240, "python3", "R", 1, 900),
    (1241, "pt_data_worker", "S", 1240, 950),
)


def build(root: Path, instance_type: str, *, boot_id: str = BOOT_ID, instance_id: str = INSTANCE_ID) -> None:
    """Write the kernel files of a healthy `instance_type` below `root`; again with another `boot_id` = after a reboot.

    Raises ValueError for a type that has no layout here.
    """
    name = canonical(instance_type)
    row = lookup(name)
    if row is None or name not in LAYOUTS:
        raise ValueError(f"{instance_type}: cannot be simulated; known are {', '.join(sorted(LAYOUTS))}")
    shutil.rmtree(root / "sys/bus/pci", ignore_errors=True)
    shutil.rmtree(root / "sys/devices", ignore_errors=True)
    (root / PCI_LIST).unlink(missing_ok=True)
    (root / "sys/bus/pci/devices").mkdir(parents=True)
    for group in (*_BOARD, *LAYOUTS[name]):
        for device in _devices(group):
            plug(root, device, lanes=group.lanes)
    write(root, {**_identity(row, boot_id, instance_id), **_load(row), **dict(_processes())})
    (root / "sys/fs/pstore").mkdir(parents=True, exist_ok=True)


def plug(root: Path, device: PciDevice, lanes: tuple[int, int] | None = None) -> None:
    """Add one device as the kernel lists it: a directory below `sys/devices` and links to it and to its driver, and a line."""
    home = root / f"sys/devices/pci{device.address[:7]}/{device.address}"
    ids = {"vendor": device.vendor, "device": device.device, "class": device.pci_class}
    home.mkdir(parents=True)
    for name, value in ids.items():
        (home / name).write_text(f"0x{value}\n")
    if lanes is not None:
        (home / "current_link_width").write_text(f"{lanes[0]}\n")
        (home / "max_link_width").write_text(f"{lanes[1]}\n")
    if device.driver:
        driver = root / "sys/bus/pci/drivers" / device.driver
        driver.mkdir(parents=True, exist_ok=True)
        (home / "driver").symlink_to(os.path.relpath(driver, home))
    listing = root / "sys/bus/pci/devices"
    listing.mkdir(parents=True, exist_ok=True)
    (listing / device.address).symlink_to(os.path.relpath(home, listing))
    (root / PCI_LIST).parent.mkdir(parents=True, exist_ok=True)
    with (root / PCI_LIST).open("a") as lines:
        resources = "\t".join("0" * 15)  # interrupt, bases and sizes, which nobody reads here
        lines.write(f"{_place(device.address)}\t{device.vendor}{device.device}\t{resources}\t{device.driver}\n")


def unplug(root: Path, address: str) -> None:
    """Take one device (`0000:b9:00.0`) off the bus; raises KeyError when it is not there."""
    link = root / "sys/bus/pci/devices" / address
    if not link.is_symlink():
        raise KeyError(address)
    shutil.rmtree(link.resolve())
    link.unlink()
    lines = (root / PCI_LIST).read_text().splitlines(keepends=True)
    (root / PCI_LIST).write_text("".join(line for line in lines if not line.startswith(f"{_place(address)}\t")))


def _place(address: str) -> str:
    """Return how the list of the kernel names `0000:9b:00.0`: `9b00`, in hex bus and slot * 8 + function."""
    _, bus, rest = address.split(":")
    slot, _, function = rest.partition(".")
    return f"{bus}{int(slot, 16) << 3 | int(function, 16):02x}"


def write(root: Path, files: dict[str, str]) -> None:
    """Write each text at its path below `root`."""
    for path, text in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def _devices(group: Group) -> Iterable[PciDevice]:
    return (PciDevice(address, group.vendor, group.device, group.pci_class, group.driver) for address in group.addresses)


def _identity(row: InstanceType, boot_id: str, instance_id: str) -> dict[str, str]:
    return {
        "proc/sys/kernel/random/boot_id": f"{boot_id}\n",
        "proc/sys/kernel/hostname": f"{HOSTNAME}\n",
        "proc/sys/kernel/osrelease": f"{KERNEL}\n",
        "sys/class/dmi/id/sys_vendor": "Amazon EC2\n",
        "sys/class/dmi/id/product_name": f"{row.instance_type}\n",
        "sys/class/dmi/id/board_asset_tag": f"{instance_id}\n",
        "sys/devices/system/edac/mc/mc0/ce_count": "0\n",
        "sys/devices/system/edac/mc/mc0/ue_count": "0\n",
    }


def _load(row: InstanceType) -> dict[str, str]:
    total = (row.memory_gib or 16) * 1_048_576 * 98 // 100
    quiet = "avg10=0.00 avg60=0.00 avg300=0.00 total=0"
    pressure = f"some {quiet}\nfull {quiet}\n"
    return {
        "proc/meminfo": (
            f"MemTotal:       {total} kB\nMemFree:        {total * 6 // 10} kB\nMemAvailable:   {total * 8 // 10} kB\n"
            f"Buffers:          204800 kB\nCached:         {total * 2 // 10} kB\nSwapTotal:             0 kB\n"
            f"SwapFree:              0 kB\n"
        ),
        "proc/pressure/memory": pressure,
        "proc/pressure/io": pressure,
        "proc/pressure/cpu": pressure,
        "proc/loadavg": f"8.12 8.05 7.97 9/{1800 + len(PROCESSES)} 1241\n",
        "proc/uptime": "86461.30 15912345.67\n",
        "proc/sys/kernel/pid_max": "4194304\n",
        "proc/sys/kernel/threads-max": "16512345\n",
        "proc/sys/fs/file-nr": "14208\t0\t9223372036854775807\n",
        "proc/1/mountinfo": (
            "23 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw,discard,errors=remount-ro\n"
            "24 23 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw\n"
        ),
    }


def _processes() -> Iterator[tuple[str, str]]:
    """Yield a `stat` file of proc(5) for each process: 52 fields, of which state, parent and start time matter here."""
    for pid, comm, state, parent, start in PROCESSES:
        flags = 0x00208040 if parent == 2 or pid == 2 else 0x00400100
        before_start = f"{parent} {pid} {pid} 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0"
        yield f"proc/{pid}/stat", f"{pid} ({comm}) {state} {before_start} {start} {' '.join(['0'] * 30)}\n"
        yield f"proc/{pid}/comm", f"{comm}\n"
