"""From vital signs to a mood and to feelings: smoothed, and with a way in and another way out. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from kloros.affect.settings import AffectSettings, Ramp, Turn
from kloros.affect.signs import CYCLES, FRICTION, FRUSTRATION, MEMORY, OVERWORK, PERILS, SIGNS, STRAIN, sentence
from kloros.affect.state import CALM, AffectState, Dimension, Felt, Hold, Reading, Vitals

SIDES = (STRAIN, MEMORY, FRUSTRATION, FRICTION, OVERWORK)
FATIGUE, PERIL, WELLBEING = "fatigue", "peril", "wellbeing"
# The time a first appraisal is taken to stand for: what it sees must be seen again to count in full.
FIRST_SPAN_S = 10.0
# A smoothed level below this is nothing.
NOTHING = 0.005
# A trouble below this is not worth naming.
TROUBLING = 0.2

MOODS = (
    ("emergency_brake", "overwhelmed"),
    ("critical_fatigue", "exhausted"),
    ("memory_pressure", "short of memory"),
    ("resource_strain", "strained"),
    ("stuck_loop", "stuck"),
    ("repetitive_error", "frustrated"),
    ("task_failure_pattern", "frustrated"),
    ("wellbeing_low", "low"),
    ("wellbeing_high", "content"),
)
"""The word for each feeling, the gravest first; without any it is calm."""


def signal_of(feeling: str) -> str:
    """The signal that tells of a feeling."""
    return f"AFFECT_{feeling.upper()}"


def appraise(
    state: AffectState, now_s: float, vitals: Vitals, settings: AffectSettings, ttl_s: float
) -> tuple[AffectState, list[Felt]]:
    """What to remember, and what to say: AFFECT_STATE always, AFFECT_STATE_CHANGE when the mood turned, and each
    feeling that holds. They are worth saying again before `ttl_s` has passed; what is not said again has ended.

    Time in which nobody looked counts for nothing: after more than `ttl_s` of it, every feeling has to begin anew.
    """
    span_s = FIRST_SPAN_S if state.at_s is None else max(0.0, now_s - state.at_s)
    if span_s > ttl_s:
        state, span_s = replace(state, holds={}), ttl_s
    present = _levels(vitals, settings)
    levels = _smoothed(state.levels, present, span_s, settings.time.smooth_s)
    perils = _smoothed(state.perils, _perils(vitals, settings), span_s, settings.time.smooth_s)
    sides = {side: _side(side, levels, present, vitals.readings) for side in SIDES}
    fatigue = _fatigue(state.fatigue, max(sides[STRAIN], sides[OVERWORK], key=_value), span_s, settings)
    wellbeing = _wellbeing([sides[STRAIN], fatigue, sides[FRUSTRATION], sides[FRICTION]], vitals.readings)
    dimensions = {**sides, FATIGUE: fatigue, PERIL: _peril(perils, vitals.readings), WELLBEING: wellbeing}
    holds = _holds(state.holds, now_s, _grounds(dimensions, vitals.readings), settings)
    mood, feeling = _mood(holds)
    has_turned = mood != state.mood
    new = AffectState(
        at_s=now_s, levels=levels, perils=perils, fatigue=fatigue.value, dimensions=dimensions, holds=holds, mood=mood,
        mood_since_s=now_s if has_turned or state.mood_since_s is None else state.mood_since_s,
    )  # fmt: skip
    return new, _said(new, feeling, has_turned, vitals, ttl_s)


# Levels


def _levels(vitals: Vitals, settings: AffectSettings) -> dict[str, float]:
    found = {name: _level(name, vitals.readings, settings.signs) for name in SIGNS if name in vitals.readings}
    if "swap_used" in found:  # full swap is no trouble while there is memory to be had
        found["swap_used"] = min(found["swap_used"], 2 * found.get("memory_used", 1.0))
    return found


def _level(name: str, readings: Mapping[str, Reading], ramps: object) -> float:
    ramp: Ramp = getattr(ramps, name)
    return ramp.level(readings[name].value)


def _perils(vitals: Vitals, settings: AffectSettings) -> dict[str, float]:
    found = {}
    for peril, names in PERILS.items():
        known = [_level(name, vitals.readings, settings.peril) for name in names if name in vitals.readings]
        if names[0] in vitals.readings:
            found[peril] = min(known)
    return found


def _smoothed(
    before: Mapping[str, float], now: Mapping[str, float], span_s: float, smooth_s: float
) -> dict[str, float]:
    """What is not perceived any more fades."""
    smoothed = {name: _eased(before.get(name, 0.0), now.get(name, 0.0), span_s, smooth_s) for name in {*before, *now}}
    return {name: level for name, level in smoothed.items() if name in now or level >= NOTHING}


def _eased(before: float, now: float, span_s: float, time_s: float) -> float:
    """An exponentially weighted mean with a time constant, however unevenly it is fed."""
    return now + (before - now) * math.exp(-span_s / time_s)


# Dimensions


def _side(
    side: str, levels: Mapping[str, float], present: Mapping[str, float], readings: Mapping[str, Reading]
) -> Dimension:
    """The worst of its signs; all that trouble at all are its evidence."""
    mine = {name: level for name, level in levels.items() if side in SIGNS[name].sides and level >= NOTHING}
    if not mine:
        return Dimension(0.0)
    worst = max(mine, key=lambda name: (mine[name], name))
    is_easing = present.get(worst, 0.0) < mine[worst] / 2
    cause = f"{'easing: ' if is_easing else ''}{_words([worst], readings)}"
    return Dimension(mine[worst], cause, _numbers(mine, readings))


def _peril(perils: Mapping[str, float], readings: Mapping[str, Reading]) -> Dimension:
    worst = max(perils, key=lambda name: (perils[name], name), default=None)
    if worst is None or perils[worst] < NOTHING:
        return Dimension(0.0)
    return Dimension(perils[worst], _words(PERILS[worst], readings), _numbers(PERILS[worst], readings))


def _words(names: Iterable[str], readings: Mapping[str, Reading]) -> str:
    return "; ".join(sentence(name, readings[name]) for name in names if name in readings) or "not to be seen any more"


def _numbers(names: Iterable[str], readings: Mapping[str, Reading]) -> dict[str, float]:
    return {name: round(readings[name].value, 2) for name in sorted(names) if name in readings}


def _fatigue(before: float, load: Dimension, span_s: float, settings: AffectSettings) -> Dimension:
    """Strain and overwork add up, and rest takes as long."""
    time_s = settings.time.fatigue_s if load.value > before else settings.time.recovery_s
    value = _eased(before, load.value, span_s, time_s)
    if value < TROUBLING:
        return Dimension(value)
    cause = f"for long, {load.cause}" if load.value > value else "recovering from what was too much"
    return Dimension(value, cause, load.evidence)


def _wellbeing(troubles: Iterable[Dimension], readings: Mapping[str, Reading]) -> Dimension:
    worst = max(troubles, key=_value)
    if worst.value >= TROUBLING:
        return Dimension(1.0 - worst.value, worst.cause, worst.evidence)
    return replace(_all_well(readings), value=1.0 - worst.value)


def _all_well(readings: Mapping[str, Reading]) -> Dimension:
    cycles = readings[CYCLES].value if CYCLES in readings else 0.0
    went_well = f", and {cycles:.0f} cycles went well of late" if cycles else ""
    return Dimension(1.0, f"nothing much is short{went_well}", {CYCLES: cycles})


def _value(dimension: Dimension) -> float:
    return dimension.value


# Feelings


def _grounds(dimensions: Mapping[str, Dimension], readings: Mapping[str, Reading]) -> dict[str, Dimension]:
    """What each feeling is judged by."""
    wellbeing = dimensions[WELLBEING]
    return {
        "resource_strain": dimensions[STRAIN],
        "memory_pressure": dimensions[MEMORY],
        "critical_fatigue": dimensions[FATIGUE],
        "emergency_brake": dimensions[PERIL],
        "wellbeing_low": replace(wellbeing, value=1.0 - wellbeing.value),
        "wellbeing_high": replace(_all_well(readings), value=wellbeing.value * _can_be_well(readings)),
        "repetitive_error": _counted("repeated_error", readings),
        "task_failure_pattern": _counted("failed", readings),
        "stuck_loop": _counted("restarts", readings),
    }


def _can_be_well(readings: Mapping[str, Reading]) -> bool:
    """Who cannot see the processors or the memory, or hears of no cycle, does not know that all is well."""
    sees = ("cpu_some" in readings or "load" in readings) and "memory_used" in readings
    return sees and CYCLES in readings and readings[CYCLES].value > 0


def _counted(name: str, readings: Mapping[str, Reading]) -> Dimension:
    if name not in readings:
        return Dimension(0.0)
    reading = readings[name]
    return Dimension(reading.value, sentence(name, reading), _numbers([name], readings))


def _holds(
    before: Mapping[str, Hold], now_s: float, grounds: Mapping[str, Dimension], settings: AffectSettings
) -> dict[str, Hold]:
    return {
        feeling: turned(before.get(feeling, Hold()), now_s, ground, getattr(settings.feelings, feeling))
        for feeling, ground in grounds.items()
    }


def turned(hold: Hold, now_s: float, ground: Dimension, turn: Turn) -> Hold:
    """The feeling after one more look at what it is judged by. While it holds it keeps the words and numbers of the
    latest look that spoke for it."""
    speaks_against = ground.value < turn.leave if hold.holds else ground.value >= turn.enter
    turning_s = (now_s if hold.turning_s is None else hold.turning_s) if speaks_against else None
    patience_s = 0.0 if hold.holds else turn.after_s
    is_settled = hold.since_s is None or now_s - hold.since_s >= turn.hold_s
    if turning_s is not None and is_settled and now_s - turning_s >= patience_s:
        hold = Hold(holds=not hold.holds, since_s=now_s)
    else:
        hold = replace(hold, turning_s=turning_s)
    if not hold.holds:
        return hold
    if ground.value >= turn.leave and ground.cause:
        return replace(hold, cause=ground.cause, evidence={"level": round(ground.value, 3), **ground.evidence})
    return hold


def _mood(holds: Mapping[str, Hold]) -> tuple[str, str | None]:
    for feeling, mood in MOODS:
        if feeling in holds and holds[feeling].holds:
            return mood, feeling
    return CALM, None


# Saying it


def _said(new: AffectState, feeling: str | None, has_turned: bool, vitals: Vitals, ttl_s: float) -> list[Felt]:
    cause = new.holds[feeling].cause if feeling else new.dimensions[WELLBEING].cause
    said = [Felt("AFFECT_STATE", new.mood, cause, _numbers(vitals.readings, vitals.readings), ttl_s)]
    if has_turned:
        evidence = new.holds[feeling].evidence if feeling else {}
        said.append(Felt("AFFECT_STATE_CHANGE", new.mood, cause, evidence, ttl_s))
    for name, hold in new.holds.items():
        if hold.holds:
            level = hold.evidence.get("level", 1.0)
            said.append(Felt(signal_of(name), new.mood, hold.cause, hold.evidence, ttl_s, level))
    return said
