"""A simulated node on which a fault is played while a real agent watches and records, and the steps that plays are made of.

Rules of this file:
- What happens to the node is done to the stand-ins and to the kernel log alone; the trace is what the agent wrote, untouched.
- A step that waits looks at the trace for what the agent has seen; only that is known to be in it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from hma.check import AnyCheck, KernelLog
from hma.cli import dcgm_stand_in, stand_ins
from hma.cli.dcgm_stand_in import DcgmState
from hma.cli.nvml_stand_in import XID
from hma.cli.nvml_stand_in import tell_event as tell
from hma.cli.nvml_values import Values, healthy
from hma.cli.simulated_node import unplug, write
from hma.loader import find_checks
from hma.probes import PROBED
from tests.agent_run import Running, until
from tests.gpu_node import SETTLED, GpuNode, library

PATIENCE_S = 150.0
"""The probe reads all of every GPU once a minute."""
COUNTED = ("gpu_count_pci", "nvidia_smi", "gpu_count_smi")
"""The checks that are neither told by a driver library nor by the kernel log."""
DCGM = "4.6.0"


class Stage:
    """One node and its agent. What the steps need: `node`, `dcgm`, and `sees`, which waits for the agent to see something."""

    def __init__(self, place: Path, shop: Workshop, instance_type: str, driver: str, stood_in: Mapping[str, str]) -> None:
        layout = stood_in.get("layout", instance_type)
        self.place = place
        self.trace = place / "trace"
        self.programs = place / "bin"
        programs = stand_ins.install(self.programs, layout) if "smi" in stood_in else {}
        self.node = GpuNode(place / "node", shop.libraries[driver], layout, driver, programs)
        if layout != instance_type:
            self.node.nvml.replace(healthy(instance_type, driver))
            self.node.settings["node.instance_type"] = instance_type
        for key in SETTLED:
            del self.node.settings[key]
        self.dcgm = DcgmState(place / "dcgm-engine")
        if "dcgm" in stood_in:
            self._install_dcgm()
        kinds = (KernelLog, *(PROBED if "dcgm" in stood_in else PROBED[:2]))
        others = COUNTED if programs else COUNTED[:1]
        unwatched = (check.name for check in shop.checks if check.name not in others and not isinstance(check.source, kinds))
        self.node.settings |= {f"checks.{name}.enabled": "false" for name in unwatched}
        self.node.settings["record"] = str(self.trace)
        self._agent: Running | None = None
        self._from = 0

    def _install_dcgm(self) -> None:
        addresses = [device.removesuffix(".0") for device in _addresses(self.node)]
        self.dcgm.set(gpus=dcgm_stand_in.gpus(addresses))
        bindings, _ = dcgm_stand_in.install(self.place / "dcgm", DCGM)
        self.node.settings["dcgm.bindings"] = str(bindings)
        self.node.environ[dcgm_stand_in.STATE] = str(self.dcgm.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._agent is not None and self._agent.process.poll() is None:
            self._agent.kill()
        # A sleeper in the stand-in of the library ends with its state.
        shutil.rmtree(self.place)

    def begin(self) -> None:
        """Start an agent, or the next one on the same node."""
        if self._agent is not None:
            self._agent.terminate()
        self.mark()
        self._agent = self.node.start()
        self._agent.wait_for("agent_ready")

    def end(self) -> str:
        """End the agent, and return the trace."""
        assert self._agent is not None
        self._from = 0
        self.sees('^{"judged"', anywhere=False)
        assert self._agent.terminate() == 0
        text = self.trace.read_text(encoding="utf-8")
        assert str(self.place) not in text, "a trace must not name the place where it was made"
        return text

    def mark(self) -> None:
        """From here on look for what the agent sees."""
        self._from = self.trace.stat().st_size if self.trace.exists() else 0

    def sees(self, pattern: str, *, anywhere: bool = True) -> None:
        """Wait until a line of the trace since the mark matches; with `anywhere` false, the last one."""
        sought = re.compile(pattern, re.MULTILINE)

        def found() -> bool:
            if not self.trace.exists():
                return False
            text = self.trace.read_text(encoding="utf-8")[self._from :]
            return bool(sought.search(text if anywhere else text.rstrip("\n").rpartition("\n")[2]))

        until(found, f"a line with {pattern}", PATIENCE_S)


def _addresses(node: GpuNode) -> list[str]:
    found = {key: value for key, value in node.nvml.values.items() if re.fullmatch(r"gpu\.\d+\.pci", key)}
    return [value[4:].lower() for _, value in sorted(found.items(), key=lambda item: int(item[0].split(".")[1]))]


class Workshop(NamedTuple):
    """What all stages need: the compiled stand-ins of the library by branch of the driver, and the checks."""

    libraries: Mapping[str, Path]
    checks: tuple[AnyCheck, ...]


def workshop(folder: Path, drivers: set[str]) -> Workshop:
    """Return what the stages need; `folder` must last as long as they do."""
    return Workshop({driver: library(folder / driver, driver) for driver in sorted(drivers)}, find_checks())


def stage(shop: Workshop, instance_type: str, driver: str, stood_in: Mapping[str, str]) -> Stage:
    """Return a stage in a directory of its own."""
    return Stage(Path(tempfile.mkdtemp(prefix="hma-play-")), shop, instance_type, driver, stood_in)


# -- steps ------------------------------------------------------------------------------------------------------------

Step = Callable[[Stage], None]


def starts(*patterns: str) -> Step:
    """Start the agent, and wait until it has seen all of this."""

    def start(on: Stage) -> None:
        on.begin()
        for pattern in patterns:
            on.sees(pattern)
        on.mark()

    return start


begin = starts('"GpuReadings":', '"GpuEvents":')
"""Start the agent, and wait until it has read the GPUs and listens to them."""
begin_blind = starts('"GpuReadings":|"reports":\\[{')
"""Start the agent, whatever its probe has to say."""


def nvml(values: Values) -> Step:
    """Change what the driver says."""
    return lambda on: on.node.nvml.update(values)


def kernel(*texts: str, facility: int = 0) -> Step:
    """Write lines into the kernel log."""
    return lambda on: on.node.kernel_log.write(*texts, facility=facility)


def xid(gpu: int, number: int, text: str) -> Step:
    """Let an XID happen as it does: the driver writes a line and tells the library."""

    def happen(on: Stage) -> None:
        on.node.kernel_log.write(text)
        tell(on.node.events, gpu, XID, number)
        on.sees(f'"GpuEvents":.*"data":{number}\\b')

    return happen


def smi(state: str) -> Step:
    """Change how nvidia-smi answers."""
    return lambda on: stand_ins.set_state(on.programs, state)


def unplugged(address: str) -> Step:
    """Take a device off the PCI bus."""
    return lambda on: unplug(on.node.root, address)


def files(texts: Mapping[str, str]) -> Step:
    """Write files below the root of the node."""
    return lambda on: write(on.node.root, dict(texts))


def set_dcgm(**keys: object) -> Step:
    """Change the host engine of DCGM."""
    return lambda on: on.dcgm.set(**keys)


def violated(condition: int, gpu: int, value: int, field: int = 0) -> Step:
    """Have a policy of DCGM violated, once it is listened to."""

    def happen(on: Stage) -> None:
        until(lambda: bool(on.dcgm.was_set().get("registered")), "a listener to the policies", PATIENCE_S)
        on.dcgm.violate(condition, gpu, value, field)

    return happen


def configured(key: str, value: str) -> Step:
    """Set something in the configuration of the agent."""

    def change(on: Stage) -> None:
        on.node.settings[key] = value

    return change


def sees(pattern: str) -> Step:
    """Wait until the agent sees this, and look from there on for what comes next."""

    def wait(on: Stage) -> None:
        on.sees(pattern)
        on.mark()

    return wait


def reading(on: Stage) -> None:
    """Wait for the next reading of all GPUs."""
    on.sees('"GpuReadings":')
    on.mark()
