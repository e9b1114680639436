"""100,000 damaged kernel lines through the checks that read the NVIDIA driver's lines.

Rules of this file:
- The seed is fixed: a line that breaks a check breaks it every time.
- A line takes the way of a real one: only what matches a check's own pattern reaches it.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator

import pytest

from checks.passive import sxid, xid
from hma.check import Check, KernelLine, KernelLog, Lines, NoOptions
from hma.model import Observation, Status
from tests.checks.kernel_lines import NODE, cases

SEED = 20261125
LINES = 100_000
BATCH = 100
LONGEST_S = 0.1  # processor time for one line; the slowest measured took 1 ms

WORDS = [case.text for case in cases("nvidia-xid.txt", "nvidia-other.txt", "nvidia-sxid.txt")]
SEEDS = [word.encode() for word in WORDS]
TOKENS = (
    b"NVRM: ", b"NVRM: Xid (", b"PCI:", b"0000:9b:00", b".0", b"): ", b", ", b"pid=", b"pid='<unknown>', ", b"name=",
    b"GPU-I:", b"GPU-CI:", b"79", b"154", b"149", b"(GPC 1, TPC 2, SM 3)", b" caused by previous Xid ", b"link 1(0x0, 0x0)",
    b"Link -1 ", b"Fatal", b"XC0 i0 ", b"0x", b"(", b")", b"[", b"]", b"\n", b"\\x0a", b"to 0x1 (None)",
    b"SXid (", b"nvidia-nvswitch0: ", b"Data {", b"Severity 1",
)  # fmt: skip
NUMBERS = (b"0", b"-1", b"00000", b"4294967296", b"9" * 40, b"9" * 5000, b"0x" + b"f" * 400, b"\xd9\xa7\xd9\xa9", b"1e9", b"")

PLACE = re.compile(
    r"host|gpu:unknown|(?:gpu|nvswitch):[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}|gpu:GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)
DIGITS = re.compile(rb"[0-9]+")


def flip(line: bytes, chance: random.Random) -> bytes:
    """Change some bits of some bytes."""
    changed = bytearray(line)
    for _ in range(chance.randrange(1, 5)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(line: bytes, chance: random.Random) -> bytes:
    """Keep a part."""
    start, end = sorted(chance.randrange(len(line) + 1) for _ in range(2))
    return line[:end] if chance.random() < 0.7 else line[start:end]


def repeat(line: bytes, chance: random.Random) -> bytes:
    """Repeat a part, sometimes to far beyond what the kernel would keep of a line."""
    start, end = sorted(chance.randrange(len(line) + 1) for _ in range(2))
    part = line[start : min(end, start + 40)]
    return line[:end] + part * chance.choice((1, 1, 2, 9, 200)) + line[end:]


def splice(line: bytes, chance: random.Random) -> bytes:
    """Go on as another line."""
    other = chance.choice(SEEDS)
    return line[: chance.randrange(len(line) + 1)] + other[chance.randrange(len(other) + 1) :]


def renumber(line: bytes, chance: random.Random) -> bytes:
    """Put another number where a number stands."""
    found = list(DIGITS.finditer(line))
    if not found:
        return line
    at = chance.choice(found)
    return line[: at.start()] + chance.choice(NUMBERS) + line[at.end() :]


def control(line: bytes, chance: random.Random) -> bytes:
    """Put control characters, and bytes that are no UTF-8, anywhere."""
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(line) + 1)
        line = line[:at] + bytes([chance.choice((*range(32), *range(127, 256)))]) * chance.choice((1, 1, 50)) + line[at:]
    return line


def insert(line: bytes, chance: random.Random) -> bytes:
    """Put a word of the format where it does not belong."""
    at = chance.randrange(len(line) + 1)
    return line[:at] + chance.choice(TOKENS) * chance.choice((1, 1, 2, 30)) + line[at:]


def build(line: bytes, chance: random.Random) -> bytes:
    """Put words of the format in any order."""
    return b"".join(chance.choice(TOKENS) for _ in range(chance.randrange(1, 20)))


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, cut, repeat, splice, renumber, control, insert, build)


def damaged(count: int) -> Iterator[str]:
    """Return `count` lines, each damaged one to three times, as a reader of the kernel log would decode them."""
    chance = random.Random(SEED)
    for _ in range(count):
        line = chance.choice(SEEDS)
        for _ in range(chance.choice((1, 1, 2, 3))):
            line = chance.choice(DAMAGES)(line, chance) or b"x"
        yield line.decode("utf-8", chance.choice(("surrogateescape", "backslashreplace")))


def is_sound(seen: Observation, codes: frozenset[str]) -> bool:
    """Return whether an observation is one that the engine may be given."""
    return (
        seen.code in codes
        and PLACE.fullmatch(seen.component) is not None
        and seen.status is not Status.UNKNOWN
        and (seen.cause == "" or seen.cause in codes)
        and all(key and value for key, value in seen.attrs)
    )


def observe(check: Check[Lines, NoOptions], lines: tuple[KernelLine, ...]) -> list[Observation]:
    """Return what a check says of a batch."""
    return list(check.observe(Lines(lines), NODE, check.options)) if lines else []


@pytest.mark.parametrize("check", [xid.CHECK, sxid.CHECK], ids=lambda check: check.name)
def test_damaged_lines_raise_nothing_and_say_only_what_is_declared(check: Check[Lines, NoOptions]) -> None:
    assert isinstance(check.source, KernelLog)
    pattern = re.compile(check.source.pattern)
    reached, told, slowest = 0, set(), (0.0, "")
    batch: list[KernelLine] = []
    for number, text in enumerate(damaged(LINES)):
        raw = text.encode("utf-8", "surrogateescape")
        if pattern.search(raw):
            reached += 1
            batch.append(KernelLine(number, float(number), 4, text))
            start = time.thread_time()
            alone = observe(check, (batch[-1],))
            slowest = max(slowest, (time.thread_time() - start, text))
            assert all(is_sound(seen, check.codes) for seen in alone), text
            assert len(alone) <= 1, text
            told |= {seen.code for seen in alone}
        if len(batch) == BATCH:
            seen = observe(check, tuple(batch))
            assert all(is_sound(one, check.codes) for one in seen)
            batch = []
    print(f"{check.name}: {reached} of {LINES} lines reached it, {len(told)} codes told, slowest {slowest[0] * 1e3:.2f} ms")
    assert slowest[0] < LONGEST_S, slowest[1][:200]
    # The damage is neither so great that nothing gets through nor so small that nothing is tried.
    assert reached > LINES // 10
    assert len(told) > 10


def test_damage_is_the_same_every_time() -> None:
    assert list(damaged(200)) == list(damaged(200))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_kind_of_damage_does_harm(damage: Callable[[bytes, random.Random], bytes]) -> None:
    chance = random.Random(SEED)
    assert sum(damage(line, chance) != line for line in SEEDS) > len(SEEDS) // 2
