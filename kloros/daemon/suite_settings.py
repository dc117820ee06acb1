"""config/kloros.toml: what the whole suite shares."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from kloros.config import Settings

Port = Annotated[int, Meta(ge=0, le=65535)]
PositiveSeconds = Annotated[float, Meta(gt=0)]


class BusSettings(Settings, frozen=True):
    """[bus]"""

    compat_tcp: bool = False
    queue_messages: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000


class JournalSettings(Settings, frozen=True):
    """[journal]"""

    max_mb: Annotated[int, Meta(ge=1)] = 1024
    keep_s: PositiveSeconds = 604_800.0
    consumer_forgotten_after_s: PositiveSeconds = 2_592_000.0


class MetricsSettings(Settings, frozen=True):
    """[metrics]"""

    enabled: bool = True
    address: str = "127.0.0.1"
    ports: dict[str, Port] = {}


class LogSettings(Settings, frozen=True):
    """[logs]"""

    level: Literal["debug", "info", "warning", "error"] = "info"


class FallbackSettings(Settings, frozen=True):
    """[fallback]"""

    missed_intervals: Annotated[float, Meta(ge=1)] = 2.0
    heartbeat_fallback: bool = False


class CycleSettings(Settings, frozen=True):
    """[cycles]"""

    hang_factor: Annotated[float, Meta(gt=1)] = 10.0
    hang_at_least_s: PositiveSeconds = 60.0
    budgets_s: dict[str, PositiveSeconds] = {}


class SuiteSettings(Settings, frozen=True):
    """The whole file."""

    bus: BusSettings = BusSettings()
    journal: JournalSettings = JournalSettings()
    metrics: MetricsSettings = MetricsSettings()
    logs: LogSettings = LogSettings()
    fallback: FallbackSettings = FallbackSettings()
    cycles: CycleSettings = CycleSettings()
