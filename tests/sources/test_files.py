"""Kernel files from trees made by hand and from the real /proc and /sys of this machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hma.check import Files, SourceError, Tree
from hma.sources.files import MOST_FILES, read_files
from tests.trees import make_tree

P5 = Path(__file__).parent.parent / "data" / "sysfs" / "p5.48xlarge.txt"


def made(root: Path, files: dict[str, str | bytes]) -> Path:
    """Write files below `root` and return it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


TREE: dict[str, str | bytes] = {
    "proc/meminfo": "MemTotal: 1 kB\n",
    "proc/1/stat": "1 (init)\n",
    "proc/22/stat": "22 (b)\n",
    "proc/self2/stat": "x\n",
    "sys/block/nvme0n1/stat": "1 2\n",
    "sys/block/nvme1n1/stat": "3 4\n",
    "sys/block/nvme1n1/size": "9\n",
    "sys/block/.hidden/stat": "h\n",
    "sys/class/[odd]/stat": "odd\n",
    "sys/class/o/stat": "o\n",
    "sys/raw": b"a\xff\n",
    "sys/empty": "",
}


@pytest.mark.parametrize(
    ("globs", "files"),
    [
        (("proc/meminfo",), {"proc/meminfo": "MemTotal: 1 kB\n"}),
        (("proc/absent", "proc/meminfo/below", "no/*/such"), {}),
        (("proc/[0-9]*/stat",), {"proc/1/stat": "1 (init)\n", "proc/22/stat": "22 (b)\n"}),
        (("sys/block/*/stat",), {"sys/block/nvme0n1/stat": "1 2\n", "sys/block/nvme1n1/stat": "3 4\n"}),
        (("sys/block/.*/stat",), {"sys/block/.hidden/stat": "h\n"}),
        (
            ("sys/block/nvme?n1/s*", "sys/block/*/size"),
            {f"sys/block/nvme{n}": TREE[f"sys/block/nvme{n}"] for n in ("0n1/stat", "1n1/stat", "1n1/size")},
        ),
        (("sys/class/*/stat",), {"sys/class/[odd]/stat": "odd\n", "sys/class/o/stat": "o\n"}),
        (("*/raw", "sys/empty"), {"sys/raw": "a\\xff\n", "sys/empty": ""}),
        ((), {}),
    ],
)
def test_patterns_find_their_files(tmp_path: Path, globs: tuple[str, ...], files: dict[str, str]) -> None:
    assert read_files(Files(globs), made(tmp_path, TREE)) == Tree(files, {})


@pytest.mark.parametrize("glob", ["/proc/meminfo", "../x", "proc/../x", "proc//meminfo", "", "proc/"])
def test_pattern_that_is_no_path_below_the_root_is_an_error(tmp_path: Path, glob: str) -> None:
    with pytest.raises(SourceError, match="not a path below the node's root"):
        read_files(Files((glob,)), tmp_path)


def test_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"/absent: No such file or directory; `node.root` in the configuration"):
        read_files(Files(("proc/meminfo",)), tmp_path / "absent")


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """A pipe would wait for a writer, a device may do something when it is opened."""
    made(tmp_path, {"sys/a": "a", "sys/folder/b": "b"})
    os.mkfifo(tmp_path / "sys" / "pipe")
    (tmp_path / "sys" / "null").symlink_to("/dev/null")
    (tmp_path / "sys" / "dangling").symlink_to("nowhere")
    (tmp_path / "sys" / "link").symlink_to("a")
    (tmp_path / "sys" / "loop").symlink_to("loop")
    tree = read_files(Files(("sys/*",)), tmp_path)
    assert tree.files == {"sys/a": "a", "sys/link": "a"}
    assert tree.errors == {
        "sys/folder": "not a regular file",
        "sys/pipe": "not a regular file",
        "sys/null": "not a regular file",
        "sys/loop": "Too many levels of symbolic links",
    }


@pytest.mark.parametrize(("size", "said"), [(4, {}), (5, {"f": "longer than 4 bytes: cut"})])
def test_long_file_is_cut_and_said(tmp_path: Path, size: int, said: dict[str, str]) -> None:
    made(tmp_path, {"f": "x" * size})
    assert read_files(Files(("f",), max_bytes=4), tmp_path) == Tree({"f": "xxxx"}, said)


def test_too_many_files_are_an_error(tmp_path: Path) -> None:
    made(tmp_path, {"d/0": ""})
    for number in range(1, MOST_FILES + 1):
        (tmp_path / "d" / str(number)).symlink_to("0")
    with pytest.raises(SourceError, match="matches more than 5000 files"):
        read_files(Files(("d/*",)), tmp_path)


def test_real_procfs_is_read_to_its_end() -> None:
    """The kernel hands out one page at a time here."""
    tree = read_files(Files(("proc/kallsyms", "proc/self/status"), max_bytes=300_000), Path("/"))
    assert len(tree.files["proc/kallsyms"]) == 300_000
    assert tree.files["proc/self/status"].startswith("Name:\t")


def test_error_of_one_file_is_kept_beside_the_others(tmp_path: Path) -> None:
    """Reading /proc/self/mem at 0 is EIO for anybody, root included."""
    made(tmp_path, {"good": "g\n"})
    (tmp_path / "bad").symlink_to("/proc/self/mem")
    assert read_files(Files(("good", "bad")), tmp_path) == Tree({"good": "g\n"}, {"bad": "Input/output error"})


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    made(tmp_path, TREE)
    (tmp_path / "bad").symlink_to("/proc/self/mem")
    before = len(list(Path("/proc/self/fd").iterdir()))
    read_files(Files(("*/*/*", "bad", "proc/absent")), tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_pci_tree_of_a_big_node_is_quick(tmp_path: Path) -> None:
    root = make_tree(tmp_path, P5)
    source = Files(("sys/bus/pci/devices/*/vendor", "sys/bus/pci/devices/*/device", "sys/bus/pci/devices/*/class"))
    assert len(read_files(source, root).files) > 150
    times = []
    for _ in range(20):
        began = time.perf_counter()
        read_files(source, root)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.015  # 3 ms on an idle machine; several test runs may share this one
