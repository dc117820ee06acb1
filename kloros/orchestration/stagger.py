"""Phases, chosen so that entries with equal or related intervals do not fire together. Pure.

Two grids with intervals a and b and offsets p and q come as close as the circular distance of p - q modulo gcd(a, b),
again and again: so one number per pair says how close two entries ever are, without walking the hyperperiod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import gcd, lcm
from types import MappingProxyType

import msgspec

from kloros.orchestration.schedule_entry import Entry

STEP_US = 1_000_000
# Offsets looked at per entry: with longer intervals, steps are larger.
MOST_CANDIDATES = 3_600
_NO_DURATIONS: Mapping[str, int] = MappingProxyType({})


class Collision(msgspec.Struct, frozen=True):
    """Two entries that come closer than they should: how close, when first, how often per hyperperiod."""

    one: str
    other: str
    apart_us: int
    needed_us: int
    first_us: int
    every_us: int


def apart_us(one: Entry, other: Entry) -> int:
    """How close the due moments of two entries ever come, at their nominal intervals."""
    common = gcd(one.interval_us, other.interval_us)
    distance = (one.offset_us - other.offset_us) % common
    return min(distance, common - distance)


def hyperperiod_us(entries: Iterable[Entry]) -> int:
    """After how long the whole pattern of due moments repeats itself."""
    return lcm(*(entry.interval_us for entry in entries))


def collisions(
    entries: Sequence[Entry], durations_us: Mapping[str, int] = _NO_DURATIONS, within_us: int = STEP_US
) -> list[Collision]:
    """Pairs that come within `within_us` of one another, or closer than the longer of their cycles takes."""
    found = []
    for number, one in enumerate(entries):
        for other in entries[number + 1 :]:
            needed_us = _needed_us(one, other, durations_us, within_us)
            distance_us = apart_us(one, other)
            if distance_us < needed_us:
                every_us = lcm(one.interval_us, other.interval_us)
                first_us = _first_meeting_us(one, other, distance_us)
                found.append(Collision(one.name, other.name, distance_us, needed_us, first_us, every_us))
    return found


def staggered(entries: Sequence[Entry], durations_us: Mapping[str, int] = _NO_DURATIONS) -> dict[str, int]:
    """An offset for each entry, those that fire most often first, each as far as possible from the ones before it.

    Offsets stay where they are if nothing is gained by moving them. Greedy: never worse than before, no promise of the
    best of all. Entries whose intervals have no common divisor but the second always meet.
    """
    placed: list[Entry] = []
    for entry in sorted(entries, key=lambda each: (each.interval_us, -durations_us.get(each.name, 0), each.name)):
        candidates = [entry.offset_us, *_candidates(entry)]
        best = max(candidates, key=lambda offset_us: _room(entry, offset_us, placed, durations_us))
        placed.append(msgspec.structs.replace(entry, offset_us=best))
    if len(collisions(placed, durations_us)) > len(collisions(entries, durations_us)):
        placed = list(entries)
    return {entry.name: entry.offset_us for entry in placed}


def _needed_us(one: Entry, other: Entry, durations_us: Mapping[str, int], within_us: int) -> int:
    longest_us = max(durations_us.get(one.name, 0), durations_us.get(other.name, 0), within_us)
    return min(longest_us, max(within_us, gcd(one.interval_us, other.interval_us) // 2))


def _room(
    entry: Entry, offset_us: int, placed: Sequence[Entry], durations_us: Mapping[str, int]
) -> tuple[int, float, int]:
    """How few pairs collide; how much of what it needs the worst pair has; how close the closest comes."""
    moved = msgspec.structs.replace(entry, offset_us=offset_us)
    shares = [
        (min(1.0, distance_us / _needed_us(moved, other, durations_us, STEP_US)), distance_us)
        for other in placed
        for distance_us in (apart_us(moved, other),)
    ]
    if not shares:
        return 0, 1.0, 0
    collided = sum(share < 1 for share, _ in shares)
    return -collided, min(share for share, _ in shares), min(distance_us for _, distance_us in shares)


def _candidates(entry: Entry) -> range:
    step_us = max(STEP_US, -(-entry.interval_us // MOST_CANDIDATES) // STEP_US * STEP_US)
    return range(0, entry.interval_us, step_us)


def _first_meeting_us(one: Entry, other: Entry, distance_us: int) -> int:
    """The first due moment of `one`, counted from the epoch, at which `other` is that close."""
    step, span = one.interval_us, lcm(one.interval_us, other.interval_us)
    for due_us in range(one.offset_us, one.offset_us + span, step):
        gap_us = (due_us - other.offset_us) % other.interval_us
        if min(gap_us, other.interval_us - gap_us) == distance_us:
            return due_us
    return one.offset_us
