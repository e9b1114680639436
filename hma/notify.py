"""sd_notify: tells systemd that the agent is ready, alive, reloading or stopping; does nothing elsewhere."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends datagrams to `$NOTIFY_SOCKET`; `watchdog_s` is systemd's WatchdogSec for this process, or None."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._path = environ.get("NOTIFY_SOCKET", "")
        micros = environ.get("WATCHDOG_USEC", "")
        meant_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        given = int(micros) if micros.isdecimal() and meant_for_us and self._path else 0
        self.watchdog_s = given / 1e6 if given else None  # 0 is "no watchdog" to systemd

    def tell(self, *states: str) -> None:
        """Send states such as `READY=1` or `STATUS=...`; a full or absent socket is not our trouble."""
        if not self._path:
            return
        # A leading @ is the abstract namespace (sd_notify(3)).
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto("\n".join(states).encode(), socket.MSG_DONTWAIT, address)
