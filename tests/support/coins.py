"""The smallest subject: is a number above a bound? Its labels are right, or, with noise, thrown coins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from kloros.consumers.candidates.space import Parameter, Parameters, Space
from kloros.consumers.candidates.subject import Asked, Example, Output, Outputs


class Coins:
    """See Subject. Right is the bound 0.5; nothing depends on `idle` but, if wanted, the cost."""

    name = "coins"
    settings = "coins"
    assumes: Mapping[str, object] = {}
    space: Space = (
        Parameter(path="at", low=0.0, high=1.0, default=0.5),
        Parameter(path="idle", low=0.0, high=1.0, default=0.5),
    )

    def __init__(self, cost_of_idle: float = 0.0) -> None:
        self._cost_of_idle = cost_of_idle
        self._idle = 0.0

    def examples(self, history: Sequence[Asked]) -> Sequence[Example]:
        raise NotImplementedError

    def replay(self, parameters: Parameters, examples: Sequence[Example]) -> Outputs:
        self._idle = parameters.get("idle", 0.0)
        return {each.key: each.data[0] > parameters["at"] for each in examples}

    def loss(self, example: Example, output: Output) -> float:
        return float(output != example.data[1])

    def cost(self, example: Example, output: Output) -> float:
        return self._cost_of_idle * self._idle


def coins(count: int, chance: Random, noise: float = 0.0, first: int = 1) -> list[Example]:
    """So many labelled decisions; a share of `noise` of them is labelled by a thrown coin."""
    found = []
    for number in range(first, first + count):
        value = chance.random()
        label = chance.random() < 0.5 if chance.random() < noise else value > 0.5
        found.append(
            Example(key=f"e{number}", group=f"g{number}", closed=number, is_labelled=True, data=(value, label))
        )
    return found
