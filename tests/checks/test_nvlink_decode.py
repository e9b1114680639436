"""The decode tables of NVLink errors, row by row and bit by bit, against NVIDIA's Xid catalogue as written down here.

The catalogue is the sheet "Xid 144-150 Decode" and the text of workflow NVLINK_ERR in NVIDIA's Xid documentation.
"""

from __future__ import annotations

from itertools import product

import pytest

from checks.passive import _nvlink4, _nvlink5
from checks.passive._nvlink4 import classify
from checks.passive._nvlink5 import decode

# Xid, unit, subcode before and from R575, then errStatus (hexadecimal) by what to do: reset, follow Xid 154, ignore.
SHEET = """
144 SAW_MVB          1  1   2,10           -               1,4,8,20
145 RLW_CTRL         3  3   -              -               80000000
145 RLW_REMAP        4  4   40,80          1,2,4,8,10,20   100,200,80000000
145 RLW_RSPCOL       5  5   2              -               1,80000000
145 RLW_RXPIPE       6  6   -              -               1,2,4,8,80000000
145 RLW_SRC_TRACK    7  7   1,10,20        4,8             2,80000000
145 RLW_TAGSTATE     8  8   2,20000,100000 -               1,10000,80000000
146 TLW_CTRL         9  9   4              -               1,2,80000000
146 TLW_RX_PIPE0     10 10  4              -               1,2,80000000
146 TLW_RX_PIPE1     10 11  4              -               1,2,80000000
146 TLW_TX_PIPE0     11 12  4              -               1,2,80000000
146 TLW_TX_PIPE1     11 13  4              -               1,2,80000000
147 TREX             12 14  -              -               1,80000000
148 NVLPW            0  15  -              -               80000000
149 NETIR_INT        0  24  0              -               -
149 NETIR_BER_EVENT  17 19  -              -               0,1,2,3
149 NETIR_MFDE_EVENT 18 20  1,4,5,7        -               3
150 MSE_WATCHDOG     0  0   0              -               -
"""
UNIT = {144: 1, 145: 2, 146: 3, 147: 4, 148: 5, 149: 6, 150: 0}
"""The number of the unit in bits 4:0 before R575."""
LINK_DOWN = (14, 17)
DOWN_RESET = {0, 1, 2, 4, 10, 15, 16, 17, 18, 21, 22, *range(32, 38), 42, 43}
DOWN_IGNORE = {38, 40}

# What else real lines carry in intrInfo: the link in bits 17:13, and bits above 25.
NOISE = (0x0, 0x0409_8000, 0x000F_FC00, 0xFC00_0000)


def _rows() -> list[tuple[int, str, int, int, dict[int, str]]]:
    rows = []
    for line in SHEET.split("\n")[1:-1]:
        xid, unit, old, new, *lists = line.split()
        worth = {
            int(status, 16): what
            for what, statuses in zip((_nvlink5.RESET, _nvlink5.FOLLOW, _nvlink5.IGNORE), lists, strict=True)
            for status in statuses.split(",")
            if status != "-"
        }
        rows.append((int(xid), unit, int(old), int(new), worth))
    return rows


ROWS = _rows()
STATUSES = sorted(
    {status for *_, worth in ROWS for status in worth} | {1 << bit for bit in range(32)} | {0, 0xFFFF_FFFF, 3, 0x41}
)
every_row = pytest.mark.parametrize(("xid", "unit", "old", "new", "worth"), ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS])


@every_row
@pytest.mark.parametrize("noise", NOISE, ids=hex)
def test_row_in_the_layout_before_r575(xid: int, unit: str, old: int, new: int, worth: dict[int, str], noise: int) -> None:
    info = noise | old << 5 | UNIT[xid]
    assert {status: decode(xid, info, status) for status in STATUSES} == {status: worth.get(status, "") for status in STATUSES}


@every_row
@pytest.mark.parametrize("noise", NOISE, ids=hex)
def test_row_in_the_layout_from_r575_on(xid: int, unit: str, old: int, new: int, worth: dict[int, str], noise: int) -> None:
    info = noise | new
    assert {status: decode(xid, info, status) for status in STATUSES} == {status: worth.get(status, "") for status in STATUSES}


@every_row
def test_row_needs_its_unit_in_the_old_layout(xid: int, unit: str, old: int, new: int, worth: dict[int, str]) -> None:
    subcodes = {row[3] for row in ROWS if row[0] == xid} | ({LINK_DOWN[1]} if xid == 149 else set())
    for number in range(32):
        info = old << 5 | number
        if number != UNIT[xid] and info & 0x7F not in subcodes:
            assert {decode(xid, info, status) for status in worth} == {""}


@every_row
def test_only_a_link_that_went_down_has_a_reason(xid: int, unit: str, old: int, new: int, worth: dict[int, str]) -> None:
    for reason, info in product(range(1, 64), (old << 5 | UNIT[xid], new)):
        assert {decode(xid, info | reason << 20, status) for status in worth} == {""}


