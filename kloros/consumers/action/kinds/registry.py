"""All kinds there are."""

from __future__ import annotations

from kloros.consumers.action.kinds.base import Kind, Tools
from kloros.consumers.action.kinds.pause_entry import PauseEntry
from kloros.consumers.action.kinds.prune_history import PruneHistory
from kloros.consumers.action.kinds.raise_limit import RaiseLimit
from kloros.consumers.action.kinds.reset_failed import ResetFailedUnit
from kloros.consumers.action.kinds.restart_unit import RestartUnit
from kloros.consumers.action.kinds.vacuum_journal import VacuumTheJournal
from kloros.consumers.action.settings import KindsSettings


def all_kinds(tools: Tools, settings: KindsSettings) -> dict[str, Kind]:
    """By name, with their settings."""
    return {
        "restart_unit": RestartUnit(tools, settings.restart_unit),
        "reset_failed": ResetFailedUnit(tools, settings.reset_failed),
        "raise_limit": RaiseLimit(tools, settings.raise_limit),
        "vacuum_journal": VacuumTheJournal(tools, settings.vacuum_journal),
        "prune_history": PruneHistory(tools, settings.prune_history),
        "pause_entry": PauseEntry(tools, settings.pause_entry),
    }
