"""config/curiosity_core_consumer_config.toml: what questions are worth and cost, when they come again, limits."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from kloros.config import Settings

NotNegative = Annotated[float, Meta(ge=0, le=1e6)]
Days = Annotated[float, Meta(ge=0, le=3650)]
Kind = Literal["critical", "broken", "load", "log", "sight"]
Category = Literal["gap", "chaos", "integration", "discovery", "other"]
AtLeastOne = Annotated[int, Meta(ge=1, le=1_000_000)]


LeastMedium = Annotated[float, Meta(ge=0.5, le=2.0)]


class MediumAboveSettings(Settings, frozen=True):
    """[medium_above]: above which ratio of value to cost a question is MEDIUM rather than LOW, by category."""

    gap: LeastMedium = 1.0
    chaos: LeastMedium = 1.5
    integration: LeastMedium = 2.0
    discovery: LeastMedium = 0.8
    other: LeastMedium = 1.5


class LimitSettings(Settings, frozen=True):
    """[limits]"""

    candidates: AtLeastOne = 1_000
    questions_per_beat: AtLeastOne = 10
    open_questions: AtLeastOne = 200
    kept_questions: AtLeastOne = 5_000
    remembered: AtLeastOne = 20_000
    unanswered_after_d: Annotated[float, Meta(gt=0, le=3650)] = 7.0
    forget_after_d: Annotated[float, Meta(gt=0, le=36500)] = 365.0


class CoolDownSettings(Settings, frozen=True):
    """[cool_down_d]: days before the same is asked about again, by kind."""

    critical: Days = 0.0
    broken: Days = 1.0
    load: Days = 3.0
    log: Days = 7.0
    sight: Days = 30.0


class CostSettings(Settings, frozen=True):
    """[cost]: what a question costs whoever answers it."""

    fixed: Annotated[float, Meta(ge=0.01, le=1e6)] = 0.35
    per_minute: NotNegative = 0.5
    learning: Annotated[float, Meta(gt=0, le=1)] = 0.2
    otherwise_s: NotNegative = 5.0
    expected_s: dict[str, NotNegative] = field(
        default_factory=lambda: {"disk_full": 30.0, "inodes_exhausted": 30.0, "pressure_*": 10.0}
    )


class CuriositySettings(Settings, frozen=True):
    """The whole file."""

    limits: LimitSettings = LimitSettings()
    medium_above: MediumAboveSettings = MediumAboveSettings()
    cool_down_d: CoolDownSettings = CoolDownSettings()
    cost: CostSettings = CostSettings()
    weight: dict[str, NotNegative] = field(
        default_factory=lambda: {
            "unit_unhealthy": 1.1, "daemon_silent": 1.1, "disk_full": 1.1, "journal_errors": 0.8, "bus_gap": 0.8,
            "bus_drop": 0.8, "scanner_blind": 0.8,
        }
    )  # fmt: skip
    kind: dict[str, Kind] = {}
    category: dict[str, Category] = {}
