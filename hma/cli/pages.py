"""The pages in docs that are made from the program itself: the catalogue, and the life of a fault.

Rules of this file:
- A page is a function of its data alone, so that the committed page can be compared with what is made today.
- Groups come from the rows (kind of component, family, action), never from the comments of the YAML file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hma.catalogue import Catalogue, Confirm, End, Grows, Inhibit, Policy, Times
from hma.catalogue_file import load_catalogue
from hma.engine.transitions import drawing, table_page
from hma.fields import duration_words
from hma.model import Action

KEYS = """
title | must be given | What is wrong, in a few words.

component | must be given | The kind of thing that is broken: `gpu`, `nvswitch`, `host`, `fs`, `node`, `check`, ...

action | `none` | What would cure it: `none`, `restart_app`, `reboot`, `replace`. The last two keep new work off the node from
the moment they are justified.

again | as `action` | What it is worth when the same component fails with the same code again after a reboot. `again: none`:
what did not help is not tried twice. Where your file makes `action` milder and does not name `again`, the `again` of the row
that ships no longer counts. `null` removes it.

again_within | `7d` | How long after its end the earlier fault still counts for `again`.

when | `now` | `idle`: the cure waits until the work on the node has ended. New work is kept away meanwhile.

hold | `0s` | How long it must last before it counts; one that is seen fine before that is forgotten.

times | once is enough | How often it must be seen before it counts: `{count: 2, within: 24h}`, with `same_unit: true` in the
same part of the component only, with `distinct_actors: true` from different processes only. `null` removes it.

grows | any status | For what a device counts (corrected errors, replays): `{by: 100, within: 1h}`, a fault while the count has
grown by that much within that time. The first look, a count that fell and a new boot begin anew. `null` removes it.

counts | itself | Makes a repetition row: it is fed by what is seen under another code, as XID-13-REPEAT is by XID-13.

confirm | nothing | A second source: `{by: [CODES], within: 90s, otherwise: reboot}`. An action above `otherwise` waits until a
fault of one of these codes (with `count: 2`, two of them) is active on the same component or on the node as a whole; without
one it is worth `otherwise` once the time is over, or as soon as one of these codes is explicitly seen fine there (`refute:
[CODES]` narrows which of them can tell). `null` removes it.

inhibit | nothing | A mere consequence: `{by: [CODES], within: 60s}` of an active fault of these codes on the same component,
with `node: true` anywhere on the node; `by: "*"` is every other code of the family. It is recorded then and worth nothing.
`null` removes it.

ends | must be given | How it ends, one way or a list: `ok` (seen fine), `ok 60s` (for so long), `boot` (the node has rebooted),
`quiet 24h` (not seen for so long), `by CODE` (that code is seen on the component).

evidence | `strong` | `weak`: may ask for a reboot or a replacement only with `confirm`, and keeps no work away while it waits.

raised_by | `failed` | `unknown`: by not being able to look; `never`: it only ends other faults.

fault_type | `NodeHealth` | The fault type in records, for readers of HyperPod's records.

fault_reason | from the code | The fault reason in records, for readers of HyperPod's records.

source | must be given | Where it is defined: a document, a header, a program.

about | must be given | What it means and what to do at three in the morning.
"""
"""Every key of a row: its name, its default, its meaning."""

EXAMPLE = """\
# /etc/hma/catalogue.yaml
XID-79: {action: reboot}                  # never replace a node for it
XID-94: {action: none}                    # our jobs restart themselves
SMI-MISMATCH: {action: reboot, when: idle, hold: 2h, evidence: strong}
GPU-COUNT-SMI: {hold: 10m}                # our driver needs that long to start
XID-94-REPEAT:                            # a row of our own: three contained memory errors in a week are too many
  title: Contained memory errors again and again
  component: gpu
  action: replace
  when: idle
  counts: XID-94
  times: {count: 3, within: 7d}
  ends: quiet 7d
  source: our hardware team
  about: "Open a case with the serial number of the GPU."
