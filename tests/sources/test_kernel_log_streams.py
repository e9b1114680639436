"""A kernel log that comes through a real pipe or lies in a real file, which is rotated, truncated, removed and made again."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hma.loop import Loop
from hma.sources.kernel_log import GRACE_S, LOOK_S, RETRY_MAX_S, STUCK_S, KernelLogReader
from hma.sources.kmsg_channel import Channel, RegularFile
from tests.sources.fake_kmsg import BOOT, Bench, SetClock, Told, record

Open = Callable[..., Bench]


@pytest.fixture(name="clock")
def set_clock() -> SetClock:
    return SetClock()


@pytest.fixture(name="pipe")
def real_pipe(tmp_path: Path) -> Path:
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    return path


@pytest.fixture(name="file")
def place_of_file(tmp_path: Path) -> Path:
    return tmp_path / "kmsg.log"


@pytest.fixture(name="read")
def reader_of(clock: SetClock) -> Iterator[Open]:
    """Return a function that reads a path on the set clock and has taken all that was there."""
    made: list[Bench] = []

    def start(path: Path, cursor: tuple[str, int] | None = None, patterns: tuple[bytes, ...] = (b"NVRM: ",)) -> Bench:
        bench = Bench(path, cursor, patterns, clock, clock)
        made.append(bench)
        bench.turn()
        return bench

    yield start
    for bench in made:
        bench.close()


def writer(pipe: Path) -> int:
    return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)


def say(pipe: Path, *records: bytes) -> None:
    """Write as a program that opens the pipe, writes and goes."""
    fd = writer(pipe)
    os.write(fd, b"".join(records))
    os.close(fd)


def append(file: Path, *records: bytes) -> None:
    with file.open("ab") as out:
        out.write(b"".join(records))


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208  (names are all that is compared)


# -- either -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_kernel_facility_counts_and_any_other_does_not(kind: str, pipe: Path, file: Path, read: Open) -> None:
    xid = "NVRM: Xid (PCI:0000:97:00): 79, GPU has fallen off the bus."
    path = {"pipe": pipe, "file": file}[kind]
    file.touch()
    bench = read(path)
    append(
        path,
        record(1, xid, prio=4),
        record(2, xid, prio=12),
        record(3, "other"),
        b" SUBSYSTEM=NVRM: \n",
        record(4, xid, prio=0),
    )
    bench.turn()
    assert bench.told.seqs == [1, 4]
    assert set(bench.told.texts) == {xid}
    assert (bench.reader.seen, bench.reader.foreign, bench.reader.spoofed, bench.reader.malformed) == (4, 1, 1, 0)


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_raw_bytes_are_searched_and_shown_as_the_kernel_escapes_them(kind: str, pipe: Path, file: Path, read: Open) -> None:
    path = {"pipe": pipe, "file": file}[kind]
    file.touch()
    bench = read(path, patterns=(rb"NVRM: \\xff\\x1b",))
    append(path, record(1, b"NVRM: \xff\x1b\x00\xc3\xb6"), record(2, b"NVRM: plain"))
    bench.turn()
    assert bench.told.texts == ["NVRM: \\xff\\x1b\\x00\\xc3\\xb6"]


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_record_that_comes_in_pieces_is_one(kind: str, pipe: Path, file: Path, read: Open) -> None:
    path = {"pipe": pipe, "file": file}[kind]
    file.touch()
    bench = read(path)
    keep = os.open(path, os.O_RDWR | os.O_APPEND)
    for piece in (b"4,1,1000", b"000,-;NVRM: Xi", b"d (PCI", b"\n4,2,1000000,-;NVRM: b\n4,3"):
        os.write(keep, piece)
        bench.turn()
    assert bench.told.texts == ["NVRM: Xid (PCI", "NVRM: b"]
    assert bench.reader.malformed == 0
    os.close(keep)


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_quiet_stream_needs_no_timer_and_no_turn(kind: str, pipe: Path, file: Path, read: Open) -> None:
    path = {"pipe": pipe, "file": file}[kind]
    file.touch()
    bench = read(path)
    keep = os.open(path, os.O_RDWR | os.O_APPEND)
    os.write(keep, record(1))
    bench.turn()
    assert bench.told.seqs == [1]
    assert bench.idle
    begun = time.monotonic()
    bench.loop.run_once(0.05)  # nothing is ready: it waits all the time
    assert time.monotonic() - begun >= 0.05
    os.close(keep)


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_stop_leaves_no_descriptor(kind: str, pipe: Path, file: Path) -> None:
    before = descriptors()
    path = {"pipe": pipe, "file": file}[kind]
    bench = Bench(path)
    bench.turn()
    append(file, record(1)) if kind == "file" else say(pipe, record(1))
    bench.until(lambda: bench.told.seqs == [1])
    bench.close()
    assert descriptors() == before


def test_wait_for_a_missing_file_leaves_no_descriptor_and_does_not_spin(file: Path, clock: SetClock) -> None:
    before = descriptors()
    bench = Bench(file, clock=clock, monotonic=clock)
    bench.turn()
    file.with_name("another").touch()
    bench.turn()
    begun = time.monotonic()
    bench.loop.run_once(0.05)
    assert time.monotonic() - begun >= 0.05
    bench.close()
    assert descriptors() == before


def test_restarted_agent_reads_behind_its_cursor(file: Path, read: Open) -> None:
    append(file, *map(record, range(10)))
    first = read(file)
    reached = first.reader.cursor
    first.reader.stop()
    append(file, *map(record, (10, 11, 14)))
    second = read(file, reached)
    assert reached == (BOOT, 9)
    assert (second.told.seqs, second.told.gaps) == ([10, 11, 14], [(2, 12, 13)])


# -- pipes ------------------------------------------------------------------------------------------------------------


def test_pipe_without_a_writer_is_unreadable_until_one_comes(pipe: Path, read: Open) -> None:
    bench = read(pipe)
    assert bench.told.all == ["unreadable"]
    assert bench.told.reasons == [f"{pipe}: no program has this pipe open for writing; start the one that feeds it"]
    fd = writer(pipe)
    os.write(fd, record(1))
    bench.turn()
    assert bench.told.sight == ["unreadable", "readable"]
    assert bench.told.seqs == [1]
    os.close(fd)


def test_silent_writer_is_noticed(pipe: Path, read: Open, clock: SetClock) -> None:
    bench = read(pipe)
    fd = writer(pipe)
    clock.now += RETRY_MAX_S
    bench.turn()
    assert bench.told.sight == ["unreadable", "readable"]
    assert bench.idle
    os.close(fd)


def test_writer_that_is_restarted_is_no_blindness(pipe: Path, read: Open, clock: SetClock) -> None:
    fd = writer_of(read, pipe)
    bench = read(pipe)
    os.close(fd)
    bench.turn()
    clock.now += GRACE_S / 2
    bench.turn()
    say(pipe, record(2))
    bench.turn()
    assert bench.told.sight == ["readable"]
    assert bench.told.seqs == [2]


def writer_of(read: Open, pipe: Path) -> int:
    """Return a writer's descriptor, which needs a reader to be opened."""
    other = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fd = writer(pipe)
    os.close(other)
    return fd


