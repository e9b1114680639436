"""Each recorded trace is judged to what its class of faults is worth, by the checks, the catalogue and the engine of today.

How the traces were made, and how to make them again, stands in tests/traces/ORIGIN.md.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from hma.catalogue_file import load_catalogue
from hma.config import Config, apply_checks
from hma.loader import find_checks
from hma.settings import Settings
from tests.checks.gpu_samples import P5_GPUS
from tests.traces.player import Player, lines_of, traces, verdict_words
from tests.traces.plays import GPU, PLAYS

LATER_S = 900.0
"""Every hold and every wait for a second route is over by then."""
SIZE_MAX = 1_500_000
SETTINGS = Settings(Config(), apply_checks(Config(), find_checks()), load_catalogue())
TRACES = traces()

ROWS = """
xid-79-and-nvml-lost: failed cordoned replace now; failed cordoned replace now
    NVML-GPU-LOST GPU active replace
    XID-79 GPU active replace
xid-79-and-smi-lost: failed cordoned replace now; failed cordoned replace now
    BLIND check:gpu_count_smi active none
    NVML-NO-LIBRARY host active none
    SMI-GPU-LOST GPU active reboot
    XID-79 GPU active replace
xid-79-alone: failed cordoned none; failed cordoned reboot now
    NVML-NO-LIBRARY host active none
    XID-79 GPU active reboot
xid-79-and-nvml-well: failed cordoned none; failed cordoned reboot now
    XID-79 GPU active reboot
off-the-bus-without-xid: failed cordoned replace now; failed cordoned replace now
    NVML-GPU-LOST GPU active replace
    XID-79 GPU active replace
nvml-lost-alone: failed cordoned none; failed cordoned reboot now
    NVML-GPU-LOST GPU active reboot
nvml-requires-reset: ok schedulable none; failed cordoned reboot now
    NVML-RESET-REQUIRED GPU active reboot
nvml-unknown-error: ok schedulable none; degraded schedulable none
    NVML-GPU-ERR GPU active none
count-7-by-nvml-and-pci: degraded schedulable none; failed cordoned reboot now
    GPU-COUNT-NVML node active reboot
    GPU-COUNT-PCI node active reboot
count-7-by-smi-and-pci: degraded schedulable none; failed cordoned reboot now
    GPU-COUNT-PCI node active reboot
    GPU-COUNT-SMI node active reboot
    NVML-NO-LIBRARY host active none
count-7-by-nvml-alone: ok schedulable none; degraded schedulable none
    GPU-COUNT-NVML node active none
count-0-while-settling: ok schedulable none; ok schedulable none
driver-hung: ok schedulable none; degraded schedulable none
    NVML-HUNG GPU active none
driver-hung-and-xid-119: failed cordoned reboot now; failed cordoned reboot now
    NVML-HUNG GPU active none
    XID-119 GPU active reboot
driver-not-loaded: ok schedulable none; degraded schedulable none
    NVML-NO-DRIVER host active none
driver-mismatch: ok schedulable none; degraded schedulable none
    NVML-MISMATCH host active none
driver-no-permission: ok schedulable none; degraded schedulable none
    NVML-NO-PERMISSION host active none
driver-no-library: ok schedulable none; degraded schedulable none
    NVML-NO-LIBRARY host active none
driver-reloaded: ok schedulable none; ok schedulable none
ecc-contained: degraded schedulable restart_app now; degraded schedulable restart_app now
    ECC-UNCORRECTED GPU inhibited none
    XID-94 GPU active restart_app
ecc-contained-in-mig-instance: degraded schedulable restart_app now; degraded schedulable restart_app now
    XID-94 GPU active restart_app
ecc-uncontained: failed cordoned reboot now; failed cordoned reboot now
    ECC-UNCORRECTED GPU inhibited none
    RECOVERY-GPU_RESET GPU active reboot
    XID-95 GPU active reboot
ecc-double-bit-then-remapped: failed cordoned reboot now; failed cordoned reboot now
    ECC-UNCORRECTED GPU inhibited none
    ROW-REMAP-PENDING GPU inhibited none
    XID-48 GPU active reboot
    XID-63 GPU active reboot
