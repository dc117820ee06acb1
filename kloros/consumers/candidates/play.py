"""How candidates are compared: replayed, scored, and told from noise. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from random import Random
from typing import NamedTuple

import msgspec

from kloros.consumers.candidates.space import Parameters, distance, draw_round
from kloros.consumers.candidates.subject import Example, Outputs, Subject

# Up to so many groups that differ, every way in which chance could have dealt them is looked at; else so many deals.
_ALL_DEALS_UP_TO_GROUPS = 12
_DEALS = 4_000
_TOLERANCE = 1e-9


class Score(NamedTuple):
    """`fitness` 0 to 1, 1 when every decision was right; `cost` in the subject's unit."""

    fitness: float
    cost: float


class Champion(msgspec.Struct, frozen=True):
    """The best of a round."""

    parameters: dict[str, float]
    fitness: float
    cost: float


class Comparison(NamedTuple):
    """A candidate against the incumbent on the same examples. `p_value`: how often chance alone, dealing the same
    differences to either of them, would have favoured the candidate as much."""

    candidate: Score
    incumbent: Score
    p_value: float

    @property
    def gain(self) -> float:
        """How much fitter the candidate is."""
        return self.candidate.fitness - self.incumbent.fitness


def losses(subject: Subject, examples: Sequence[Example], outputs: Outputs) -> list[float]:
    """The loss of each example. A decision that is missing is wrong. Raises ValueError for what is no loss."""
    found = []
    for example in examples:
        output = outputs.get(example.key)
        loss = 1.0 if output is None else subject.loss(example, output)
        if not 0.0 <= loss <= 1.0:
            raise ValueError(f"a loss of {loss} for {example.key}")
        found.append(loss)
    return found


def score(subject: Subject, examples: Sequence[Example], outputs: Outputs) -> Score:
    """How well decided, over labelled examples. Of none, nothing can be said: fitness 0."""
    if not examples:
        return Score(0.0, 0.0)
    fitness = 1.0 - math.fsum(losses(subject, examples, outputs)) / len(examples)
    costs = (subject.cost(each, outputs[each.key]) for each in examples if each.key in outputs)
    return Score(fitness, math.fsum(costs))


def play_round(
    subject: Subject, examples: Sequence[Example], incumbent: Parameters, leader: Parameters, round_number: int,
    count: int, chance: Random,
) -> Champion:  # fmt: skip
    """Draw `count` candidates and let them play, with the incumbent and the leader of the rounds before.

    The champion is the fittest; of equals the cheapest, and then the one that changes least.
    """
    drawn = draw_round(subject.space, leader, round_number, count, chance)
    played = [_played(subject, examples, each) for each in (dict(incumbent), dict(leader), *drawn)]
    return min(played, key=lambda each: _rank(subject, each, incumbent))


def tidied(subject: Subject, examples: Sequence[Example], champion: Champion, incumbent: Parameters) -> Champion:
    """The champion without the changes that gain nothing: what no example speaks for stays as it is."""
    for path in sorted(champion.parameters):
        if champion.parameters[path] != incumbent[path]:
            simpler = _played(subject, examples, {**champion.parameters, path: incumbent[path]})
            if (-simpler.fitness, simpler.cost) <= (-champion.fitness, champion.cost):
                champion = simpler
    return champion


def compare(
    subject: Subject, examples: Sequence[Example], candidate: Parameters, incumbent: Parameters, chance: Random
) -> Comparison:
    """Both on the same labelled examples."""
    theirs, ours = (subject.replay(each, examples) for each in (candidate, incumbent))
    gained = zip(losses(subject, examples, ours), losses(subject, examples, theirs), strict=True)
    by_group: dict[str, float] = {}
    for example, (before, after) in zip(examples, gained, strict=True):
        by_group[example.group] = by_group.get(example.group, 0.0) + before - after
    scores = score(subject, examples, theirs), score(subject, examples, ours)
    return Comparison(*scores, p_value(by_group, chance))


def p_value(gained: Mapping[str, float], chance: Random) -> float:
    """How likely so great a total, or a greater one, is if each group's gain might as well have been a loss.

    Few groups are dealt in every possible way, many by chance; 1 when nothing was gained.
    """
    gains = sorted(gain for gain in gained.values() if abs(gain) > _TOLERANCE)
    total = math.fsum(gains)
    if total <= _TOLERANCE:
        return 1.0
    if len(gains) <= _ALL_DEALS_UP_TO_GROUPS:
        deals = [
            math.fsum(map(math.prod, zip(gains, signs, strict=True))) for signs in product((1, -1), repeat=len(gains))
        ]
        return sum(deal >= total - _TOLERANCE for deal in deals) / len(deals)
    reached = sum(_dealt(gains, chance) >= total - _TOLERANCE for _ in range(_DEALS))
    return (reached + 1) / (_DEALS + 1)


def variance(values: Sequence[float]) -> float:
    """The mean square of their distances from their mean; 0 of fewer than two."""
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / len(values)


def _dealt(gains: Sequence[float], chance: Random) -> float:
    signs = chance.getrandbits(len(gains))
    return math.fsum(gain if signs >> place & 1 else -gain for place, gain in enumerate(gains))


def _played(subject: Subject, examples: Sequence[Example], parameters: dict[str, float]) -> Champion:
    return Champion(parameters, *score(subject, examples, subject.replay(parameters, examples)))


def _rank(subject: Subject, each: Champion, incumbent: Parameters) -> tuple[float, float, float]:
    return -each.fitness, each.cost, distance(subject.space, each.parameters, incumbent)