"""

_GROUPS = (
    ("gpu", "XID", "GPU: XIDs in the kernel log"),
    ("nvswitch", "", "NVSwitch: SXids in the kernel log"),
    ("", "SMI", "What nvidia-smi says"),
    ("", "GPU", "GPUs: presence, identity, reset"),
    ("", "NEURON", "Neuron devices"),
    *((kind, "", "The host") for kind in ("host", "cpu", "dimm", "pci", "process")),
    *((kind, "", "File systems and disks") for kind in ("fs", "disk")),
    ("node", "", "The node as a whole"),
    ("check", "", "The agent itself"),
)
"""Kind of component ("" = any), family ("" = any), heading; the first that fits."""

_WORTH = (
    (Action.REPLACE, "replace"),
    (Action.REBOOT, "reboot"),
    (Action.RESTART_APP, "restart the application"),
    (Action.NONE, "told"),
)


def pages() -> Mapping[str, str]:
    """Return the text of every generated page by its file name."""
    return {"catalogue.md": catalogue_page(load_catalogue()), "fault-states.md": fault_states_page()}


# -- the catalogue ----------------------------------------------------------------------------------------------------


def catalogue_page(catalogue: Catalogue) -> str:
    """Return the page of all rows, with what an operator can change and how."""
    grouped = _grouped(catalogue.rows.values())
    parts = [_intro(catalogue), _keys(), _contents(grouped)]
    parts += [_group(heading, rows) for heading, rows in grouped.items()]
    return "\n".join(parts).rstrip() + "\n"


def _intro(catalogue: Catalogue) -> str:
    return f"""# The catalogue: what each code is worth

<!-- Made by `make docs` from hma/catalogue.yaml; edit that file, not this page. -->

A check says what it saw as a code (`XID-79`) on a component (`gpu:0000:9b:00`). What that is worth is a row of this catalogue:
{len(catalogue.rows)} rows ship with hma. `hma explain XID-79` prints one row as it counts on your node.

## Change a row

Name a file of your own in the configuration (`catalogue: /etc/hma/catalogue.yaml`). It is laid over the rows below, key by key:
what you do not write stays as it is; `times`, `grows`, `confirm`, `inhibit` and `ends` are written whole. A row for a code of
your own check must be complete. `hma config validate` tells every mistake at once, and a running agent keeps its last good
catalogue.

