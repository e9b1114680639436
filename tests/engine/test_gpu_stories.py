"""What people do to nodes, and what nodes do at odd moments: each story told to the real checks, with what it may ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pytest

from hma.check import Output
from hma.gpu import DcgmIncident, Ecc, Fabric, Link, Pcie, Rows
from hma.model import Action, NodeFacts
from tests.checks.gpu_samples import P5
from tests.engine.gpu_node import PLACES, Node, noisy_links

GPU = 3
LOST = 15
OFF_BUS = "GPU has fallen off the bus."
DOWN = tuple(Link(number, up=False) for number in range(18))
NONE, REBOOT, REPLACE = Action.NONE, Action.REBOOT, Action.REPLACE


def upgrade_of_the_driver(node: Node) -> None:
    """Stop the fabric manager, unload, build for twenty minutes, load, start the fabric manager."""
    node.world.manager = False
    node.wait(30.0)
    for state, seconds in (("no_driver", 1_200.0), ("mismatch", 600.0)):
        node.world.state = state
        node.wait(seconds)
    node.world.state, node.world.up_since = "up", node.now.mono
    for number in range(8):
        node.world.change(number, fabric=Fabric(state=1), links=DOWN)
    node.wait(240.0)
    node.world.manager, node.world.parts = True, {}
    node.wait(900.0)


def reset_by_hand(node: Node) -> None:
    """Reset a GPU by hand before anything has acted."""
    node.xid(48, GPU, "DBE")
    node.world.change(GPU, ecc=Ecc(True, True, 0, 1, 0, 1, sram_threshold=False))
    node.wait(30.0)
    node.says(f"NVRM: GPU reset executed: GPU-509665ad-b600-ac93-3616-d754b23d636{GPU}, success: true")
    node.world.parts = {}
    node.wait(60.0)


def container_without_devices(node: Node) -> None:
    """Run where there is no device file at all."""
    node.world.unlisted = set(range(8))
    node.wait(3_600.0)


def container_without_devices_and_79(node: Node) -> None:
    """Run without device files, and let a GPU fail after an hour."""
    container_without_devices(node)
    node.xid(79, GPU, OFF_BUS)
    node.wait(600.0)


def one_device_missing_and_79_elsewhere(node: Node) -> None:
    """Run with one device file too few, and let a GPU that answers say 79 after an hour."""
    node.world.unlisted = {5}
    node.wait(3_600.0)
    node.xid(79, GPU, OFF_BUS)
    node.wait(600.0)


def seven_by_design(node: Node) -> None:
    """Be a new type with seven GPUs."""
    bus = tuple(device for device in P5.pci if device.address != f"{PLACES[7]}.0")
    node.facts, node.world.gone = NodeFacts("n1", "boot-1", "new.type", pci=bus), {7}
    node.wait(900.0)


def agent_restarts_between(node: Node) -> None:
    """Restart the agent between the line and the second route."""
    node.xid(79, GPU, OFF_BUS)
    node.restart()
    node.wait(3.0)
    node.world.codes[GPU] = LOST
    node.look()


def two_at_once(node: Node) -> None:
    """Lose two GPUs."""
    for number in (1, 2):
        node.xid(79, number, OFF_BUS)
        node.world.codes[number] = LOST
    node.wait(60.0)


def all_at_once(node: Node) -> None:
    """Lose the baseboard."""
    for number in range(8):
        node.xid(79, number, OFF_BUS)
        node.world.codes[number] = LOST
    node.wait(60.0)


def program_says_lost(node: Node) -> None:
    """Let nvidia-smi call a GPU lost that NVML finds well."""
    for _ in range(10):
        node.world.blind = frozenset({"smi"})
        node.hear(Output(LOST, f"Unable to determine the device handle for GPU3: 0000{PLACES[GPU]}.0: GPU is lost.\n", ""))
        node.wait(60.0)


def hangs_for_a_while(node: Node) -> None:
    """Let NVML hang for forty seconds."""
    node.world.hung = (GPU, node.now.mono)
    node.wait(40.0)
    node.world.hung = None
    node.wait(300.0)


def dcgm_remembers(node: Node) -> None:
    """Let DCGM tell an XID of last week as if it were new."""
    node.world.incidents = (DcgmIncident(0x10, "fail", 101, "an XID (triggered by XID 79: fell off the bus)", 1, GPU),)
    node.wait(900.0)


def agent_away_for_hours(node: Node) -> None:
    """Let counters grow while nobody looks."""
    node.wait(3 * 3_600.0)
    ecc = Ecc(True, True, 5_000, 0, 5_000, 0, sram_threshold=False)
    node.world.change(GPU, ecc=ecc, links=noisy_links(4_000), pcie=Pcie(5, 16, 5, 16, 90_000))
    node.restart()
    node.wait(900.0)


def gpu_given_to_a_guest(node: Node) -> None:
    """Hand a GPU to a virtual machine while the agent runs."""
    node.world.unlisted = {GPU}
    node.wait(3_600.0)


def clock_set_back_in_the_middle(node: Node) -> None:
    """Set the clock back by a year between the line and the second route."""
    node.xid(79, GPU, OFF_BUS)
    node.jump(-365 * 86_400.0)
    node.world.codes[GPU] = LOST
    node.look()


def mig_over_a_failed_row(node: Node) -> None:
    """Cut a GPU into instances whose memory could not be repaired."""
    node.world.change(GPU, rows=Rows(0, 1, pending=False, failed=True))
    node.wait(300.0)
    node.world.change(GPU, rows=None, mig=True, mig_pending=True, links=DOWN)
    node.wait(300.0)


def worn_gpu_that_goes_missing(node: Node) -> None:
    """Start the agent before the driver; then a GPU that is to be replaced leaves the list of the driver."""
    node.facts = replace(P5, pci=tuple(device._replace(driver="") for device in P5.pci))
    node.world.change(GPU, rows=Rows(0, 1, pending=False, failed=True))
    node.wait(300.0)
    node.world.unlisted = {GPU}
    node.wait(300.0)


class Story(NamedTuple):
    """What happens, what the node is worth at the end, and the highest action that may be asked for on the way."""

    happens: Callable[[Node], None]
    end: Action
    worst: Action


STORIES = (
    Story(upgrade_of_the_driver, NONE, NONE),
    Story(reset_by_hand, NONE, REBOOT),
    Story(container_without_devices, NONE, NONE),
    Story(container_without_devices_and_79, REBOOT, REBOOT),
    Story(one_device_missing_and_79_elsewhere, REBOOT, REBOOT),
    Story(seven_by_design, NONE, NONE),
    Story(agent_restarts_between, REPLACE, REPLACE),
    Story(two_at_once, REPLACE, REPLACE),
    Story(all_at_once, REPLACE, REPLACE),
    Story(program_says_lost, NONE, NONE),
    Story(hangs_for_a_while, NONE, NONE),
    Story(dcgm_remembers, NONE, NONE),
    Story(agent_away_for_hours, NONE, NONE),
    Story(gpu_given_to_a_guest, NONE, NONE),
    Story(clock_set_back_in_the_middle, REPLACE, REPLACE),
    Story(mig_over_a_failed_row, REPLACE, REPLACE),
    Story(worn_gpu_that_goes_missing, REPLACE, REPLACE),
)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.happens.__name__)
def test_story(story: Story) -> None:
    node = Node()
    node.look()
    story.happens(node)
    assert (node.verdict.action, node.worst) == (story.end, story.worst), (node.story, node.faults)
