"""How a memory fades: one smooth curve, from its creation or from where the last access put it. Pure.

    score = (0.5 ^ (age_h / half_life_h)) ^ (1 / (1 + importance * importance_weight))

A memory keeps the moment since which it ages (`born_us`). That is when it was created; an access moves it forward, so
far that the score gains a share of what it had lost. So the formula holds exactly at every moment, and between two
accesses the score only falls and never jumps. What is kept does not depend on the settings: a change simply holds.
"""

from __future__ import annotations

import math
from enum import StrEnum

from kloros.consumers.memory.settings import FadingSettings, HalfLifeSettings

US_PER_H = 3_600_000_000
# Later than this nothing is planned: what SQLite and JSON hold exactly.
LATEST_US = 1 << 53


class Sector(StrEnum):
    """What kind of memory it is."""

    EPISODIC = "episodic"
    SEMANTIC = "semantic"
    PROCEDURAL = "procedural"
    EMOTIONAL = "emotional"
    REFLECTIVE = "reflective"


class Fading:
    """The curve, by the settings."""

    def __init__(self, half_life_h: HalfLifeSettings, fading: FadingSettings) -> None:
        self.forgotten_below = fading.forgotten_below
        self._half_life_us = {sector.value: getattr(half_life_h, sector) * US_PER_H for sector in Sector}
        self._weight = fading.importance_weight
        self._share = fading.refresh_share
        self._lifetimes = math.log2(1 / fading.forgotten_below)

    def score(self, sector: str, importance: float, age_us: float) -> float:
        """From 1 down to 0. Before its creation, by a clock that was set back, a memory is as fresh as at it."""
        return float(0.5 ** (max(0.0, age_us) / self._lasting_us(sector, importance)))

    def fades_us(self, sector: str, importance: float, born_us: int) -> int:
        """The last moment at which it is not yet below the threshold."""
        return min(LATEST_US, born_us + math.floor(self._lasting_us(sector, importance) * self._lifetimes))

    def refreshed_score(self, score: float) -> float:
        """What an access makes of a score."""
        return score + self._share * (1 - score)

    def born_us(self, sector: str, importance: float, score: float, now_us: int) -> int:
        """Since when a memory ages that has this score now."""
        return now_us - math.floor(self._lasting_us(sector, importance) * math.log2(1 / score))

    def accessed(self, sector: str, importance: float, born_us: int, now_us: int) -> int:
        """The new `born_us` after an access; never earlier, also when the clock was set back."""
        return max(born_us, self.moved(sector, importance, sector, importance, born_us, now_us))

    def moved(self, sector: str, importance: float, to: str, new_importance: float, born_us: int, now_us: int) -> int:
        """The new `born_us` after an access that also makes it a memory of another sector or importance."""
        if now_us <= born_us:
            return born_us
        score = self.refreshed_score(self.score(sector, importance, now_us - born_us))
        return min(now_us, self.born_us(to, new_importance, score, now_us)) if score > 0 else born_us

    def _lasting_us(self, sector: str, importance: float) -> float:
        """The half-life of a memory of that importance."""
        return float(self._half_life_us[sector] * (1 + importance * self._weight))
