"""What systemd is told: READY, STATUS, WATCHDOG, RELOADING, STOPPING. Silent where no systemd listens."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sdnotify import SystemdNotifier


class Notify:
    """The notifications of one process. `watchdog_interval_s` is None when systemd does not watch it."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._notifier = SystemdNotifier() if environment.get("NOTIFY_SOCKET") else None
        self._status = ""
        watchdog_us = environment.get("WATCHDOG_USEC", "")
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_interval_s = int(watchdog_us) / 2e6 if watchdog_us.isdigit() and is_ours else None

    def ready(self) -> None:
        """The socket is joined and the store open."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent when it changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def watchdog(self) -> None:
        """The main loop makes progress."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The process ends because it was asked to."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._notifier:
            self._notifier.notify(message)
