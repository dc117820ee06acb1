"""A full queue slows those who fill it and speeds the one who drains it. Pure.

Each cycle report tells how much its consumer left waiting. At `high` the rule engages, at `low` it lets go: in between
nothing changes, so that a queue around one mark does not flap the schedule. A queue that is not heard of any more
keeps nobody slow: the wishes expire.
"""

from __future__ import annotations

import msgspec

from kloros.orchestration.wishes import Wish

# Wishes outlive this many silent intervals of the queue's own entry.
TTL_INTERVALS = 3


class QueueRule(msgspec.Struct, frozen=True, kw_only=True):
    """`queue` is the entry whose consumer tells its backlog; `slow` the entries upstream and the pace they get.

    speed: the pace of the queue's own entry meanwhile; 1.0 leaves it alone.
    """

    queue: str
    high: int
    low: int
    slow: dict[str, float]
    speed: float = 1.0


Wishes = list[tuple[str, str, Wish | None]]
"""(entry, source, wish); None takes the source's wish back."""


class Backpressure:
    """Which queues are full, as far as the reports tell."""

    def __init__(self, rules: tuple[QueueRule, ...]) -> None:
        self._rules = {rule.queue: rule for rule in rules}
        self._full: set[str] = set()

    def on_report(self, queue: str, backlog: int, interval_us: int, now_us: int) -> Wishes:
        """What the report of the queue's consumer changes. `interval_us` is its entry's present interval."""
        rule = self._rules.get(queue)
        if rule is None:
            return []
        was_full = queue in self._full
        if backlog >= rule.high or (was_full and backlog > rule.low):
            self._full.add(queue)
            until_us = now_us + TTL_INTERVALS * interval_us
            return self._wishes(rule, f"{backlog} wait for {queue}", until_us)
        self._full.discard(queue)
        return self._withdrawn(rule) if was_full else []

    def _wishes(self, rule: QueueRule, cause: str, until_us: int) -> Wishes:
        source = _source(rule)
        wishes: Wishes = [(name, source, Wish(pace, until_us, cause)) for name, pace in rule.slow.items()]
        if rule.speed != 1.0:
            wishes.append((rule.queue, source, Wish(rule.speed, until_us, cause)))
        return wishes

    def _withdrawn(self, rule: QueueRule) -> Wishes:
        names = [*rule.slow, *([rule.queue] if rule.speed != 1.0 else [])]
        return [(name, _source(rule), None) for name in names]


def _source(rule: QueueRule) -> str:
    return f"backlog {rule.queue}"
