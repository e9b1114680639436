"""`hma demo [SCENARIO]`: the real agent on a node that is not there, and what happens to it, as a story in the terminal.

Rules of this file:
- The agent is the one that runs on real nodes, in a process of its own, with its children; only what they ask is a stand-in:
  kernel log, sysfs, nvidia-smi, the driver library, DCGM.
- The library has to be compiled. Without a compiler the checks that ask it are switched off, and one line says so.
- Everything lives in a temporary folder and goes with it. Nothing of this machine's own state is read or changed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from hma.cli.beats import STUCK, Await, Beat, Calm, Kernel, Noise, Say, Scenario, Smi, Unplug
from hma.cli.client import ask
from hma.cli.common import FAILED, OK, CliError, table
from hma.cli.demo_devices import Devices, library, who
from hma.cli.explain_command import explain
from hma.cli.frozen_disk import frozen_disk, thaw, why_not
from hma.cli.nvml_stand_in import StandInError
from hma.cli.scenarios import SCENARIOS
from hma.cli.shown import short, verdict_text
from hma.cli.simulated_node import build, unplug
from hma.cli.stand_ins import install, set_state
from hma.fields import listing
from hma.reporting.log import human_line
from hma.reporting.record import timestamp
from hma.settings import load_settings
from hma.yamlread import nearest, printable

INSTANCE_TYPE = "p5.48xlarge"
OF_THIS_MACHINE = ("clock_sync", "disk_space")
"""Checks that look at the machine itself, wherever the node's root is; they have no part in a story."""
START_S = 20.0
WIDTH = 130
_NOISE = "audit: type=1400 audit({n}.123:42): apparmor=STATUS operation=profile_load name=cri-containerd.apparmor.d"
_QUIET = ("agent_started", "agent_stopping")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the story."""
    parser.add_argument(
        "scenario", nargs="?", metavar="SCENARIO", help="which story (without one: list them); `all` plays every one"
    )


def run(args: argparse.Namespace) -> int:
    """Play the story; exit 1 if it does not end as it must."""
    if args.scenario is None:
        print("hma demo SCENARIO plays one of these (`all`: every one), on a simulated p5.48xlarge:\n")
        print(table([(f"  {one.name}", f"{one.title}{' (*)' * one.needs_library}") for one in SCENARIOS]))
        print("\n(*) needs a C compiler, for the stand-in of the NVIDIA driver library; the others are richer with one")
        return OK
    by_name = {one.name: one for one in SCENARIOS}
    if args.scenario != "all" and args.scenario not in by_name:
        near = nearest(args.scenario, by_name)
        raise CliError(f"{args.scenario}: no such story; {f'did you mean {near}?' if near else f'known: {listing(by_name)}'}")
    signal.signal(signal.SIGTERM, _leave)
    return _play_all(SCENARIOS if args.scenario == "all" else (by_name[args.scenario],))


def _leave(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)  # what was put into the temporary folder goes with it


def _play_all(scenarios: Sequence[Scenario]) -> int:
    with tempfile.TemporaryDirectory(prefix="hma-demo-") as place:
        driver, why = None, ""
        try:
            driver = library(Path(place))
        except StandInError as err:
            why = short(str(err), 200)
        playable = [one for one in scenarios if driver is not None or not one.needs_library]
        if not playable:
            raise CliError(f"{scenarios[0].name}: this story needs the driver library; {why}")
        if why:
            left_out = ", ".join(one.name for one in scenarios if one not in playable)
            print(f"The checks that ask the driver library are switched off: {why}")
            if left_out:
                print(f"Left out are the stories that need it: {left_out}")
        return max(play(scenario, driver) for scenario in playable)


def play(scenario: Scenario, driver: Path | None = None) -> int:
    """Play one story, with this stand-in for the driver library, and return the exit code."""
    with (
        tempfile.TemporaryDirectory(prefix="hma-demo-") as place,
        contextlib.closing(Stage(Path(place), scenario, driver)) as stage,
    ):
        print(f"\n{scenario.title}\n")
        try:
            stage.begin()
            for beat in scenario.beats:
                stage.play(beat)
            stage.end()
        except StoryError as err:
            print(f"\n  the story went wrong: {err}")
            return FAILED
        print(f"\nhma explain {scenario.explain}\n")
        for line in explain(scenario.explain, load_settings(stage.config)):
            print(_wrapped(line, 17))
    return OK


class StoryError(Exception):
    """What must be said was not said, or the other way round."""


class Stage:
    """A simulated node, the agent on it, and the story so far."""

    def __init__(self, place: Path, scenario: Scenario, driver: Path | None) -> None:
        self.config = place / "config.yaml"
        self._scenario = scenario
        self._place = place
        self._root = place / "node"
        self._programs = place / "bin"
        self._seq = 0
        self._unread = b""
        self._frozen: Path | None = None
        self._ends = contextlib.ExitStack()
        self._verdict: Mapping[str, Any] = {}
        self._said: list[Mapping[str, Any]] = []
        self._began = time.monotonic()
        build(self._root, INSTANCE_TYPE)
        self._devices = Devices(place, INSTANCE_TYPE, driver, with_dcgm=scenario.with_dcgm)
        self._ends.callback(self._devices.close)
        os.mkfifo(place / "kmsg")
        self._log = os.open(place / "kmsg", os.O_RDWR | os.O_CLOEXEC)
        self._configure()
        argv = [sys.executable, "-m", "hma.cli.main", "agent", "--config", str(self.config)]
        environ = {**os.environ, **self._devices.environ}
        self._agent = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ)

    def _configure(self) -> None:
        place, devices = self._place, self._devices
        (place / "rows.yaml").write_text(self._scenario.rows, encoding="utf-8")
        programs = install(self._programs, INSTANCE_TYPE)
        off = dict.fromkeys((*OF_THIS_MACHINE, *devices.off), "{enabled: false}")
        checks = ", ".join(f"{name}: {words}" for name, words in {**self._scenario.checks, **off}.items())
        commands = ", ".join(f"{name}: {path}" for name, path in programs.items())
        self.config.write_text(
            f"node: {{root: {self._root}, imds: false}}\nkernel_log: {place}/kmsg\nstate_dir: {place}/state\n"
            f"run_dir: {place}/run\nlog: {{format: json}}\ncatalogue: {place}/rows.yaml\nchecks: {{{checks}}}\n"
            f"commands: {{{commands}}}\n" + "".join(f"{key}: {words}\n" for key, words in devices.settings.items()),
            encoding="utf-8",
        )

    def close(self) -> None:
        """End the agent and forget the node."""
        if self._agent.poll() is None:
            self._agent.kill()
        self._agent.communicate()
        os.close(self._log)
        self._ends.close()

    # -- the story -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Wait for the first verdict, and until every check has something to go by."""
        self._await(Await("agent_ready", {}, START_S))
        until = time.monotonic() + START_S
        while "waiting" in (counts := self._counts()) and time.monotonic() < until:
            time.sleep(0.1)
        self._tell("", "checks", ", ".join(f"{count} {status}" for status, count in sorted(counts.items())))

    def play(self, beat: Beat) -> None:
        """Let one thing happen."""
        if not isinstance(beat, Say | Await):
            self._said.clear()
        if isinstance(beat, Say):
            print(f"\n{_wrapped(beat.text, 2)}\n")
        elif isinstance(beat, Kernel):
            self._tell("kernel", "" if beat.facility == 0 else "(written by a program)", short(beat.text))
            self._write(beat.text, beat.facility)
        elif isinstance(beat, Noise):
            self._flood(beat)
        elif isinstance(beat, Smi):
            self._answer_otherwise(beat.state)
        elif isinstance(beat, Unplug):
            unplug(self._root, beat.address)
            self._tell("pci bus", "", f"{beat.address} is gone")
        elif isinstance(beat, Await):
            self._await(beat)
        elif isinstance(beat, Calm):
            self._calm(beat)
        else:
            self._tell(who(beat), "", self._devices.play(beat))

    def end(self) -> None:
        """Stop the agent and see that the verdict is the one the story must end with."""
        ends = self._scenario.ends
        if any(self._verdict.get(key) != value for key, value in ends.items()):
            raise StoryError(f"it must end with {dict(ends)}, and ends with: {verdict_text(self._verdict)}")
        because = sorted({reason["code"] for reason in self._verdict.get("why", ())})
        if self._scenario.because and because != sorted(self._scenario.because):
            raise StoryError(
                f"it must end because of {listing(self._scenario.because)}, and ends because of {listing(because)}"
            )
        self._agent.terminate()
        for record in self._records(time.monotonic() + START_S):
            self._show(record)
        if self._agent.wait(START_S):
            raise StoryError(f"the agent ended with {self._agent.returncode}")
        print(f"\n  it ends as it must: {', '.join(f'{key} {value}'.lower() for key, value in ends.items())}")

    def _counts(self) -> dict[str, int]:
        checks = ask(self._place / "run", "/v1/status")["checks"]
        return dict(Counter(row["status"] for row in checks))

    def _answer_otherwise(self, state: str) -> None:
        if self._frozen is not None and state != STUCK:
            thaw(self._frozen)
        if state == STUCK and not why_not():
            self._frozen = self._ends.enter_context(frozen_disk(self._programs))
            set_state(self._programs, f"blocked {self._frozen}/file")
            self._tell("nvidia-smi", "", "from now on: it writes to a frozen disk, and sleeps in state D for real")
            return
        set_state(self._programs, "hang" if state == STUCK else state)
        words = f"hang, deaf to SIGTERM; state D for real is not to be had: {why_not()}" if state == STUCK else state
        self._tell("nvidia-smi", "", f"from now on: {words}")

    def _await(self, beat: Await) -> None:
        if beat.needs_library and not self._devices.has_library:
            return
        if any(_is(beat, record) for record in self._said):
            return
        for record in self._records(time.monotonic() + beat.limit_s):
            self._show(record)
            if _is(beat, record):
                return
        said = f"{beat.kind} {dict(beat.wanted) or ''}".strip()
        raise StoryError(f"the agent did not say {said} within {beat.limit_s:g} s {self._last_words()}".strip())

    def _calm(self, beat: Calm) -> None:
        for record in self._records(time.monotonic() + beat.seconds):
            self._show(record)
            if record["msg"] == beat.kind:
                raise StoryError(f"the agent said {beat.kind}, which must not be")

    def _flood(self, beat: Noise) -> None:
        began = time.monotonic()
        self._tell("kernel", "", f"{beat.lines} lines of noise, and in their middle: {short(beat.hidden, 60)}")
        for number in range(beat.lines):
            self._write(beat.hidden if number == beat.lines // 2 else _NOISE.format(n=number))
        self._tell("kernel", "", f"written in {time.monotonic() - began:.1f} s")

    # -- the agent's words ---------------------------------------------------------------------------------------------

    def _write(self, text: str, facility: int = 0) -> None:
        micros = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        os.write(self._log, f"{facility << 3 | 4},{self._seq},{micros},-;{text}\n".encode())
        self._seq += 1

    def _records(self, until: float) -> Iterator[dict[str, Any]]:
        """Yield what the agent prints, as it comes, until the time is over or the agent has ended."""
        assert self._agent.stdout is not None
        fd = self._agent.stdout.fileno()
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                yield json.loads(line)
                continue
            left = until - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                return
            piece = os.read(fd, 65_536)
            if not piece:
                return
            self._unread += piece

    def _show(self, record: Mapping[str, Any]) -> None:
        self._said.append(record)
        if "health" in record:
            self._verdict = record
        if record["msg"] not in _QUIET:
            shown = {key: value for key, value in record.items() if key not in ("ts", "checks")}
            self._tell("agent", "", human_line(shown).strip(), record["ts"])

    def _tell(self, who: str, what: str, text: str, at: str = "") -> None:
        clock = (at or timestamp(time.clock_gettime(time.CLOCK_REALTIME)))[11:23]
        said = f"{what} {text}".strip().replace("\n", f"\n{'':28}")
        print(f"  {clock}  {who:<11} {said}", flush=True)

    def _last_words(self) -> str:
        if self._agent.poll() is None or self._agent.stderr is None:
            return ""
        return f"(it ended: {self._agent.stderr.read().decode(errors='replace').strip()[-300:]})"


def _is(beat: Await, record: Mapping[str, Any]) -> bool:
    return record["msg"] == beat.kind and all(record.get(key) == value for key, value in beat.wanted.items())


def _wrapped(text: str, margin: int) -> str:
    lines = textwrap.wrap(printable(text), WIDTH, initial_indent="  ", subsequent_indent=" " * margin, break_on_hyphens=False)
    return "\n".join(lines)
