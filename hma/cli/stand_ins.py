"""Stand-ins for the programs of a node that is not there: small shell scripts that print what the real ones print.

`hma demo`, the tests and the benchmarks let the agent run them in place of the real ones (`commands:` in its configuration).

Rules of this file:
- They start in a millisecond and use the shell alone: the agent's cost must not be theirs.
- What nvidia-smi says next stands in the file `state` beside it, replaced whole by `set_state`.
- They know the one call that a check makes, and refuse any other: a stand-in that guesses proves nothing.
- Texts, columns, line ends and exit codes are those of the real nvidia-smi 535.261.03 (tests/data/nvidia-smi/ORIGIN.md says how
  they were had) and of df of coreutils 9.1. UUIDs, serial numbers, temperature, power and sizes of disks are made up.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from shlex import quote

from hma.cli.simulated_node import LAYOUTS
from hma.instance_types import canonical

SMI = ("--query-gpu=index,pci.bus_id,uuid,serial,name,temperature.gpu,power.draw", "--format=csv,noheader,nounits")
DF = (
    *("--local", "--block-size=1", "--type=ext2", "--type=ext3", "--type=ext4", "--type=xfs", "--type=btrfs", "--type=f2fs"),
    *("--type=zfs", "--output=source,fstype,itotal,iavail,size,used,avail,target"),
)
STATES = {
    "healthy": "every GPU is listed",
    "lost GPU": "the GPU (its PCI address or its index) has no handle: one text, no list, exit 15",
    "missing GPU": "the driver does not know the GPU: the list goes on without it, exit 0",
    "no-driver": "the kernel module is not loaded, exit 9",
    "hang": "no answer, and SIGTERM is ignored",
    "blocked PATH": "no answer while PATH cannot be written: a named pipe nobody reads, or a file on a frozen disk (state D)",
}
_NAMES = {"2330": "NVIDIA H100 80GB HBM3", "2237": "NVIDIA A10G"}
_LOST = "Unable to determine the device handle for GPU%s: GPU is lost.  Reboot the system to recover this GPU"
_NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running."
)
_DISKS = (
    "Filesystem     Type       Inodes     IFree     1B-blocks         Used         Avail Mounted on",
    "/dev/root      ext4     64512000  63911482  524189499392 152471379968  371701342208 /",
    "devtmpfs       devtmpfs 262144000 262143200 1073741824000           0 1073741824000 /dev",
    "tmpfs          tmpfs    262146000 262145998 1073750016000           0 1073750016000 /dev/shm",
    "/dev/nvme1n1   ext4    234307584 234307573 3779806457856        24576 3587726041088 /opt/dlami/nvme",
)

_HEAD = """#!/bin/sh
# A stand-in that hma wrote (hma/cli/stand_ins.py).
"""
_SMI = """here=${0%%/*}
state=healthy argument=
read -r state argument <"$here/state"
case $state in
hang)
    trap '' TERM INT HUP
    # It ends with its folder, for nobody else may be left to end it.
    while [ -e "$0" ]; do sleep 2; done
    exit 1 ;;
blocked)
    trap '' TERM INT HUP
    echo >>"$argument"
    exit 1 ;;
no-driver)
    printf '%%s\\n\\n' %s
    exit 9 ;;
esac
gpu=${argument%%.0}
known=
# lost INDEX ADDRESS: this GPU has no handle, and that costs the whole list.
lost() {
    [ "$gpu" = "$1" ] || [ "$gpu" = "$2" ] || return 0
    printf '%%s\\n\\n\\n' %s
    exit 15
}
# row INDEX ADDRESS LINE: print the line of a GPU, unless it is the one that is missing.
row() {
    if [ "$gpu" = "$1" ] || [ "$gpu" = "$2" ]; then known=yes; else printf '%%s\\n' "$3"; fi
}
"""


def install(folder: Path, instance_type: str) -> dict[str, Path]:
    """Write the programs of an `instance_type` into `folder`, all healthy, and return them by name."""
    folder.mkdir(parents=True, exist_ok=True)
    set_state(folder, "healthy")
    scripts = {"df": _df(), "nvidia-smi": _smi(canonical(instance_type))}
    return {name: _write(folder / name, text) for name, text in scripts.items() if text}


def set_state(folder: Path, state: str) -> None:
    """Let nvidia-smi in `folder` answer like this from now on; raises ValueError where `state` is none of STATES."""
    word, _, argument = state.partition(" ")
    with_argument = {name.partition(" ")[0]: " " in name for name in STATES}
    if with_argument.get(word) is not bool(argument.strip()) or not state.isprintable():
        raise ValueError(f"{state!r}: no such state; known are {', '.join(STATES)}")
    beside = folder / "state.new"
    beside.write_text(f"{state}\n", encoding="utf-8")
    beside.replace(folder / "state")


def _gpus(instance_type: str) -> Iterable[tuple[str, str]]:
    """Yield address (`0000:53:00`) and product name of each NVIDIA GPU, in the order of the bus."""
    for group in LAYOUTS[instance_type]:
        if group.vendor == "10de" and group.device in _NAMES:
            yield from ((address.removesuffix(".0"), _NAMES[group.device]) for address in group.addresses)


def _smi(instance_type: str) -> str:
    gpus = tuple(enumerate(_gpus(instance_type)))
    if not gpus:
        return ""
    rows = "\n".join(f"row {n} {address} {quote(_row(n, address, name))}" for n, (address, name) in gpus)
    # The address is put in by the shell, in upper case as the program prints it.
    text = quote(_LOST % "{}.0").replace("{}", "'\"$3\"'")
    lost = "\n".join(f"    lost {n} {address} {address.upper()}" for n, (address, _) in gpus)
    return f"""{_HEAD}{_only("nvidia-smi", SMI)}{_SMI % (quote(_NO_DRIVER), text)}
if [ "$state" = lost ]; then
{lost}
fi
{rows}
[ "$state" = healthy ] || [ -n "$known" ] || exit 2
"""


def _row(index: int, address: str, name: str) -> str:
    uuid = f"GPU-509665ad-b600-ac93-3616-d754b23d636{index:x}"
    return f"{index}, 0000{address.upper()}.0, {uuid}, {1650124014240 + index}, {name}, 31, 69.12"


def _df() -> str:
    return f"{_HEAD}{_only('df', DF)}printf '%s\\n' {' '.join(quote(line) for line in _DISKS)}\n"


def _only(program: str, arguments: tuple[str, ...]) -> str:
    """Return the lines that refuse every other call."""
    refusal = quote(f"stand-in for {program}: it knows one call only: {' '.join(arguments)}")
    return f'if [ "$*" != {quote(" ".join(arguments))} ]; then\n    echo {refusal} >&2\n    exit 2\nfi\n'


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path
