"""Who wishes an entry to run slower or faster, until when and why; and what that comes to. Pure.

Wishes are set, they never compound: one per source, a new one takes the old one's place. What an operator says holds
alone, but a hold is stronger. Among the others a slow-down wins over a speed-up, the slowest over the slower.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

HOLD = 0.0
"""The pace of an entry that is not to run at all for the time being."""
STEADY = 1.0
"""No faster than nominal: left behind by a slow-down for a while, so that moods that flap do not flap the schedule."""
OPERATOR = "operator"
SETTLING = "settling"


class Wish(msgspec.Struct, frozen=True):
    """`pace` divides the interval: 0.5 is half as often, 0 not at all. `until_us` None: until taken back."""

    pace: float
    until_us: int | None = None
    cause: str = ""


def wanted_pace(wishes: Mapping[str, Wish]) -> float:
    """The pace that these wishes come to, holds aside; but nothing becomes quicker while it is held."""
    if (said := wishes.get(OPERATOR)) is not None:
        return said.pace
    paces = [wish.pace for wish in wishes.values() if wish.pace != HOLD]
    slowest = min(paces, default=STEADY)
    if slowest <= STEADY:
        return slowest
    return STEADY if is_held(wishes) else max(paces)


def is_held(wishes: Mapping[str, Wish]) -> bool:
    """Whether somebody wishes the entry not to run: stronger than any pace."""
    return any(wish.pace == HOLD for wish in wishes.values())


def held_until_us(wishes: Mapping[str, Wish]) -> int | None:
    """When the last hold runs out; None when there is none, or one that must be taken back."""
    untils = [wish.until_us for wish in wishes.values() if wish.pace == HOLD]
    ends = [until_us for until_us in untils if until_us is not None]
    return max(ends, default=None) if len(ends) == len(untils) else None


def deciding(wishes: Mapping[str, Wish]) -> list[tuple[str, Wish]]:
    """The wishes that decide how the entry runs, by source: holds alone, while there are any."""
    if is_held(wishes):
        return sorted((source, wish) for source, wish in wishes.items() if wish.pace == HOLD)
    return pacing(wishes)


def pacing(wishes: Mapping[str, Wish]) -> list[tuple[str, Wish]]:
    """The wishes that make the pace what it is, holds aside, by source."""
    pace = wanted_pace(wishes)
    if OPERATOR in wishes:
        return [(OPERATOR, wishes[OPERATOR])]
    if pace == STEADY:
        return []
    return sorted((source, wish) for source, wish in wishes.items() if wish.pace == pace)


def is_slow(wishes: Mapping[str, Wish]) -> bool:
    """Whether something other than an operator slows the entry down, or holds it."""
    return any(wish.pace < STEADY for source, wish in wishes.items() if source != OPERATOR)


def without_expired(wishes: Mapping[str, Wish], at_us: int) -> dict[str, Wish]:
    """Those that still hold after `at_us`."""
    return {source: wish for source, wish in wishes.items() if wish.until_us is None or wish.until_us > at_us}


def next_expiry_us(wishes: Mapping[str, Wish]) -> int | None:
    """When the first of them runs out."""
    return min((wish.until_us for wish in wishes.values() if wish.until_us is not None), default=None)
