"""config/decay_config.toml: how long what is remembered lasts, and how much of it there may be."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from kloros.config import Settings

Hours = Annotated[float, Meta(gt=0, le=1_000_000)]
Part = Annotated[float, Meta(gt=0, lt=1)]


class HalfLifeSettings(Settings, frozen=True):
    """[half_life_h]: after so many hours half of an unimportant memory is left, by sector."""

    episodic: Hours = 168.0
    semantic: Hours = 720.0
    procedural: Hours = 2160.0
    emotional: Hours = 360.0
    reflective: Hours = 1440.0


class FadingSettings(Settings, frozen=True):
    """[fading]"""

    importance_weight: Annotated[float, Meta(ge=0, le=100)] = 0.7
    forgotten_below: Part = 0.1
    refresh_share: Annotated[float, Meta(ge=0, le=1)] = 0.5


class LimitSettings(Settings, frozen=True):
    """[limits]"""

    memories: Annotated[int, Meta(ge=1, le=100_000_000)] = 1_000_000
    text_characters: Annotated[int, Meta(ge=40, le=10_000)] = 400


class PaceSettings(Settings, frozen=True):
    """[pace]"""

    page_memories: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
    turn_s: Annotated[float, Meta(gt=0, le=1)] = 0.2


class MemorySettings(Settings, frozen=True):
    """The whole file."""

    half_life_h: HalfLifeSettings = HalfLifeSettings()
    fading: FadingSettings = FadingSettings()
    limits: LimitSettings = LimitSettings()
    pace: PaceSettings = PaceSettings()