@every_row
def test_row_is_of_its_own_xid(xid: int, unit: str, old: int, new: int, worth: dict[int, str]) -> None:
    known = {(row[0], row[3]) for row in ROWS}
    for other in _nvlink5.NUMBERS:
        if other != xid and (other, new) not in known and new != LINK_DOWN[1]:
            info = 0x380 | new  # bits 9:5 of no row, so that only the new layout can fit
            assert {decode(other, info, status) for status in worth} == {""}


@pytest.mark.parametrize("reason", range(64))
@pytest.mark.parametrize("info", [LINK_DOWN[0] << 5 | UNIT[149], LINK_DOWN[1]], ids=["before R575", "from R575 on"])
@pytest.mark.parametrize("link", [0, 17])
def test_link_down_is_worth_its_reason(reason: int, info: int, link: int) -> None:
    worth = _nvlink5.RESET if reason in DOWN_RESET else _nvlink5.IGNORE if reason in DOWN_IGNORE else ""
    assert decode(149, reason << 20 | link << 13 | info, 0) == worth
    assert decode(149, reason << 20 | link << 13 | info, 1) == ""


@pytest.mark.parametrize(
    ("xid", "info", "status", "worth"),
    [
        # Seen in the field: the test data of leptonai/gpud and NVIDIA/NVSentinel.
        (149, 0x025525C6, 0x0, "RESET"),
        (149, 0x021425C6, 0x0, "RESET"),
        (149, 0x004505C6, 0x0, "RESET"),
        (149, 0x000FE406, 0x0, "RESET"),
        (149, 0x00086226, 0x1, "IGNORE"),
        (145, 0x0409A0C2, 0x8, "IGNORE"),
        (145, 0x040988E2, 0x8, "FOLLOW"),
        (145, 0x040A08E2, 0x8, "FOLLOW"),
        # A word of 64 bits or more, as only a broken line has.
        (149, 1 << 64 | 0x000FE406, 0x0, "RESET"),
        (149, 0x000FE406, 1 << 64, ""),
        (144, 0xFFFF_FFFF, 0xFFFF_FFFF, ""),
    ],
)
def test_captured_words(xid: int, info: int, status: int, worth: str) -> None:
    assert decode(xid, info, status) == worth


def test_every_declared_code_can_be_decoded_and_no_other() -> None:
    told = {f"XID-{xid}-{worth}" for xid, *_, row in ROWS for worth in row.values()}
    told |= {f"XID-149-{_nvlink5.RESET}", f"XID-149-{_nvlink5.IGNORE}"}
    assert told | {f"XID-{number}" for number in range(144, 151)} == _nvlink5.CODES


# -- Xid 74 ------------------------------------------------------------------------------------------------------------

# Register, bits, class. "Repeated: a bug" (r0: 27, 29, r2: 17, 18) counts as ECC/parity does; "unexpected" and "repeated:
# field diagnostic" (r2: 13, 16, 19) are worth the plain code, as is a bit that the text does not name.
BITS = [
    (0, (0, 23, 30), "IGNORE"),
    (0, (1, 20), "SYMPATHETIC"),
    (0, (4, 5, 27, 29), "PARITY"),
    (0, (8, 9, 12, 16, 17, 24, 28), "MECHANICAL"),
    (0, (21, 22), "SIGNAL"),
    (2, (0, 1, 2, 6, 17, 18), "PARITY"),
    (2, (13, 16, 19), ""),
    (3, (16, 17), "SYMPATHETIC"),
    (3, (18,), "FABRIC"),
    (4, (18, 19, 21, 22, 24, 25, 27, 28), "PARITY"),
    (4, (20, 23, 26, 29), "IGNORE"),
]
NAMED = {(register, bit): name for register, bits, name in BITS for bit in bits}


def registers(*bits: tuple[int, int]) -> list[int]:
    """Return seven registers with these bits set."""
    values = [0] * 7
    for register, bit in bits:
        values[register] |= 1 << bit
    return values


@pytest.mark.parametrize("register", range(7))
def test_every_bit_is_of_its_class(register: int) -> None:
    told = {bit: classify(registers((register, bit))) for bit in range(40)}
    assert told == {bit: NAMED.get((register, bit), "") for bit in range(40)}


@pytest.mark.parametrize("bit", NAMED)
def test_the_most_serious_of_two_bits_counts(bit: tuple[int, int]) -> None:
    order = ("IGNORE", "SYMPATHETIC", "FABRIC", "", "PARITY", "SIGNAL", "MECHANICAL")
    assert order == _nvlink4.MILDEST_FIRST
    told = {other: classify(registers(bit, other)) for other in NAMED}
    assert told == {other: max(NAMED[bit], NAMED[other], key=order.index) for other in NAMED}


@pytest.mark.parametrize("values", [[], [0] * 7, [0]])
def test_no_bit_is_worth_the_plain_code(values: list[int]) -> None:
    assert classify(values) == ""


def test_all_bits_are_worth_the_most_serious() -> None:
    assert classify([0xFFFF_FFFF] * 7) == "MECHANICAL"
