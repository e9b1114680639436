"""What the reader makes of the device's records: who wrote them, which are new, what is lost, and what it does in trouble."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hma.check import KernelLine
from hma.sources.kernel_log import BATCH, RETRY_MAX_S
from tests.sources.fake_kmsg import BOOT, OTHER_BOOT, Bench, ScriptedDevice, SetClock, record

PATH = Path("/dev/kmsg")
Open = Callable[..., Bench]

EPIPE = BrokenPipeError(errno.EPIPE, "Broken pipe")
EIO = OSError(errno.EIO, "Input/output error")
EPERM = PermissionError(errno.EPERM, "Operation not permitted")


@pytest.fixture(name="clock")
def set_clock() -> SetClock:
    return SetClock()


@pytest.fixture(name="device")
def scripted_device() -> Iterator[ScriptedDevice]:
    device = ScriptedDevice()
    yield device
    device.close()


@pytest.fixture(name="read")
def reader_on(device: ScriptedDevice, clock: SetClock) -> Iterator[Open]:
    """Return a function that reads the device on the set clock and has taken all that was there."""
    made: list[Bench] = []

    def start(
        cursor: tuple[str, int] | None = None, monotonic: Callable[[], float] = clock, **more: tuple[bytes, ...]
    ) -> Bench:
        bench = Bench(PATH, cursor, clock=clock, monotonic=monotonic, device=device, **more)
        made.append(bench)
        bench.turn()
        return bench

    yield start
    for bench in made:
        bench.close()


# -- whose line it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", range(8))
def test_kernel_line_that_matches_is_delivered_with_its_level(device: ScriptedDevice, read: Open, level: int) -> None:
    device.more(record(9, "NVRM: Xid (PCI:0000:97:00): 79, GPU has fallen off the bus.", usec=4_000_000_000, prio=level))
    bench = read()
    text = "NVRM: Xid (PCI:0000:97:00): 79, GPU has fallen off the bus."
    assert bench.told.batches == [(KernelLine(9, 4000.0, level, text),)]
    assert (bench.reader.seen, bench.reader.foreign, bench.reader.spoofed) == (1, 0, 0)


@pytest.mark.parametrize(
    ("prio", "facility", "level"), [(8, 1, 0), (12, 1, 4), (15, 1, 7), (30, 3, 6), (188, 23, 4), (2047, 255, 7)]
)
def test_line_of_another_facility_is_a_suspected_spoof(
    device: ScriptedDevice, read: Open, prio: int, facility: int, level: int
) -> None:
    device.more(record(9, "NVRM: Xid (PCI:0000:97:00): 79", usec=4_000_000_000, prio=prio), record(10, "harmless", prio=prio))
    bench = read()
    line = KernelLine(9, 4000.0, level, "NVRM: Xid (PCI:0000:97:00): 79")
    assert bench.told.spoofs == [(line, facility)]
    assert bench.told.batches == []
    assert (bench.reader.seen, bench.reader.foreign, bench.reader.spoofed) == (2, 2, 1)


def test_line_that_nobody_asked_for_is_only_counted(device: ScriptedDevice, read: Open) -> None:
    device.more(record(1, "usb 1-1: new device"), record(2, "the NVRM: inside counts as a match"), record(3, "nothing"))
    bench = read()
    assert bench.told.seqs == [2]
    assert bench.reader.seen == 3


def test_new_patterns_count_from_now_on(device: ScriptedDevice, read: Open) -> None:
    device.more(record(1, "NVRM: a"), record(2, "EXT4-fs error"))
    bench = read()
    bench.reader.patterns((rb"EXT4-fs error",))
    device.more(record(3, "NVRM: b"), record(4, "EXT4-fs error"))
    bench.turn()
    assert bench.told.seqs == [1, 4]


def test_pattern_that_takes_for_ever_delivers_all_kernel_lines_and_accuses_nobody(device: ScriptedDevice, read: Open) -> None:
    device.more(record(1, "a" * 60), record(2, "harmless"), record(3, "a" * 60, prio=30))
    bench = read(patterns=(rb"^(\w+\s?)+:$",))
    assert (bench.told.seqs, bench.told.spoofs) == ([1, 2], [])
    assert (bench.reader.seen, bench.reader.foreign) == (3, 1)


def test_without_patterns_nothing_is_delivered(device: ScriptedDevice, read: Open) -> None:
    device.more(record(1, ""), record(2, "NVRM: x"))
    bench = read(patterns=())
    assert (bench.told.batches, bench.reader.seen) == ([], 2)


def test_dictionary_is_no_text_and_no_record(device: ScriptedDevice, read: Open) -> None:
    device.more(b"4,1,5,-;NVRM: x\n SUBSYSTEM=pci\n DEVICE=+pci:0000:97:00.0\n", b"4,2,5,-;harmless\n DEVICE=NVRM: x\n")
    bench = read()
    assert bench.told.texts == ["NVRM: x"]
    assert (bench.reader.seen, bench.reader.malformed) == (2, 0)


def test_record_without_newline_is_complete(device: ScriptedDevice, read: Open) -> None:
    device.more(record(1).rstrip(b"\n"), record(2, b"NVRM: \xff\x1b[31m\x00", prio=3).rstrip(b"\n"))
    assert read().told.texts == ["NVRM: Xid", "NVRM: \\xff\\x1b[31m\\x00"]


def test_record_of_eight_kib_is_whole(device: ScriptedDevice, read: Open) -> None:
    text = "NVRM: " + "x" * (8192 - 40)
    device.more(record(1, text))
    assert read().told.texts == [text]


@pytest.mark.parametrize("rubbish", [b"\x00", b"no head\n", b"4,NVRM: Xid\n", b"4,5,6,NVRM: no semicolon\n", b"\xff" * 8192])
def test_malformed_record_is_counted_and_the_next_one_read(device: ScriptedDevice, read: Open, rubbish: bytes) -> None:
    device.more(record(1), rubbish, record(2))
    bench = read()
    assert bench.told.seqs == [1, 2]
    assert (bench.reader.seen, bench.reader.malformed, bench.reader.lost) == (2, 1, 0)


# -- when it was ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usec", "slept_s", "at"),
    [
        (4_000_000_000, 0.0, 4000.0),
        (4_000_000_000, 600.0, 4600.0),
        (4_400_000_000, 600.0, 5000.0),
        (5_000_000_001, 0.0, 5000.000001),
        (4_000_000_000, 0.000003, 4000.0),
        (4_000_000_000, 600.000003, 4600.0),
    ],
    ids=["never slept", "slept", "just now, after a sleep", "stamp ahead of the clock", "read apart", "slept, read apart"],
)
def test_time_is_boottime(device: ScriptedDevice, read: Open, clock: SetClock, usec: int, slept_s: float, at: float) -> None:
    device.more(record(1, usec=usec))
    bench = read(monotonic=lambda: clock.now - slept_s)
    assert [line.at for line in bench.told.batches[0]] == [at]


# -- what is new and what is lost -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cursor", "numbers", "delivered", "lost"),
    [
        (None, [0, 1, 2], [0, 1, 2], []),
        (None, [700, 701], [700, 701], []),
        ((BOOT, 1), [0, 1, 2, 3], [2, 3], []),
        ((BOOT, 9), [7, 8, 9], [], []),
        ((BOOT, 9), [8, 9, 10, 14], [10, 14], [(3, 11, 13)]),
        ((BOOT, 9), [4000, 4001], [4000, 4001], [(3990, 10, 3999)]),
        ((BOOT, 9), [10, 12, 13, 20], [10, 12, 13, 20], [(1, 11, 11), (6, 14, 19)]),
        ((OTHER_BOOT, 9), [0, 1], [0, 1], []),
        ((OTHER_BOOT, 9), [50, 51], [50, 51], [(50, 0, 49)]),
    ],
    ids=[
        "first start", "first start, ring has turned", "behind the cursor", "all seen", "a gap",
        "ring has turned since the cursor", "two gaps", "new boot", "new boot, ring has turned",
    ],
)  # fmt: skip
def test_cursor_and_gaps(
    device: ScriptedDevice,
    read: Open,
    cursor: tuple[str, int] | None,
    numbers: list[int],
    delivered: list[int],
    lost: list[tuple[int, int, int]],
) -> None:
    device.more(*map(record, numbers))
    bench = read(cursor)
    assert bench.told.seqs == delivered
    assert bench.told.gaps == lost
    assert (bench.reader.seen, bench.reader.lost) == (len(delivered), sum(count for count, *_ in lost))
    assert bench.reader.cursor == (BOOT, numbers[-1])


def test_overrun_is_told_between_the_lines_around_it(device: ScriptedDevice, read: Open) -> None:
    device.more(record(1), record(2), EPIPE, record(90), EPIPE, EPIPE, record(91))
    bench = read()
    assert bench.told.all == ["readable", "lines", "lost", "lines"]
    assert bench.told.gaps == [(87, 3, 89)]
    assert bench.told.seqs == [1, 2, 90, 91]


def test_lines_and_losses_are_told_with_the_cursor_that_belongs_to_them(device: ScriptedDevice, read: Open) -> None:
    device.more(record(5), record(6, "unasked"), record(9), record(10, prio=12), record(11, "unasked"))
    bench = read((BOOT, 3))
    cursors: list[object] = []
    bench.told.then = lambda what: cursors.append((what, bench.reader.cursor))
    device.more(record(12), record(20), record(21, "unasked"))
    bench.turn()
    assert cursors == [("lines", (BOOT, 12)), ("lost", (BOOT, 19)), ("lines", (BOOT, 21))]
    assert bench.reader.cursor == (BOOT, 21)


def test_cursor_before_the_first_record(read: Open) -> None:
    assert read((BOOT, 7)).reader.cursor == (BOOT, 7)
    assert read((OTHER_BOOT, 7)).reader.cursor is None
    assert read(None).reader.cursor is None


@pytest.mark.parametrize("tick_s", [0.0, 1.0], ids=["in the middle of a slice", "at the end of a slice"])
@pytest.mark.parametrize("stop_at", ["lines", "lost", "spoofed", "readable"])
def test_after_stop_nothing_is_told_and_start_reads_on(device: ScriptedDevice, stop_at: str, tick_s: float) -> None:
    clock = SetClock(tick_s=tick_s)
    device.more(*(record(n, prio=12 if n == 5 else 4) for n in (1, 2, 4, 5, 6)))
    bench = Bench(PATH, (BOOT, 0), clock=clock, monotonic=clock, device=device)
    bench.told.then = lambda what: bench.reader.stop() if what == stop_at else None
    bench.turn()
    assert bench.told.all[-1] == stop_at
    assert bench.told.all.count(stop_at) == 1
    assert bench.idle
    reached = bench.reader.cursor
    bench.told.then = str
    device.answers = [record(n, prio=12 if n == 5 else 4) for n in (1, 2, 4, 5, 6)]
    bench.reader.start()
    bench.turn()
    assert reached is not None
    assert bench.told.seqs == [1, 2, 4, 6]
    bench.close()


# -- the loop has its turn --------------------------------------------------------------------------------------------


def test_single_line_is_delivered_in_the_turn_that_brings_it(device: ScriptedDevice, read: Open) -> None:
    bench = read()
    device.more(record(1))
    bench.loop.run_once(0.0)
    assert bench.told.seqs == [1]


def test_batches_are_in_order_and_no_larger_than_a_check_may_take(device: ScriptedDevice, read: Open) -> None:
    device.more(*map(record, range(3 * BATCH + 7)))
    bench = read()
    assert bench.told.seqs == list(range(3 * BATCH + 7))
    assert [len(batch) for batch in bench.told.batches] == [BATCH, BATCH, BATCH, 7]


def test_flood_leaves_the_loop_its_turn(device: ScriptedDevice) -> None:
    """Each look at the clock takes a millisecond here, so a slice ends after a few chunks of the thousands there are."""
    clock = SetClock(tick_s=0.001)
    device.more(*(record(n, "unasked") for n in range(5000)))
    bench = Bench(PATH, clock=clock, monotonic=clock, device=device)
    turns: list[int] = []

    def tick() -> None:
        turns.append(bench.reader.seen)
        bench.loop.call_later(0.0, tick)

    tick()
    while bench.reader.seen < 5000:
        bench.loop.run_once(0.0)
    assert len(turns) > 5
    assert max(after - before for before, after in itertools.pairwise(turns)) < 1000
    bench.close()


def test_slice_that_ends_with_the_last_record_notices_the_end(device: ScriptedDevice) -> None:
    clock = SetClock(tick_s=1.0)
    device.more(record(1))
    bench = Bench(PATH, clock=clock, monotonic=clock, device=device)
    bench.turn()
    assert (bench.told.seqs, bench.reader.caught_up, bench.idle) == ([1], True, True)
    bench.close()


def test_quiet_log_needs_no_timer(device: ScriptedDevice, read: Open) -> None:
    device.more(record(1))
    bench = read()
    assert bench.reader.caught_up
    assert bench.idle


# -- trouble ----------------------------------------------------------------------------------------------------------


def test_readable_is_told_once_at_the_start(device: ScriptedDevice, read: Open) -> None:
    bench = read()
    device.more(record(1))
    bench.turn()
    assert bench.told.sight == ["readable"]


def test_read_error_reopens_and_skips_what_was_seen(device: ScriptedDevice, read: Open, clock: SetClock) -> None:
    device.more(record(1), record(2), EIO, EIO)
    bench = read()
    assert bench.told.reasons == ["/dev/kmsg: Input/output error; opened again until it works"]
    device.answers = [record(1), record(2), record(3), record(7)]
    clock.now += 1.0
    bench.turn()
    assert bench.told.sight == ["readable", "unreadable", "readable"]
    assert bench.told.seqs == [1, 2, 3, 7]
    assert bench.told.gaps == [(3, 4, 6)]
    assert bench.idle


def test_denied_log_is_told_once_per_reason_with_the_mend(device: ScriptedDevice, read: Open, clock: SetClock) -> None:
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory")
    device.refusals = [EPERM, EPERM, EPERM, missing, missing, EPERM]
    bench = read()
    for _ in range(6):
        clock.now += RETRY_MAX_S
        bench.turn()
    denied, absent = "no permission to read it; run as root or grant CAP_SYSLOG", "not there; in a container mount the node's"
    told = bench.told.reasons
    assert [any(reason in one for reason in (denied, absent)) for one in told] == [True] * 3
    assert [denied in one for one in told] == [True, False, True]
    assert all(one.startswith("/dev/kmsg: ") and "\n" not in one for one in told)
    assert bench.told.sight[-1] == "readable"


def test_pauses_between_openings_grow_to_a_limit(device: ScriptedDevice, read: Open, clock: SetClock) -> None:
    device.refusals = [EIO] * 10_000
    bench = read()
    began, opened = clock.now, [clock.now]
    while clock.now < began + 300:
        before = len(device.opened)
        clock.now += 0.05
        bench.turn(2)
        opened += [clock.now] * (len(device.opened) - before)
    pauses = [after - before for before, after in itertools.pairwise(opened)]
    assert pauses[0] < 0.2
    assert pauses == sorted(pauses)
    assert RETRY_MAX_S - 0.1 < pauses[-1] < RETRY_MAX_S + 0.1
    assert len(opened) < 25


def test_a_device_that_gives_nothing_is_no_kernel_log(device: ScriptedDevice, read: Open) -> None:
    device.more(b"")
    bench = read()
    assert bench.told.reasons == ["/dev/kmsg: gives nothing, so it is no kernel log; is `kernel_log` the right path?"]
    assert bench.reader.caught_up


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/dev/null", "cannot be waited for, so it is no kernel log; is `kernel_log` the right path?"),
        ("/proc", "is neither the kernel's log device nor a pipe nor a regular file; correct `kernel_log`"),
        ("/nowhere/kmsg", "not there; in a container mount the node's /dev/kmsg, or name another path as `kernel_log`"),
    ],
)
def test_wrong_path_is_told_in_one_line(path: str, reason: str) -> None:
    bench = Bench(Path(path))
    bench.until(lambda: bool(bench.told.all))
    assert (bench.told.all, bench.told.reasons) == (["unreadable"], [f"{path}: {reason}"])
    bench.close()
