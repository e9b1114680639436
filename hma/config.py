"""The configuration of the agent: one YAML file over defaults, parsed once into frozen values.

Rules of this file:
- A key is the name of its field without the unit (`keep_s` is `keep: 30d`); `hma config show` prints them all.
- Every problem of the file is collected before ConfigError is raised; nothing here ends in a traceback.
- No secret is ever read from here, and the only environment variable is HMA_CONFIG, the path of the file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hma.check import PUSHED, AnyCheck
from hma.fields import (
    Section,
    Unfit,
    between,
    boolean,
    duration,
    duration_words,
    listing,
    matching,
    path,
    read_fields,
    text_of,
    unless_null,
)
from hma.yamlread import NOWHERE, Fields, Node, Place, Problems, Scalar, choice, quote, read_yaml
from hma.yamlwrite import node_of, write_yaml

DEFAULT_PATH = Path("/etc/hma/config.yaml")
COMMAND_LINE = Place("command line")


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the node is, where it cannot or should not be found out. "" = find out."""

    root: Path = Path("/")
    name: str = ""
    instance_type: str = ""
    instance_id: str = ""
    imds: bool = True


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """How long and how much the journal keeps; whichever limit is met first."""

    keep_s: float = field(default=30 * 86_400.0, metadata={"least": 3_600.0})
    max_bytes: int = field(default=64 << 20, metadata={"least": 1 << 20})


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The shape of the lines on stdout; `auto` = human on a terminal, JSON elsewhere."""

    format: Literal["auto", "json", "human"] = "auto"


@dataclass(frozen=True, slots=True)
class IdentityConfig:
    """The names of the cluster, for the log streams that are to come: nothing reads them yet."""

    cluster: str = ""
    cluster_id: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class NvmlConfig:
    """The NVIDIA driver library, where the loader does not find it by itself; null = libnvidia-ml.so.1."""

    library: Path | None = None


@dataclass(frozen=True, slots=True)
class DcgmConfig:
    """The DCGM host engine to ask (`host:port` or `unix:///path`), and where its Python bindings lie; null = where DCGM 4 and 3
    install them."""

    address: str = "localhost:5555"
    bindings: Path | None = None


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """What the file says of one check; None = as the check itself says. `options` are parsed by `apply_checks`."""

    enabled: bool = True
    interval_s: float | None = None
    timeout_s: float | None = None
    options: Mapping[str, Node] = field(default_factory=dict)
    place: Place = field(default=NOWHERE, compare=False)
    places: Mapping[str, Place] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Config:
    """All settings. `commands` maps a program's name to the absolute path to run instead of a search in PATH."""

    node: NodeConfig = NodeConfig()
    kernel_log: Path = Path("/dev/kmsg")
    state_dir: Path = Path("/var/lib/hma")
    run_dir: Path = Path("/run/hma")
    journal: JournalConfig = JournalConfig()
    log: LogConfig = LogConfig()
    catalogue: Path | None = None
    commands: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, CheckConfig] = field(default_factory=dict)
    nvml: NvmlConfig = NvmlConfig()
    dcgm: DcgmConfig = DcgmConfig()
    identity: IdentityConfig = IdentityConfig()
    record: Path | None = None


@dataclass(frozen=True, slots=True)
class ConfiguredCheck:
    """A check that runs, with what the operator changed."""

    check: AnyCheck
    interval_s: float
    timeout_s: float
    options: Any


# -- reading ----------------------------------------------------------------------------------------------------------


def load_config(
    file: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    default: Path = DEFAULT_PATH,
    problems: Problems | None = None,
) -> Config:
    """Return the configuration of `file`, else of $HMA_CONFIG, else of `default` if it exists, else the defaults.

    `overrides` maps dotted keys (`node.root`) to texts that win over the file. With `problems`, what is wrong is added
    there and a default stands in its place; without, ConfigError is raised with all of it.
    """
    found = Problems() if problems is None else problems
    tree = _tree(file, environ, default, found)
    if overrides:
        root = tree if isinstance(tree, Fields) else Fields({})
        for key, text in overrides.items():
            root = _with(root, key.split(".", 1) if key.startswith("commands.") else key.split("."), text)
        tree = root if tree is None or isinstance(tree, Fields) else tree
    config = _config(Section(tree, "", found))
    if problems is None:
        found.raise_if_any()
    return config


def _tree(file: Path | None, environ: Mapping[str, str], default: Path, problems: Problems) -> Node | None:
    named = environ.get("HMA_CONFIG", "")
    chosen = file or (Path(named) if named else default)
    try:
        return read_yaml(chosen, problems)
    except FileNotFoundError:
        # A dangling link is a file that somebody meant to be there.
        if file is not None or named or chosen.is_symlink():
            source = "" if file is not None or not named else " (named by HMA_CONFIG)"
            problems.add(Place(str(chosen)), "", f"does not exist{source}", "create it, or name another file")
        return None


def _with(node: Fields, keys: list[str], text: str) -> Fields:
    first, rest = keys[0], keys[1:]
    below = node.entries.get(first)
    inner = below if isinstance(below, Fields) else Fields({}, COMMAND_LINE)
    value = _with(inner, rest, text) if rest else Scalar(text, place=COMMAND_LINE)
    return Fields({**node.entries, first: value}, node.place, {**node.places, first: COMMAND_LINE})


