"""Long-lived children on a real loop: shell scripts that print, die, fall silent, flood and hang."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hma.check import Feed, NotInstalled, SourceError, Stream
from hma.loop import Loop
from hma.sources import stream as module
from hma.sources.stream import StreamChild
from tests.sources.stuck import NEEDS, frozen, state

PATIENCE_S = 20.0


class Quick(Loop):
    """A loop on which every delay is a fraction of what it should be, so that minutes of back-off pass in a test."""

    def __init__(self, times: float) -> None:
        began = time.monotonic()
        super().__init__(lambda: (time.monotonic() - began) * times)
        self._times = times

    def _until_next_timer(self) -> float | None:
        wait = super()._until_next_timer()
        return None if wait is None else wait / self._times


class Bench:
    """A stream child on a loop, and what it told."""

    def __init__(self, source: Stream, times: float = 1.0) -> None:
        self.loop = Quick(times)
        self.feeds: list[Feed] = []
        self.errors: list[SourceError] = []
        self.error_times: list[float] = []
        self.child = StreamChild(self.loop, source, self.feeds.append, self._told)

    def _told(self, error: SourceError) -> None:
        self.errors.append(error)
        self.error_times.append(self.loop.clock())

    @property
    def lines(self) -> list[str]:
        """Return all lines so far."""
        return [line for feed in self.feeds for line in feed.lines]

    @property
    def said(self) -> list[str]:
        """Return the errors so far with numbers of processes and milliseconds left out."""
        return [re.sub(r"pid \d+", "pid N", re.sub(r"after \d+ s", "after N s", str(error))) for error in self.errors]

    def until(self, reached: Callable[[], bool]) -> None:
        """Turn the loop until something holds."""
        give_up = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < give_up, (self.feeds, self.errors)
            self.loop.run_once(0.02)


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def one(script: str, times: float = 1.0, silence_s: float = 60.0, max_line: int = 1_000) -> Bench:
        made.append(Bench(Stream(("sh", "-c", script), silence_s, max_line), times))
        return made[-1]

    before = {entry.name for entry in Path("/proc/self/fd").iterdir()}
    yield one
    for bench in made:
        bench.child.stop()
        bench.until(lambda: not bench.child.out)  # noqa: B023  (called at once)
        bench.loop.close()
    assert {entry.name for entry in Path("/proc/self/fd").iterdir()} == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


Make = Callable[..., Bench]


def test_lines_are_handed_on_as_they_come(make: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    bench = make(f"cat {tmp_path}/pipe; sleep 60")
    bench.child.start()
    with open(tmp_path / "pipe", "wb", buffering=0) as pipe:
        for piece, lines in (
            (b"one\n", ["one"]),
            (b"t", ["one"]),
            (b"wo\nthree\n", ["one", "two", "three"]),
            (b"\n\xff\nrest", ["one", "two", "three", "", "\\xff"]),
        ):
            pipe.write(piece)
            bench.until(lambda: bench.lines == lines)  # noqa: B023  (called at once)
    assert bench.feeds[1] == Feed(("two", "three"))
    assert bench.errors == []


def test_big_batch_arrives_whole(make: Make) -> None:
    bench = make("seq 1 100000; sleep 60")
    bench.child.start()
    bench.until(lambda: len(bench.lines) >= 100_000)
    assert bench.lines == [str(number) for number in range(1, 100_001)]


def test_one_that_says_it_is_not_installed_is_tried_again_in_five_minutes_and_then_less_often(make: Make) -> None:
    bench = make("echo Traceback >&2; echo 'no module named pynvml' >&2; exit 69", times=600.0, silence_s=1e6)
    bench.child.start()
    bench.until(lambda: len(bench.errors) == 3)
    assert [type(error) for error in bench.errors] == [NotInstalled] * 3
    assert bench.said == ["no module named pynvml"] * 3
    first, second, third = bench.error_times
    assert second - first >= 300
    assert third - second >= 600


@pytest.mark.parametrize(("length", "kept", "said"), [(10, 3, 0), (11, 2, 1), (500_000, 2, 1)])
def test_line_that_is_too_long_is_left_out_and_said(make: Make, length: int, kept: int, said: int) -> None:
    bench = make(f"echo a; head -c {length} /dev/zero | tr '\\0' x; echo; echo b; sleep 60", max_line=10)
    bench.child.start()
    bench.until(lambda: "b" in bench.lines)
    assert len(bench.lines) == kept
    assert bench.said == ["sh: 1 lines left out that are longer than 10 bytes"] * said


def test_child_that_dies_is_said_and_started_again(make: Make) -> None:
    bench = make("echo up; echo GPU 3 is lost >&2; exit 7", times=20)
    bench.child.start()
    bench.until(lambda: len(bench.errors) == 5)
    assert bench.lines[:5] == ["up"] * 5
    assert bench.said == [
        f"sh: ended with exit code 7 after N s; it last said: GPU 3 is lost; started again in {wait} s"
        for wait in (1, 2, 4, 8, 16)
    ]
    gaps = [later - before for before, later in zip(bench.error_times, bench.error_times[1:], strict=False)]
    assert [gap >= wait for gap, wait in zip(gaps, (1, 2, 4, 8), strict=True)] == [True] * 4


ENLARGED = "import fcntl, os; fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20); os.write(1, b'line\\n' * 100_000)"


def test_last_lines_of_a_child_that_died_are_not_lost(make: Make) -> None:
    """The pipe holds more than one read of them when the child ends."""
    bench = make(f'exec {sys.executable} -Sc "{ENLARGED}"')
    bench.child.start()
    give_up = time.monotonic() + PATIENCE_S
    while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        assert time.monotonic() < give_up
    bench.until(lambda: bool(bench.errors))
    assert bench.lines == ["line"] * 100_000


def test_back_off_ends_at_five_minutes(make: Make) -> None:
    bench = make("kill -9 $$", times=400, silence_s=86_400.0)
    bench.child.start()
    bench.until(lambda: len(bench.errors) == 11)
    assert [text.rpartition(" in ")[2] for text in bench.said[7:]] == ["128 s", "256 s", "300 s", "300 s"]
    assert bench.said[0] == "sh: killed by SIGKILL after N s; started again in 1 s"


def test_back_off_begins_anew_after_a_while_of_good_output(make: Make, tmp_path: Path) -> None:
    """The third child prints for more than a minute (of this quick clock) before it dies."""
    bench = make(
        f"echo x >>{tmp_path}/runs; [ $(wc -l <{tmp_path}/runs) != 3 ] || for i in $(seq 20); do echo good; sleep 0.05; done",
        times=120,
    )
    bench.child.start()
    bench.until(lambda: len(bench.errors) == 3)
    assert [text.rpartition(" in ")[2] for text in bench.said] == ["1 s", "2 s", "1 s"]


def test_silence_is_said_once_and_the_child_replaced(make: Make, tmp_path: Path) -> None:
    bench = make(f"echo $$ >>{tmp_path}/pids; echo hello; echo no GPU >&2; exec sleep 600", silence_s=0.3)
    bench.child.start()
    bench.until(lambda: len((tmp_path / "pids").read_text().split()) == 2 if (tmp_path / "pids").exists() else False)
    assert bench.said == ["sh: no line within 0.3 s; pid N is in state S and is ended; it last said: no GPU"]
    assert state(int((tmp_path / "pids").read_text().split()[0])) == ""


def test_lines_in_time_are_no_silence(make: Make) -> None:
    bench = make("while sleep 0.1; do echo x; done", silence_s=0.7)
    bench.child.start()
    bench.until(lambda: len(bench.lines) > 12)
    assert bench.errors == []


def test_flood_is_ended(make: Make) -> None:
    bench = make("yes 0123456789", max_line=100)
    bench.child.start()
    bench.until(lambda: bool(bench.errors))
    assert bench.said[0].startswith("sh: printed more than 16 MiB within 10 s; pid N is in state ")


def test_program_that_is_not_there_is_not_installed_and_looked_for_again(make: Make) -> None:
    bench = make("", times=20)
    bench.child = StreamChild(bench.loop, Stream(("no-such-monitor",)), bench.feeds.append, bench._told)
    bench.child.start()
    bench.until(lambda: len(bench.errors) == 2)
    assert [type(error) for error in bench.errors] == [NotInstalled] * 2
    assert "no-such-monitor: not found in PATH; install it" in bench.said[0]


def test_stop_asks_through_the_end_of_input(make: Make, tmp_path: Path) -> None:
    bench = make(f"trap '' TERM; echo up; cat; echo asked >{tmp_path}/asked")
    bench.child.start()
    bench.until(lambda: bench.lines == ["up"])
    began = time.monotonic()
    bench.child.stop()
    assert time.monotonic() - began < 0.2
    bench.until(lambda: not bench.child.out)
    assert (tmp_path / "asked").exists()
    assert (bench.lines, bench.errors) == (["up"], [])


def test_stop_kills_who_does_not_listen(make: Make) -> None:
    bench = make("trap '' TERM; echo up; sleep 600; sleep 600")
    bench.child.start()
    bench.until(lambda: bench.lines == ["up"])
    bench.child.stop()
    bench.until(lambda: not bench.child.out)
    assert bench.errors == []


def test_stop_during_the_back_off_starts_nothing(make: Make, tmp_path: Path) -> None:
    bench = make(f"echo x >>{tmp_path}/runs", times=20)
    bench.child.start()
    bench.until(lambda: len(bench.errors) == 1)
    bench.child.stop()
    until = bench.loop.clock() + 5 * module.RETRY_S
    bench.until(lambda: bench.loop.clock() > until)
    assert (tmp_path / "runs").read_text() == "x\n"


def test_start_after_stop_waits_for_the_old_child(make: Make, tmp_path: Path) -> None:
    alone = f"mkdir {tmp_path}/alone || echo two at once; trap '' TERM; echo up; cat; sleep 0.3; rmdir {tmp_path}/alone; exit"
    bench = make(alone)
    bench.child.start()
    bench.until(lambda: bench.lines == ["up"])
    bench.child.stop()
    bench.child.start()
    began = time.monotonic()
    bench.until(lambda: len(bench.lines) > 1)
    assert time.monotonic() - began < 0.3 + module.RETRY_S  # at once: nothing went wrong, so there is no back-off
    assert (bench.lines, bench.errors) == (["up", "up"], [])


@pytest.mark.needs(*NEEDS)
def test_child_in_state_d_is_left_behind_and_replaced_only_when_it_has_ended(make: Make, tmp_path: Path) -> None:
    with frozen(tmp_path) as disk:
        bench = make(f"echo $$ >>{tmp_path}/pids; echo up; exec {' '.join(disk.writer)}", silence_s=0.3)
        bench.child.start()
        bench.until(lambda: len(bench.errors) == 2)
        where = r"is in uninterruptible sleep \(state D, wchan \w+\)"
        assert re.fullmatch(rf"sh: no line within 0\.3 s; pid N {where} and is ended", bench.said[0])
        assert re.fullmatch(
            rf"sh: no line within 0\.3 s; pid N {where} and was left behind; it is started again when that has ended",
            bench.said[1],
        )
        until = time.monotonic() + 1.1 * module.RETRY_S
        bench.until(lambda: time.monotonic() > until)
        assert len((tmp_path / "pids").read_text().split()) == 1
        disk.thaw()
        bench.until(lambda: len((tmp_path / "pids").read_text().split()) == 2)
        bench.child.stop()
        bench.until(lambda: not bench.child.out)


def test_python_child_with_buffers_is_read_too(make: Make) -> None:
    bench = make(f"exec {sys.executable} -uc 'import sys; print(1); sys.stdin.read(); print(2)'")
    bench.child.start()
    bench.until(lambda: bench.lines == ["1"])
