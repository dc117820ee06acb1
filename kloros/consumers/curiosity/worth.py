"""What a question is worth against what it costs, and what follows: how urgently it is asked, and when again. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

from kloros.consumers.curiosity.question import Candidate
from kloros.consumers.curiosity.settings import Category, CostSettings, CuriositySettings, Kind, MediumAboveSettings
from kloros.units import US_PER_S

US_PER_DAY = 86_400 * US_PER_S
_US_PER_HOUR = 3600 * US_PER_S

LEAST_COST = 0.01
CRITICAL_ABOVE, HIGH_ABOVE, LOW_ABOVE = 3.0, 2.0, 0.5
MEDIUM_ABOVE = MediumAboveSettings()
LEVELS = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
ARCHIVED = "ARCHIVED"

SEVERITY_VALUE = {"info": 0.1, "low": 0.3, "medium": 0.5, "high": 0.9, "critical": 1.5}
CRITICAL: Final = "critical"
# Lasting long and coming often raise the value, ever more slowly, and at most to twice of it.
_PER_DOUBLED_HOURS, _PER_DOUBLED_TIMES, _MOST_RAISED = 0.1, 0.15, 2.0
# An investigation that took longer than this tells of a stall, not of what the next one costs.
_LONGEST_LEARNT_S = 3600.0

_CATEGORY: dict[str, Category] = {
    "daemon_silent": "integration", "cycles_failing": "integration", "cycles_slow": "integration",
    "fallback_engaged": "integration", "bus_silent": "integration", "bus_gap": "integration",
    "bus_drop": "integration", "scanner_blind": "discovery", "introspection_overflow": "discovery",
    "journal_overrun": "discovery", "unit_unhealthy": "gap", "journal_errors": "gap", "pressure_*": "gap",
    "memory_low": "gap", "swap_exhausted": "gap", "disk_full": "gap", "inodes_exhausted": "gap",
    "files_exhausted": "gap", "process_files_exhausted": "gap", "chaos_*": "chaos", "integration_*": "integration",
    "discovery_*": "discovery", "gap_*": "gap",
}  # fmt: skip
_KIND: dict[str, Kind] = {
    "pressure_*": "load", "cycles_slow": "load", "fallback_engaged": "load", "bus_gap": "load", "bus_drop": "load",
    "process_files_exhausted": "load", "journal_errors": "log", "journal_overrun": "log", "scanner_blind": "sight",
    "introspection_overflow": "sight",
}  # fmt: skip

T = TypeVar("T")


class Worth(NamedTuple):
    """What asking is worth; `level` is how urgent that makes it."""

    value: float
    cost: float
    ratio: float
    level: str

    @property
    def rank(self) -> tuple[int, float]:
        """Sorts the most valuable first."""
        return (LEVELS.index(self.level) if self.level in LEVELS else len(LEVELS), -self.ratio)


def matched(name: str, table: Mapping[str, T], otherwise: T) -> T:
    """What the table says of a name: by the name itself, else by the longest beginning that ends in `*`."""
    if name in table:
        return table[name]
    fitting = [key for key in table if key.endswith("*") and name.startswith(key[:-1])]
    return table[max(fitting, key=len)] if fitting else otherwise


def category_of(gap_type: str, settings: CuriositySettings) -> Category:
    """gap, chaos, integration, discovery, or other."""
    return matched(gap_type, settings.category, matched(gap_type, _CATEGORY, "other"))


def level_of(ratio: float, category: str, is_critical: bool, medium_above: MediumAboveSettings = MEDIUM_ABOVE) -> str:
    """How urgent a question is; ARCHIVED when it is not worth asking."""
    if is_critical or ratio > CRITICAL_ABOVE:
        return "CRITICAL"
    if ratio > HIGH_ABOVE:
        return "HIGH"
    if ratio > getattr(medium_above, category, medium_above.other):
        return "MEDIUM"
    return "LOW" if ratio > LOW_ABOVE else ARCHIVED


def ratio_of(value: float, cost: float) -> float:
    """Value for cost."""
    return value / max(cost, LEAST_COST)


def value_of(candidate: Candidate, now_us: int, settings: CuriositySettings) -> float:
    """How much an answer would be worth: by severity and kind, for how long and how often."""
    hours = max(0, now_us - candidate.first_seen_us) / _US_PER_HOUR
    often = max(1, candidate.times + candidate.returns)
    raised = 1.0 + _PER_DOUBLED_HOURS * math.log2(1.0 + hours) + _PER_DOUBLED_TIMES * math.log2(often)
    weight = matched(candidate.gap_type, settings.weight, 1.0)
    return SEVERITY_VALUE.get(candidate.severity, SEVERITY_VALUE["medium"]) * weight * min(_MOST_RAISED, raised)


def expected_s(gap_type: str, learnt_s: Mapping[str, float], settings: CostSettings) -> float:
    """How long an investigation of that type is expected to take."""
    return learnt_s.get(gap_type, matched(gap_type, settings.expected_s, settings.otherwise_s))


def cost_of(gap_type: str, learnt_s: Mapping[str, float], settings: CostSettings) -> float:
    """What asking costs: a part that every question costs, and the time that answering is expected to take."""
    return settings.fixed + settings.per_minute * expected_s(gap_type, learnt_s, settings) / 60.0


def learn(known_s: float, took_s: float, learning: float) -> float:
    """The expected duration after one more investigation: an exponentially weighted mean."""
    took_s = min(max(0.0, took_s), _LONGEST_LEARNT_S)
    return known_s + learning * (took_s - known_s)


def worth_of(candidate: Candidate, learnt_s: Mapping[str, float], now_us: int, settings: CuriositySettings) -> Worth:
    """What asking about it is worth now."""
    value, cost = value_of(candidate, now_us, settings), cost_of(candidate.gap_type, learnt_s, settings.cost)
    ratio = ratio_of(value, cost)
    category = category_of(candidate.gap_type, settings)
    level = level_of(ratio, category, candidate.severity == CRITICAL, settings.medium_above)
    return Worth(value, cost, ratio, level)


def cool_down_us(gap_type: str, severity: str, settings: CuriositySettings) -> int:
    """How long the same must not be asked about again."""
    kind: Kind = (
        CRITICAL if severity == CRITICAL else matched(gap_type, settings.kind, matched(gap_type, _KIND, "broken"))
    )
    days: float = getattr(settings.cool_down_d, kind)
    return round(days * US_PER_DAY)


def is_cool(asked_us: int | None, cool_down: int, now_us: int) -> bool:
    """Whether enough time has passed since it was asked; also when the clock was set back by as much."""
    return asked_us is None or abs(now_us - asked_us) >= cool_down
