r"""One search for the patterns of all checks: it sees every record, so it must be quick where nothing is found.

Rules of this file:
- `re` skips at a few nanoseconds a byte where every alternative begins with a literal byte, and tries each of them at each
  place otherwise. So the patterns are cut into their alternatives, and these sorted by first byte: `BUG: |[Oo]ut of|BTRFS`
  becomes `B(?:UG: |TRFS)|O(?:ut of)|o(?:ut of)`. With the patterns we ship a line costs 1 to 2 us, not 2 to 5.
- What cannot be rearranged without a doubt is searched by itself: groups (a back reference counts them), and an
  alternative that begins with anything but a literal or a set of letters (flags do: they stand first, in parentheses).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from hma.guard_time import Overrun, limited

Match = Callable[[bytes], object]
LIMIT_S = 0.1

_TOKEN = re.compile(rb"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_FIRST = re.compile(rb"(?:([\w <>=:;,@#%&!~'\"/-])|(\\[^\w\s])|\[([A-Za-z0-9]+)\])(?![*+?{])")


def combined(sources: Iterable[bytes]) -> Match:
    """Return a search that finds what any of the patterns finds; raises re.error for one that is none."""
    by_first: dict[bytes, list[bytes]] = {}
    searches: list[Match] = []
    for source in dict.fromkeys(sources):
        pattern = re.compile(source, re.MULTILINE)
        heads = [_head(branch) for branch in _branches(source)]
        if pattern.groups or not all(firsts for firsts, _ in heads):
            searches.append(pattern.search)
            continue
        for firsts, rest in heads:
            for first in firsts:
                by_first.setdefault(first, []).append(rest)
    if by_first:
        sorted_by_first = b"|".join(b"%b(?:%b)" % (first, b"|".join(rests)) for first, rests in by_first.items())
        searches.insert(0, re.compile(sorted_by_first, re.MULTILINE).search)
    if not searches:
        return re.compile(rb"(?!)").search
    if len(searches) == 1:
        return searches[0]
    return lambda text: any(search(text) for search in searches)


def hits(match: Match, texts: Sequence[bytes]) -> Sequence[bool | None]:
    """Return for each text whether `match` finds something in it, None for all where that takes longer than `LIMIT_S`.

    Then somebody's pattern is no good; whoever tries them one by one can say whose.
    """
    try:
        return limited(LIMIT_S, lambda: [bool(match(text)) for text in texts])
    except Overrun:
        return [None] * len(texts)


def _branches(source: bytes) -> list[bytes]:
    """Return the alternatives of a valid pattern."""
    branches, depth = [b""], 0
    for token in _TOKEN.findall(source):
        depth += (token == b"(") - (token == b")")
        if token == b"|" and depth == 0:
            branches.append(b"")
        else:
            branches[-1] += token
    return branches


def _head(branch: bytes) -> tuple[list[bytes], bytes]:
    """Return the literal bytes that an alternative may begin with, none where that is not plain to see, and the rest of it."""
    found = _FIRST.match(branch)
    if found is None:
        return [], branch
    plain, quoted, letters = found.groups()
    firsts = [letters[i : i + 1] for i in range(len(letters))] if letters else [plain or quoted]
    return firsts, branch[found.end() :]
