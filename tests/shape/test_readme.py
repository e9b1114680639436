"""What the documents tell a reader is there: commands, options, checks, stories, settings, events, files, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from hma.agent import FIXED
from hma.check import ClockState, Command, Dcgm, DcgmEvents, Files, KernelLog, Nvml, NvmlEvents, Processes
from hma.cli.common import overrides
from hma.cli.main import COMMANDS, _parser
from hma.cli.scenarios import SCENARIOS
from hma.config import Config
from hma.settings import load_settings
from tests.shape.fit import ROWS, checks
from tests.shape.tree import ROOT, named

README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATING = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
TOP = ("hma", "checks", "tests", "docs", "deploy", r"\.ci")
OF_THE_EXAMPLE = {"checks/passive/conntrack.py", "tests/checks/test_conntrack.py"}
"""Files that CONTRIBUTING.md tells how to write."""
CHECKS = {check.name: check for check in checks()}


def page(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def fences(text: str, kind: str) -> Iterator[str]:
    """Yield what stands in the fenced blocks of one kind."""
    for found in re.finditer(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield found[1]


def commands(text: str) -> list[str]:
    """Return every command line of hma that a page shows, at a prompt or as code in a sentence."""
    at_prompt = [line[2:] for block in fences(text, "console") for line in block.splitlines() if line.startswith(("$ ", "# "))]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = (re.sub(r"^(\S*/)?hma ", "hma ", line) for line in (*at_prompt, *inline))
    return sorted({line for line in lines if re.match(r"hma [a-z-]", line)})


SHOWN = sorted({(named(path), line) for path in PAGES for line in commands(page(path))})


@pytest.mark.parametrize(("where", "line"), SHOWN, ids=[f"{where}: {line}" for where, line in SHOWN])
def test_command_that_is_shown_is_one(where: str, line: str) -> None:
    argv = [word for word in shlex.split(line)[1:] if not re.fullmatch("[A-Z]+", word)]
    if argv in (["config"], ["replay"]):
        return  # named, not shown
    args = _parser(argv).parse_args(argv)
    assert argv[0] in COMMANDS
    assert set(getattr(args, "names", ())) <= CHECKS.keys()
    assert getattr(args, "scenario", None) in {None, "all", *(one.name for one in SCENARIOS)}
    assert set(overrides(args) if "set" in args else ()) <= {
        "node.root",
        "kernel_log",
        "state_dir",
        "run_dir",
        "record",
        "catalogue",
        "node.imds",
    }


def test_every_command_stands_in_the_readme() -> None:
    told = {line.split()[1] for line in commands(README)}
    assert told >= COMMANDS.keys() - {"docs"}


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_targets_of_make_that_are_named_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", page(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:^\$ |`)make ([a-z]+)", page(path), re.MULTILINE)) <= targets


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_stories_and_codes_that_are_named_exist(path: Path) -> None:
    text = page(path)
    assert set(re.findall(r"SCENARIO=([a-z-]+)", text)) <= {"name", *(one.name for one in SCENARIOS)}
    if path.name not in ("CONTRIBUTING.md", "catalogue.md"):  # one adds a code; the other shows an operator's own
        assert (
            set(re.findall(r"\b(?:XID|SXID|SMI|GPU|NVML|DCGM|ECC|NVLINK)-[A-Z0-9][A-Z0-9-]*\b", text)) - {"XID-N"}
            <= ROWS.keys()
        )


# -- the table of checks ----------------------------------------------------------------------------------------------

READS = {
    KernelLog: "kernel log",
    Files: "kernel files",
    Processes: "process table",
    ClockState: "adjtimex",
    Nvml: "NVML",
    NvmlEvents: "NVML events",
    Dcgm: "DCGM",
    DcgmEvents: "DCGM notifications",
}


def test_table_of_checks_is_complete_and_true() -> None:
    section = README[README.index("## What it watches") :]
    told = [tuple(map(str.strip, row)) for row in re.findall(r"^\| `(\w+)` \|(.*)\|(.*)\|(.*)\|$", section, re.MULTILINE)]
    true = [
        (
            check.name,
            check.title,
            f"`{check.source.argv[0]}`" if isinstance(check.source, Command) else READS[type(check.source)],
            "" if check.needs == "any node" else check.needs,
        )
        for check in CHECKS.values()
    ]
    assert sorted(row for row in told if row[0] in CHECKS) == sorted(true)


# -- configuration ----------------------------------------------------------------------------------------------------


def test_configuration_that_is_shown_is_good(tmp_path: Path) -> None:
    config, rows = (re.sub("/etc/hma/", f"{tmp_path}/", block) for block in fences(README, "yaml"))
    (tmp_path / "config.yaml").write_text(config, encoding="utf-8")
    (tmp_path / "catalogue.yaml").write_text(rows, encoding="utf-8")
    settings = load_settings(tmp_path / "config.yaml", environ={})
    assert (settings.disabled, settings.config.node.instance_type) == (("clock_sync",), "p5.48xlarge")
    assert settings.catalogue["XID-94"].action.value == "none"


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "catalogue.md"], ids=named)
def test_settings_that_a_sentence_shows_are_good(path: Path, tmp_path: Path) -> None:
    keys = "|".join(Config.__dataclass_fields__)
    shown = [text for text in re.findall(rf"`((?:{keys}): [^`]+)`", page(path)) if "..." not in text and "NAME" not in text]
    for number, text in enumerate(shown):
        file = tmp_path / f"{number}.yaml"
        file.write_text(re.sub(r"/etc/hma/catalogue.yaml", str(ROOT / "hma/catalogue.yaml"), text.replace("FILE", "/x")))
        load_settings(file, environ={})  # raises where one is not


def test_settings_that_need_a_restart_are_named() -> None:
    row = next(line for line in OPERATING.splitlines() if line.startswith("| SIGHUP"))
    before = row[: row.index("need a restart")].rpartition("stays.")[2]
    assert set(re.findall(r"`(\w+)`", before)) == set(FIXED)


# -- what is told -----------------------------------------------------------------------------------------------------


def test_every_event_is_described() -> None:
    text = "".join(page(path) for path in sorted((ROOT / "hma").rglob("*.py")) if path.parts[-2] != "cli")
    kinds = "fault|agent|verdict|kernel_log|spoof|journal|config|check|facts"
    events = set(re.findall(rf'(?:_tell|Change|tell)\(\s*"((?:{kinds})_[a-z]+)"', text)) | {"fault_active", "fault_resolved"}
    assert len(events) > 10
    table = OPERATING[OPERATING.index("## What it tells") : OPERATING.index("## The journal")]
    assert events <= set(re.findall(r"`([a-z_]+)`", table))


def test_every_path_of_the_local_api_is_described() -> None:
    offered = set(re.findall(r'path == "(/[\w/]+)"', page(ROOT / "hma/agent.py")))
    assert len(offered) == len(re.findall(r"^\| `(/[\w/]+)` \|", OPERATING, re.MULTILINE)) > 3
    assert offered == set(re.findall(r"^\| `(/[\w/]+)` \|", OPERATING, re.MULTILINE))


# -- files and links --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_files_that_are_named_exist(path: Path) -> None:
    text = page(path)
    code = [word for span in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"[^\s(){}:,]+", span)]
    places = {word.rstrip(".") for word in code if re.match(rf"(?:{'|'.join(TOP)})/", word) and "<" not in word}
    places |= {word for word in code if re.fullmatch(r"[A-Z]{4,}\.md|pyproject\.toml|Makefile", word)} - {"ORIGIN.md"}
    missing = {place for place in places if not (any(ROOT.glob(place)) if "*" in place else (ROOT / place).exists())}
    assert missing - OF_THE_EXAMPLE == set()


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page(path)):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        file = path.parent / place if place else path
        assert file.exists(), f"{named(path)} links to {target}"
        assert not anchor or anchor in anchors(page(file)), f"{named(path)} links to {target}"


def anchors(text: str) -> set[str]:
    """Return the anchors of a page: those of its headings, as GitHub makes them, and those set by hand."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)">', text))


def test_every_document_is_in_the_index() -> None:
    index = page(ROOT / "docs/README.md")
    pages = [
        str(path.relative_to(ROOT / "docs")) for path in PAGES if path.parent == ROOT / "docs" and path.name != "README.md"
    ]
    assert [name for name in pages if f"]({name})" not in index] == []


def test_documents_that_the_program_names_exist() -> None:
    files = [
        path for room in ("hma", "checks") for path in (ROOT / room).rglob("*.*") if path.suffix in (".py", ".yaml", ".csv")
    ]
    told = {(named(path), place) for path in files for place in re.findall(r"\bdocs/[\w/-]+\.md\b", page(path))}
    assert told
    assert {(path, place) for path, place in told if not (ROOT / place).is_file()} == set()