ecc-remapping-failed: failed cordoned none; failed cordoned replace now
    ECC-UNCORRECTED GPU inhibited none
    ROW-REMAP-FAILED GPU active replace
    XID-64 GPU active replace
ecc-xid-64-and-nothing-failed: failed cordoned none; failed cordoned reboot now
    XID-64 GPU active reboot
ecc-sram-threshold: ok schedulable none; failed cordoned replace idle
    ECC-SRAM-THRESHOLD GPU active replace
remapping-pending-alone: ok schedulable none; failed cordoned reboot idle
    ROW-REMAP-PENDING GPU active reboot
repair-pending: ok schedulable none; failed cordoned reboot idle
    REPAIR-PENDING GPU active reboot
memory-unrepairable: ok schedulable none; failed cordoned replace idle
    MEMORY-UNREPAIRABLE GPU active replace
ecc-corrected-many: degraded schedulable none; degraded schedulable none
    ECC-CORRECTED GPU active none
inforom-corrupt: ok schedulable none; failed cordoned reboot idle
    INFOROM-CORRUPT GPU active reboot
user-errors: degraded schedulable none; degraded schedulable none
    XID-13 GPU active none
    XID-13-REPEAT GPU pending none
    XID-31 GPU active none
    XID-31-REPEAT GPU pending none
    XID-43 GPU inhibited none
    XID-45 GPU inhibited none
user-errors-of-two-processes: degraded schedulable none; degraded schedulable none
    XID-31 GPU active none
    XID-31-REPEAT GPU active none
xid-unknown: degraded schedulable none; degraded schedulable none
    XID-UNKNOWN GPU active none
xid-79-injected: degraded schedulable none; degraded schedulable none
    XID-43 GPU active none
xid-79-in-a-process-name: degraded schedulable none; degraded schedulable none
    XID-43 GPU active none
process-left: ok schedulable none; degraded schedulable none
    GPU-PROCESS-LEFT GPU active none
gsp-timeout-seen-by-a-monitor: failed cordoned reboot now; failed cordoned reboot now
    XID-119 GPU active reboot
gsp-timeout-and-reset-required: failed cordoned reboot now; failed cordoned reboot now
    NVML-RESET-REQUIRED GPU active reboot
    XID-119 GPU active reboot
recovery-1-by-xid-154: failed cordoned reboot now; failed cordoned reboot now
    RECOVERY-GPU_RESET GPU inhibited none
    XID-154-GPU_RESET GPU active reboot
recovery-2-by-xid-154: failed cordoned reboot now; failed cordoned reboot now
    RECOVERY-NODE_REBOOT GPU inhibited none
    XID-154-NODE_REBOOT GPU active reboot
recovery-3-by-xid-154: degraded schedulable none; degraded schedulable none
    RECOVERY-DRAIN_P2P GPU inhibited none
    XID-154-DRAIN_P2P GPU active none
recovery-4-by-xid-154: failed cordoned reboot idle; failed cordoned reboot idle
    RECOVERY-DRAIN_AND_RESET GPU inhibited none
    XID-154-DRAIN_AND_RESET GPU active reboot
recovery-5-by-xid-154: degraded schedulable none; degraded schedulable none
    RECOVERY-IMEX GPU inhibited none
    XID-154-IMEX GPU active none
recovery-6-by-xid-154: failed cordoned reboot now; failed cordoned reboot now
    RECOVERY-BUS_RESET GPU inhibited none
    XID-154-BUS_RESET GPU active reboot
recovery-7-by-xid-154: failed cordoned reboot now; failed cordoned reboot now
    RECOVERY-SYSTEM_REBOOT GPU inhibited none
    XID-154-SYSTEM_REBOOT GPU active reboot
recovery-8-by-xid-154: degraded schedulable none; degraded schedulable none
    RECOVERY-UNKNOWN GPU inhibited none
    XID-154-UNKNOWN GPU active none
recovery-taken-back: ok schedulable none; ok schedulable none; reboot
recovery-1-by-poll: ok schedulable none; failed cordoned reboot now
    RECOVERY-GPU_RESET GPU active reboot
recovery-2-by-poll: ok schedulable none; failed cordoned reboot now
    RECOVERY-NODE_REBOOT GPU active reboot
recovery-3-by-poll: ok schedulable none; degraded schedulable none
    RECOVERY-DRAIN_P2P GPU active none
