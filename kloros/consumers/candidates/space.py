"""The parameters that may be tried: which settings, between which bounds; drawn by chance, reproducibly. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, TypeAlias

import msgspec

Parameters: TypeAlias = Mapping[str, float]
"""A value for each path of the space."""

# A neighbour lies so far away, as a share of the whole range (standard deviation), in the first round and at last.
WIDEST_STEP, NARROWEST_STEP = 0.25, 0.03
_NARROWER_EACH_ROUND = 0.8
_PATH = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One setting that may be varied: its dotted key in the module's settings file, bounds, and how finely."""

    path: str
    low: float
    high: float
    default: float
    decimals: int = 3

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.path):
            raise ValueError(f"{self.path!r} is no key of a settings file")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{self.path}: {self.low} to {self.high} is no range")
        if not self.low <= self.default <= self.high:
            raise ValueError(f"{self.path}: the default {self.default} is out of range")

    def fit(self, value: float) -> float:
        """The nearest value that may be tried."""
        return min(max(round(value, self.decimals), self.low), self.high)


Space: TypeAlias = Sequence[Parameter]


def defaults(space: Space) -> dict[str, float]:
    """What holds where nothing is set."""
    return {each.path: each.default for each in space}


def parameters_of(space: Space, tables: Mapping[str, Any]) -> dict[str, float]:
    """The values of the space that a settings file's tables hold; the default where they hold no number."""
    return {each.path: _number_at(tables, each.path, each.default) for each in space}


def tables_of(parameters: Parameters) -> dict[str, Any]:
    """The tables of a settings file with just these values."""
    tables: dict[str, Any] = {}
    for path, value in sorted(parameters.items()):
        *outer, name = path.split(".")
        table = tables
        for part in outer:
            table = table.setdefault(part, {})
        table[name] = value
    return tables


def is_within(space: Space, parameters: Parameters) -> bool:
    """Whether these are values for the space, all of it, within its bounds."""
    known = {each.path: each for each in space}
    return parameters.keys() == known.keys() and all(
        known[path].low <= value <= known[path].high for path, value in parameters.items()
    )


def distance(space: Space, one: Parameters, other: Parameters) -> float:
    """How far two sets lie apart: the sum of their differences, each as a share of its range."""
    return math.fsum(abs(one[each.path] - other[each.path]) / (each.high - each.low) for each in space)


def draw(space: Space, chance: Random) -> dict[str, float]:
    """Any point of the space, each as likely as the others."""
    return {each.path: each.fit(chance.uniform(each.low, each.high)) for each in space}


def draw_near(space: Space, centre: Parameters, round_number: int, chance: Random) -> dict[str, float]:
    """A neighbour of `centre`, the nearer the later the round; at least one value is another."""
    width = max(NARROWEST_STEP, WIDEST_STEP * _NARROWER_EACH_ROUND**round_number)
    moved = {each.path for each in space if chance.random() < 0.5} or {chance.choice(list(space)).path}
    return {
        each.path: each.fit(chance.gauss(centre[each.path], width * (each.high - each.low)))
        if each.path in moved
        else centre[each.path]
        for each in space
    }


def draw_round(
    space: Space, leader: Parameters, round_number: int, count: int, chance: Random
) -> list[dict[str, float]]:
    """The candidates of one round: one half from anywhere, the other near the leader."""
    anywhere = count if round_number == 0 else count // 2
    drawn = [draw(space, chance) for _ in range(anywhere)]
    return drawn + [draw_near(space, leader, round_number, chance) for _ in range(count - anywhere)]


def value_at(tables: Mapping[str, Any], path: str, otherwise: object) -> object:
    """What the tables hold under a dotted key."""
    value: Any = tables
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return otherwise if value is None else value


def _number_at(tables: Mapping[str, Any], path: str, otherwise: float) -> float:
    value = value_at(tables, path, otherwise)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
