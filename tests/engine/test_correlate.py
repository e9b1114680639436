"""Observations become faults and faults end: one row per rule of the catalogue and per trap of time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hma.catalogue import End, Policy
from hma.model import Action, FaultState, Observation, Status
from tests.engine.rows import CARD, Node, held, node, saw

PENDING, ACTIVE = FaultState.PENDING, FaultState.ACTIVE


# -- hold -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after_s", "told"),
    [(9.5, []), (10.0, ["fault_active X", "verdict_changed"]), (60.0, ["fault_active X", "verdict_changed"])],
)
def test_fault_counts_once_it_has_held(after_s: float, told: list[str]) -> None:
    n = node(held())
    n.see(saw("X"))
    assert n.wait(after_s) == told


def test_fine_look_forgets_what_had_not_held() -> None:
    n = node(held(ends=(End("boot"),)))
    n.see(saw("X"))
    n.wait(5.0)
    n.see(saw("X", status=Status.OK))
    assert (n.fault("X"), n.wait(60.0)) == (None, [])


def test_fine_look_at_the_instant_the_hold_is_over_wins() -> None:
    n = node(held())
    n.see(saw("X"))
    n.mono += 10.0
    assert n.see(saw("X", status=Status.OK)) == []
    assert (n.fault("X"), n.state.verdict.health) == (None, Status.OK)


def test_unknown_look_neither_shortens_nor_ends_a_hold() -> None:
    n = node(held())
    n.see(saw("X"))
    n.wait(5.0)
    n.see(saw("X", status=Status.UNKNOWN))
    assert n.wait(4.9) == []
    assert n.wait(0.1) == ["fault_active X", "verdict_changed"]


def test_hold_of_an_event_counts_from_the_event() -> None:
    n = node(held())
    assert n.see(saw("X", at=n.mono - 11.0)) == ["fault_active X", "verdict_changed"]


# -- counts -----------------------------------------------------------------------------------------------------------


def test_row_that_counts_another_code_is_fed_by_it() -> None:
    n = Node()
    assert n.see(saw("CARD-4", at=n.mono, actor="pid 1")) == ["fault_active CARD-4", "verdict_changed"]
    assert n.alive("CARD-4-REPEAT").state is PENDING
    n.wait(1.0)
    assert n.see(saw("CARD-4", at=n.mono, actor="pid 2")) == ["fault_active CARD-4-REPEAT", "verdict_changed"]
    assert n.state.verdict.action is Action.RESTART_APP


@pytest.mark.parametrize(
    ("raised_by", "status"), [("unknown", Status.FAILED), ("failed", Status.UNKNOWN), ("never", Status.FAILED)]
)
def test_counting_row_obeys_its_own_raised_by(raised_by: str, status: Status) -> None:
    source = Policy("X", "", "card", raised_by="unknown" if status is Status.UNKNOWN else "failed")
    n = node(source, Policy("R", "", "card", counts="X", raised_by=raised_by))
    n.see(saw("X", status=status))
    assert [key.code for key in n.state.faults] == ["X"]


def test_complete_report_that_names_the_counted_code_does_not_end_the_count() -> None:
    n = node(Policy("X", "", "card", ends=(End("ok"),)), Policy("R", "", "card", counts="X", ends=(End("ok"),)))
    for _ in range(3):
        n.see(saw("X"), complete=True)
        n.wait(1.0)
    assert n.alive("R").count == 3


def test_fine_look_at_the_counted_code_is_one_at_the_count() -> None:
    n = node(Policy("X", "", "card", ends=(End("ok"),)), Policy("R", "", "card", counts="X", ends=(End("ok"),)))
    n.see(saw("X"))
    n.see(saw("X", status=Status.OK))
    assert n.state.faults == {}


# -- who raises -------------------------------------------------------------------------------------------------------

RAISES = [
    ("failed", Status.FAILED, True), ("failed", Status.DEGRADED, True), ("failed", Status.OK, False),
    ("failed", Status.UNKNOWN, False), ("unknown", Status.UNKNOWN, True), ("unknown", Status.FAILED, False),
    ("unknown", Status.DEGRADED, False), ("never", Status.FAILED, False), ("never", Status.UNKNOWN, False),
]  # fmt: skip


@pytest.mark.parametrize(("raised_by", "status", "raises"), RAISES)
def test_status_raises_where_the_row_says_so(raised_by: str, status: Status, raises: bool) -> None:
    n = node(Policy("X", "", "card", raised_by=raised_by))
    n.see(saw("X", status=status))
    assert (n.fault("X") is not None) is raises


def test_code_without_a_row_is_left_out() -> None:
    n = Node()
    n.see(saw("NOBODY-KNOWS"))
    assert n.state.faults == {}


def test_fault_whose_row_is_gone_asks_for_nothing_and_ends() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono))
    n.catalogue = node(Policy("X", "", "card")).catalogue
    n.take()
    assert n.state.verdict.action is Action.NONE
    n.reboot()
    assert n.state.faults == {}


# -- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("for_s", "after_s", "ended"), [(0.0, 0.0, True), (15.0, 14.9, False), (15.0, 15.0, True)])
def test_ok_ends_after_its_time(for_s: float, after_s: float, ended: bool) -> None:
    n = node(Policy("X", "", "card", ends=(End("ok", for_s),)))
    n.see(saw("X"))
    n.see(saw("X", status=Status.OK))
    n.wait(after_s)
    assert (n.fault("X") is None) is ended


def test_later_fine_looks_do_not_start_the_time_anew_and_a_failing_one_does() -> None:
    n = node(Policy("X", "", "card", ends=(End("ok", 15.0),)))
    n.see(saw("X"))
    for _ in range(2):
        n.see(saw("X", status=Status.OK))
        n.wait(10.0)
    assert n.fault("X") is None
    n.see(saw("X"))
    n.see(saw("X", status=Status.OK))
    n.wait(10.0)
    n.see(saw("X"))
    assert n.wait(60.0) == []


def test_quiet_ends_after_the_last_sight() -> None:
    n = node(Policy("X", "", "card", ends=(End("quiet", 40.0),)))
    n.see(saw("X", at=n.mono))
    n.wait(30.0)
    n.see(saw("X", at=n.mono))
    assert n.wait(39.9) == []
    assert n.wait(0.1) == ["fault_resolved X", "verdict_changed"]
    assert n.changes[-2].note == "not seen for 40 s"


@pytest.mark.parametrize("status", [Status.OK, Status.FAILED, Status.DEGRADED])
def test_by_ends_whatever_the_named_observation_says(status: Status) -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono))
    n.wait(1.0)
    assert "fault_resolved CARD-1" in n.see(saw("CARD-RESET", at=n.mono, status=status))


def test_unknown_look_at_what_would_end_a_fault_does_not_end_it() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono))
    assert n.see(saw("CARD-RESET", status=Status.UNKNOWN)) == []
    assert n.fault("CARD-1") is not None


@pytest.mark.parametrize("end", [lambda n: n.wait(40.0), lambda n: n.reboot()], ids=["quiet", "boot"])
def test_first_of_several_ends_ends(end: Callable[[Node], list[str]]) -> None:
    n = Node()
    n.see(saw("CARD-4", at=n.mono))
    assert "fault_resolved CARD-4" in end(n)


# -- complete reports -------------------------------------------------------------------------------------------------


def state_fault() -> Node:
    n = Node()
    n.see(saw("STATE", "disk:a"), saw("STATE", "disk:b"), check="disks", complete=True)
    return n


def test_complete_report_means_that_what_it_leaves_out_is_fine() -> None:
    n = state_fault()
    n.see(saw("STATE", "disk:a"), check="disks", complete=True)
    n.wait(15.0)
    assert [key.component for key in n.state.faults] == ["disk:a"]


@pytest.mark.parametrize(
    ("check", "complete", "observations"),
    [
        ("disks", False, ()),
        ("another", True, ()),
        ("disks", True, (saw("STATE", "disk:b", Status.UNKNOWN),)),
        ("disks", True, (saw("OTHER", "disk:b", Status.UNKNOWN),)),
        ("disks", True, (saw("BLIND", "check:disks", Status.UNKNOWN),)),
        ("disks", True, (saw("STATE", "node", Status.UNKNOWN),)),
    ],
)
def test_what_a_report_cannot_know_stays(check: str, complete: bool, observations: tuple[Observation, ...]) -> None:
    n = state_fault()
    n.see(saw("STATE", "disk:a"), *observations, check=check, complete=complete)
    n.wait(15.0)
    assert n.fault("STATE", "disk:b") is not None


# -- names ------------------------------------------------------------------------------------------------------------

UUID = "gpu:GPU-1"


def identity(component: str = CARD) -> Observation:
    return Observation("CARD-IDENTITY", component, Status.OK, attrs=(("uuid", "GPU-1"),))


def named() -> Node:
    return node(
        Policy("X", "", "card", Action.REBOOT, ends=(End("by", code="RESET"),)), Policy("RESET", "", "card", raised_by="never"),
        Policy("CARD-IDENTITY", "", "card", raised_by="never"),
    )  # fmt: skip


def test_observation_under_another_name_is_one_of_the_component() -> None:
    n = named()
    n.see(identity())
    n.see(saw("X", UUID))
    assert [key.component for key in n.state.faults] == [CARD]
    n.restart()
    assert "fault_resolved X" in n.see(saw("RESET", UUID, Status.OK))


def test_identity_in_the_same_report_names_the_observations_before_it() -> None:
    n = named()
    n.see(saw("X", UUID), identity())
    assert [key.component for key in n.state.faults] == [CARD]


def test_fault_gets_the_better_name_when_it_is_learnt() -> None:
    n = named()
    n.see(saw("X", UUID))
    old = n.alive("X", UUID)
    assert n.see(identity()) == []
    assert [(f.component, f.id) for f in n.state.faults.values()] == [(CARD, old.id)]
    assert n.see(saw("X")) == []


def test_one_of_two_faults_that_turn_out_to_be_one_ends() -> None:
    n = named()
    n.see(saw("X", UUID))
    n.see(saw("X"))
    stays = n.alive("X")
    assert n.see(identity()) == ["fault_resolved X"]
    assert list(n.state.faults.values()) == [n.alive("X")]
    assert n.alive("X").id == stays.id
    assert n.state.verdict.action is Action.REBOOT
