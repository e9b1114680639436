"""Health watches of DCGM: every error number, memory that is no state, and a host engine that does not answer.

The messages are worded as dcgm_errors.h and the health module of DCGM 4.6 word them; the numbers in them are invented.
"""

from __future__ import annotations

import pytest

from checks.passive import _dcgm, dcgm_health
from hma.catalogue_file import load_catalogue
from hma.engine.step import beginning, step
from hma.gpu import DcgmEngine, DcgmGpu, DcgmHealth, DcgmIncident
from hma.model import Action, FaultState, Instant, Observation, Report, State, Status
from tests.checks.gpu_samples import P5, P5_GPUS, fine, grey, wrong

CHECK = dcgm_health.CHECK
ROWS = load_catalogue()
UP = DcgmEngine("up", "bindings", version="4.6.0", address="127.0.0.1:5555")
GPUS = tuple(DcgmGpu(number, place[4:]) for number, place in enumerate(P5_GPUS))
GPU3 = P5_GPUS[3]

MEM, NVLINK, DRIVER, ALL = 0x10, 0x2, 0x200, 0xFFFFFFFF
GROUP_GPU, GROUP_SWITCH, GROUP_INSTANCE, GROUP_CPU, GROUP_NIC = 1, 3, 4, 7, 9
XID_79 = "GPU 3 has fallen off the bus (triggered by XID 79: GPU %d has fallen off the bus)"
LINK_DOWN = "GPU 3's NvLink link 7 is currently down"
NEW_REPLAYS = "Detected 4 nvlink_replay_error_total NvLink errors on GPU 3's NVLink (should be 0)"
OLD_REPLAYS = "Detected 4 datalink layer replay error counter NvLink errors on GPU 3's NVLink (should be 0)"
OLD_RECOVERY = "Detected 1 link recovery failed events counter NvLink errors on GPU 3's NVLink (should be 0)"
UUID = "GPU-509665ad-b600-ac93-3616-d754b23d6363"
NO_ENGINE = DcgmHealth(DcgmEngine("no_engine", "dcgmi"))


def incident(code: int | None, message: str = "as told", health: str = "fail", **parts: int) -> DcgmIncident:
    """Return a finding about GPU 3."""
    return DcgmIncident(**{"system": MEM, "group": GROUP_GPU, "entity": 3, **parts}, health=health, code=code, message=message)


def found(*incidents: DcgmIncident) -> DcgmHealth:
    """Return what a host engine with eight GPUs says."""
    return DcgmHealth(UP, GPUS, incidents)


def look(sample: DcgmHealth) -> list[Observation]:
    """Return what the check says of it."""
    seen = list(CHECK.observe(sample, P5, CHECK.options))
    assert {one.code for one in seen} <= CHECK.codes
    return seen


def test_nothing_found_is_told_once() -> None:
    seen = look(found())
    assert fine(seen) == [("host", "DCGM 4.6.0 at 127.0.0.1:5555, asked by bindings: 8 GPUs, 0 findings")]
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("given", "code", "status"),
    [
        (incident(14, LINK_DOWN, system=NVLINK), "DCGM-14", Status.FAILED),
        (incident(14, LINK_DOWN, health="warn"), "DCGM-14", Status.DEGRADED),
        (incident(125), "DCGM-125", Status.FAILED),
        (incident(1), "DCGM-1", Status.FAILED),
        (incident(132), "DCGM-132", Status.FAILED),
        # Younger than this version, and a route that tells no number.
        (incident(133), "DCGM-UNKNOWN", Status.FAILED),
        (incident(-1), "DCGM-UNKNOWN", Status.FAILED),
        (incident(None, system=MEM), "DCGM-SYSTEM-MEM", Status.FAILED),
        (incident(0, system=NVLINK), "DCGM-SYSTEM-NVLINK", Status.FAILED),
        (incident(None, system=0x1, health="warn"), "DCGM-SYSTEM-PCIE", Status.DEGRADED),
        (incident(None, system=0x800), "DCGM-SYSTEM-NVSWITCH-FATAL", Status.FAILED),
        (incident(None, system=0x1000), "DCGM-SYSTEM-CONNECTX", Status.FAILED),
        (incident(None, system=0x8000), "DCGM-SYSTEM-OTHER", Status.FAILED),
        (incident(None, system=ALL), "DCGM-SYSTEM-OTHER", Status.FAILED),
        # Errors of the last minute; the same number for a total is below.
        (incident(71, NEW_REPLAYS), "DCGM-71", Status.FAILED),
        (incident(6, "A pending retired page has been detected in GPU 3."), "DCGM-6", Status.FAILED),
    ],
)  # fmt: skip
def test_number_is_the_code(given: DcgmIncident, code: str, status: Status) -> None:
    first = look(found(given))[0]
    assert (first.code, first.component, first.status) == (code, GPU3, status)
    assert (first.detail, first.evidence) == (given.message, given.message)


