"""Records of the kernel log, cut and parsed. Examples named `document` are those of Documentation/ABI/testing/dev-kmsg."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hma.sources.kmsg_record import HEAD, MAX_LINE, MAX_TEXT, Splitter, continues, escaped, shown


@pytest.mark.parametrize(
    ("line", "prio", "seq", "usec", "text"),
    [
        (b"7,160,424069,-;pci_root PNP0A03:00: host bridge window", 7, 160, 424069, b"pci_root PNP0A03:00: host bridge window"),
        (b"6,339,5140900,-;NET: Registered protocol family 10", 6, 339, 5140900, b"NET: Registered protocol family 10"),
        (b"30,340,5690716,-;udevd[80]: starting version 181", 30, 340, 5690716, b"udevd[80]: starting version 181"),
        (b"4,1227,437812449932,c,1,-;a fragment", 4, 1227, 437812449932, b"a fragment"),
        (b"6,1,2,+;x", 6, 1, 2, b"x"),
        (b"6,1,2,-,caller=T4711;x", 6, 1, 2, b"x"),
        (b"6,1,2,-,caller=C3,something=new,1;x", 6, 1, 2, b"x"),
        (b"6,1,2;no flags at all, as in Linux 3.5", 6, 1, 2, b"no flags at all, as in Linux 3.5"),
        (b"0,0,0,-;", 0, 0, 0, b""),
        (b"6,1,2,-;a;b;c", 6, 1, 2, b"a;b;c"),
        (b"2047,999999999999999999,999999999999999999,-;most", 2047, 999999999999999999, 999999999999999999, b"most"),
    ],
)
def test_head_is_parsed(line: bytes, prio: int, seq: int, usec: int, text: bytes) -> None:
    head = HEAD.match(line)
    assert head is not None
    assert tuple(map(int, head.groups())) == (prio, seq, usec)
    assert line[head.end() :] == text


@pytest.mark.parametrize(
    "line",
    [
        b"NVRM: Xid (PCI:0000:97:00): 79, no head at all",
        b"6,1;too few numbers",
        b"6,1,2,-",
        b"6,1,2,- no semicolon",
        b"-6,1,2,-;negative",
        b"+6,1,2,-;signed",
        b"6, 1,2,-;blank",
        b"6,1_0,2,-;Python reads this as a number",
        "6,\u0661,2,-;digits of another script".encode(),
        b"<6>,1,2,-;syslog",
        b"[    1.274883] random: crng reseeded",
        b"12345,1,2,-;priority of five digits",
        b"6,1234567890123456789,2,-;more than the journal can hold",
        b"6,1,2," + b"x" * 300 + b";flags without end",
        b"6,1,2,-\n;newline in the head",
        b"\x006,1,2,-;x",
    ],
)
def test_what_is_no_head_is_refused(line: bytes) -> None:
    assert HEAD.match(line) is None
    assert not continues(line)


@pytest.mark.parametrize("line", [b" SUBSYSTEM=acpi", b" DEVICE=+acpi:PNP0A03:00", b" ", b""])
def test_dictionary_line_belongs_to_the_record_before(line: bytes) -> None:
    assert continues(line)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain text, 100 %", "plain text, 100 %"),
        (b"two\\x0alines as the kernel escapes them", "two\\x0alines as the kernel escapes them"),
        (b"two\nlines raw", "two\\x0alines raw"),
        (b"tab\there", "tab\\x09here"),
        (b"nul\0 esc\x1b[31m del\x7f", "nul\\x00 esc\\x1b[31m del\\x7f"),
        (b"half \xc3 of \xff\xfe", "half \\xc3 of \\xff\\xfe"),
        ("name=pythön".encode(), "name=pyth\\xc3\\xb6n"),
        (b"back\\x5cslash", "back\\x5cslash"),
    ],
)
def test_text_is_printable_ascii_on_one_line(raw: bytes, text: str) -> None:
    assert shown(raw) == text


@given(st.binary(max_size=200))
def test_escaping_leaves_nothing_to_escape(raw: bytes) -> None:
    text = shown(raw)
    assert text.isascii()
    assert text.isprintable()
    assert escaped(escaped(raw)) == escaped(raw)


def test_text_is_cut() -> None:
    assert len(shown(b"x" * (MAX_TEXT + 1))) == MAX_TEXT


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_lines_do_not_depend_on_how_the_stream_is_cut(raw: bytes, sizes: list[int]) -> None:
    splitter, lines, at = Splitter(), list[bytes](), 0
    while at < len(raw):
        for size in sizes:
            lines += splitter.feed(raw[at : at + size])
            at += size
    lines += splitter.rest()
    whole = escaped(raw).split(b"\n")
    assert lines == (whole if whole[-1] else whole[:-1])


def test_line_without_an_end_is_kept_until_it_ends() -> None:
    splitter = Splitter()
    assert splitter.feed(b"6,1,2,-;fi") == []
    assert splitter.feed(b"rst\n6,2,2,-;second\n6,3") == [b"6,1,2,-;first", b"6,2,2,-;second"]
    assert splitter.rest() == [b"6,3"]
    assert splitter.rest() == []


def test_of_an_endless_line_the_beginning_is_taken_and_the_rest_dropped() -> None:
    splitter = Splitter()
    head = b"4,1,2,-;NVRM: Xid"
    lines = splitter.feed(head)
    for _ in range(200):
        lines += splitter.feed(b"x" * 1000)
    lines += splitter.feed(b"end\n4,2,2,-;next\n")
    assert [line[: len(head)] for line in lines] == [head, b"4,2,2,-;next"]
    assert len(lines[0]) <= MAX_LINE + 1000


def test_splitter_survives_mutated_streams() -> None:
    rng = random.Random(7)
    splitter = Splitter()
    for _ in range(300):
        for line in splitter.feed(rng.randbytes(rng.randrange(5000))):
            assert b"\n" not in line
            assert line.isascii()
