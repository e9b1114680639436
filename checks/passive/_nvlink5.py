"""What the status words of XID 144-150 (NVLink 5) are worth, by the decode sheet of NVIDIA's Xid catalogue.

Rules of this file:
- A line carries intrInfo and errStatus. The part that failed is a subcode in intrInfo: bits 9:5 before driver R575 (with the
  number of the unit in bits 4:0), bits 6:0 from R575 on. Both are tried, so the driver's version need not be known.
- Bits 25:20 are the reason of a link that went down, and zero for every other part.
- The words Fatal and Nonfatal of the line are not used: they disagree with the sheet in lines seen in the field.
- Where no row fits, or rows that fit disagree, nothing is decoded.
"""

from __future__ import annotations

from typing import NamedTuple

RESET = "RESET"
FOLLOW = "FOLLOW"
IGNORE = "IGNORE"

NUMBERS = range(144, 151)


class _Row(NamedTuple):
    """One failing part: subcodes of both layouts, and the values of errStatus by what they are worth."""

    xid: int
    old: int
    new: int
    reset: tuple[int, ...] = ()
    follow: tuple[int, ...] = ()
    ignore: tuple[int, ...] = ()


_TOP = 0x8000_0000
_ROWS = (
    _Row(144, 1, 1, reset=(0x2, 0x10), ignore=(0x1, 0x4, 0x8, 0x20)),  # SAW_MVB
    _Row(145, 3, 3, ignore=(_TOP,)),  # RLW_CTRL
    _Row(145, 4, 4, (0x40, 0x80), (0x1, 0x2, 0x4, 0x8, 0x10, 0x20), (0x100, 0x200, _TOP)),  # RLW_REMAP
    _Row(145, 5, 5, reset=(0x2,), ignore=(0x1, _TOP)),  # RLW_RSPCOL
    _Row(145, 6, 6, ignore=(0x1, 0x2, 0x4, 0x8, _TOP)),  # RLW_RXPIPE
    _Row(145, 7, 7, (0x1, 0x10, 0x20), (0x4, 0x8), (0x2, _TOP)),  # RLW_SRC_TRACK
    _Row(145, 8, 8, reset=(0x2, 0x2_0000, 0x10_0000), ignore=(0x1, 0x1_0000, _TOP)),  # RLW_TAGSTATE
    _Row(146, 9, 9, reset=(0x4,), ignore=(0x1, 0x2, _TOP)),  # TLW_CTRL
    _Row(146, 10, 10, reset=(0x4,), ignore=(0x1, 0x2, _TOP)),  # TLW_RX, pipe 0
    _Row(146, 10, 11, reset=(0x4,), ignore=(0x1, 0x2, _TOP)),  # TLW_RX, pipe 1
    _Row(146, 11, 12, reset=(0x4,), ignore=(0x1, 0x2, _TOP)),  # TLW_TX, pipe 0
    _Row(146, 11, 13, reset=(0x4,), ignore=(0x1, 0x2, _TOP)),  # TLW_TX, pipe 1
    _Row(147, 12, 14, ignore=(0x1, _TOP)),  # TREX
    _Row(148, 0, 15, ignore=(_TOP,)),  # NVLPW_CTRL
    _Row(149, 0, 24, reset=(0x0,)),  # NETIR_INT
    _Row(149, 17, 19, ignore=(0x0, 0x1, 0x2, 0x3)),  # NETIR_BER_EVENT
    _Row(149, 18, 20, reset=(0x1, 0x4, 0x5, 0x7), ignore=(0x3,)),  # NETIR_MFDE_EVENT
    _Row(150, 0, 0, reset=(0x0,)),  # MSE_WATCHDOG
)

_LINK_DOWN = _Row(149, 14, 17)
"""NETIR_LINK_DOWN: errStatus is 0, what counts is the reason in bits 25:20 of intrInfo."""
_DOWN_RESET = frozenset({0, 1, 2, 4, 10, 15, 16, 17, 18, 21, 22, 32, 33, 34, 35, 36, 37, 42, 43})
_DOWN_IGNORE = frozenset({38, 40})

_OLD_UNIT = {144: 1, 145: 2, 146: 3, 147: 4, 148: 5, 149: 6, 150: 0}
"""The number of the unit in the old layout."""


def _codes() -> frozenset[str]:
    codes = {f"XID-{number}" for number in NUMBERS} | {f"XID-149-{RESET}", f"XID-149-{IGNORE}"}
    for row in _ROWS:
        for worth, values in ((RESET, row.reset), (FOLLOW, row.follow), (IGNORE, row.ignore)):
            if values:
                codes.add(f"XID-{row.xid}-{worth}")
    return frozenset(codes)


CODES = _codes()


def decode(xid: int, intr_info: int, err_status: int) -> str:
    """Return RESET, FOLLOW (do what XID 154 says, else restart the application), IGNORE, or "" where nothing is certain."""
    reason = intr_info >> 20 & 0x3F
    worths = {_worth(row, err_status) for row in _ROWS if not reason and _names(row, xid, intr_info)}
    if _names(_LINK_DOWN, xid, intr_info):
        worths.add(_link_down(reason, err_status))
    return worths.pop() if len(worths) == 1 else ""


def _names(row: _Row, xid: int, intr_info: int) -> bool:
    if row.xid != xid:
        return False
    if intr_info & 0x7F == row.new:
        return True
    return intr_info & 0x3FF == row.old << 5 | _OLD_UNIT[xid]


def _worth(row: _Row, err_status: int) -> str:
    if err_status in row.reset:
        return RESET
    if err_status in row.follow:
        return FOLLOW
    return IGNORE if err_status in row.ignore else ""


def _link_down(reason: int, err_status: int) -> str:
    if err_status:
        return ""
    if reason in _DOWN_RESET:
        return RESET
    return IGNORE if reason in _DOWN_IGNORE else ""