def test_writer_that_stays_away_is_told_once(pipe: Path, read: Open, clock: SetClock) -> None:
    fd = writer_of(read, pipe)
    bench = read(pipe)
    os.write(fd, record(1))
    os.close(fd)
    for _ in range(20):
        bench.turn()
        clock.now += GRACE_S
    assert bench.told.sight == ["readable", "unreadable"]
    say(pipe, record(2))
    bench.turn()
    assert bench.told.sight == ["readable", "unreadable", "readable"]
    assert bench.told.seqs == [1, 2]


def test_pipe_without_a_writer_does_not_spin(pipe: Path, read: Open) -> None:
    bench = read(pipe)
    say(pipe, record(1))
    bench.turn(50)
    begun = time.monotonic()
    bench.loop.run_once(0.05)
    assert time.monotonic() - begun >= 0.05
    assert bench.told.seqs == [1]


def test_writers_that_come_and_go_lose_nothing(pipe: Path, read: Open) -> None:
    bench = read(pipe)
    for n in range(200):
        say(pipe, record(n))
        bench.turn(n % 3)
    bench.turn()
    assert bench.told.seqs == list(range(200))


def test_last_record_without_newline_counts_when_its_writer_goes(pipe: Path, read: Open) -> None:
    bench = read(pipe)
    fd = writer(pipe)
    os.write(fd, record(1) + record(2).rstrip(b"\n"))
    bench.turn()
    assert bench.told.seqs == [1]
    os.close(fd)
    bench.turn()
    assert bench.told.seqs == [1, 2]


