"""Crash records. Where they are from: tests/data/pstore/ORIGIN.md."""

from pathlib import Path

import pytest

from checks.passive.pstore import CHECK
from hma.check import Tree
from hma.model import Observation, Status
from tests.checks.kernel_lines import NODE

DATA = Path(__file__).parents[1] / "data/pstore"


def record(name: str) -> str:
    return (DATA / f"{name}.txt").read_text()


def observe(files: dict[str, str], errors: dict[str, str] | None = None) -> dict[str, Observation]:
    return {seen.code: seen for seen in CHECK.observe(Tree(files, errors or {}), NODE, CHECK.options)}


@pytest.mark.parametrize(
    ("parts", "code", "reason"),
    [
        (("5.10-panic-part1", "5.10-panic-part2"), "PSTORE-PANIC", "Kernel panic - not syncing: sysrq triggered crash"),
        (("6.1-panic-part1", "6.1-panic-part2"), "PSTORE-PANIC", "Kernel panic - not syncing: Fatal local machine check"),
        (("6.12-panic-part1", "6.12-panic-part2"), "PSTORE-PANIC", "Kernel panic - not syncing: sysrq triggered crash"),
        (("6.1-oops-part1", "6.1-oops-part2"), "PSTORE-OOPS", "general protection fault, probably for non-canonical address"),
        (("6.12-oops-part1", "6.12-oops-part2"), "PSTORE-OOPS", "Oops: general protection fault, probably for non-canonical"),
    ],
)
def test_real_records_tell_the_reason(parts: tuple[str, ...], code: str, reason: str) -> None:
    seen = observe({f"sys/fs/pstore/dmesg-erst-{n}": record(name) for n, name in enumerate(parts)})
    assert (seen[code].status, seen[code].component) == (Status.DEGRADED, "host")
    assert reason in seen[code].detail
    assert reason in seen[code].evidence
    other = ({"PSTORE-PANIC", "PSTORE-OOPS"} - {code}).pop()
    assert seen[other].status is Status.OK


def test_oops_before_the_panic_is_told_as_well() -> None:
    seen = observe(
        {"sys/fs/pstore/dmesg-erst-1": record("6.12-oops-part1"), "sys/fs/pstore/dmesg-erst-6": record("6.12-panic-part1")}
    )
    assert {o.status for o in seen.values()} == {Status.DEGRADED}


def test_last_of_several_panics_is_told() -> None:
    older = "Panic#1 Part1\n<0>[    1.000000] Kernel panic - not syncing: older\n"
    newer = "Panic#2 Part1\n<0>[    2.000000] Kernel panic - not syncing: newer\n"
    assert "newer" in observe({"sys/fs/pstore/dmesg-a": newer, "sys/fs/pstore/dmesg-b": older})["PSTORE-PANIC"].detail


def test_part_without_the_reason_still_is_a_panic() -> None:
    seen = observe({"sys/fs/pstore/dmesg-erst-2": record("6.12-panic-part2")})["PSTORE-PANIC"]
    assert seen.status is Status.DEGRADED
    assert "not in this record" in seen.detail


def test_nothing_kept_is_fine() -> None:
    assert {seen.status for seen in observe({}).values()} == {Status.OK}


@pytest.mark.parametrize(
    ("files", "errors"),
    [({}, {"sys/fs/pstore": "Permission denied"}), ({"sys/fs/pstore/dmesg-efi-1.enc.z": "x\\x9c"}, {})],
)
def test_record_that_cannot_be_read_is_unknown(files: dict[str, str], errors: dict[str, str]) -> None:
    assert {seen.status for seen in observe(files, errors).values()} == {Status.UNKNOWN}


@pytest.mark.parametrize("text", ["", "Panic", "Shutdown#1 Part1\n<6>[    1.0] x\n", "\\xff\\xfe", "Panic#1 Part1"])
def test_other_records_say_nothing(text: str) -> None:
    assert {seen.status for seen in observe({"sys/fs/pstore/dmesg-erst-1": text}).values()} == {Status.OK}