recovery-4-by-poll: ok schedulable none; failed cordoned reboot idle
    RECOVERY-DRAIN_AND_RESET GPU active reboot
recovery-5-by-poll: ok schedulable none; degraded schedulable none
    RECOVERY-IMEX GPU active none
recovery-6-by-poll: ok schedulable none; failed cordoned reboot now
    RECOVERY-BUS_RESET GPU active reboot
recovery-7-by-poll: ok schedulable none; failed cordoned reboot now
    RECOVERY-SYSTEM_REBOOT GPU active reboot
recovery-8-by-poll: ok schedulable none; degraded schedulable none
    RECOVERY-UNKNOWN GPU active none
nvlink-mechanical: failed cordoned reboot now; failed cordoned reboot now
    NVLINK-DOWN GPU inhibited none
    NVLINK-DOWN-LASTS GPU inhibited none
    XID-74 GPU inhibited none
    XID-74-MECHANICAL GPU active reboot
nvlink-signal: failed cordoned reboot now; failed cordoned reboot now
    NVLINK-DOWN GPU inhibited none
    NVLINK-DOWN-LASTS GPU inhibited none
    XID-74 GPU inhibited none
    XID-74-SIGNAL GPU active reboot
nvlink-parity: failed cordoned reboot now; failed cordoned reboot now
    NVLINK-DOWN GPU inhibited none
    NVLINK-DOWN-LASTS GPU inhibited none
    XID-74 GPU inhibited none
    XID-74-PARITY GPU active reboot
nvlink-signal-and-link-up: failed cordoned reboot now; failed cordoned reboot now
    XID-74 GPU inhibited none
    XID-74-SIGNAL GPU active reboot
nvlink-down-alone: ok schedulable none; failed cordoned reboot idle
    NVLINK-DOWN GPU active none
    NVLINK-DOWN-LASTS GPU active reboot
nvlink-crc: degraded schedulable none; ok schedulable none
nvlink-5-needs-reset: failed cordoned reboot now; failed cordoned reboot now
    NVLINK-DOWN GPU inhibited none
    NVLINK-DOWN-LASTS GPU inhibited none
    XID-149 GPU inhibited none
    XID-149-RESET GPU active reboot
nvlink-5-nonfatal: degraded schedulable none; degraded schedulable none
    XID-145 GPU inhibited none
    XID-145-IGNORE GPU active none
nvlink-5-follow-154: failed cordoned reboot now; failed cordoned reboot now
    RECOVERY-GPU_RESET GPU inhibited none
    XID-145 GPU inhibited none
    XID-145-FOLLOW GPU active restart_app
    XID-154-GPU_RESET GPU active reboot
nvswitch-fatal: failed cordoned reboot now; failed cordoned reboot now
    SXID-20034 nvswitch:0000:cc:00 active reboot
nvswitch-not-fatal: degraded schedulable none; degraded schedulable none
    SXID-12028 nvswitch:0000:cc:00 active none
nvswitch-host-interface: failed cordoned reboot now; failed cordoned reboot now
    SXID-10003 nvswitch:0000:cc:00 active reboot
fabric-manager-down: ok schedulable none; failed cordoned reboot idle
    FABRIC-MANAGER-DOWN node active reboot
fabric-failed: ok schedulable none; failed cordoned reboot idle
    FABRIC-FAILED EVERY-GPU active reboot
fabric-not-started: ok schedulable none; failed cordoned reboot idle
    FABRIC-NOT-STARTED EVERY-GPU active reboot
clocks-held-by-heat: ok schedulable none; degraded schedulable none
    CLOCKS-HW-THERMAL GPU active none
clocks-held-by-power-brake: ok schedulable none; degraded schedulable none
    CLOCKS-POWER-BRAKE GPU active none
clocks-held-for-a-moment: ok schedulable none; ok schedulable none
clocks-flapping: degraded schedulable none; degraded schedulable none
    CLOCKS-HW-THERMAL-TIME GPU active none
temperature-at-slowdown: ok schedulable none; degraded schedulable none
    TEMP-SLOWDOWN GPU active none
power-limit-low: ok schedulable none; degraded schedulable none
    POWER-LIMIT-LOW GPU active none
