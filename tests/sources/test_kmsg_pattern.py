"""The one search for the patterns of all checks finds what each of them would find, nothing else, and quickly."""

from __future__ import annotations

import re
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hma.check import KernelLog
from hma.loader import find_checks
from hma.sources.kmsg_pattern import combined, hits

QUIET = (
    b"IPv6: ADDRCONF(NETDEV_CHANGE): eth0: link becomes ready",
    b"usb 1-1: new high-speed USB device number 5 using xhci_hcd",
    b"docker0: port 3(veth1a2b3c4) entered disabled state",
)


@pytest.mark.parametrize(
    ("sources", "text", "found"),
    [
        ((), b"", False),
        ((), b"anything", False),
        ((rb"NVRM: ", rb"SXid \("), b"nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 1", True),
        ((rb"NVRM: ", rb"SXid \("), b"nothing", False),
        ((rb"a|b", rb"c|d"), b"xdx", True),
        ((rb"ab|ac|a", rb"ad"), b"xa", True),
        ((rb"ab|ac", rb"ad"), b"xa", False),
        ((rb"a*b", rb"xy"), b"b", True),
        ((rb"a?b", rb"a+c", rb"a{2}d"), b"b", True),
        ((rb"[Oo]ut|BUG", rb"\[#\d"), b"Out", True),
        ((rb"[Oo]ut|BUG", rb"\[#\d"), b"[O", False),
        ((rb"[Oo]ut|BUG", rb"\[#\d"), b"x [#3] x", True),
        ((rb"[a|b]c|[]|]d",), b"|d", True),
        ((rb"[a|b]c|[]|]d",), b"b]", False),
        ((rb"a(?:b|c)|d(?:e|f(?:g|h))",), b"ac", True),
        ((rb"a(?:b|c)|d(?:e|f(?:g|h))",), b"df", False),
        ((rb"a\|b|c",), b"a", False),
        ((rb"^NVRM", rb"^BUG"), b"BUG: x", True),
        ((rb"^NVRM", rb"^BUG"), b"a BUG: x", False),
        ((rb"x$", rb"BUG"), b"ax", True),
        ((rb"(?i)oops", rb"NVRM"), b"OOPS", True),
        ((rb"(?i)oops", rb"nvrm"), b"NVRM", False),
        ((rb"(?x) a b", rb"c d"), b"ab", True),
        ((rb"(x)y", rb"(a)\1"), b"aa", True),
        ((rb"(x)y", rb"(a)\1"), b"ax", False),
        ((rb"y(b)c", rb"x(a)\1"), b"xaa", True),
        ((rb"a(?:b|c)", rb"c|b"), b"a", False),
        ((rb"x[a|b]c",), b"x)c", False),
        ((rb"(?P<n>x)y", rb"(?P<n>a)b"), b"ab", True),
        ((rb"",), b"", True),
        ((rb"a|",), b"", True),
    ],
)
def test_search_finds_what_each_pattern_would_find(sources: tuple[bytes, ...], text: bytes, found: bool) -> None:
    assert bool(combined(sources)(text)) is found
    assert any(re.search(source, text, re.MULTILINE) for source in sources) is found


PIECES = st.sampled_from([*"ab |^$.", "[ab]", "[^a]", "[]|]", "\\|", "\\[", "\\d", "a*", "b?", "(?:a|b)", "(?:b|)"])


@given(st.lists(st.lists(PIECES, max_size=5).map("".join).map(str.encode), max_size=4), st.text("ab |[]1\n", max_size=8))
def test_rearranging_changes_nothing(sources: list[bytes], text: str) -> None:
    raw = text.encode()
    assert bool(combined(sources)(raw)) is any(re.search(source, raw, re.MULTILINE) for source in sources)


def test_wrong_pattern_is_refused() -> None:
    with pytest.raises(re.error):
        combined((rb"fine", rb"(open"))


def test_search_for_all_our_checks_is_quick_where_nothing_is_found() -> None:
    """Compared with the obvious way, not with a clock: whatever the machine, it costs a good deal less."""
    sources = {check.source.pattern for check in find_checks() if isinstance(check.source, KernelLog)}
    ours, obvious = combined(sources), re.compile(b"|".join(b"(?:%b)" % source for source in sources), re.MULTILINE).search

    def cost(search: object) -> float:
        return min(
            timeit.repeat("for t in texts: search(t)", globals={"search": search, "texts": QUIET}, number=300, repeat=20)
        )

    assert not any(ours(text) for text in QUIET)
    assert cost(ours) < 0.5 * cost(obvious)


def test_hits_are_told_text_by_text() -> None:
    assert hits(combined((rb"NVRM: ",)), (b"NVRM: x", b"usb", b"")) == [True, False, False]


def test_pattern_that_takes_for_ever_holds_nobody_up_and_nothing_is_overlooked() -> None:
    assert hits(combined((rb"^(\w+\s?)+:$", rb"NVRM: ")), (b"NVRM: x", b"a" * 60)) == [None, None]
