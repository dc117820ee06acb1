"""Whose turn it is: a bounded waiting list, a pause between tournaments, and a breaker. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kloros.consumers.candidates.tournament import Readiness, Tournament
from kloros.units import US_PER_S


class Pauses(NamedTuple):
    """The settings say them."""

    between_s: float = 60.0
    waiting: int = 100
    failures: int = 3
    within_s: float = 120.0
    pause_s: float = 600.0


class Turns(msgspec.Struct, kw_only=True):
    """What the tournament daemon remembers.

    judged_to: by module, the last example that a judgement has used. on_trial: by module, until when its candidate
    is tried in the shadow. looked_to: the last that had closed when modules were last looked at.
    """

    current: Tournament | None = None
    waiting: list[str] = []
    refused: int = 0
    played: int = 0
    ended_us: int | None = None
    failures_us: list[int] = []
    paused_us: int | None = None
    judged_to: dict[str, int] = {}
    on_trial: dict[str, int] = {}
    looked_to: int = -1
    ready: dict[str, Readiness] = {}


def join(turns: Turns, module: str, pauses: Pauses) -> bool:
    """Put a module on the waiting list, once; False when there is no room."""
    if module in turns.waiting:
        return True
    if len(turns.waiting) >= pauses.waiting:
        turns.refused += 1
        return False
    turns.waiting.append(module)
    return True


def may_begin(turns: Turns, now_us: int, pauses: Pauses) -> bool:
    """Whether the next tournament may begin."""
    return turns.current is None and not _is_within(turns.ended_us, pauses.between_s, now_us)


def is_broken(turns: Turns, now_us: int, pauses: Pauses) -> bool:
    """Whether the breaker is open: too much has failed of late."""
    return _is_within(turns.paused_us, pauses.pause_s, now_us)


def note_failure(turns: Turns, now_us: int, pauses: Pauses) -> bool:
    """Remember a failure; returns whether that opened the breaker."""
    recent = [each for each in turns.failures_us if _is_within(each, pauses.within_s, now_us)]
    turns.failures_us = [*recent, now_us]
    if len(turns.failures_us) < pauses.failures:
        return False
    turns.failures_us, turns.paused_us = [], now_us
    return True


def is_on_trial(turns: Turns, module: str, now_us: int) -> bool:
    """Whether a candidate of that module waits for the shadow's verdict."""
    return turns.on_trial.get(module, 0) > now_us


def _is_within(since_us: int | None, seconds: float, now_us: int) -> bool:
    """Whether less than so much has passed. A clock that was set back does not make it longer."""
    return since_us is not None and 0 <= now_us - since_us < seconds * US_PER_S