pcie-width-below-type: ok schedulable none; degraded schedulable none
    PCIE-WIDTH GPU active none
pcie-width-of-type: ok schedulable none; ok schedulable none
pcie-replays: degraded schedulable none; ok schedulable none
persistence-off: ok schedulable none; degraded schedulable none
    PERSISTENCE-OFF EVERY-GPU active none
mig-pending: ok schedulable none; degraded schedulable none
    MIG-PENDING GPU active none
dcgm-policy-dbe: degraded schedulable none; degraded schedulable none
    DCGM-POLICY-DBE GPU active none
dcgm-policy-xid: failed cordoned none; failed cordoned reboot now
    XID-79 GPU active reboot
dcgm-health-memory: ok schedulable none; degraded schedulable none
    DCGM-4 GPU active none
dcgm-engine-hung: ok schedulable none; ok schedulable none
    BLIND check:dcgm_health active none
    BLIND check:dcgm_policy active none
dcgm-engine-ended: ok schedulable none; degraded schedulable none
    DCGM-NO-ENGINE host active none
    BLIND check:dcgm_policy active none
dcgm-engine-never-there: ok schedulable none; ok schedulable none
healthy-p5: ok schedulable none; ok schedulable none
healthy-p5-driver-535: ok schedulable none; ok schedulable none
healthy-b200: ok schedulable none; ok schedulable none
"""
"""By the name of the trace: the verdict at its end; the verdict a quarter of an hour later, in which nothing changes; the
highest action that was asked for meanwhile, where that is another. Below: the faults that live by then.

GPU is the one that the plays are about, EVERY-GPU all of the node.
"""


class Row(NamedTuple):
    """What must come of a trace."""

    at_its_end: str
    later: str
    highest: str
    faults: list[str]


def rows(table: str) -> dict[str, Row]:
    """Return the rows of the table."""
    found: dict[str, Row] = {}
    name = ""
    for line in table.strip().splitlines():
        if line.startswith(" "):
            found[name].faults.extend(_each_gpu(line.strip()))
        else:
            name, _, words = line.partition(": ")
            at_its_end, later, *meanwhile = words.split("; ")
            found[name] = Row(at_its_end, later, (*meanwhile, later.split()[2])[0], [])
    return found


def _each_gpu(fault: str) -> list[str]:
    code, component, *rest = fault.split()
    places = {"GPU": P5_GPUS[GPU : GPU + 1], "EVERY-GPU": P5_GPUS}.get(component, (component,))
    return [" ".join((code, place, *rest)) for place in places]


EXPECTED = rows(ROWS)


def judged(path: Path, name: str) -> Row:
    """Return what comes of a trace today."""
    player = Player(SETTINGS)
    player.play(lines_of(path), name)
    at_its_end = verdict_words(player.verdict)
    player.go_on(LATER_S)
    return Row(at_its_end, verdict_words(player.verdict), player.highest.value, player.faults)


def test_every_class_has_its_trace_and_every_trace_its_row() -> None:
    assert set(PLAYS) == set(TRACES) == set(EXPECTED)


def test_traces_stay_small_and_name_no_place_of_who_made_them() -> None:
    assert sum(path.stat().st_size for path in TRACES.values()) < SIZE_MAX
    naming = {name for name, path in TRACES.items() if re.search(r"/(?:tmp|home|root)/|hma-play-", "".join(lines_of(path)))}
    assert not naming


@pytest.mark.parametrize("name", sorted(set(TRACES) & set(EXPECTED)))
def test_trace_is_judged_as_its_class_deserves(name: str) -> None:
    got, expected = judged(TRACES[name], name), EXPECTED[name]
    assert got._replace(faults=sorted(got.faults)) == expected._replace(faults=sorted(expected.faults)), _difference(
        got, expected
    )


def _difference(got: Row, expected: Row) -> str:
    lost = [f"    - {fault}" for fault in expected.faults if fault not in got.faults]
    new = [f"    + {fault}" for fault in got.faults if fault not in expected.faults]
    words = zip(("at its end", "later", "highest action"), expected, got, strict=False)
    verdicts = [f"    {when}: {got!r}, and not {wanted!r}" for when, wanted, got in words if wanted != got]
    return "\n".join(("judged otherwise than its row says:", *verdicts, *lost, *new))