def test_writer_that_numbers_anew_is_believed(pipe: Path, read: Open) -> None:
    bench = read(pipe)
    say(pipe, *map(record, (100, 101, 102)))
    bench.turn()
    say(pipe, *(record(n, f"NVRM: another {n}") for n in (1, 2, 5, 101, 102, 103)))
    bench.turn()
    assert bench.told.seqs == [100, 101, 102, 1, 2, 5, 101, 102, 103]
    assert bench.told.gaps == [(2, 3, 4), (95, 6, 100)]
    assert bench.reader.restarts == 1
    assert bench.reader.cursor == (BOOT, 103)


def test_writer_that_repeats_itself_is_counted_once(pipe: Path, read: Open) -> None:
    bench = read(pipe)
    ring = [record(n, f"NVRM: {n}") for n in range(300)]
    say(pipe, *ring[:200])
    bench.turn()
    say(pipe, *ring)
    bench.turn()
    assert bench.told.seqs == list(range(300))


def test_pipe_that_is_made_anew_is_found(pipe: Path, read: Open, clock: SetClock) -> None:
    fd = writer_of(read, pipe)
    bench = read(pipe)
    pipe.unlink()
    os.mkfifo(pipe)
    os.close(fd)
    bench.turn()
    clock.now += GRACE_S
    bench.turn()
    say(pipe, record(1))
    bench.turn()
    assert bench.told.seqs == [1]


# -- files ------------------------------------------------------------------------------------------------------------


def test_file_is_read_from_its_beginning_and_followed(file: Path, read: Open) -> None:
    append(file, record(1), record(2))
    bench = read(file)
    assert bench.told.seqs == [1, 2]
    append(file, record(3))
    bench.loop.run_once(0.0)
    assert bench.told.seqs == [1, 2, 3]
    assert bench.told.sight == ["readable"]


@pytest.mark.parametrize("tail", [b"\n", b""], ids=["whole", "without its last newline"])
def test_rotated_file_is_read_to_its_end_and_the_next_one_from_its_beginning(file: Path, read: Open, tail: bytes) -> None:
    append(file, record(1))
    bench = read(file)
    append(file, record(2).rstrip(b"\n") + tail)
    file.rename(file.with_suffix(".1"))
    append(file, record(3), record(4))
    bench.turn()
    append(file, record(5))
    bench.turn()
    assert bench.told.seqs == [1, 2, 3, 4, 5]
    assert bench.told.sight == ["readable"]
    assert bench.reader.lost == 0
    assert bench.idle


def test_writer_that_has_not_yet_noticed_the_rotation_is_heard(file: Path, read: Open, clock: SetClock) -> None:
    append(file, record(1))
    bench = read(file)
    old = file.with_suffix(".1")
    file.rename(old)
    bench.turn()
    append(old, record(2))
    bench.turn()
    assert bench.told.seqs == [1, 2]
    clock.now += GRACE_S / 2
    append(file, record(3))
    bench.turn()
    assert (bench.told.seqs, bench.told.sight) == ([1, 2, 3], ["readable"])
    assert bench.idle


