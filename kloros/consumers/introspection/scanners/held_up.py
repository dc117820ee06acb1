"""Enabled units that are down because one that they require failed: systemd calls them inactive, not failed."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kloros.consumers.introspection.scanners.unit_states import Verdict, judge_held_up
from kloros.machine.systemd_bus import SystemdBus, UnitRow
from kloros.units import US_PER_S

MAX_KNOWN = 200
_REQUIRED = ("RequiredBy", "RequisiteOf")
_BOUND = "BoundBy"  # stopped when the other is gone, however long that takes
_NO_JOB = 0
# One job of systemd stops and starts both, and a few restarts in ten seconds are the usual limit.
_AT_ONCE_US = 10 * US_PER_S


class _Hold(NamedTuple):
    """Who failed, and when the one that is held up was last started before."""

    needs: str
    started_us: int


class HeldUp:
    """Knows a unit that is held up until it runs, was started since, or nobody wants it any more.

    Not only until the required one is mended: systemd does not start again what it did not start then.
    """

    def __init__(self, bus: SystemdBus) -> None:
        self._bus = bus
        self._holds: dict[str, _Hold] = {}

    def keepsake(self) -> str:
        return msgspec.json.encode(self._holds).decode()

    def recall(self, keepsake: str) -> None:
        self._holds = msgspec.json.decode(keepsake, type=dict[str, _Hold])

    def note(self, failed: UnitRow) -> None:
        """A unit failed: those that require it, and went down when it did or never were up, may be held up."""
        for kind in (*_REQUIRED, _BOUND):
            for name in self._bus.read(failed.path, "Unit", kind) or []:
                if name not in self._holds and len(self._holds) >= MAX_KNOWN:
                    continue
                path = self._bus.unit_path(name)
                if path is not None and self._went_down_with(failed.path, path, kind):
                    self._holds[name] = _Hold(failed.name, self._time_us(path, "InactiveExit"))

    def look(self) -> list[tuple[str, Verdict]]:
        """(unit, verdict) of each that is held up."""
        found = []
        for name, hold in list(self._holds.items()):
            path = self._bus.unit_path(name)
            state = self._bus.read(path, "Unit", "ActiveState") if path else None
            if path is None or state == "active" or self._was_started(path, hold) or not self._should_run(name, path):
                del self._holds[name]
            elif state == "inactive" and not self._is_about_to_start(path):
                found.append((name, judge_held_up(name, hold.needs)))
        return found

    def _went_down_with(self, failed_path: str, path: str, kind: str) -> bool:
        """Not before, of itself or by hand, nor after.

        What runs, or is on its way, is left to be looked at. The failed one may have been restarted first, and the
        other stopped with it: what counts is when it was last up, if ever it was.
        """
        down_us = self._time_us(path, "InactiveEnter")
        if not down_us or self._bus.read(path, "Unit", "ActiveState") not in ("inactive", "failed"):
            return True
        up_us = self._time_us(failed_path, "ActiveExit") or self._time_us(failed_path, "InactiveExit")
        if down_us < up_us - _AT_ONCE_US:
            return False
        return kind == _BOUND or down_us <= self._time_us(failed_path, "StateChange") + _AT_ONCE_US

    def _was_started(self, path: str, hold: _Hold) -> bool:
        """Since it was held up: then it is down for another reason."""
        return self._time_us(path, "InactiveExit") not in (0, hold.started_us)

    def _should_run(self, name: str, path: str) -> bool:
        """Enabled, its conditions met, not started by something else on demand, and not a job that is done."""
        if not str(self._bus.read(path, "Unit", "UnitFileState")).startswith("enabled"):
            return False
        if self._bus.read(path, "Unit", "TriggeredBy") or not self._may_run(path):
            return False
        if not name.endswith(".service") or self._bus.read(path, "Service", "Type") != "oneshot":
            return True
        return bool(self._bus.read(path, "Service", "RemainAfterExit"))

    def _may_run(self, path: str) -> bool:
        """Whether Condition...= and Assert...= held at its last start that came so far."""
        kinds = [kind for kind in ("Condition", "Assert") if self._time_us(path, kind)]
        return all(self._bus.read(path, "Unit", f"{kind}Result") for kind in kinds)

    def _is_about_to_start(self, path: str) -> bool:
        job = self._bus.read(path, "Unit", "Job")
        return bool(job) and job[0] != _NO_JOB

    def _time_us(self, path: str, what: str) -> int:
        """When it last did so, by the clock that nobody sets; 0 for never."""
        return int(self._bus.read(path, "Unit", f"{what}TimestampMonotonic") or 0)
