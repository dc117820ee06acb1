"""Enabled units that are down because one that they require failed: systemd calls them inactive, not failed."""

from __future__ import annotations

import msgspec

from kloros.consumers.introspection.scanners.unit_states import Verdict, judge_held_up
from kloros.machine.systemd_bus import SystemdBus, UnitRow

MAX_KNOWN = 200
_REQUIRED = ("RequiredBy", "RequisiteOf", "BoundBy")
_NO_JOB = 0


class HeldUp:
    """Knows a unit that is held up until it runs, or nobody wants it any more.

    Not only until the required one is mended: systemd does not start again what it did not start then.
    """

    def __init__(self, bus: SystemdBus) -> None:
        self._bus = bus
        self._needs: dict[str, str] = {}

    def keepsake(self) -> str:
        return msgspec.json.encode(self._needs).decode()

    def recall(self, keepsake: str) -> None:
        self._needs = msgspec.json.decode(keepsake, type=dict[str, str])

    def note(self, failed: UnitRow) -> None:
        """A unit failed: those that require it may be held up."""
        for kind in _REQUIRED:
            for name in self._bus.read(failed.path, "Unit", kind) or []:
                if name in self._needs or len(self._needs) < MAX_KNOWN:
                    self._needs[name] = failed.name

    def look(self) -> list[tuple[str, Verdict]]:
        """(unit, verdict) of each that is held up."""
        found = []
        for name, needs in list(self._needs.items()):
            path = self._bus.unit_path(name)
            state = self._bus.read(path, "Unit", "ActiveState") if path else None
            if path is None or state == "active" or not self._should_run(name, path):
                del self._needs[name]
            elif state == "inactive" and not self._is_about_to_start(path):
                found.append((name, judge_held_up(name, needs)))
        return found

    def _should_run(self, name: str, path: str) -> bool:
        """Enabled, not started by something else on demand, and not a job that is inactive once it is done."""
        if not str(self._bus.read(path, "Unit", "UnitFileState")).startswith("enabled"):
            return False
        if self._bus.read(path, "Unit", "TriggeredBy"):
            return False
        if not name.endswith(".service") or self._bus.read(path, "Service", "Type") != "oneshot":
            return True
        return bool(self._bus.read(path, "Service", "RemainAfterExit"))

    def _is_about_to_start(self, path: str) -> bool:
        job = self._bus.read(path, "Unit", "Job")
        return bool(job) and job[0] != _NO_JOB
