"""config/investigation_consumer_config.toml."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from kloros.config import Settings

Positive = Annotated[float, Meta(gt=0)]
AtLeastOne = Annotated[int, Meta(ge=1)]


class QueueSettings(Settings, frozen=True):
    """[queue]"""

    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100
    bottleneck_above: AtLeastOne = 50
    bottleneck_over_at: Annotated[int, Meta(ge=0)] = 25
    age_weight_s: Positive = 600.0

    def __post_init__(self) -> None:
        if not self.bottleneck_over_at < self.bottleneck_above <= self.limit:
            raise ValueError("must rise: bottleneck_over_at < bottleneck_above <= limit")


class InvestigateSettings(Settings, frozen=True):
    """[investigate]"""

    concurrency: Annotated[int, Meta(ge=1, le=32)] = 4
    timeout_s: Positive = 600.0
    urgent_timeout_s: Positive = 300.0
    others: bool = True


class FailureSettings(Settings, frozen=True):
    """[failures]"""

    suppress_after: AtLeastOne = 5
    try_again_after_s: Positive = 86_400.0


class LoadSettings(Settings, frozen=True):
    """[load]"""

    sample_s: Positive = 2.0


class DiskSettings(Settings, frozen=True):
    """[disk]"""

    max_entries: AtLeastOne = 500_000
    max_s: Positive = 30.0


class KeepSettings(Settings, frozen=True):
    """[keep]"""

    investigations: AtLeastOne = 5_000


class InvestigationSettings(Settings, frozen=True):
    """The whole file."""

    queue: QueueSettings = QueueSettings()
    investigate: InvestigateSettings = InvestigateSettings()
    failures: FailureSettings = FailureSettings()
    load: LoadSettings = LoadSettings()
    disk: DiskSettings = DiskSettings()
    keep: KeepSettings = KeepSettings()
