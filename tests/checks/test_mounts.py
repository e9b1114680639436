"""Mount tables. The lines marked so were read on Linux 6.18 after a real error; the others are ordinary lines of real nodes."""

import pytest

from checks.passive.mounts import CHECK, SOURCE, Options
from hma.check import Tree
from hma.model import Observation, Status
from tests.checks.kernel_lines import NODE

ROOT = "23 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw,discard,errors=remount-ro"
EXT4_GAVE_UP = "43 27 7:0 / /data rw,relatime - ext4 /dev/loop0 rw,errors=remount-ro,emergency_ro"  # captured, 6.18
BTRFS_GAVE_UP = (
    "44 27 0:40 / /data rw,relatime - btrfs /dev/loop0 ro,ssd,discard=async,space_cache=v2,subvolid=5,subvol=/"  # captured
)


def observe(*lines: str, options: Options = CHECK.options) -> list[Observation]:
    return list(CHECK.observe(Tree({SOURCE: "\n".join(lines) + "\n"}, {}), NODE, options))


def bad(*lines: str, options: Options = CHECK.options) -> list[tuple[str, str]]:
    return [(seen.code, seen.component) for seen in observe(*lines, options=options) if seen.status is not Status.OK]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (EXT4_GAVE_UP, [("FS-READ-ONLY", "fs:/data")]),
        (BTRFS_GAVE_UP, [("FS-READ-ONLY", "fs:/data")]),
        ("43 27 7:0 / /data rw,relatime - ext4 /dev/loop0 ro,errors=remount-ro", [("FS-READ-ONLY", "fs:/data")]),
        ("43 27 7:0 / /data rw,relatime shared:4 master:2 - ext4 /dev/loop0 rw,shutdown", [("FS-READ-ONLY", "fs:/data")]),
        ("43 27 7:0 / /my\\040data rw - xfs /dev/loop0 ro", [("FS-READ-ONLY", "fs:/my data")]),
        ("43 27 7:0 / /data ro,relatime - ext4 /dev/loop0 ro", []),
        ("43 27 7:0 / /data ro,relatime - ext4 /dev/loop0 rw", []),
        ("43 27 7:0 / /data rw,relatime - ext4 /dev/loop0 rw,errors=remount-ro", []),
        ("43 27 7:0 / /snap/core/1 rw,nodev,relatime - squashfs /dev/loop0 ro", []),
        ("43 27 7:0 / /cd rw,relatime - iso9660 /dev/sr0 ro,nojoliet", []),
        ("43 27 0:50 / /x rw,relatime - overlay overlay ro,lowerdir=/a:/b", []),
        ("43 27 0:51 / /nfs rw,relatime - nfs4 server:/x ro,vers=4.1", []),
        ("43 27 7:0 / /data rw,relatime - ext4", []),
        ("rubbish", []),
    ],
)
def test_mount_that_is_writable_on_a_file_system_that_is_not(line: str, found: list[tuple[str, str]]) -> None:
    assert bad(ROOT, line) == found


@pytest.mark.parametrize(
    "line",
    [
        ROOT.replace(" rw,discard", " ro,discard"),
        ROOT + ",emergency_ro",
    ],
)
def test_root_that_gave_up_is_a_code_of_its_own(line: str) -> None:
    assert bad(line) == [("FS-ROOT-READ-ONLY", "fs:/")]


def test_root_that_was_meant_to_be_read_only_is_fine() -> None:
    line = "23 1 254:0 / / ro,relatime shared:1 - ext4 /dev/dm-0 ro"
    assert [(seen.code, seen.status) for seen in observe(line)] == [("FS-ROOT-READ-ONLY", Status.OK)]


def test_device_mounted_in_many_places_is_one_fault_at_the_shortest() -> None:
    deep = "50 27 259:3 /v /var/lib/kubelet/pods/1/v rw - ext4 /dev/nvme1n1 ro"
    chosen = "51 27 259:3 /v /var/lib/kubelet/pods/2/v ro - ext4 /dev/nvme1n1 ro"
    assert bad(ROOT, deep, "49 27 259:3 / /local rw - ext4 /dev/nvme1n1 ro", chosen) == [("FS-READ-ONLY", "fs:/local")]


def test_ignored_mount_point_is_not_looked_at() -> None:
    assert bad(ROOT, EXT4_GAVE_UP, options=Options(ignore=("/data",))) == []


@pytest.mark.parametrize("tree", [Tree({}, {}), Tree({}, {SOURCE: "Permission denied"}), Tree({SOURCE: ""}, {})])
def test_unreadable_table_is_unknown(tree: Tree) -> None:
    assert [seen.status for seen in CHECK.observe(tree, NODE, Options())] == [Status.UNKNOWN]


def test_evidence_is_the_line() -> None:
    assert observe(EXT4_GAVE_UP)[0].evidence == EXT4_GAVE_UP
