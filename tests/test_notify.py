"""sd_notify against real datagram sockets, in the file system and in the abstract namespace."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hma.notify import Notifier


@pytest.mark.parametrize("abstract", [False, True])
def test_states_arrive_in_one_datagram(tmp_path: Path, abstract: bool) -> None:
    name = f"@hma-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name[1:]}" if abstract else name)
        systemd.settimeout(5)
        Notifier({"NOTIFY_SOCKET": name}).tell("READY=1", "STATUS=ok, action none")
        assert systemd.recv(1_000) == b"READY=1\nSTATUS=ok, action none"


def test_full_socket_neither_blocks_nor_fails(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        notifier = Notifier({"NOTIFY_SOCKET": name})
        for _ in range(2_000):
            notifier.tell("WATCHDOG=1")
        systemd.settimeout(5)
        assert systemd.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/notify"}, {"NOTIFY_SOCKET": "x" * 300}]
)
def test_without_systemd_nothing_happens(environ: dict[str, str]) -> None:
    Notifier(environ).tell("READY=1")


ME = str(os.getpid())


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ME}, 30.0),
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon", "WATCHDOG_PID": ME}, None),
        ({"WATCHDOG_USEC": "", "WATCHDOG_PID": ME}, None),
        ({"WATCHDOG_USEC": "0", "WATCHDOG_PID": ME}, None),
        ({}, None),
    ],
    ids=["ours", "no pid", "another process'", "no number", "empty", "zero", "none"],
)
def test_watchdog_time_is_systemds_and_for_this_process(environ: dict[str, str], watchdog_s: float | None) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/run/notify", **environ}).watchdog_s == watchdog_s


def test_watchdog_without_a_socket_is_none() -> None:
    assert Notifier({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ME}).watchdog_s is None
