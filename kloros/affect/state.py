"""What affect perceives, remembers and says. Pure data; moments are monotonic seconds."""

from __future__ import annotations

import msgspec

CALM = "calm"


class Reading(msgspec.Struct, frozen=True):
    """One vital sign: its value in the sign's own unit, and where it was found worst."""

    value: float
    where: str = ""


class Vitals(msgspec.Struct, frozen=True):
    """The vital signs of one moment, by name, and what cannot be perceived here, with the reason."""

    readings: dict[str, Reading] = {}
    blind: dict[str, str] = {}


class Dimension(msgspec.Struct, frozen=True):
    """One side of the mood, from 0 to 1; what it comes from, in words and in numbers."""

    value: float
    cause: str = ""
    evidence: dict[str, float] = {}


class Hold(msgspec.Struct, frozen=True):
    """One feeling: whether it holds, since when, and since when its value has spoken for the opposite (None: it does
    not). `since_s` is None for one that never turned."""

    holds: bool = False
    since_s: float | None = None
    turning_s: float | None = None
    cause: str = ""
    evidence: dict[str, float] = {}


class AffectState(msgspec.Struct, frozen=True):
    """All that one appraisal leaves to the next. `levels` and `perils` are smoothed, by sign."""

    at_s: float | None = None
    levels: dict[str, float] = {}
    perils: dict[str, float] = {}
    fatigue: float = 0.0
    dimensions: dict[str, Dimension] = {}
    holds: dict[str, Hold] = {}
    mood: str = CALM
    mood_since_s: float | None = None


class Felt(msgspec.Struct, frozen=True):
    """A signal to emit."""

    signal: str
    mood: str
    cause: str
    evidence: dict[str, float]
    ttl_s: float
    level: float = 0.0


def shifted(state: AffectState, by_s: float) -> AffectState:
    """The state with all its moments moved, for a clock that counts from another start."""

    def moved(moment_s: float | None) -> float | None:
        return None if moment_s is None else moment_s + by_s

    holds = {
        name: msgspec.structs.replace(hold, since_s=moved(hold.since_s), turning_s=moved(hold.turning_s))
        for name, hold in state.holds.items()
    }
    return msgspec.structs.replace(state, at_s=moved(state.at_s), mood_since_s=moved(state.mood_since_s), holds=holds)
