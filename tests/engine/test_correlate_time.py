"""Time in correlate: events that are read late or twice, a new boot, and the instants at which time alone does something."""

from __future__ import annotations

import pytest

from hma.catalogue import Catalogue, End, Policy, Times
from hma.engine.correlate import next_due
from hma.model import FaultState, Observation, Status
from tests.engine.rows import CARD, HOURS, Node, held, node, report, saw

PENDING, ACTIVE = FaultState.PENDING, FaultState.ACTIVE
DAY = 24 * HOURS


# -- events and their time --------------------------------------------------------------------------------------------


def test_old_event_is_raised_with_its_own_time() -> None:
    n = Node(mono=5_000.0)
    n.see(saw("CARD-1", at=1_400.0))
    fault = n.alive("CARD-1")
    assert (fault.first_seen.mono, fault.first_seen.utc, fault.changed.mono) == (1_400.0, n.utc - 3_600.0, 5_000.0)


@pytest.mark.parametrize(("age_s", "raised"), [(39.9, True), (40.0, False), (3_600.0, False)])
def test_event_whose_quiet_time_is_over_is_history(age_s: float, raised: bool) -> None:
    n = Node(mono=5_000.0)
    n.see(saw("CARD-4", at=5_000.0 - age_s))
    assert (n.fault("CARD-4") is not None) is raised


def test_event_stamped_in_the_future_is_one_of_now() -> None:
    n = Node()
    n.see(saw("CARD-4", at=n.mono + 500.0))
    n.wait(40.0)
    assert n.fault("CARD-4") is None


def test_events_of_several_checks_are_taken_in_the_order_of_their_times() -> None:
    n = Node(mono=2_000.0)
    told = n.take(
        report(saw("CARD-RESET", status=Status.OK, at=1_500.0), check="reset"),
        report(saw("CARD-1", at=1_400.0), saw("CARD-1", at=1_600.0), check="errors"),
    )
    assert told == ["fault_active CARD-1", "fault_resolved CARD-1", "fault_active CARD-1", "verdict_changed"]


def test_fault_that_began_and_ended_while_nobody_looked_is_told_and_remembered() -> None:
    n = Node(mono=2_000.0)
    told = n.see(saw("CARD-1", at=1_400.0), saw("CARD-RESET", status=Status.OK, at=1_500.0))
    assert told == ["fault_active CARD-1", "fault_resolved CARD-1", "verdict_changed"]
    assert [past.code for past in n.state.history] == ["CARD-1"]
    assert n.state.verdict.health is Status.OK


def test_hold_that_a_reset_cut_short_is_not_made_up_by_reading_late() -> None:
    n = node(held(ends=(End("by", code="RESET"),)), Policy("RESET", "", "card", raised_by="never"))
    n.see(saw("X", at=100.0), saw("RESET", status=Status.OK, at=105.0))
    assert (n.state.faults, n.state.history) == ({}, ())


def test_pause_longer_than_quiet_makes_two_faults_also_when_read_late() -> None:
    n = node(Policy("X", "", "card", ends=(End("quiet", 200.0),)))
    told = n.see(saw("X", at=850.0), saw("X", at=1_000.0))
    assert told == ["fault_active X", "verdict_changed"]
    n.wait(300.0)
    assert n.see(saw("X", at=1_050.0), saw("X", at=1_260.0)) == ["fault_active X", "verdict_changed"]


# -- delivered again --------------------------------------------------------------------------------------------------


def test_same_event_delivered_again_changes_nothing() -> None:
    n = Node()
    events = [saw("CARD-1", at=n.mono), saw("CARD-4", at=n.mono, actor="pid 1"), saw("CARD-4", at=n.mono, actor="pid 2")]
    n.see(*events)
    before = n.state
    assert n.see(*events) == []
    assert n.state == before


def test_event_of_a_fault_that_has_ended_does_not_raise_it_again() -> None:
    n = Node()
    fault, reset = saw("CARD-1", at=n.mono), saw("CARD-RESET", status=Status.OK, at=n.mono + 1.0)
    n.see(fault)
    n.wait(2.0)
    n.see(reset)
    assert n.see(fault) == []
    assert n.see(fault, reset) == []
    assert n.see(saw("CARD-1", at=n.mono + 1.0)) == ["fault_active CARD-1", "verdict_changed"]