@pytest.mark.parametrize(
    ("given", "code", "xid"),
    [
        (incident(120, XID_79, system=ALL), "DCGM-120", "79"),
        (incident(101, "Detected XID 119 for GPU 3 (triggered by XID 119: GSP RPC Timeout)"), "DCGM-101", "119"),
        (incident(101, "Detected XID 31 for GPU 3", health="warn"), "DCGM-101", "31"),
        (incident(131, "GPU had a contained error. (triggered by XID 94: GPU had a contained error.)"), "DCGM-131", "94"),
        (incident(81, "GPU had an uncontained error (XID 95)"), "DCGM-81", "95"),
        (incident(81, "as told"), "DCGM-81", ""),
        # Numbers that are a state of their own, given here for an XID of the past.
        (incident(6, "A pending retired page has been detected in GPU 3. (triggered by XID 63: …)"), "DCGM-101", "63"),
        (incident(80, "row remapping failed. (triggered by XID 64: …)"), "DCGM-101", "64"),
        (incident(None, "Detected XID 79 for GPU 3 (triggered by XID 79: …)"), "DCGM-101", "79"),
        # Counters that are not zero, however old.
        (incident(71, OLD_REPLAYS), "DCGM-71", ""),
        (incident(71, OLD_RECOVERY), "DCGM-71", ""),
    ],
)  # fmt: skip
def test_memory_of_dcgm_is_no_fault(given: DcgmIncident, code: str, xid: str) -> None:
    first = look(found(given))[0]
    assert (first.code, first.component, first.status) == (code, GPU3, Status.OK)
    assert first.detail == f"kept by DCGM, not new: {given.message}"
    assert dict(first.attrs)["xid"] == xid


@pytest.mark.parametrize(
    ("group", "entity", "gpus", "component"),
    [
        (GROUP_GPU, 3, GPUS, GPU3),
        (GROUP_GPU, 3, (DcgmGpu(3, "", UUID),), f"gpu:{UUID}"),
        # DCGM numbers GPUs in an order of its own.
        (GROUP_GPU, 3, (DcgmGpu(5, "0000:86:00"), DcgmGpu(3, "0000:53:00")), "gpu:0000:53:00"),
        (GROUP_GPU, 9, GPUS, "node"),
        (GROUP_GPU, 3, (DcgmGpu(3),), "node"),
        (GROUP_GPU, 3, (), "node"),
        (GROUP_SWITCH, 2, GPUS, "nvswitch:2"),
        (GROUP_CPU, 0, GPUS, "host"),
        (GROUP_INSTANCE, 3, GPUS, "node"),
        (GROUP_NIC, 3, GPUS, "node"),
        (0, 0, GPUS, "node"),
    ],
)  # fmt: skip
def test_component_is_what_it_is_about(group: int, entity: int, gpus: tuple[DcgmGpu, ...], component: str) -> None:
    sample = DcgmHealth(UP, gpus, (incident(33, group=group, entity=entity),))
    assert wrong(look(sample)) == [("DCGM-33", component)]


def test_findings_of_one_number_are_one_observation() -> None:
    worse = incident(14, "GPU 3's NvLink link 9 is currently down")
    sample = found(incident(14, LINK_DOWN, health="warn"), worse, incident(14, LINK_DOWN), incident(14, LINK_DOWN, entity=4))
    third, fourth = look(sample)[:2]
    assert (third.component, third.status, third.detail) == (GPU3, Status.FAILED, f"{LINK_DOWN}; {worse.message}")
    assert third.evidence == f"{LINK_DOWN}\n{worse.message}"
    assert dict(third.attrs) == {"dcgm": "14", "system": "MEM", "entity": "1:3", "xid": ""}
    assert (fourth.component, fourth.status) == (P5_GPUS[4], Status.FAILED)


def test_new_errors_beside_old_ones_are_a_fault() -> None:
    assert wrong(look(found(incident(71, OLD_REPLAYS), incident(71, NEW_REPLAYS)))) == [("DCGM-71", GPU3)]


def test_what_passed_is_not_told() -> None:
    assert wrong(look(found(incident(14, health="pass")))) == []


# -- the host engine --------------------------------------------------------------------------------------------------


def test_host_engine_that_does_not_run_is_told_and_says_nothing_of_gpus() -> None:
    seen = look(DcgmHealth(DcgmEngine("no_engine", "bindings", address="127.0.0.1:5555")))
    assert wrong(seen) == [("DCGM-NO-ENGINE", "host")]
    assert grey(seen) == [("node", "DCGM is installed, and no host engine answers at 127.0.0.1:5555")]


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        (
            DcgmEngine("hung", "bindings", text="no answer for 30 s", address="127.0.0.1:5555"),
            "the DCGM host engine at 127.0.0.1:5555 hung: no answer for 30 s",
        ),
        (DcgmEngine("failed", "dcgmi", -33, "Timeout"), "the DCGM host engine failed: error -33 Timeout"),
        (DcgmEngine("failed", "dcgmi"), "the DCGM host engine failed: no reason given"),
    ],
)
def test_host_engine_that_fails_or_hangs_is_grey(engine: DcgmEngine, why: str) -> None:
    seen = look(DcgmHealth(engine, GPUS, (incident(14),)))
    assert (grey(seen), wrong(seen), fine(seen)) == ([("node", why)], [], [])


