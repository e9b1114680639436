"""The configuration file: what it takes, every mistake in one go, and that whatever is in it nothing else ever comes out."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hma.check import Check, Command, Files, KernelLog, NoOptions
from hma.config import Config, ConfiguredCheck, apply_checks, digest, load_config, show
from hma.fields import key_of
from hma.model import NodeFacts, Observation
from hma.yamlread import ConfigError, Problems

MEND = "write HOST:PORT or unix:///PATH, as in localhost:5555"
DOC = Path(__file__).parents[1] / "docs" / "configuration.md"

WHOLE = """\
node: {root: /host, name: n1, instance_type: p5.48xlarge, instance_id: i-1, imds: false}
kernel_log: /tmp/kmsg
state_dir: /tmp/state
run_dir: /tmp/run
journal: {keep: 7d, max_size: 64MiB}
log: {format: json}
catalogue: /etc/hma/catalogue.yaml
commands:
  nvidia-smi: /usr/local/bin/nvidia-smi
checks:
  disk: {enabled: true, interval: 2m, timeout: 5s, full: 0.8}
  log: {enabled: false}
nvml: {library: /run/nvidia/driver/usr/lib64/libnvidia-ml.so.1}
dcgm: {address: "unix:///run/dcgm.sock", bindings: /opt/dcgm/bindings}
identity: {cluster: c, cluster_id: id, group: g}
record: /tmp/trace
"""


def load(tmp_path: Path, text: str | bytes, **overrides: str) -> Config:
    file = tmp_path / "config.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
    return load_config(file, {key.replace("__", "."): value for key, value in overrides.items()}, environ={})


def mistakes(tmp_path: Path, text: str, **overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **overrides)
    return str(caught.value).replace(f"{tmp_path}/config.yaml", "f").splitlines()


# -- what a file says -------------------------------------------------------------------------------------------------


def test_no_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_config(environ={}, default=tmp_path / "absent") == Config()


@pytest.mark.parametrize("text", ["", "# nothing\n", "node:\nchecks: {}\n"])
def test_empty_file_is_the_defaults(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == Config()


def test_every_key_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, WHOLE)
    default = Config()
    for spec in dataclasses.fields(Config):
        assert getattr(config, spec.name) != getattr(default, spec.name), spec.name
    assert (config.journal.keep_s, config.journal.max_bytes, config.node.root) == (604_800.0, 64 << 20, Path("/host"))
    assert (config.checks["disk"].interval_s, config.checks["log"].enabled) == (120.0, False)


def test_file_is_chosen_by_argument_then_environment_then_default(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("argument", "environment", "default")}
    for name, file in files.items():
        file.write_text(f"node: {{name: {name}}}\n")
    environ = {"HMA_CONFIG": str(files["environment"])}
    assert load_config(files["argument"], environ=environ, default=files["default"]).node.name == "argument"
    assert load_config(environ=environ, default=files["default"]).node.name == "environment"
    assert load_config(environ={"HMA_CONFIG": ""}, default=files["default"]).node.name == "default"


def test_command_line_wins_over_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, "node: {name: a, imds: false}\n", node__name="b", commands__df="/bin/df", checks__x__interval="9s")
    assert (config.node.name, config.node.imds, config.commands) == ("b", False, {"df": "/bin/df"})
    assert config.checks["x"].interval_s == 9.0


def test_program_with_a_dot_in_its_name_can_be_set_on_the_command_line(tmp_path: Path) -> None:
    assert load_config(None, {"commands.mkfs.ext4": "/sbin/m"}, environ={}, default=tmp_path / "no").commands == {
        "mkfs.ext4": "/sbin/m"
    }


# -- mistakes ---------------------------------------------------------------------------------------------------------


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    text = (
        "nodee: {}\nnode:\n  imds: yes\n  root: host\njournal: {keep: 5, max_size: 1B}\nlog: {format: jsn}\n"
        "commands: {a/b: /x, df: x}\nchecks:\n  xid: {interval: 1500ms, timeout: 1ms, enabled: 1}\nidentity: 3\n"
    )
    assert mistakes(tmp_path, text) == [
        "f:1: nodee: is not a known key; did you mean node?",
        'f:3: node.imds: "yes" is not a yes-or-no value; write true or false',
        'f:4: node.root: "host" is not an absolute path; write a path that begins with /',
        'f:5: journal.keep: "5" is not a duration; write a number and a unit (ms, s, m, h, d), as in 30s',
        'f:5: journal.max_size: "1B" is too small; write 1MiB or more',
        'f:6: log.format: "jsn" is not known here; did you mean json? (auto, json, human)',
        "f:7: commands.a/b: is not the name of a program; write the bare name that checks use, as in nvidia-smi",
        'f:7: commands.df: "x" is not an absolute path; write a path that begins with /',
        'f:9: checks.xid.enabled: "1" is not a yes-or-no value; write true or false',
        'f:9: checks.xid.interval: "1500ms" is not a whole number of seconds; round it; checks wake together on whole seconds',
        'f:9: checks.xid.timeout: "1ms" is too small; write 100ms or more',
        "f:10: identity: must be a mapping; write `key: value` lines below it",
    ]


@pytest.mark.parametrize(
    ("text", "overrides", "line"),
    [
        ("kernel_log:\n", {}, "f:1: kernel_log: has no value; write a path that begins with /, or remove the key"),
        ("- a\n", {}, "f:1: must be a mapping; write `key: value` lines below it"),
        ("", {"node__imds": "no"}, 'command line: node.imds: "no" is not a yes-or-no value; write true or false'),
        ("", {"nose__name": "x"}, "command line: nose: is not a known key; did you mean node?"),
        ("journal: {keep: 1m}\n", {}, 'f:1: journal.keep: "1m" is too small; write 1h or more'),
        *(
            (
                "",
                {"dcgm__address": address},
                f'command line: dcgm.address: "{address}" is not the address of a host engine; {MEND}',
            )
            for address in (":::nonsense", "tcp://x:1", "unix://run/x", "h:", "h:123456", "a b")
        ),
    ],
)
def test_mistake_is_one_line(tmp_path: Path, text: str, overrides: Mapping[str, str], line: str) -> None:
    assert mistakes(tmp_path, text, **overrides) == [line]


@pytest.mark.parametrize(
    "address", ["localhost:5555", "10.0.0.1", "nvidia-dcgm.gpu-operator.svc:5555", "[::1]:5555", "unix:///run/d"]
)
def test_address_of_a_host_engine(tmp_path: Path, address: str) -> None:
    assert load(tmp_path, f"dcgm: {{address: '{address}'}}\n").dcgm.address == address


@pytest.mark.parametrize(
    ("named", "environ", "said"),
    [
        ("absent", {}, "{0}/absent: does not exist; create it, or name another file"),
        (
            None,
            {"HMA_CONFIG": "{0}/absent"},
            "{0}/absent: does not exist (named by HMA_CONFIG); create it, or name another file",
        ),
        ("", {}, "{0}: is a directory; name the YAML file in it"),
    ],
)
def test_file_that_was_named_must_be_there(tmp_path: Path, named: str | None, environ: Mapping[str, str], said: str) -> None:
    where = {key: value.format(tmp_path) for key, value in environ.items()}
    with pytest.raises(ConfigError) as caught:
        load_config(None if named is None else tmp_path / named, environ=where, default=tmp_path / "default")
    assert str(caught.value) == said.format(tmp_path)


def test_dangling_link_in_the_default_place_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").symlink_to("gone")
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(environ={}, default=tmp_path / "config.yaml")


def test_with_problems_given_a_default_stands_in_for_what_is_wrong(tmp_path: Path) -> None:
    file, problems = tmp_path / "c.yaml", Problems()
    file.write_text("node: {name: n1, imds: maybe}\n")
    config = load_config(file, environ={}, problems=problems)
    assert (config.node.name, config.node.imds, len(problems)) == ("n1", True, 1)


LOAD_AS_NOBODY = """
import os, sys, yaml
from pathlib import Path
from hma.config import load_config
from hma.yamlread import ConfigError
os.setgroups([]); os.setegid(65534); os.seteuid(65534)
try:
    load_config(Path(sys.argv[1]), environ={})
