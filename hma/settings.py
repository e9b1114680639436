"""All that people may set, read together: the configuration, the checks it plans and the catalogue laid over ours.

Rules of this file:
- Every problem of all files is collected before anything is refused: a person mends once.
- A broken check of another package costs that check and becomes a note; it never keeps the agent from starting.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hma.catalogue import Catalogue
from hma.catalogue_file import load_catalogue
from hma.check import TOLD_ONCE, AnyCheck
from hma.config import Config, ConfiguredCheck, apply_checks, load_config
from hma.loader import find_checks
from hma.model import NodeFacts
from hma.sources.node import read_node
from hma.yamlread import Problems


@dataclass(frozen=True, slots=True)
class Settings:
    """What an agent runs with. `checks` are the enabled ones, `disabled` the names of the others, `notes` what is not as it
    should be and stops nothing.
    """

    config: Config
    checks: Mapping[str, ConfiguredCheck]
    catalogue: Catalogue
    disabled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def streamed(self) -> frozenset[str]:
        """Return the names of the checks that are told what happens, rather than asking."""
        return frozenset(name for name, one in self.checks.items() if isinstance(one.check.source, TOLD_ONCE))


def load_settings(
    file: Path | None = None, overrides: Mapping[str, str] | None = None, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Return the settings; raise ConfigError with every problem of the configuration and of the catalogue file it names."""
    problems, notes = Problems(), list[str]()
    found = find_checks(notes.append)
    config = load_config(file, overrides, environ=environ, problems=problems)
    checks = apply_checks(config, found, problems)
    codes = frozenset(code for check in found for code in check.codes)
    catalogue = load_catalogue(config.catalogue, codes, problems)
    problems.raise_if_any()
    notes += _without_row(found, catalogue)
    disabled = tuple(sorted(check.name for check in found if check.name not in checks))
    return Settings(config, checks, catalogue, disabled, tuple(notes))


def facts_of(config: Config) -> NodeFacts:
    """Return what this node is, as far as its files and the configuration tell."""
    told = config.node
    facts = read_node(told.root, hostname=told.name, instance_type=told.instance_type, instance_id=told.instance_id)
    return facts if facts.boot_id else replace(facts, boot_id="unknown")


def _without_row(found: tuple[AnyCheck, ...], catalogue: Catalogue) -> list[str]:
    return [
        f"check {check.name}: no row in the catalogue for {', '.join(lacking)}, so nothing comes of them; "
        "add them to the file that `catalogue` names"
        for check in found
        if (lacking := sorted(code for code in check.codes if code not in catalogue))
    ]