# -- what it is worth -------------------------------------------------------------------------------------------------


def at(second: float) -> Instant:
    """Return a moment of one boot."""
    return Instant(second, 1_764_000_000 + second, "b1")


def lived(*looks: tuple[float, DcgmHealth | Report]) -> State:
    """Return the state of a node after these looks."""
    state = beginning(at(0))
    for second, sample in looks:
        report = sample if isinstance(sample, Report) else Report(CHECK.name, tuple(look(sample)), complete=True)
        state = step(state, (report,), ROWS, at(second)).state
    return state


@pytest.mark.parametrize(
    ("number", "action", "when"),
    [
        (125, Action.REBOOT, "now"),
        (126, Action.REBOOT, "now"),
        (80, Action.REBOOT, "now"),
        (128, Action.REBOOT, "idle"),
        (85, Action.REBOOT, "idle"),
        (83, Action.REBOOT, "idle"),
        (6, Action.REBOOT, "idle"),
        *((number, Action.NONE, "now") for number in _dcgm.NUMBERS if number not in (125, 126, 80, 128, 85, 83, 6)),
    ],
)
def test_lasting_finding_is_worth_at_most_a_reboot(number: int, action: Action, when: str) -> None:
    state = lived((0, found(incident(number))), (60, found(incident(number))), (180, found(incident(number))))
    assert (state.verdict.action, state.verdict.when) == (action, when)
    assert ROWS[f"DCGM-{number}"].again in (None, Action.NONE)


def test_passing_finding_is_worth_nothing() -> None:
    state = lived((0, found(incident(125))), (60, found()), (180, found()))
    assert (state.verdict.action, state.faults) == (Action.NONE, {})


def test_xids_that_dcgm_remembers_never_become_faults() -> None:
    looks = [(60.0 * minute, found(incident(120, XID_79), incident(101, "Detected XID 31 for GPU 3"))) for minute in range(90)]
    assert lived(*looks).faults == {}


def test_host_engine_that_stops_heals_nothing() -> None:
    looks = [(60.0 * minute, found(incident(125))) for minute in range(4)]
    hung = DcgmHealth(DcgmEngine("hung", "bindings"))
    state = lived(*looks, (300, NO_ENGINE), (900, NO_ENGINE), (960, hung))
    assert {fault.code for fault in state.faults.values()} == {"DCGM-125", "DCGM-NO-ENGINE"}
    assert lived(*looks, (300, NO_ENGINE), (360, found())).faults == {}


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (14, "NVLINK-DOWN"),
        (14, "XID-74"),
        (85, "XID-63"),
        (80, "XID-64"),
        (125, "XID-154-GPU_RESET"),
        (126, "XID-154-NODE_REBOOT"),
    ],
)
def test_finding_that_repeats_another_row_is_its_consequence(number: int, cause: str) -> None:
    other = Report("other", (Observation(cause, GPU3, Status.FAILED),))
    state = lived((0, other), *((60.0 * minute, found(incident(number))) for minute in range(6)))
    (repeated,) = (fault for fault in state.faults.values() if fault.code == f"DCGM-{number}")
    (explained,) = (fault for fault in state.faults.values() if fault.code == cause)
    assert (repeated.state, repeated.inhibited_by) == (FaultState.ACTIVE, explained.id)
    assert f"DCGM-{number}" not in {reason.code for reason in state.verdict.why}


def test_every_number_and_system_has_a_row() -> None:
    assert sorted(_dcgm.CODES - ROWS.rows.keys()) == []
    assert len(_dcgm.NUMBERS) == 132
    assert len(_dcgm.SYSTEMS) == 13


def test_systems_are_one_bit_each() -> None:
    assert list(_dcgm.SYSTEMS) == [1 << bit for bit in range(13)]


def test_host_engine_that_has_gone_is_told_after_five_minutes_and_asks_for_nothing() -> None:
    assert lived((0, NO_ENGINE), (299, NO_ENGINE)).verdict.why == ()
    verdict = lived((0, NO_ENGINE), (301, NO_ENGINE)).verdict
    assert [(reason.code, reason.action) for reason in verdict.why] == [("DCGM-NO-ENGINE", Action.NONE)]
    assert lived((0, NO_ENGINE), (301, NO_ENGINE), (360, found())).faults == {}
