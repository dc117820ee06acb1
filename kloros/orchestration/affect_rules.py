"""How a mood of the machine paces the schedule. Pure.

A rule sets a pace for as long as its signal comes, and `ttl_s` longer; it never adds to another one.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kloros.orchestration.schedule_entry import Entry
from kloros.orchestration.wishes import Wish

EVERY_ADAPTIVE = "*"


class AffectRule(msgspec.Struct, frozen=True, kw_only=True):
    """`signal` -> `pace` for `entries`; `*` stands for every adaptive entry. Pace 0 holds them."""

    signal: str
    entries: tuple[str, ...]
    pace: float
    ttl_us: int


def wishes_of(
    rules: Iterable[AffectRule], entries: Iterable[Entry], signal: str, cause: str, ttl_us: int | None, now_us: int
) -> list[tuple[str, str, Wish]]:
    """(entry, source, wish) for each entry that the signal's rules move. The signal's own ttl can only shorten.

    Entries that are not adaptive never move.
    """
    entries = list(entries)
    wishes = []
    for rule in rules:
        if rule.signal != signal:
            continue
        until_us = now_us + (rule.ttl_us if ttl_us is None else min(rule.ttl_us, ttl_us))
        wish = Wish(rule.pace, until_us, cause)
        is_for_all = EVERY_ADAPTIVE in rule.entries
        wishes += [
            (entry.name, signal, wish)
            for entry in entries
            if entry.adaptive and (is_for_all or entry.name in rule.entries)
        ]
    return wishes