def test_file_renamed_over_is_followed(file: Path, read: Open) -> None:
    append(file, record(1))
    bench = read(file)
    new = file.with_suffix(".new")
    append(new, record(2), record(3))
    new.rename(file)
    bench.turn()
    assert bench.told.seqs == [1, 2, 3]


def test_truncated_file_is_read_from_its_beginning(file: Path, read: Open) -> None:
    append(file, record(1), record(2), b"4,3,1,-;NVRM: cut of")
    bench = read(file)
    os.truncate(file, 0)
    bench.turn()
    append(file, record(3, "NVRM: whole"))
    bench.turn()
    assert bench.told.texts == ["NVRM: Xid", "NVRM: Xid", "NVRM: whole"]
    assert (bench.reader.malformed, bench.reader.lost) == (0, 0)


def test_file_that_numbers_anew_is_believed(file: Path, read: Open) -> None:
    append(file, *map(record, (500, 501)))
    bench = read(file)
    file.write_bytes(record(1, "NVRM: other"))
    bench.turn()
    assert bench.told.seqs == [500, 501, 1]


def test_file_that_comes_later_is_noticed_at_once(file: Path, read: Open) -> None:
    bench = read(file)
    assert bench.told.sight == ["unreadable"]
    append(file, record(1))
    bench.turn()
    assert bench.told.sight == ["unreadable", "readable"]
    assert bench.told.seqs == [1]
    assert bench.idle


def test_file_whose_folder_comes_later_is_found(tmp_path: Path, read: Open, clock: SetClock) -> None:
    file = tmp_path / "later" / "kmsg"
    bench = read(file)
    file.parent.mkdir()
    append(file, record(1))
    clock.now += RETRY_MAX_S
    bench.turn()
    assert bench.told.seqs == [1]


def test_removed_file_is_told_and_the_next_one_found(file: Path, read: Open, clock: SetClock) -> None:
    append(file, record(1))
    bench = read(file)
    append(file, record(2).rstrip(b"\n"))
    file.unlink()
    bench.turn()
    assert bench.told.sight == ["readable"]
    clock.now += GRACE_S
    bench.turn()
    assert bench.told.sight == ["readable", "unreadable"]
    assert "not there" in bench.told.reasons[0]
    append(file, record(3))
    bench.turn()
    assert bench.told.sight == ["readable", "unreadable", "readable"]
    assert bench.told.seqs == [1, 2, 3]


def test_large_file_leaves_the_loop_its_turn(file: Path) -> None:
    count = 60_000
    file.write_bytes(b"".join(record(n, "unasked") for n in range(count)))
    bench = Bench(file)
    turns = [0]

    def tick() -> None:
        turns.append(bench.reader.seen)
        bench.loop.call_later(0.0, tick)

    tick()
    bench.until(lambda: bench.reader.seen == count)
    assert max(after - before for before, after in itertools.pairwise(turns)) < count / 2
    assert bench.told.sight == ["readable"]
    bench.close()


def test_file_that_inotify_does_not_watch_is_looked_at(file: Path, clock: SetClock) -> None:
    def unwatched(path: Path) -> Channel:
        return RegularFile(path, os.open(path, os.O_RDONLY), os.read, None)

    append(file, record(1))
    told, loop = Told(), Loop(clock)
    reader = KernelLogReader(loop, file, BOOT, None, told, clock, unwatched)
    reader.patterns((b"NVRM",))
    reader.start()
    for n in (2, 3, 4):
        for _ in range(5):
            loop.run_once(0.0)
        append(file, record(n))
        clock.now += LOOK_S
    for _ in range(5):
        loop.run_once(0.0)
    assert told.seqs == [1, 2, 3, 4]
    reader.stop()
    loop.close()


# -- rubbish ----------------------------------------------------------------------------------------------------------

