"""The page on instance types explains the columns that the table has, in its order, and what may be empty."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from hma.instance_types import TABLE, InstanceType, all_types
from hma.sources.node import RESOURCE_CONFIG, TRUST

PAGE = (Path(__file__).parents[1] / "docs/instance-types.md").read_text(encoding="utf-8")
CELLS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `")]
COLUMNS = [name for first, *_ in CELLS for name in re.findall(r"`(\w+)`", first)]


def test_columns_are_those_of_the_table() -> None:
    head = next(line for line in TABLE.read_text().splitlines() if line.startswith("instance_type,"))
    assert COLUMNS == head.split(",") == [field.name for field in fields(InstanceType)]


def test_columns_that_are_sometimes_empty_say_where() -> None:
    sometimes = {name for row in all_types() for name in COLUMNS if getattr(row, name) is None}
    told = {name for first, _, where in CELLS if where.strip() for name in re.findall(r"`(\w+)`", first)}
    assert told == sometimes


def test_examples_are_rows() -> None:
    known = {row.instance_type: row for row in all_types()}
    assert "eight GPUs\non a `p5.48xlarge`" in PAGE
    assert known["p5.48xlarge"].gpus == 8
    assert "sixteen Neuron devices on a `trn1.32xlarge`" in PAGE
    assert known["trn1.32xlarge"].neuron_devices == 16


def test_routes_are_in_the_order_in_which_they_are_trusted() -> None:
    words = {"config": "the configuration", "imds": "the metadata service", "dmi": "DMI", "resource_config": RESOURCE_CONFIG}
    listed = re.findall(r"^\d\. (.*)$", PAGE, re.MULTILINE)
    assert len(listed) == len(TRUST)
    assert all(words[route] in line for route, line in zip(TRUST, listed, strict=True))
