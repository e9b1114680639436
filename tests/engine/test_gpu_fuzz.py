"""Generated histories of whole nodes: one that is well is never touched, and one that is sick gets its cure and no more.

Checks, catalogue and engine are those that run on nodes; the histories are longer and odder than anyone writes down.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hma.check import Output
from hma.gpu import Clocks, DcgmIncident, Ecc, Fabric, Heat, Link, Pcie, Power, Rows
from hma.model import Action
from tests.engine.gpu_node import PLACES, ROUTES, Node, World, noisy_links

MINUTE, HOUR = 60.0, 3_600.0
LOST, RESET_REQUIRED = 15, 16
IDLE, SW_POWER_CAP, HW_THERMAL = 0x1, 0x4, 0x48
GPU = 3
"""The one that is sick."""


# -- what happens on nodes that are well --------------------------------------------------------------------------------


class Does(NamedTuple):
    """Something that happens, after `wait_s`, on a GPU; `amount` is of whatever it is."""

    what: str
    gpu: int = 0
    amount: int = 0
    wait_s: float = 5.0


def work(node: Node, does: Does) -> None:
    """Warmer or cooler, at work or at rest: all of it far from any limit."""
    idle = does.amount % 3 == 0
    reasons = IDLE if idle else (0, 0x2, SW_POWER_CAP, 0x10, 0x100)[does.amount % 5]
    warmth = does.amount % 30
    node.world.change(
        does.gpu,
        clocks=Clocks(reasons, power_ns=int(node.now.mono * 1e8), sw_thermal_ns=0, hw_thermal_ns=0, hw_brake_ns=0),
        heat=Heat(40 + warmth, 50 + warmth, 47 - warmth, 89, 92, 95, 87),
        power=Power(75.0 if idle else 500.0 + 6 * warmth, 700.0, 700.0),
        pcie=Pcie(1 if idle else 5, 16, 5, 16, replays=int(node.now.mono // 600)),
    )


def corrected(node: Node, does: Does) -> None:
    """Errors that every memory and every link has now and then."""
    errors = int(node.now.mono // 100) + does.amount % 4
    node.world.change(
        does.gpu, ecc=Ecc(True, True, errors, 0, 1_000 + errors, 0, sram_threshold=False), links=noisy_links(errors)
    )


def driver_down(node: Node, does: Does) -> None:
    """Take the driver away, whatever it then says."""
    node.world.state = ("no_driver", "mismatch", "failed", "no_permission", "no_library")[does.amount % 5]


def driver_up(node: Node, does: Does) -> None:
    """Load the driver: at first it may list only some GPUs, and fabric and counters begin anew."""
    node.world = World(up_since=node.now.mono, dcgm=node.world.dcgm, incidents=node.world.incidents)
    few = does.amount % 8
    for coming in range(few, 8):
        node.world.unlisted = set(range(coming, 8))
        for number in range(8):
            node.world.change(number, fabric=Fabric(state=2), links=tuple(Link(n, up=False) for n in range(18)))
        node.wait(10.0)
    node.world.unlisted = set()
    node.world.parts = {}


def driver_hangs(node: Node, does: Does) -> None:
    """Let a call about one GPU hang for a while."""
    node.world.hung = (does.gpu, node.now.mono)
    node.wait(10.0 + does.amount * 7.0)
    node.world.hung = None


def probe_dies(node: Node, does: Does) -> None:
    """Let NVML tell nothing for a while."""
    node.world.blind = frozenset({"nvml", "events"})
    node.wait(does.amount * 20.0)
    node.world.blind = frozenset()


def mig(node: Node, does: Does) -> None:
    """Cut a GPU into instances, or make it whole again."""
    if does.amount % 2:
        node.world.change(does.gpu, mig=True, mig_pending=True, rows=None, links=tuple(Link(n, up=False) for n in range(18)))
    else:
        node.world.parts.pop(does.gpu, None)


def user_error(node: Node, does: Does) -> None:
    """Let a program of a user do something wrong."""
    texts = {13: "Graphics SM Warp Exception on (GPC 1, TPC 1, SM 0): Out Of Range Address", 31: "MMU Fault", 43: "Ch 00000008"}
    number = (13, 31, 43, 45)[does.amount % 4]
    node.xid(number, does.gpu, f"pid={1_000 + does.amount}, name=python3, {texts.get(number, 'Ch 00000008')}")


def dcgm(node: Node, does: Does) -> None:
    """Let the host engine come, go, hang, or remember an XID of long ago."""
    node.world.dcgm = ("up", "no_engine", "failed", "hung", "up")[does.amount % 5]
    old = DcgmIncident(0x10, "fail", 101, f"GPU {does.gpu} had an XID 79 (triggered by XID 79: fell off)", 1, does.gpu)
    node.world.incidents = (old,) if does.amount % 2 else ()


def odd_value(node: Node, does: Does) -> None:
    """Let some values of a GPU be unreadable in one look."""
    part = ("ecc", "rows", "clocks", "heat", "power", "links", "pcie", "fabric", "recovery_action", "repair")[does.amount % 10]
    before = dict(node.world.parts.get(does.gpu, {}))
    node.world.change(does.gpu, **{part: None, "errors": {part: "Unknown Error"}})
    node.look()
    node.world.parts[does.gpu] = before


def odd_answer(node: Node, does: Does) -> None:
    """Let a GPU answer with an error in one look."""
    node.world.codes[does.gpu] = 999
    node.look()
    node.world.codes.clear()


def odd_program(node: Node, does: Does) -> None:
    """Let nvidia-smi fail once, or print nothing."""
    failures = (
        Output(255, "", ""),
        Output(-9, "", ""),
        Output(0, "", ""),
        Output(1, "Unknown Error\n", ""),
        Output(255, f"Unable to determine the device handle for GPU{does.gpu}: 0000{PLACES[does.gpu]}.0: Unknown Error\n", ""),
    )
    node.hear(failures[does.amount % 5])


def manager_restarts(node: Node, does: Does) -> None:
    """Restart the fabric manager: links and fabric come up again within a minute."""
    node.world.manager = False
    node.wait(does.amount % 4 * 10.0)
    node.world.manager = True
    for number in range(8):
        node.world.change(number, fabric=Fabric(state=2))
    node.wait(20.0)
    for number in range(8):
        node.world.change(number, fabric=Fabric(state=3, clique=0))


def restart(node: Node, does: Does) -> None:
    """Restart the agent."""
    node.restart()


def jump(node: Node, does: Does) -> None:
    """Set the clock."""
    node.jump((does.amount - 15) * HOUR)


def boot(node: Node, does: Does) -> None:
    """Boot the node, on which the driver comes up a little later."""
    node.boot()
    node.world.state = "no_driver"
    node.wait(does.amount * 2.0)
    driver_up(node, does)


HARMLESS: Mapping[str, Callable[[Node, Does], None]] = {
    one.__name__: one for one in (work, corrected, user_error, dcgm, odd_value, odd_program, restart, jump)
}
ORDINARY = dict(HARMLESS) | {
    one.__name__: one
    for one in (driver_down, driver_up, driver_hangs, probe_dies, mig, odd_answer, manager_restarts, boot)
}  # fmt: skip


def doings(of: Mapping[str, object], waits: tuple[float, ...]) -> st.SearchStrategy[list[Does]]:
    """Return lists of things that happen."""
    one = st.builds(Does, st.sampled_from(sorted(of)), st.integers(0, 7), st.integers(0, 29), st.sampled_from(waits))
    return st.lists(one, max_size=14)


@given(doings(ORDINARY, (0.5, 5.0, 30.0, MINUTE, 150.0, 400.0)))
@settings(max_examples=100)
def test_node_that_is_well_is_never_touched(history: list[Does]) -> None:
    node = Node()
    node.look()
    for does in history:
        node.wait(does.wait_s)
        ORDINARY[does.what](node, does)
        node.look()
        touched = node.worst.destructive or node.cordoned
        assert not touched, (node.story, node.faults)


# -- what happens on nodes that are sick --------------------------------------------------------------------------------


class Sick(NamedTuple):
    """One class of faults: the signs it gives, in any order; the action it ends in, after at most how long; what it ends in
    where one route is blind, if that is another; and what the same fault asks for after a reboot."""

    signs: tuple[Callable[[Node], None], ...]
    action: Action
    within_s: float
    blind: Mapping[str, Action] = {}
    again: Action | None = None
    when: str = "now"


def line(number: int, text: str = "") -> Callable[[Node], None]:
    """Let the driver tell an XID."""
    return lambda node: node.xid(number, GPU, text)


def code(number: int) -> Callable[[Node], None]:
    """Let the GPU answer nothing but an error."""
    return lambda node: node.world.codes.update({GPU: number})


def part(**parts: object) -> Callable[[Node], None]:
    """Let parts of the GPU be so."""
    return lambda node: node.world.change(GPU, **parts)


def finds(number: int, system: int, message: str) -> Callable[[Node], None]:
    """Let DCGM find something."""

    def found(node: Node) -> None:
        node.world.incidents = (DcgmIncident(system, "fail", number, message, 1, GPU),)

    return found


def unlisted(node: Node) -> None:
    """Let the driver list the GPU no more."""
    node.world.unlisted.add(GPU)


def unplugged(node: Node) -> None:
    """Let the GPU leave the bus."""
    node.world.gone.add(GPU)


def manager_ends(node: Node) -> None:
    """End the fabric manager for good."""
    node.world.manager = False


def hangs(node: Node) -> None:
    """Let calls about the GPU hang."""
    node.world.hung = (GPU, node.now.mono)


def init_fails(node: Node) -> None:
    """Let the kernel say that the driver could not start the GPU."""
    node.says(f"NVRM: GPU {PLACES[GPU]}.0: RmInitAdapter failed! (0x62:0x40:2393)")


ONE_DOWN = tuple(Link(number, up=number != 14, crc=0, replay=0, recovery=0) for number in range(18))
OFF_BUS = line(79, "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.")
UNCORRECTED = part(ecc=Ecc(True, True, 0, 1, 0, 1, sram_threshold=False))
MECHANICAL = line(74, f"NVLink: fatal error detected on link 14(0x10000{', 0x0' * 6})")
WANTS_RESET = "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"
NONE, RESTART, REBOOT, REPLACE = Action.NONE, Action.RESTART_APP, Action.REBOOT, Action.REPLACE

SICK: Mapping[str, Sick] = {
    "off the bus": Sick((OFF_BUS, code(LOST)), REPLACE, 120),
    "XID 79 and the GPU answers": Sick((OFF_BUS,), REBOOT, 120, again=REBOOT),
    "lost by NVML and nvidia-smi alone": Sick((code(LOST),), REBOOT, 180, {"nvml": NONE}),
    "left the bus": Sick((unplugged,), REBOOT, 60, {"pci": NONE, "nvml": REBOOT}, again=REPLACE),
    "not on the driver's list": Sick((unlisted,), NONE, 0),
    "not started": Sick((init_fails, unlisted), REBOOT, 60, {"kernel": NONE}, again=REPLACE),
    "needs a reset": Sick((code(RESET_REQUIRED),), REBOOT, 60, again=REPLACE),
    "double bit error": Sick((line(48, "DBE"), UNCORRECTED), REBOOT, 0, again=REPLACE),
    "uncontained": Sick((line(95, "Uncontained"), UNCORRECTED), REBOOT, 0, again=REPLACE),
    "contained": Sick((line(94, "Contained"), UNCORRECTED), RESTART, 0, again=RESTART),
    "row to be remapped": Sick(
        (line(63, "Row Remapper"), part(rows=Rows(0, 1, pending=True, failed=False))), REBOOT, 0, again=REBOOT, when="idle"
    ),
    "row not remapped": Sick(
        (line(64, "Row Remapper"), part(rows=Rows(0, 1, pending=False, failed=True))), REPLACE, 300, {"nvml": REBOOT}
    ),
    "spare rows at an end": Sick(
        (part(rows=Rows(0, 1, pending=False, failed=True)),), REPLACE, 120, {"nvml": NONE}, when="idle"
    ),
    "SRAM worn": Sick(
        (part(ecc=Ecc(True, True, 0, 0, 0, 900, sram_threshold=True)),), REPLACE, 180, {"nvml": NONE}, when="idle"
    ),
    "GSP silent": Sick((line(119, "Timeout after 6s of waiting for RPC response from GPU"), hangs), REBOOT, 0, again=REPLACE),
    "GSP silent and well": Sick((line(119, "Timeout after 6s of waiting for RPC response from GPU"),), REBOOT, 0, again=REBOOT),
    "driver hangs": Sick((hangs,), NONE, 0),
    "NVLink broken": Sick((MECHANICAL, part(links=ONE_DOWN)), REBOOT, 0, again=REPLACE),
    "NVLink down": Sick((part(links=ONE_DOWN),), REBOOT, 600, {"nvml": NONE}, when="idle", again=NONE),
    "driver asks for a reset": Sick((line(154, WANTS_RESET), part(recovery_action=1)), REBOOT, 15, again=REPLACE),
    "fabric manager ended": Sick((manager_ends,), REBOOT, 300, {"nvml": NONE}, when="idle", again=NONE),
    "held down by heat": Sick((part(clocks=Clocks(HW_THERMAL)),), NONE, 0),
    "DCGM finds a row": Sick((finds(85, 0x10, "a row remapping waits"),), REBOOT, 180, {"dcgm": NONE}, when="idle", again=NONE),
    "DCGM finds links": Sick((finds(14, 0x2, "NVLink is down"),), NONE, 0),
}  # fmt: skip


class Case(NamedTuple):
    """One sick node: which fault, what happens before, in which order the signs come and how far apart, what is blind."""

    sick: str
    before: list[Does]
    order: int
    apart: list[float]
    blind: str
    noise: list[Does]


CASES = st.builds(
    Case,
    sick=st.sampled_from(sorted(SICK)),
    before=doings(HARMLESS, (0.5, 5.0, MINUTE)).map(lambda does: does[:5]),
    order=st.integers(0, 9),
    apart=st.lists(st.sampled_from((0.0, 0.5, 3.0, 20.0)), min_size=3, max_size=3),
    blind=st.sampled_from(("", *ROUTES)),
    noise=doings(HARMLESS, (0.5, 5.0, 30.0)).map(lambda does: does[:6]),
)


def befall(node: Node, case: Case) -> None:
    """Let the signs of the fault come."""
    signs = list(SICK[case.sick].signs)
    random.Random(case.order).shuffle(signs)
    for sign, apart_s in zip(signs, case.apart, strict=False):
        sign(node)
        node.look()
        node.wait(apart_s)


def live_on(node: Node, seconds: float, noise: list[Does]) -> None:
    """Let time pass, in which harmless things happen on the other GPUs."""
    until = node.now.mono + seconds
    for does in noise:
        if does.gpu != GPU and does.what != "dcgm" and node.now.mono + does.wait_s < until:
            node.wait(does.wait_s)
            HARMLESS[does.what](node, does)
    node.wait(max(0.0, until - node.now.mono))


@given(CASES)
@settings(max_examples=200)
def test_node_that_is_sick_gets_its_cure_and_no_more(case: Case) -> None:
    sick = SICK[case.sick]
    expected = sick.blind.get(case.blind, sick.action)
    node = Node()
    for does in case.before:
        node.wait(does.wait_s)
        HARMLESS[does.what](node, does)
    node.world = World(blind=frozenset({case.blind}))
    node.look()
    befall(node, case)
    live_on(node, sick.within_s + 2 * MINUTE, case.noise)
    assert node.verdict.action is expected, (node.story, node.faults)
    assert node.verdict.when == (sick.when if expected.destructive else node.verdict.when), node.story
    live_on(node, 15 * MINUTE, case.noise)
    assert node.worst is expected, (node.story, node.faults)
    assert node.verdict.action is expected, (node.story, node.faults)


@given(CASES)
@settings(max_examples=50)
def test_reboot_that_cures_is_the_end_of_it(case: Case) -> None:
    node = Node(World(blind=frozenset({case.blind})))
    node.look()
    befall(node, case)
    live_on(node, SICK[case.sick].within_s + 2 * MINUTE, case.noise)
    node.boot()
    node.wait(3 * MINUTE)
    node.wait(HOUR if case.blind == "nvml" else MINUTE)
    assert node.verdict.action is Action.NONE, (node.story, node.faults)
    assert node.verdict.schedulable, (node.story, node.faults)


@pytest.mark.parametrize("name", [name for name, sick in SICK.items() if sick.again is not None])
def test_same_fault_after_a_reboot(name: str) -> None:
    node, sick, last = Node(), SICK[name], Action.NONE
    case = Case(name, [], 0, [0.5, 0.5, 0.5], "", [])
    for _ in range(2):
        node.look()
        befall(node, case)
        node.wait(sick.within_s + 2 * MINUTE)
        last = node.verdict.action
        node.boot()
        node.wait(3 * MINUTE)
    assert last is sick.again, (node.story, node.faults)
