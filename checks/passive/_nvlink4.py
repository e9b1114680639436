"""What the seven registers of XID 74 (NVLink up to generation 4) say, by the bit lists of NVIDIA's Xid catalogue."""

from __future__ import annotations

from collections.abc import Sequence

IGNORE = "IGNORE"
SYMPATHETIC = "SYMPATHETIC"
FABRIC = "FABRIC"
UNCLASSED = ""
PARITY = "PARITY"
SIGNAL = "SIGNAL"
MECHANICAL = "MECHANICAL"

MILDEST_FIRST = (IGNORE, SYMPATHETIC, FABRIC, UNCLASSED, PARITY, SIGNAL, MECHANICAL)
"""A bit that no list names is worth the plain XID 74: more than what is known to be harmless, less than a named defect."""

_BITS: dict[int, dict[str, tuple[int, ...]]] = {
    0: {
        IGNORE: (0, 23, 30),
        SYMPATHETIC: (1, 20),
        PARITY: (4, 5, 27, 29),
        SIGNAL: (21, 22),
        MECHANICAL: (8, 9, 12, 16, 17, 24, 28),
    },
    2: {PARITY: (0, 1, 2, 6, 17, 18), UNCLASSED: (13, 16, 19)},
    3: {SYMPATHETIC: (16, 17), FABRIC: (18,)},
    4: {PARITY: (18, 19, 21, 22, 24, 25, 27, 28), IGNORE: (20, 23, 26, 29)},
}
_CLASS_OF = {(register, bit): name for register, classes in _BITS.items() for name, bits in classes.items() for bit in bits}


def classify(registers: Sequence[int]) -> str:
    """Return the most serious class of the bits set in `registers` (r0 to r6); UNCLASSED when none is set."""
    found = {
        _CLASS_OF.get((number, bit), UNCLASSED)
        for number, value in enumerate(registers)
        for bit in range(value.bit_length())
        if value >> bit & 1
    }
    return max(found, key=MILDEST_FIRST.index, default=UNCLASSED)