except ConfigError as err:
    print(err)
"""


@pytest.mark.needs("root")
def test_file_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(WHOLE)
    file.chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_AS_NOBODY, str(file)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith(f"{file}: cannot be read: permission denied; make it readable for the user that runs hma")
    assert done.stderr == ""


# -- checks -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Full:
    """`full`: the share from which a disk counts as full."""

    full: float = 0.95


def observe(sample: Any, node: NodeFacts, options: Any) -> Iterator[Observation]:
    return iter(())


def check(name: str, source: Any, options: Any = None) -> Check[Any, Any]:
    codes, own = frozenset({"X"}), NoOptions() if options is None else options
    return Check(name, "", source, observe, codes, interval_s=60.0, timeout_s=20.0, options=own)


DISK, DF, LOG = check("disk", Files(("a",)), Full()), check("df", Command(("df",))), check("log", KernelLog(b"x"))


def applied(tmp_path: Path, text: str) -> Mapping[str, ConfiguredCheck]:
    return apply_checks(load(tmp_path, text), (DISK, DF, LOG))


def test_check_that_is_not_mentioned_runs_as_it_says_itself(tmp_path: Path) -> None:
    configured = applied(tmp_path, "")
    assert list(configured) == ["disk", "df", "log"]
    assert configured["disk"] == ConfiguredCheck(DISK, 60.0, 20.0, Full())


def test_check_is_configured_and_switched_off(tmp_path: Path) -> None:
    configured = applied(tmp_path, "checks: {disk: {full: 0.5, interval: 10s}, df: {enabled: false}}\n")
    assert configured["disk"] == ConfiguredCheck(DISK, 10.0, 10.0, Full(0.5)), "a timeout is never longer than the interval"
    assert list(configured) == ["disk", "log"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("dsk: {}", "checks.dsk: is not a check on this node; did you mean disk?"),
        ("zzz: {}", "checks.zzz: is not a check on this node; known: df, disk, log"),
        ("disk: {ful: 1.0}", "checks.disk.ful: is not a known key; did you mean full?"),
        ("disk: {full: x}", 'checks.disk.full: "x" is not a number; write a decimal number, as in 0.9'),
        ("df: {full: 1.0}", "checks.df.full: is not a known key; known: enabled, interval, timeout"),
        ("log: {interval: 9s}", "checks.log.interval: has no meaning: this check is told, and does not ask; remove it"),
        ("log: {timeout: 9s}", "checks.log.timeout: has no meaning: this check is told, and does not ask; remove it"),
        ("disk: {timeout: 2m}", "checks.disk.timeout: is longer than the interval (1m); shorten it, or lengthen the interval"),
        ("disk: {enabled: false, full: x}", 'checks.disk.full: "x" is not a number; write a decimal number, as in 0.9'),
    ],
)
def test_mistake_about_a_check_is_one_line_with_its_place(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        applied(tmp_path, f"checks:\n  {text}\n")
    assert str(caught.value) == f"{tmp_path}/config.yaml:2: {line}"


def test_mistakes_of_the_file_and_of_its_checks_come_at_once(tmp_path: Path) -> None:
    file, problems = tmp_path / "c.yaml", Problems()
    file.write_text("checks: {disk: {full: x}}\nnode: 1\nzzz: 1\n")
    apply_checks(load_config(file, environ={}, problems=problems), (DISK,), problems)
    assert [problem.line for problem in problems] == [1, 2, 3]


# -- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", WHOLE])
def test_what_is_shown_loads_to_the_same(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, text)
    assert load(tmp_path, show(config)) == config
    configured = apply_checks(dataclasses.replace(config, checks={}), (DISK, DF, LOG))
    assert apply_checks(load(tmp_path, show(config, configured)), (DISK, DF, LOG)).keys() >= {"disk", "df"}


def test_digest_tells_two_configurations_apart_and_not_two_ways_to_write_one(tmp_path: Path) -> None:
    one, same = load(tmp_path, "node:\n  name: a\n"), load(tmp_path, "# x\nnode: {name: 'a'}\n")
    assert digest(one) == digest(same) != digest(Config())


# -- whatever is in it ------------------------------------------------------------------------------------------------

PIECES = (
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        ": ",
        "\n",
        "\n  ",
        "\t",
        "-",
        "- ",
        "&a ",
        "*a",
        "!t ",
        "|",
        ">",
        "'",
        '"',
        "#",
        "%",
        "@",
        "?",
        ",",
    ),
    *(
        "\x00",
        "\x85",
        "\ufeff",
        "\u2028",
        "\ud800",
        "null",
        "~",
        "<<",
        "---\n",
        "...",
        "9" * 40,
        "-1",
        "1e999",
        "nan",
        "0x",
        "/",
        "\\",
    ),
)


def mutated(chance: random.Random) -> bytes:
    """Return the whole file with a few things cut out, put in, doubled or moved."""
    text = WHOLE
    for _ in range(chance.randint(1, 5)):
        at, to = sorted((chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)))
        to = min(to, at + 40)
        piece = text[at:to]
        text = chance.choice(
            (
                text[:at] + text[to:],
                text[:at] + chance.choice(PIECES) + text[at:],
                text[:to] + piece + text[to:],
                text[:at] + piece[::-1] + text[to:],
                text[:at] + chance.choice(PIECES) + text[to:],
            )
        )
    data = text.encode("utf-8", "surrogatepass")
    return data if chance.random() < 0.9 else data[: chance.randrange(len(data) + 1)] + chance.randbytes(2)


def outcome(tmp_path: Path, data: bytes) -> Config | ConfigError:
    try:
        return load(tmp_path, data)
    except ConfigError as err:
        return err


def test_two_thousand_mutated_files_load_or_are_refused_in_lines(tmp_path: Path) -> None:
    chance, loaded = random.Random(20_261_125), 0
    for _ in range(2_000):
        found = outcome(tmp_path, mutated(chance))
        if isinstance(found, Config):
            loaded += 1
            assert load(tmp_path, show(found)) == found
            continue
        assert found.problems
        assert all(problem.text and problem.file for problem in found.problems)
        assert all(line.isprintable() and len(line) < 600 for line in str(found).splitlines())
    assert 40 < loaded < 1_900, "both ends are reached"


# -- the page ---------------------------------------------------------------------------------------------------------


def keys_of(kind: type[Any], before: str = "") -> Iterator[str]:
    default = kind()
    for spec in dataclasses.fields(kind):
        value = getattr(default, spec.name)
        if dataclasses.is_dataclass(value):
            yield from keys_of(type(value), f"{before}{spec.name}.")
        else:
            yield f"{before}{key_of(spec.name)}"


def test_page_lists_exactly_the_keys_that_exist_with_their_defaults() -> None:
    rows = [line.split("|") for line in DOC.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    listed = {row[1].strip().strip("`"): row[3].strip().strip("`") for row in rows}
    own = {f"checks.NAME.{key}" for key in ("enabled", "interval", "timeout", "OPTION")}
    assert listed.keys() == ({*keys_of(Config)} - {"commands", "checks"}) | {"commands.PROGRAM"} | own
    lines = [line for line in show(Config()).splitlines() if not line.endswith(":")]
    shown = {line.split(":")[0].strip(): line.split(": ", 1)[1] for line in lines}
    for key, default in listed.items():
        last = key.rpartition(".")[2]
        if last in shown and not key.startswith(("checks.", "commands.")):
            assert default == shown[last], key


def test_example_of_the_page_loads(tmp_path: Path) -> None:
    text = DOC.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    config = load(tmp_path, text)
    assert config != Config()
    assert config.checks
