"""Which question is taken first, which one is refused when there are too many, and when that is worth a word. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from kloros.chembus.facts_work import QuestionFacts
from kloros.units import US_PER_S

LEAST_COST = 0.01
# What a question is worth counts up to here, so that waiting long enough counts for more.
MOST_WORTH = 20.0
_OTHERWISE_WORTH = 1.0
_URGENT = ("critical", "emergency")


class Waiting(NamedTuple):
    """A question that waits. spent_s: how long it has been looked into, in beats before."""

    question_id: str
    worth: float
    is_urgent: bool
    arrived_us: int
    spent_s: float


class Bottleneck(msgspec.Struct, frozen=True):
    """Whether too many wait, and how often that was announced."""

    is_on: bool = False
    times: int = 0


def worth_of(question: QuestionFacts) -> float:
    """Value for cost, from 0 to MOST_WORTH; what nobody estimated is worth as much as it costs."""
    value, cost = question.value_estimate, question.cost_estimate
    if value is None or not math.isfinite(value):
        return _OTHERWISE_WORTH
    if cost is None or not math.isfinite(cost):
        cost = 1.0
    return min(MOST_WORTH, max(0.0, value / max(cost, LEAST_COST)))


def is_urgent(question: QuestionFacts) -> bool:
    """Whether it has the shorter time-out. It passes by no limit for that."""
    return question.severity == "critical" or (question.priority or "").lower() in _URGENT


def in_order(waiting: Iterable[Waiting], now_us: int, age_weight_s: float) -> list[Waiting]:
    """The most valuable first; waiting counts too, so that each one comes to be the first."""

    def urgency(each: Waiting) -> float:
        return each.worth + max(0.0, (now_us - each.arrived_us) / US_PER_S) / age_weight_s

    return sorted(waiting, key=lambda each: (-urgency(each), each.arrived_us, each.question_id))


def least_valuable(waiting: Iterable[Waiting]) -> Waiting:
    """The one to refuse; of equals the newest."""
    return min(waiting, key=lambda each: (each.worth, -each.arrived_us, each.question_id))


def judge(before: Bottleneck, depth: int, above: int, over_at: int) -> Bottleneck:
    """After a look at how many wait: announced above one mark, over at a lower one, nothing in between."""
    if not before.is_on and depth > above:
        return Bottleneck(is_on=True, times=before.times + 1)
    if before.is_on and depth <= over_at:
        return Bottleneck(is_on=False, times=before.times)
    return before