```yaml
{EXAMPLE}```
"""


def _keys() -> str:
    lines = ["## The keys of a row", "", "| key | default | meaning |", "|---|---|---|"]
    for entry in KEYS.strip().split("\n\n"):
        key, default, about = " ".join(entry.split()).split(" | ")
        lines.append(f"| `{key}` | {default} | {about} |")
    times = (
        "Times are a number and a unit (`ms`, `s`, `m`, `h`, `d`). How a row moves a fault: [fault states](fault-states.md)."
    )
    return "\n".join((*lines, "", times, ""))


def _contents(grouped: Mapping[str, list[Policy]]) -> str:
    lines = ["## The rows", ""]
    for heading, rows in grouped.items():
        lines.append(f"- [{heading}](#{_anchor(heading)}) ({len(rows)})")
    return "\n".join((*lines, ""))


def _grouped(rows: Iterable[Policy]) -> dict[str, list[Policy]]:
    found: dict[str, list[Policy]] = {heading: [] for _, _, heading in _GROUPS}
    for row in rows:
        fits = (heading for kind, family, heading in _GROUPS if kind in ("", row.component) and family in ("", row.family))
        found.setdefault(next(fits, "Other"), []).append(row)
    return {heading: members for heading, members in found.items() if members}


def _group(heading: str, rows: list[Policy]) -> str:
    lines = [f"## {heading}", ""]
    for action, words in _WORTH:
        members = [row for row in rows if row.action is action]
        if members:
            lines += [
                f"### {heading}: {words}",
                "",
                "| code | what | worth | ends | records say | source |",
                "|---|---|---|---|---|---|",
            ]
            lines += [_row(row) for row in members]
            lines.append("")
    return "\n".join(lines)


def _row(row: Policy) -> str:
    cells = (
        f'<a id="{row.code.lower()}"></a>`{row.code}`',
        f"**{row.title}.** {row.about}",
        worth_words(row),
        " or ".join(map(end_words, row.ends)),
        " / ".join(word for word in (row.fault_type, row.fault_reason) if word),
        row.source,
    )
    return f"| {' | '.join(map(_cell, cells))} |"


def worth_words(row: Policy) -> str:
    """Return what a row asks for and under which conditions, as one sentence."""
    if row.raised_by == "never":
        return "no fault; ends others"
    words = [row.action.value + (" when idle" if row.when == "idle" else "")]
    if row.again is not None and row.again is not row.action:
        within = duration_words(row.again_within_s)
        words.append(f"{row.again.value} when it fails again within {within} after a reboot")
    if row.hold_s:
        words.append(f"once it has lasted {duration_words(row.hold_s)}")
    if row.times is not None:
        words.append(_times(row.times, row.counts))
    if row.grows is not None:
        words.append(_grows(row.grows))
    if row.confirm is not None:
        words.append(_confirm(row.confirm))
    if row.inhibit is not None:
        words.append(_inhibit(row.inhibit))
    if row.raised_by == "unknown":
        words.append("raised by not being able to look")
    if row.evidence == "weak":
        words.append("weak evidence")
    return "; ".join(words)


def _times(times: Times, counts: str) -> str:
    unit = " in the same unit" if times.same_unit else ""
    actors = " by different processes" if times.distinct_actors else ""
    of = f" of {counts}" if counts else ""
    return f"from {times.count} times{of} within {duration_words(times.within_s)}{unit}{actors}"


def _grows(grows: Grows) -> str:
    return f"from a growth of {grows.by:g} within {duration_words(grows.within_s)}"


def _confirm(confirm: Confirm) -> str:
    sources = f"{confirm.count} of {_listed(confirm.by)}" if confirm.count > 1 else _listed(confirm.by)
    refuted = f", refuted by {_listed(confirm.refute)}" if confirm.refute else ""
    return f"confirmed by {sources} within {duration_words(confirm.within_s)}{refuted}, otherwise {confirm.otherwise.value}"


def _inhibit(inhibit: Inhibit) -> str:
    cause = "any other code of its family" if inhibit.by == ("*",) else _listed(inhibit.by)
    where = " anywhere on the node" if inhibit.node else ""
    return f"a mere consequence within {duration_words(inhibit.within_s)} of {cause}{where}"


def end_words(end: End) -> str:
    """Return one way in which a fault ends, as the catalogue's file has it."""
    if end.kind == "by":
        return f"by {end.code}"
    return f"{end.kind} {duration_words(end.for_s)}" if end.for_s else end.kind


def _listed(codes: tuple[str, ...]) -> str:
    return codes[0] if len(codes) == 1 else ", ".join(codes[:-1]) + " or " + codes[-1]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(heading: str) -> str:
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


# -- the life of a fault ----------------------------------------------------------------------------------------------


def fault_states_page() -> str:
    """Return the page of the states of a fault, drawn from the table that the engine obeys."""
    return f"""# The life of a fault

<!-- Made by `make docs` from hma/engine/transitions.py; edit that file, not this page. -->

A fault is one code on one component. It is *pending* until its row in the [catalogue](catalogue.md) is satisfied (`hold`,
`times`), then *active*, and *resolved* once one of the ways in its `ends` is met. Only an active fault that is no mere
consequence of another counts for the verdict on the node. Not being able to look (`unknown`) is no signal: it moves nothing.

```mermaid
{drawing()}
```

{table_page()}
"""
