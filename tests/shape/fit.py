"""All checks that ship with hma, and the catalogue that ships with it, as the shape tests compare them."""

from __future__ import annotations

from functools import cache

from hma.catalogue_file import load_catalogue
from hma.check import AnyCheck
from hma.loader import find_checks


@cache
def checks() -> tuple[AnyCheck, ...]:
    """Return every check of ours that can be found."""
    return tuple(find_checks())


@cache
def emitted() -> frozenset[str]:
    """Return every code that some check of ours can emit."""
    return frozenset(code for check in checks() for code in check.codes)


ROWS = load_catalogue().rows
