"""The stories that `hma demo` plays: what happens to the simulated node, what the agent must make of it, and why.

Rules of this file:
- A story is data. Kernel lines and program outputs are real formats; only the GPU is missing.
- Each story says how it must end. One that ends otherwise is a failed demo (exit 1), so the demo is a test as well.
- None takes longer than a minute. Rows whose times are too long for that are overridden, and the story says so.
"""

from __future__ import annotations

from hma.cli.beats import (
    STUCK,
    Await,
    Calm,
    Dcgm,
    DcgmViolation,
    Kernel,
    Noise,
    Nvml,
    NvmlBack,
    NvmlEvent,
    NvmlHang,
    Say,
    Scenario,
    Smi,
    Unplug,
)

GPU = "0000:97:00"
COMPONENT = f"gpu:{GPU}"
_PREFIX = f"NVRM: Xid (PCI:{GPU})"
_OFF_BUS = f"{_PREFIX}: 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
_OUT_OF_RANGE = (
    f"{_PREFIX}: 13, pid=1240, name=python3, Graphics SM Warp Exception on (GPC 10, TPC 1, SM {{}}): Out Of Range Address"
)
_PAGE_FAULT = (
    f"{_PREFIX}: 31, pid=1240, name=python3, Ch 0000003b, intr 10000000. MMU Fault: ENGINE GRAPHICS HUBCLIENT_SCC faulted "
    "@ 0x0_04687000. Fault is of type FAULT_PDE ACCESS_TYPE_READ"
)
_QUICK = {"nvidia_smi": "{interval: 2s, timeout: 1s}", "gpu_count_smi": "{interval: 2s, timeout: 1s}"}

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="gpu-off-the-bus",
        title="a GPU falls off the bus: said by the kernel, confirmed by a second source, then judged",
        checks=_QUICK,
        beats=(
            Say("The kernel says that GPU 4 does not answer any more. That is strong, and it is one source."),
            Kernel(_OFF_BUS),
            Await("fault_active", {"code": "XID-79", "component": COMPONENT}),
            Await("verdict_changed", {"schedulable": False}),
            Say("New work is kept away at once; the repair waits for a second source. Two others look next, whoever is first."),
            Nvml("whatever is asked of GPU 4, the answer is NVML_ERROR_GPU_IS_LOST", {"gpu.4.code": 15}),
            Smi(f"lost {GPU}"),
            Await("fault_confirmed", {"code": "XID-79"}, 8.0),
            Await("verdict_changed", {"action": "replace"}),
            Await("fault_active", {"code": "SMI-GPU-LOST"}),
            Await("fault_active", {"code": "NVML-GPU-LOST"}, needs_library=True),
            Await("fault_confirmed", {"code": "NVML-GPU-LOST"}, needs_library=True),
            Say("More than one route agrees: the verdict is replace. (Had none agreed in two minutes: the milder reboot.)"),
        ),
        ends={"action": "replace", "schedulable": False, "health": "failed"},
        explain="XID-79",
    ),
    Scenario(
        name="refuted",
        title="the same line, but the GPU answers: the milder reboot, and no replacement",
        checks=_QUICK,
        beats=(
            Say("The same line of the kernel. This time the other sources find GPU 4 where it was."),
            Kernel(_OFF_BUS),
            Await("verdict_changed", {"schedulable": False, "action": "none"}),
            Say("What they said in the first ten seconds may be older than it looks, and does not count. Then it does."),
            Await("verdict_changed", {"action": "reboot"}, 30.0),
            Say("Refuted: the node is rebooted, and not replaced. What the kernel says is not taken back by others."),
        ),
        ends={"action": "reboot", "schedulable": False},
        explain="XID-79",
    ),
    Scenario(
        name="missing-gpu",
        title="one GPU fewer by driver library and nvidia-smi is one witness; the PCI bus is the second",
        checks={**_QUICK, "gpu_count_nvml": "{settle: 0s}", "gpu_count_pci": "{interval: 2s, timeout: 1s}"},
        rows="GPU-COUNT-SMI: {hold: 3s}\n",
        beats=(
            Say(
                "The driver lists seven of eight GPUs: to the library, and to nvidia-smi, which asks the same library. "
                "(The driver's settling time is 0 s here, and GPU-COUNT-SMI holds for 3 s, so that the show is short.)"
            ),
            Nvml("GPU 4 is not in the list", {"gpu.4.absent": 1}),
            Smi(f"missing {GPU}"),
            Await("fault_active", {"code": "GPU-COUNT-NVML"}, 25.0),
            Await("fault_active", {"code": "GPU-COUNT-SMI"}),
            Calm("verdict_changed", 3.0),
            Say("One witness, heard twice: the node stays in service. Missing device files look like this, too. Now the bus:"),
            Unplug(f"{GPU}.0"),
            Await("fault_active", {"code": "GPU-COUNT-PCI"}),
            Await("verdict_changed", {"action": "reboot"}),
        ),
        ends={"action": "reboot", "schedulable": False},
        explain="GPU-COUNT-NVML",
        needs_library=True,
    ),
    Scenario(
        name="user-error",
        title="a program's own mistakes (XID 13, 31, 43) must never repair a healthy node",
        beats=(
            Say("A training job reads out of bounds: one cause, many lines, and the channel is torn down after it."),
            Kernel(_OUT_OF_RANGE.format(1)),
            Kernel(_PAGE_FAULT),
            Kernel(f"{_PREFIX}: 43, pid=1240, name=python3, Ch 00000008"),
            Await("verdict_changed", {"health": "degraded", "schedulable": True, "action": "none"}),
            Say("The job is restarted with the same bug, three times over."),
            *(Kernel(_OUT_OF_RANGE.format(sm)) for sm in (0, 1, 0)),
            Calm("verdict_changed", 3.0),
            Say("Counted, shown and explained; the node stays in service, because a reboot would cure nothing here."),
        ),
        ends={"action": "none", "schedulable": True},
        explain="XID-13",
    ),
    Scenario(
        name="contained-ecc",
        title="a contained memory error (XID 94) costs the program that met it, not the node",
        beats=(
            Say("An uncorrectable memory error hits one process, and the hardware contains it."),
            Kernel(f"{_PREFIX}: 94, pid=1240, name=python3, Contained: SM (0x1). RST: No, D-RST: No"),
            Await("fault_active", {"code": "XID-94"}),
            Await("verdict_changed", {"action": "restart_app", "schedulable": True}),
            Say("The program has to be started again; the node stays in service. Now a row waits to be remapped."),
            Kernel(
                f"{_PREFIX}: 63, pid=1240, name=python3, Row Remapper: New row marked for remapping, reset gpu to activate."
            ),
            Await("verdict_changed", {"action": "reboot", "when": "idle"}),
            Say("That reboot waits until work has left by itself: no job is ended for it."),
        ),
        ends={"action": "reboot", "when": "idle"},
        explain="XID-94",
    ),
    Scenario(
        name="flood",
        title="200,000 lines of noise with one real fault in the middle, and one forged by a program",
        beats=(
            Say("A program writes the very line of a dead GPU into the kernel log. It cannot forge the kernel's facility."),
            Kernel(_OFF_BUS, facility=1),
            Await("spoof_suspected"),
            Say("Now a driver goes wild: 200,000 lines as fast as the log takes them, and one of them matters."),
            Noise(
                200_000,
                f"{_PREFIX}: 119, pid=2291, name=nvidia-smi, Timeout after 6s of waiting for RPC response from GPU4 GSP!",
            ),
            Await("fault_active", {"code": "XID-119"}, 60.0),
            Await("verdict_changed", {"action": "reboot"}),
        ),
        ends={"action": "reboot", "schedulable": False},
        explain="XID-119",
    ),
    Scenario(
        name="blind",
        title="nvidia-smi hangs: the agent says that it cannot look, and judges nothing by it",
        checks=_QUICK,
        rows="BLIND: {hold: 4s}\n",
        beats=(
            Say("nvidia-smi does not come back. (The row BLIND holds for 4 s here, so that the show is short.)"),
            Smi(STUCK),
            Await("fault_active", {"code": "BLIND"}, 30.0),
            Calm("verdict_changed", 2.0),
            Say("Not being able to look proves nothing: the node stays in service. Everything else goes on being watched:"),
            Kernel(f"{_PREFIX}: 48, pid=1240, name=python3, DBE (double bit error) on GPU"),
            Await("fault_active", {"code": "XID-48"}),
            Await("verdict_changed", {"action": "reboot"}),
            Say("And when nvidia-smi answers again, the blindness ends by itself."),
            Smi("healthy"),
            Await("fault_resolved", {"code": "BLIND"}, 30.0),
        ),
        ends={"action": "reboot", "schedulable": False},
        explain="BLIND",
    ),
    Scenario(
        name="driver-hangs",
        title="a call into the driver does not come back: the agent says which, and everything else goes on",
        rows="NVML-HUNG: {hold: 3s}\n",
        beats=(
            Say(
                "GPU 4 does not answer its driver, and who asks for its temperature sleeps in the kernel. Only a child of the "
                "agent ever asks. After ten seconds it says so. (The row NVML-HUNG holds for 3 s more here, not for 20 s.)"
            ),
            NvmlHang("nvmlDeviceGetTemperature", 4),
            Await("fault_active", {"code": "NVML-HUNG", "component": COMPONENT}, 35.0),
            Await("verdict_changed", {"health": "degraded", "action": "none"}),
            Say("Everything else goes on: events of the driver come by another thread of that child, and the kernel's lines."),
            NvmlEvent(2, 31),
            Await("fault_active", {"code": "XID-31", "component": "gpu:0000:75:00"}),
            Kernel(_OUT_OF_RANGE.format(1)),
            Await("fault_active", {"code": "XID-13", "component": COMPONENT}),
            Say("A hang alone proves no broken GPU: the node stays in service. The driver comes back, and the fault ends."),
            NvmlBack(),
            Await("fault_resolved", {"code": "NVML-HUNG"}, 30.0),
        ),
        ends={"action": "none", "schedulable": True},
        explain="NVML-HUNG",
        needs_library=True,
    ),
    Scenario(
        name="row-remap",
        title="the kernel says nothing, but a GPU waits to remap a memory row: reboot, once the work has left",
        rows="ROW-REMAP-PENDING: {hold: 5s}\n",
        beats=(
            Say("The agent may have come after the kernel's line, or cannot read the log. The GPU itself keeps what it needs."),
            Nvml(
                "GPU 4 has lost data once, and has a row to be remapped at its next reset",
                {"gpu.4.ecc.volatile.uncorrected": 1, "gpu.4.ecc.aggregate.uncorrected": 1}
                | {"gpu.4.remap.uncorrected": 1, "gpu.4.remap.pending": 1},
            ),
            Await("fault_active", {"code": "ROW-REMAP-PENDING", "component": COMPONENT}, 25.0),
            Await("verdict_changed", {"action": "reboot", "when": "idle"}),
            Say("The count of errors is a mere consequence of it. (The row holds for 5 s here, not for 2 min.)"),
        ),
        ends={"action": "reboot", "when": "idle"},
        explain="ROW-REMAP-PENDING",
        because=("ROW-REMAP-PENDING",),
        needs_library=True,
    ),
    Scenario(
        name="dcgm",
        title="one memory error, told three times by the driver and three times by DCGM, is one alarm",
        rows="DCGM-4: {hold: 3s}\n",
        beats=(
            Say("A DCGM host engine runs on this node, too. A contained memory error ends one program on GPU 4."),
            Kernel(f"{_PREFIX}: 94, pid=1240, name=python3, Contained: SM (0x1). RST: No, D-RST: No"),
            NvmlEvent(4, 94),
            DcgmViolation("XID 94 on GPU 4", 0x40, 4, 94),
            DcgmViolation("an uncorrectable memory error on GPU 4", 0x1, 4, 1),
            Nvml(
                "one uncorrected memory error counted on GPU 4",
                {"gpu.4.ecc.volatile.uncorrected": 1, "gpu.4.ecc.aggregate.uncorrected": 1},
            ),
            Dcgm(
                "the memory watch of GPU 4 is at FAIL",
                {
                    "incidents": [
                        {"system": 0x10, "health": 20, "code": 4, "group": 1, "entity": 4}
                        | {"msg": "Detected 1 volatile double-bit ECC error(s) in GPU 4."}
                    ]
                },
            ),
            Await("fault_active", {"code": "XID-94"}),
            Await("verdict_changed", {"action": "restart_app", "schedulable": True}),
            Say("DCGM's watches are asked every 30 s. (The row DCGM-4 holds for 3 s here, not for 2 min.)"),
            Await("fault_inhibited", {"code": "ECC-UNCORRECTED", "component": COMPONENT}),
            Await("fault_inhibited", {"code": "DCGM-POLICY-DBE", "component": COMPONENT}),
            Await("fault_inhibited", {"code": "DCGM-4", "component": COMPONENT}, 45.0),
            Calm("verdict_changed", 2.0),
            Say("Three told the XID: one fault. The other three tell its consequences. The program has to be started again."),
        ),
        ends={"action": "restart_app", "schedulable": True},
        explain="XID-94",
        because=("XID-94",),
        needs_library=True,
    ),
)