def test_word_that_ended_an_earlier_fault_does_not_end_the_next_one() -> None:
    n = Node()
    reset = saw("CARD-RESET", status=Status.OK, at=n.mono + 1.0)
    n.see(saw("CARD-1", at=n.mono))
    n.wait(5.0)
    n.see(reset)
    n.see(saw("CARD-1", at=n.mono))
    assert n.see(reset) == []
    assert n.alive("CARD-1").state is ACTIVE


def test_stamps_ahead_of_our_clock_keep_their_order_and_are_known_again() -> None:
    n = Node()
    ring = [
        saw("CARD-1", at=n.mono + 0.3),
        saw("CARD-RESET", status=Status.OK, at=n.mono + 0.4),
        saw("CARD-1", at=n.mono + 0.5),
    ]
    assert n.see(ring[0]) == ["fault_active CARD-1", "verdict_changed"]
    assert n.see(ring[1], ring[2]) == ["fault_resolved CARD-1", "fault_active CARD-1"]
    before = n.state
    for _ in range(2):
        assert n.see(*ring) == []
        assert n.state == before
        n.mono += 5.0


def test_older_fine_event_does_not_start_the_time_of_a_later_fault() -> None:
    n = node(Policy("X", "", "card", ends=(End("ok"),)))
    n.see(saw("X", at=n.mono))
    n.see(saw("X", status=Status.OK, at=n.mono - 1.0))
    assert n.alive("X").ok_since is None


def test_lost_state_and_the_same_line_make_the_same_fault() -> None:
    ids = set()
    for mono in (1_000.0, 1_003.7):
        n = Node(mono=mono)
        n.see(saw("CARD-1", at=999.123456))
        ids.add(n.alive("CARD-1").id)
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("code", "component", "at"), [("CARD-4", CARD, 999.0), ("CARD-1", "card:1", 999.0), ("CARD-1", CARD, 999.000001)]
)
def test_another_code_component_or_microsecond_is_another_fault(code: str, component: str, at: float) -> None:
    one, other = Node(), Node()
    one.see(saw("CARD-1", at=999.0))
    other.see(saw(code, component, at=at))
    assert one.alive("CARD-1").id != other.alive(code, component).id


def test_polled_look_is_counted_each_time() -> None:
    n = Node()
    for _ in range(3):
        n.see(saw("STATE", "disk:a"))
        n.wait(1.0)
    assert n.alive("STATE", "disk:a").count == 3


def test_later_look_updates_status_and_detail_and_keeps_the_first_evidence() -> None:
    n = Node()
    n.see(saw("CARD-4", at=n.mono, status=Status.DEGRADED))
    n.wait(1.0)
    n.see(saw("CARD-4", at=n.mono, status=Status.FAILED, cause="CARD-1"))
    n.see(saw("CARD-4", at=n.mono - 0.5, status=Status.DEGRADED))
    fault = n.alive("CARD-4")
    assert (fault.status, fault.evidence, fault.cause, fault.count, fault.last_seen.mono) == (
        Status.FAILED, "line of CARD-4", "CARD-1", 3, n.mono,
    )  # fmt: skip


# -- a new boot -------------------------------------------------------------------------------------------------------


def test_boot_ends_what_a_boot_ends_and_nothing_else() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono), saw("CARD-2", "card:1", at=n.mono), saw("STATE", "disk:a"))
    told = n.reboot(down_s=20.0)
    assert [line for line in told if "fault" in line] == ["fault_resolved CARD-1"]
    assert n.changes[-2].note == "the node has a new boot id"
    assert [key.code for key in n.state.faults] == ["CARD-2", "STATE"]


