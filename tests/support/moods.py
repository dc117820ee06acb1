"""A machine as affect perceives it, lived through in virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kloros.affect.appraisal import appraise
from kloros.affect.settings import AffectSettings
from kloros.affect.state import AffectState, Felt, Reading, Vitals

BEAT_S = 10.0
TTL_S = 45.0
WELL: Mapping[str, float] = {
    "cpu_some": 3.0, "load": 0.2, "memory_used": 30.0, "memory_some": 0.0, "memory_full": 0.0, "io_some": 1.0,
    "io_full": 0.5, "disk_used": 40.0, "inodes_used": 5.0, "failed": 0.0, "repeated_error": 0.0, "restarts": 0.0,
    "cycles": 40.0, "tick_silent_s": 0.5, "delay_ms": 1.0, "lost_per_min": 0.0, "backlog": 0.0, "over_budget": 0.0,
}  # fmt: skip


def vitals(**signs: float) -> Vitals:
    """A machine that is well, but for these."""
    return Vitals({name: Reading(value) for name, value in {**WELL, **signs}.items()})


class Life:
    """Beat after beat, and what was said on each."""

    def __init__(self, settings: AffectSettings | None = None) -> None:
        self.settings = settings or AffectSettings()
        self.state = AffectState()
        self.now_s = 1000.0
        self.said: list[tuple[float, list[Felt]]] = []

    def look(self, seen: Vitals) -> list[Felt]:
        """One beat."""
        self.now_s += BEAT_S
        self.state, said = appraise(self.state, self.now_s, seen, self.settings, TTL_S)
        self.said.append((self.now_s, said))
        return said

    def live(self, minutes: float, **signs: float) -> None:
        """So long like this."""
        for _ in range(round(minutes * 60 / BEAT_S)):
            self.look(vitals(**signs))

    def holding(self) -> set[str]:
        """What holds now."""
        return {name for name, hold in self.state.holds.items() if hold.holds}

    def moods(self) -> list[str]:
        """One mood after the other."""
        return [felt.mood for _, said in self.said for felt in said if felt.signal == "AFFECT_STATE_CHANGE"]

    def moments(self, signal: str) -> list[float]:
        """When that signal was said."""
        return [moment_s for moment_s, said in self.said if signal in names(said)]


def names(said: Iterable[Felt]) -> set[str]:
    """The signals."""
    return {felt.signal for felt in said}