def _config(top: Section) -> Config:
    base = Config()
    below: dict[str, Any] = {
        name: _section(getattr(base, name), top.child(name)) for name in ("node", "journal", "log", "nvml", "identity")
    }
    below |= {
        "dcgm": _dcgm(top.child("dcgm")),
        "commands": _commands(top.child("commands")),
        "checks": _checks(top.child("checks")),
    }
    config = read_fields(base, top, skip=below)
    top.done()
    return dataclasses.replace(config, **below)


def _section(base: Any, section: Section) -> Any:
    value = read_fields(base, section)
    section.done()
    return value


def _dcgm(section: Section) -> DcgmConfig:
    base = DcgmConfig()
    address = section.read("address", _address, base.address)
    value = read_fields(dataclasses.replace(base, address=address), section, skip=("address",))
    section.done()
    return value


_address = matching(
    r"unix:///\S+|(?:[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?",
    "the address of a host engine",
    "write HOST:PORT or unix:///PATH, as in localhost:5555",
)


def _commands(section: Section) -> dict[str, str]:
    found = {}
    for name in section.node.entries:
        if not name or "/" in name or not name.isprintable():
            section.refuse(name, "is not the name of a program", "write the bare name that checks use, as in nvidia-smi")
        found[name] = str(section.read(name, path, Path()))
    return found


def _checks(section: Section) -> dict[str, CheckConfig]:
    found = {}
    for name in section.node.entries:
        one = section.child(name)
        own = ("enabled", "interval", "timeout")
        found[name] = CheckConfig(
            enabled=one.read("enabled", boolean, True),
            interval_s=one.read("interval", unless_null(interval), None),
            timeout_s=one.read("timeout", unless_null(between(duration, "timeout_s", 0.1)), None),
            options={key: node for key, node in one.node.entries.items() if key not in own},
            place=section.node.place_of(name),
            places=one.node.places,
        )
    return found


def interval(node: Node) -> float:
    """Return a duration of whole seconds."""
    seconds = between(duration, "interval_s", 1.0)(node)
    if seconds % 1:
        text = quote(text_of(node, "", ""))
        raise Unfit.because(node, f"{text} is not a whole number of seconds", "round it; checks wake together on whole seconds")
    return seconds


# -- checks -----------------------------------------------------------------------------------------------------------


def apply_checks(config: Config, checks: Iterable[AnyCheck], problems: Problems | None = None) -> Mapping[str, ConfiguredCheck]:
    """Return the enabled ones of `checks` as configured, by name; problems are treated as in `load_config`."""
    found = Problems() if problems is None else problems
    known = {check.name: check for check in checks}
    for name, given in config.checks.items():
        if name not in known:
            mend = choice(name, known, found, f"known: {listing(known)}")
            found.add(given.place, f"checks.{name}", "is not a check on this node", mend)
    configured = {name: _configured(check, config.checks.get(name), found) for name, check in known.items()}
    if problems is None:
        found.raise_if_any()
    return {name: one for name, one in configured.items() if one is not None}


def _configured(check: AnyCheck, given: CheckConfig | None, problems: Problems) -> ConfiguredCheck | None:
    if given is None:
        return ConfiguredCheck(check, check.interval_s, check.timeout_s, check.options)
    section = Section(Fields(given.options, given.place, given.places), f"checks.{check.name}", problems)
    options = _options(check, section)
    if isinstance(check.source, PUSHED):
        for name, value in (("interval", given.interval_s), ("timeout", given.timeout_s)):
            if value is not None:
                section.refuse(name, "has no meaning: this check is told, and does not ask", "remove it")
    interval_s = given.interval_s or check.interval_s
    if given.timeout_s is not None and given.timeout_s > interval_s:
        text = f"is longer than the interval ({duration_words(interval_s)})"
        section.refuse("timeout", text, "shorten it, or lengthen the interval")
    timeout_s = min(given.timeout_s or check.timeout_s, interval_s)
    return ConfiguredCheck(check, interval_s, timeout_s, options) if given.enabled else None


def _options(check: AnyCheck, section: Section) -> Any:
    if not section.node.entries:
        return check.options
    try:
        options = read_fields(check.options, section)
    except (TypeError, NameError) as err:
        section.refuse("", f"has options that cannot be read ({err})", "remove them, and tell the author of the check")
        return check.options
    section.done(also=("enabled", "interval", "timeout"))
    return options


# -- writing ----------------------------------------------------------------------------------------------------------


def show(config: Config, configured: Mapping[str, ConfiguredCheck] | None = None) -> str:
    """Return `config` as YAML that loads again to the same value; with `configured`, every check with its effective values."""
    checks: dict[str, Fields] = {}
    for name in sorted({*config.checks, *(configured or {})}):
        checks[name] = _shown(config.checks.get(name, CheckConfig()), (configured or {}).get(name))
    entries = {f.name: node_of(getattr(config, f.name)) for f in dataclasses.fields(config) if f.name != "checks"}
    return write_yaml(Fields({**entries, "checks": Fields(checks)}))


def _shown(given: CheckConfig, configured: ConfiguredCheck | None) -> Fields:
    interval_s, timeout_s, options = given.interval_s, given.timeout_s, given.options
    if configured is not None:
        shown = node_of(configured.options)
        options = shown.entries if isinstance(shown, Fields) else {}
        if not isinstance(configured.check.source, PUSHED):
            interval_s, timeout_s = configured.interval_s, configured.timeout_s
    timing = {"interval": node_of(interval_s, "_s"), "timeout": node_of(timeout_s, "_s")}
    return Fields({"enabled": node_of(given.enabled), **timing, **options})


def digest(config: Config) -> str:
    """Return 16 hex digits that tell this configuration from any other, wherever it was written."""
    return hashlib.sha256(show(config).encode()).hexdigest()[:16]
