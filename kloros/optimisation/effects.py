"""From what an action asks for, and what is in force, to what will be in force: bounded per step and in all. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

from kloros.optimisation.changes import Aim, same
from kloros.optimisation.model import THRESHOLDS, ActionKind, ImprovementAction, Value
from kloros.optimisation.parsing import number_of
from kloros.optimisation.rules import Limits

# No threshold is tuned beyond these, however it came to be where it is.
THRESHOLD_BOUNDS = {
    "latency_p95_threshold_ms": (50.0, 60_000.0),
    "latency_p99_threshold_ms": (50.0, 120_000.0),
    "error_rate_threshold": (0.001, 0.5),
    "min_throughput_rps": (0.0001, 1e6),
    "spike_ratio_threshold": (1.1, 20.0),
}
BUDGET = "budget"
PACE = "pace"
VERSION = "version"
_DEFAULT_DELTA, _DEFAULT_FACTOR, _DEFAULT_PACE = 0.1, 1.5, 0.5


class Effect(NamedTuple):
    """What would be in force. `is_less`: a bound allows less than was asked for."""

    after: Value
    is_less: bool
    detail: str


class NoEffect(NamedTuple):
    """Why nothing is changed. `is_refusal`: it asks for what it may not have."""

    reason_code: str
    detail: str
    is_refusal: bool = False


class Around(NamedTuple):
    """What a bound rests on. origin: where the value was before its first change. p95, p99: the latency thresholds."""

    current: float
    origin: float
    p95: float | None = None
    p99: float | None = None


def name_of(action: ImprovementAction) -> str:
    """Which thing of its module an action changes."""
    match action.action_kind:
        case ActionKind.TUNE_THRESHOLD:
            return dict(action.parameters).get("metric", THRESHOLDS[0])
        case ActionKind.INCREASE_BUDGET:
            return BUDGET
        case ActionKind.REDUCE_LOAD:
            return PACE
    return VERSION


def aim_of(action: ImprovementAction) -> Aim:
    """What a change is to make better; a planner says so in `aim`."""
    told = dict(action.parameters).get("aim", "")
    return Aim(told) if told in Aim.__members__.values() else Aim.NO_HARM


def effect_of(action: ImprovementAction, around: Around, limits: Limits) -> Effect | NoEffect:
    """What a change of a number comes to."""
    given = dict(action.parameters)
    if not (math.isfinite(around.current) and math.isfinite(around.origin)):
        return NoEffect("bad_number", f"what is in force is {around.current:g}", is_refusal=True)
    match action.action_kind:
        case ActionKind.TUNE_THRESHOLD:
            return _tuned(given, around, limits)
        case ActionKind.INCREASE_BUDGET:
            return _budgeted(given, around, limits)
        case ActionKind.REDUCE_LOAD:
            return _slowed(given, around, limits)
    return NoEffect("no_number", f"{action.action_kind} changes no number", is_refusal=True)


def _number(given: dict[str, str], default: float, *keys: str) -> float | None:
    for key in keys:
        if key in given:
            return number_of(given[key])
    return default


def _tuned(given: dict[str, str], around: Around, limits: Limits) -> Effect | NoEffect:
    metric = given.get("metric", THRESHOLDS[0])
    delta = _number(given, _DEFAULT_DELTA, "delta", "suggested_delta")
    if delta is None or metric not in THRESHOLD_BOUNDS:
        return NoEffect("bad_number", "the step is no plain, finite number", is_refusal=True)
    asked = around.current * (1 + delta)
    step = min(max(delta, -limits.tune_step), limits.tune_step)
    low, high = THRESHOLD_BOUNDS[metric]
    low = max(min(low, around.origin), around.origin / limits.tune_range)
    high = min(max(high, around.origin), around.origin * limits.tune_range)
    if metric == "latency_p95_threshold_ms" and around.p99 is not None:
        high = min(high, around.p99)
    if metric == "latency_p99_threshold_ms" and around.p95 is not None:
        low = max(low, around.p95)
    return _within(metric, around.current, asked, around.current * (1 + step), low, high)


def _budgeted(given: dict[str, str], around: Around, limits: Limits) -> Effect | NoEffect:
    factor = _number(given, _DEFAULT_FACTOR, "budget_factor", "factor")
    if factor is None or factor < 1:
        return NoEffect("bad_number", "a budget is increased by a factor of 1 or more", is_refusal=True)
    step = min(factor, limits.budget_step)
    high = around.origin * limits.budget_range
    return _within(BUDGET, around.current, around.current * factor, around.current * step, around.origin, high)


def _slowed(given: dict[str, str], around: Around, limits: Limits) -> Effect | NoEffect:
    pace = _number(given, _DEFAULT_PACE, "pace")
    if pace is None or not 0 <= pace <= 1:
        return NoEffect("bad_number", "load is reduced to a pace from 0 to 1", is_refusal=True)
    if pace > around.current:
        return NoEffect("at_its_bound", f"{PACE} is {around.current:g} already")
    return _within(PACE, around.current, pace, pace, limits.least_pace, 1.0)


def _within(name: str, current: float, asked: float, wanted: float, low: float, high: float) -> Effect | NoEffect:
    """A value that was brought out of its bounds by somebody else is not moved further out; it may come back."""
    after = min(max(wanted, min(low, current)), max(high, current))
    if same(after, current):
        return NoEffect("at_its_bound", f"{name} stays at {current:g}: its bounds are {low:g} and {high:g}")
    return Effect(after, not same(after, asked), f"{name} {current:g} -> {after:g}")
