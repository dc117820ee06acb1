"""config/action_consumer_config.toml: what may be done, how often, and who must agree."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from kloros.config import Settings

Mode: TypeAlias = Literal["off", "observe", "approve", "auto"]
MODES: tuple[Mode, ...] = ("off", "observe", "approve", "auto")
"""From the strictest on."""

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=31_622_400)]
Megabytes = Annotated[int, Meta(ge=1, le=1 << 24)]
AtLeastOne = Annotated[int, Meta(ge=1, le=100_000)]


class KindSettings(Settings, frozen=True):
    """What every kind of action has."""

    mode: Mode = "observe"
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 60.0
    settle_s: Seconds = 20.0
    targets: tuple[str, ...] = ("*.service",)
    least_confidence: Annotated[float, Meta(ge=0, le=1)] = 0.5


class RestartUnitSettings(KindSettings, frozen=True):
    """[kinds.restart_unit]"""


class ResetFailedSettings(KindSettings, frozen=True):
    """[kinds.reset_failed]"""


class RaiseLimitSettings(KindSettings, frozen=True):
    """[kinds.raise_limit]"""

    factor: Annotated[float, Meta(gt=1, le=2)] = 1.5
    persistent: bool = False


class VacuumJournalSettings(KindSettings, frozen=True):
    """[kinds.vacuum_journal]"""

    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 180.0
    settle_s: Seconds = 1.0
    targets: tuple[str, ...] = ("journal",)
    keep_mb: Megabytes = 1000


class PruneHistorySettings(KindSettings, frozen=True):
    """[kinds.prune_history]"""

    settle_s: Seconds = 60.0
    targets: tuple[str, ...] = ("chembus_historian",)
    keep_mb: Megabytes = 256


class PauseEntrySettings(KindSettings, frozen=True):
    """[kinds.pause_entry]"""

    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 10.0
    settle_s: Seconds = 3.0
    targets: tuple[str, ...] = ("*",)
    for_s: PositiveSeconds = 3600.0
    for_s_at_most: PositiveSeconds = 86_400.0


class KindsSettings(Settings, frozen=True):
    """[kinds.*]: one table for each kind."""

    restart_unit: RestartUnitSettings = RestartUnitSettings()
    reset_failed: ResetFailedSettings = ResetFailedSettings()
    raise_limit: RaiseLimitSettings = RaiseLimitSettings()
    vacuum_journal: VacuumJournalSettings = VacuumJournalSettings()
    prune_history: PruneHistorySettings = PruneHistorySettings()
    pause_entry: PauseEntrySettings = PauseEntrySettings()

    def of(self, kind: str) -> KindSettings | None:
        """The settings of a kind; None when there is no such kind."""
        return getattr(self, kind) if kind in self.__struct_fields__ else None


class LimitSettings(Settings, frozen=True):
    """[limits]"""

    per_target: AtLeastOne = 3
    per_target_window_s: PositiveSeconds = 3600.0
    in_all: AtLeastOne = 10
    in_all_window_s: PositiveSeconds = 3600.0
    backoff_s: PositiveSeconds = 300.0
    backoff_at_most_s: PositiveSeconds = 21_600.0
    wait_at_most_s: PositiveSeconds = 3600.0


class BreakerSettings(Settings, frozen=True):
    """[breaker]"""

    failures: AtLeastOne = 3
    window_s: PositiveSeconds = 120.0
    pause_s: PositiveSeconds = 600.0


class ApprovalSettings(Settings, frozen=True):
    """[approvals]"""

    valid_s: PositiveSeconds = 14_400.0


class QueueSettings(Settings, frozen=True):
    """[queue]"""

    at_most: AtLeastOne = 100
    flags_at_most: AtLeastOne = 500
    keep_ended: AtLeastOne = 1000


class FlagSettings(Settings, frozen=True):
    """[flags]"""

    least_severity: Literal["info", "low", "medium", "high", "critical"] = "medium"


class ActionSettings(Settings, frozen=True):
    """The whole file."""

    kinds: KindsSettings = KindsSettings()
    limits: LimitSettings = LimitSettings()
    breaker: BreakerSettings = BreakerSettings()
    approvals: ApprovalSettings = ApprovalSettings()
    queue: QueueSettings = QueueSettings()
    flags: FlagSettings = FlagSettings()
