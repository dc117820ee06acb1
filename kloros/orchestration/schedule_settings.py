"""The shape of config/scheduler_config.toml."""

from __future__ import annotations

from typing import Literal

from kloros.config import Settings
from kloros.orchestration.schedule_entry import Misfire, Overlap

SHORTEST_INTERVAL_S = 0.01
LONGEST_INTERVAL_S = 366 * 86_400.0
SLOWEST_PACE, FASTEST_PACE = 0.01, 100.0


class Wrong(Exception):
    """A key of a table whose value makes no sense."""

    def __init__(self, key: str, found: object, expected: str) -> None:
        super().__init__(key)
        self.key, self.found, self.expected = key, found, expected


def within(key: str, value: float, lowest: float, highest: float) -> float:
    """`value`, if it lies between the two. Raises Wrong."""
    if not lowest <= value <= highest:
        raise Wrong(key, value, f"{lowest:.10g} to {highest:.10g}")
    return value


class SchedulerSettings(Settings, frozen=True):
    """[scheduler]: `tick_interval_s` between two Q_SCHEDULE_TICK; a beat later than `misfire_grace_s` is a misfire."""

    tick_interval_s: float = 1.0
    misfire_grace_s: float = 1.0


class EntrySettings(Settings, frozen=True):
    """[entries.NAME]"""

    interval_s: float
    signal: str
    ecosystem: str | None = None
    adaptive: bool = True
    offset_s: float = 0.0
    priority: int = 0
    misfire: Misfire = "coalesce"
    misfire_limit: int | None = None
    min_interval_s: float = SHORTEST_INTERVAL_S
    max_interval_s: float = LONGEST_INTERVAL_S
    overlap: Overlap = "skip"
    after: str | None = None
    deadline_s: float | None = None
    jitter_s: float = 0.0
    jitter: Literal["host", "random"] = "host"


class AdaptiveSettings(Settings, frozen=True):
    """[adaptive]: speed-ups wait for `settle_s` after a slow-down has ended."""

    settle_s: float = 60.0


class AffectSettings(Settings, frozen=True):
    """[[affect]]: a mood, the entries it moves ("*": every adaptive one), their pace (0: held), and for how long."""

    signal: str
    entries: tuple[str, ...]
    pace: float
    ttl_s: float = 30.0


class BackpressureSettings(Settings, frozen=True):
    """[[backpressure]]: from `high` waiting for the consumer of entry `queue` until `low`, others run at their pace."""

    queue: str
    high: int
    low: int
    slow: dict[str, float]
    speed: float = 1.0


class LedgerSettings(Settings, frozen=True):
    """[ledger]: what each beat came to is kept for `keep_s`, and for at most `max_beats` of them."""

    keep_s: float = 14 * 86_400.0
    max_beats: int = 1_000_000


class ScheduleFile(Settings, frozen=True):
    """The whole file."""

    scheduler: SchedulerSettings = SchedulerSettings()
    ledger: LedgerSettings = LedgerSettings()
    adaptive: AdaptiveSettings = AdaptiveSettings()
    affect: tuple[AffectSettings, ...] = ()
    backpressure: tuple[BackpressureSettings, ...] = ()
    entries: dict[str, EntrySettings] = {}
