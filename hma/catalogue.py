"""The catalogue: what each code is worth, as rows an operator can read and override.

`catalogue.yaml` is read by `hma.catalogue_file`; this module holds the values only, so that the engine needs no parser.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hma.model import Action


@dataclass(frozen=True, slots=True)
class Times:
    """Occurrences needed before a fault counts: `count` within `within_s`, in the same part, by different processes."""

    count: int
    within_s: float
    same_unit: bool = False
    distinct_actors: bool = False


@dataclass(frozen=True, slots=True)
class Grows:
    """From when on the growth of a device's own count (`Observation.counter`) is a fault: by `by` or more within `within_s`."""

    by: float
    within_s: float


@dataclass(frozen=True, slots=True)
class Confirm:
    """Second sources: `count` live faults of the codes `by` on this component or on the whole node, seen within `within_s` of
    this fault. Until then, and after that time without them, at most `otherwise` is justified; inside the window an action
    above `otherwise` is awaited, not taken. An explicit `ok` of a code in `refuters` ends the wait: at most `otherwise`.
    """

    by: tuple[str, ...]
    within_s: float
    otherwise: Action
    count: int = 1
    refute: tuple[str, ...] | None = None
    """Which of `by` can refute as well; None = all of them."""

    @property
    def refuters(self) -> tuple[str, ...]:
        """Return the codes whose `ok` refutes."""
        return self.by if self.refute is None else self.refute


@dataclass(frozen=True, slots=True)
class Inhibit:
    """This fault is a mere consequence when a fault of the codes `by` (`*` = any other code of the same family) was seen within
    `within_s` of it, on the same component or (`node`) anywhere."""

    by: tuple[str, ...]
    within_s: float = 60.0
    node: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """One way a fault ends: `ok` (seen fine for `for_s`), `boot` (a new boot id), `quiet` (not seen for `for_s`),
    `by` (an observation of `code` on the component)."""

    kind: str
    for_s: float = 0.0
    code: str = ""

    def __str__(self) -> str:
        """Return the words of the YAML file."""
        if self.kind == "by":
            return f"by {self.code}"
        return f"{self.kind} {self.for_s:g}s" if self.for_s else self.kind


@dataclass(frozen=True, slots=True)
class Policy:
    """One row. `again` is the action when the same component fails again after a reboot; `counts` makes the row fed by
    the observations of another code (a repetition rule). `grows` is for codes of counters. `raised_by`: `failed` (failed or
    degraded observations raise it), `unknown` (only blindness does), `never`."""

    code: str
    title: str
    component: str
    action: Action = Action.NONE
    again: Action | None = None
    again_within_s: float = 7 * 86_400.0
    when: str = "now"
    hold_s: float = 0.0
    times: Times | None = None
    grows: Grows | None = None
    counts: str = ""
    confirm: Confirm | None = None
    inhibit: Inhibit | None = None
    ends: tuple[End, ...] = (End("boot"),)
    evidence: str = "strong"
    raised_by: str = "failed"
    fault_type: str = ""
    fault_reason: str = ""
    source: str = ""
    about: str = ""

    @property
    def family(self) -> str:
        """Return the code's first word (`XID` of `XID-79`)."""
        return self.code.partition("-")[0]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All rows by code, in file order, and the rows that count another code's observations."""

    rows: Mapping[str, Policy]
    counted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterator[Policy] | tuple[Policy, ...] | list[Policy]) -> Catalogue:
        """Return the catalogue of `rows`, indexing those that count another code."""
        by_code = {row.code: row for row in rows}
        counted: dict[str, tuple[str, ...]] = {}
        for row in by_code.values():
            if row.counts:
                counted[row.counts] = (*counted.get(row.counts, ()), row.code)
        return cls(by_code, counted)

    def __getitem__(self, code: str) -> Policy:
        """Return the row of `code`; a code whose row is gone (an older journal) is kept, harmless, until the next boot."""
        row = self.rows.get(code)
        return row if row is not None else Policy(code, "no row in the catalogue", "unknown", ends=(End("ok"), End("boot")))

    def __contains__(self, code: object) -> bool:
        return code in self.rows