SEEDS = (
    b"4,%d,%d,-;NVRM: Xid (PCI:0000:97:00): 79, pid=1234, name=python3, GPU has fallen off the bus.",
    b"12,%d,%d,-;NVRM: Xid (PCI:0000:97:00): 79",
    b"4,%d,%d,c,1,-;NVRM: a fragment",
    b"6,%d,%d,-,caller=T77;pcieport 0000:00:1c.0: AER: Corrected error\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:1c.0",
    b"3,%d,%d,-;nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 32 LTSSM Fault Up",
)


def mutated(rng: random.Random, line: bytes) -> bytes:
    """Return a line with one to four bytes or parts changed, doubled, taken out or put in."""
    raw = bytearray(line)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(raw) + 1)
        match rng.randrange(6):
            case 0:
                raw[at : at + 1] = rng.randbytes(1)
            case 1:
                del raw[at : at + rng.randrange(20)]
            case 2:
                raw[at:at] = rng.randbytes(rng.randrange(8))
            case 3:
                raw[at:at] = raw[: rng.randrange(len(raw) + 1)]
            case 4:
                raw[at : at + 1] = rng.choice((b",", b";", b"\n", b" ", b"\0", b"\\x0a", b"9999999999999", b"-", b"\xff"))
            case _:
                raw[at:] = b""
    return bytes(raw)


def test_a_hundred_thousand_mutated_records_do_no_harm(file: Path) -> None:
    rng = random.Random(20240611)
    now_us = int(time.monotonic() * 1e6)
    file.write_bytes(b"".join(mutated(rng, SEEDS[n % 5] % (n, now_us + n)) + b"\n" for n in range(100_000)))
    bench = Bench(file, patterns=(rb"NVRM: ", rb"SXid \("))
    begun = time.process_time()
    bench.until(lambda: bench.reader.caught_up, 60)
    took_s = time.process_time() - begun
    assert all(text.isascii() and text.isprintable() for text in bench.told.texts)
    assert len(bench.told.texts) > 10_000
    assert bench.reader.malformed > 10_000
    assert took_s < 15
    fresh = [record(n, f"NVRM: after the rubbish {n}", int(time.monotonic() * 1e6) + n) for n in (7, 8, 9)]
    append(file, b"\n", *fresh)
    bench.until(lambda: "NVRM: after the rubbish 9" in bench.told.texts)
    assert bench.told.texts[-3:] == [f"NVRM: after the rubbish {n}" for n in (7, 8, 9)]
    bench.close()


# -- proof of life ----------------------------------------------------------------------------------------------------


def test_records_that_nobody_comes_to_read_are_noticed(pipe: Path, clock: SetClock, read: Open) -> None:
    bench = read(pipe)
    fd = writer(pipe)
    os.write(fd, record(1))
    bench.turn()
    os.write(fd, record(2))
    assert not bench.reader.stuck(clock.now)
    assert not bench.reader.stuck(clock.now + STUCK_S)
    assert bench.reader.stuck(clock.now + STUCK_S + 0.1)
    bench.turn()
    assert not bench.reader.stuck(clock.now + 2 * STUCK_S)
    os.close(fd)


def test_log_in_which_nothing_happens_and_one_that_floods_are_well(pipe: Path, clock: SetClock, read: Open) -> None:
    bench = read(pipe)
    fd = writer(pipe)
    os.write(fd, record(0))
    bench.turn()
    for number in range(20):
        assert not bench.reader.stuck(clock.now + number * STUCK_S)
    for number in range(20, 40):
        os.write(fd, record(number))
        assert not bench.reader.stuck(clock.now + number * STUCK_S)
        bench.turn()
        os.write(fd, record(100 + number))
        assert not bench.reader.stuck(clock.now + number * STUCK_S)
        bench.turn()
    os.close(fd)


def test_log_that_is_tried_again_later_is_well(file: Path, clock: SetClock, read: Open) -> None:
    bench = read(file)
    for number in range(5):
        assert not bench.reader.stuck(clock.now + number * STUCK_S)
    bench.reader.stop()
    assert not bench.reader.stuck(clock.now)
