"""Units that failed, flap, hit their start limit or are stuck, as systemd says over D-Bus."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

from msgspec import DecodeError, Meta

from kloros.consumers.introspection.findings import DEFAULT_CLEAR_AFTER_S, Symptom
from kloros.consumers.introspection.scanners.base import Now
from kloros.consumers.introspection.scanners.held_up import HeldUp
from kloros.consumers.introspection.scanners.thresholds import Positive, ScannerSettings
from kloros.consumers.introspection.scanners.unit_states import (
    RestartHistory,
    UnitFacts,
    Verdict,
    judge_failed,
    judge_flapping,
    judge_stuck,
)
from kloros.machine.systemd_bus import SystemdBus, UnitRow
from kloros.units import US_PER_S

_UNWELL_STATES = ["failed", "activating", "deactivating"]
# Kinds with a Result; devices, targets and slices have none and are never unwell by themselves.
_HAVE_RESULT = {"service", "mount", "socket", "swap", "timer", "automount", "path", "scope"}
# A failed unit does not change while it stays failed: what was read of it holds for so long.
_REREAD_AFTER_S = 60.0
# Beyond so many failed units more detail helps nobody; they are still reported, with less said.
_MAX_DETAILED = 50


class UnitsSettings(ScannerSettings, frozen=True):
    """Flapping: `flap_restarts` automatic restarts within `flap_window_s`.

    stuck_after_s: how long a unit may be starting, stopping or waiting for its restart (oneshots may start for hours).
    sweep_units: running services whose restart counter is read per scan, in turn; always, if they restarted lately.
    """

    flap_restarts: Annotated[int, Meta(ge=2)] = 3
    flap_window_s: Positive = 300.0
    stuck_after_s: Positive = 180.0
    sweep_units: Annotated[int, Meta(ge=1, le=1000)] = 12
    ignore: list[str] = []


class UnitsScanner:
    """One finding per unit, whatever is wrong with it: its evidence says what."""

    name = "units"

    def __init__(self, settings: UnitsSettings, bus: SystemdBus | None = None) -> None:
        self.timeout_s = settings.timeout_s
        self._settings = settings
        self._bus = bus or SystemdBus()
        self._held_up = HeldUp(self._bus)
        self._details: dict[str, tuple[float, UnitFacts]] = {}
        self._histories: dict[str, RestartHistory] = {}
        self._ended_well: dict[str, bool] = {}
        self._to_sweep: list[UnitRow] = []
        self._watched: list[UnitRow] = []

    def keepsake(self) -> str:
        return self._held_up.keepsake()

    def recall(self, keepsake: str) -> None:
        with suppress(DecodeError):
            self._held_up.recall(keepsake)

    def scan(self, now: Now) -> list[Symptom]:
        unwell = [row for row in self._bus.units(_UNWELL_STATES, []) if row.name not in self._settings.ignore]
        failed = {row.name for row in unwell if row.active == "failed"}
        self._details = {name: kept for name, kept in self._details.items() if name in failed}
        symptoms = [self._failed(row, now) for row in unwell if row.active == "failed"]
        restarting: list[UnitRow] = []
        for row in unwell:
            if row.active != "failed" and row.kind in _HAVE_RESULT:
                symptoms += self._in_between(row, now)
                if row.kind == "service":
                    restarting.append(row)
        held_up = [(name, verdict) for name, verdict in self._held_up.look() if name not in self._settings.ignore]
        symptoms += [self._symptom(name, verdict) for name, verdict in held_up]
        return symptoms + self._sweep(restarting, failed, now)

    def _failed(self, row: UnitRow, now: Now) -> Symptom:
        known = self._details.get(row.name)
        if known is not None and now.monotonic_s - known[0] < _REREAD_AFTER_S:
            return self._symptom(row.name, judge_failed(known[1]))
        if known is None and len(self._details) >= _MAX_DETAILED:
            return self._symptom(row.name, judge_failed(UnitFacts(row.name, row.active, row.sub)))
        facts = self._facts(row, now)
        self._held_up.note(row)
        self._details[row.name] = (now.monotonic_s, facts)
        return self._symptom(row.name, judge_failed(facts))

    def _in_between(self, row: UnitRow, now: Now) -> list[Symptom]:
        facts = self._facts(row, now)
        if row.sub == "auto-restart" and facts.main_code:  # none: it runs again since it was listed
            self._ended_well[row.name] = facts.result == "success"
        if row.active == "activating" and row.sub != "auto-restart" and self._read(row, "Type") == "oneshot":
            return []
        verdict = judge_stuck(facts, self._settings.stuck_after_s)
        return [self._symptom(row.name, verdict)] if verdict else []

    def _sweep(self, restarting: list[UnitRow], failed: set[str], now: Now) -> list[Symptom]:
        """Read restart counters: of those that restart now or did so lately, and of some others in turn."""
        if not self._to_sweep:
            self._to_sweep = self._bus.units(["active"], ["*.service"])
            self._forget_except({row.name for row in self._to_sweep} | {row.name for row in restarting})
        turn = self._settings.sweep_units
        batch, self._to_sweep = self._to_sweep[:turn], self._to_sweep[turn:]
        looked_at = {row.name: row for row in (*batch, *self._watched, *restarting)}
        self._watched = []
        symptoms: list[Symptom] = []
        for row in looked_at.values():
            if row.name not in failed and row.name not in self._settings.ignore:
                symptoms += self._count_restarts(row, now)
        return symptoms

    def _count_restarts(self, row: UnitRow, now: Now) -> list[Symptom]:
        restarts = self._read(row, "NRestarts")
        if restarts is None:
            return []
        history = self._histories.setdefault(row.name, RestartHistory(self._settings.flap_window_s))
        grew = history.read(restarts, now.monotonic_s)
        if history.in_window:
            self._watched.append(row)
        if not grew or self._ended_well.get(row.name):
            return []
        verdict = judge_flapping(self._facts(row, now), history.in_window, self._settings.flap_window_s)
        is_enough = history.in_window >= self._restarts_that_matter(row)
        # A restart is an event: it is over once the unit has run for a whole window without one.
        return [self._symptom(row.name, verdict, self._settings.flap_window_s, sustains=not is_enough)]

    def _restarts_that_matter(self, row: UnitRow) -> int:
        """Twice as many for a unit that is restarted after good ends too, until it is seen to end badly."""
        is_known_bad = row.name in self._ended_well or self._read(row, "Restart") not in ("always", "on-success")
        return self._settings.flap_restarts * (1 if is_known_bad else 2)

    def _forget_except(self, names: set[str]) -> None:
        self._histories = {name: history for name, history in self._histories.items() if name in names}
        self._ended_well = {name: well for name, well in self._ended_well.items() if name in names}

    def _facts(self, row: UnitRow, now: Now) -> UnitFacts:
        is_service = row.kind == "service"
        changed_us = self._bus.read(row.path, "Unit", "StateChangeTimestampMonotonic")
        return UnitFacts(
            name=row.name,
            active=row.active,
            sub=row.sub,
            result=self._read(row, "Result") if row.kind in _HAVE_RESULT else None,
            main_code=self._read(row, "ExecMainCode") if is_service else None,
            main_status=self._read(row, "ExecMainStatus") if is_service else None,
            restarts=self._read(row, "NRestarts") if is_service else None,
            start_burst=self._bus.read(row.path, "Unit", "StartLimitBurst") if is_service else None,
            was_to_restart=is_service and self._was_to_restart(row),
            in_state_s=now.monotonic_s - changed_us / US_PER_S if changed_us else None,
        )

    def _was_to_restart(self, row: UnitRow) -> bool:
        """A process that is started leaves `inactive` before its end, a unit that waits for its restart after it."""
        left_us = self._bus.read(row.path, "Unit", "InactiveExitTimestampMonotonic")
        ended_us = self._read(row, "ExecMainExitTimestampMonotonic")
        return bool(left_us) and left_us >= (ended_us or 0)

    def _read(self, row: UnitRow, name: str) -> Any:
        return self._bus.read(row.path, row.kind.capitalize(), name)

    def _symptom(
        self, unit: str, verdict: Verdict, clear_after_s: float = DEFAULT_CLEAR_AFTER_S, *, sustains: bool = False
    ) -> Symptom:
        return Symptom(
            gap_type="unit_unhealthy",
            gap_name=unit,
            scanner=self.name,
            severity=verdict.severity,
            summary=verdict.summary,
            evidence=verdict.evidence,
            clear_after_s=clear_after_s,
            sustains=sustains,
        )