def test_times_of_what_outlives_a_boot_are_moved_to_the_new_clock() -> None:
    n = Node()
    n.see(saw("CARD-2", at=n.mono - 5.0))
    n.wait(10.0)
    n.reboot(down_s=20.0, mono=8.0)
    fault = n.alive("CARD-2")
    assert fault.last_seen == (8.0 - 35.0, n.utc - 35.0, "boot-2")
    assert n.wait(24.9) == []
    assert "fault_resolved CARD-2" in n.wait(0.1), "60 s of quiet, 35 of them before the boot"


def test_moved_once_a_fault_obeys_the_monotonic_clock_only() -> None:
    n = Node()
    n.see(saw("STATE", "disk:a"))
    n.reboot()
    n.see(saw("STATE", "disk:a", Status.OK))
    before = n.alive("STATE", "disk:a")
    n.utc += 365 * DAY
    n.take()
    assert n.alive("STATE", "disk:a") == before
    assert n.wait(14.9) == []
    assert "fault_resolved STATE" in n.wait(0.1), "a fine time that began after the boot is not begun anew by each step"


def test_clock_of_records_that_goes_back_over_a_boot_makes_no_time() -> None:
    n = Node()
    n.see(saw("CARD-2", at=n.mono - 10.0), saw("CARD-2", at=n.mono))
    n.reboot(down_s=-DAY)
    fault = n.alive("CARD-2")
    assert (fault.first_seen.mono, fault.last_seen.mono) == (n.mono - 10.0, n.mono)


def test_hold_that_a_boot_interrupts_is_forgotten() -> None:
    n = node(held(ends=(End("ok"),)))
    n.see(saw("X"))
    n.reboot()
    assert n.state.faults == {}


def test_repetition_goes_on_over_a_boot() -> None:
    n = Node()
    n.see(saw("CARD-4", at=n.mono, actor="pid 1"))
    n.reboot(down_s=10.0)
    assert "fault_active CARD-4-REPEAT" in n.see(saw("CARD-4", at=n.mono, actor="pid 2"))


def test_consequence_does_not_outlive_the_boot() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono), saw("CARD-2", at=n.mono))
    assert "fault_resolved CARD-2" in n.reboot(down_s=20.0)


def test_boots_name_the_first_and_the_last_on_which_it_was_seen() -> None:
    n = node(Policy("X", "", "card", ends=(End("ok"),)))
    n.see(saw("X"))
    for boots in [("boot-1", "boot-2"), ("boot-1", "boot-3")]:
        n.reboot()
        assert n.alive("X").boots[-1] != n.boot
        n.see(saw("X"))
        n.see(saw("X"))
        assert n.alive("X").boots == boots


# -- when time alone matters ------------------------------------------------------------------------------------------

DUE = [
    ("hold", saw("COUNT", "node"), 5.0), ("quiet", saw("CARD-2"), 60.0), ("lapse before quiet", saw("CARD-4", actor="p"), 30.0),
    ("confirmation", saw("CARD-3"), 20.0), ("blind", saw("BLIND", "check:x", Status.UNKNOWN), 25.0),
]  # fmt: skip


@pytest.mark.parametrize(("observation", "after_s"), [row[1:] for row in DUE], ids=[row[0] for row in DUE])
def test_next_due_names_the_instant(observation: Observation, after_s: float) -> None:
    n = Node()
    n.see(observation)
    assert next_due(n.state.faults, n.catalogue, n.now) == n.mono + after_s


def test_nothing_is_due_where_time_changes_nothing() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono), saw("STATE", "disk:a"))
    assert next_due(n.state.faults, n.catalogue, n.now) is None


@pytest.mark.parametrize("start", [0.1, 1 / 3, 1e5 + 0.7, 1e7 + 0.123456])
@pytest.mark.parametrize(
    "row", [held(), Policy("X", "", "card", ends=(End("quiet", 0.3),)), Policy("X", "", "card", times=Times(2, 0.7))]
)
def test_the_instant_itself_is_enough_whatever_floats_do(start: float, row: Policy) -> None:
    n = Node(Catalogue.of((row,)), mono=start)
    n.see(saw("X", at=start))
    due = next_due(n.state.faults, n.catalogue, n.now)
    assert due is not None
    n.mono, before = due, n.state.faults
    n.take()
    assert n.state.faults != before
