"""Chassis fans, from hwmon: a fan that stands still while others turn has failed."""

from __future__ import annotations

from collections.abc import Iterator

from hma.check import Check, Files, NoOptions, Tree
from hma.model import NodeFacts, Observation, Status


def observe(sample: Tree, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return one observation per fan."""
    for path, text in sorted(sample.files.items()):
        rpm = int(text)
        fan = path.rpartition("/")[2].removesuffix("_input")
        status = Status.OK if rpm else Status.FAILED
        yield Observation(
            "ACME-FAN", f"host:{fan}", status, detail=f"{fan} turns at {rpm} rpm", evidence=f"{path}: {text.strip()}"
        )


CHECK = Check(
    name="acme_fan",
    title="Acme chassis fans",
    source=Files(("sys/class/hwmon/hwmon*/fan*_input",)),
    observe=observe,
    codes=frozenset({"ACME-FAN"}),
    interval_s=30.0,
    optional=True,
)
