"""When the loop runs, where it is, and what came of what it did. Pure: moments are microseconds of one clock."""

from __future__ import annotations

import math

import msgspec

from kloros.optimisation.changes import Change
from kloros.optimisation.model import EnactmentRecord, EnactmentStatus, ReflectionState, Value, Verdict
from kloros.units import US_PER_S

INTERVAL_S = 300.0
COOL_DOWN_S = 60.0
MOST_REFLECTIONS = 1_000
_S = ReflectionState

NEXT: dict[ReflectionState, frozenset[ReflectionState]] = {
    _S.IDLE: frozenset({_S.PROFILING}),
    _S.PROFILING: frozenset({_S.DETECTING}),
    _S.DETECTING: frozenset({_S.PLANNING, _S.IDLE}),
    _S.PLANNING: frozenset({_S.OPTIMISING, _S.AWAITING_APPROVAL, _S.IDLE}),
    _S.AWAITING_APPROVAL: frozenset({_S.OPTIMISING, _S.IDLE}),
    _S.OPTIMISING: frozenset({_S.COOLDOWN, _S.IDLE}),
    _S.COOLDOWN: frozenset({_S.IDLE}),
    _S.STOPPED: frozenset(),
}
"""Where each state may lead; from each the loop may also be stopped, and from STOPPED only be started again."""


class Reflection(msgspec.Struct, frozen=True):
    """One enactment and its effect, as far as it is known."""

    action_id: str
    module_name: str
    action_kind: str
    status: EnactmentStatus
    at_us: int
    before: Value = None
    after: Value = None
    verdict: Verdict | None = None
    is_restored: bool | None = None
    detail: str = ""


class ReflectionCycle:
    """The state of the loop. A beat is due every `interval_s`; after something was enacted it rests `cool_down_s`."""

    def __init__(self, interval_s: float = INTERVAL_S, cool_down_s: float = COOL_DOWN_S) -> None:
        if not (math.isfinite(interval_s) and interval_s > 0 and math.isfinite(cool_down_s) and cool_down_s >= 0):
            raise ValueError("the interval is more than nothing, the cool-down not less")
        self._interval_us = round(interval_s * US_PER_S)
        self._cool_down_us = round(cool_down_s * US_PER_S)
        self.state = ReflectionState.IDLE
        self._begun_us: int | None = None
        self._rests_until_us = 0
        self._records: dict[str, Reflection] = {}

    def is_due(self, now_us: int) -> bool:
        """Whether a round may begin now; a cool-down that is over ends by this."""
        if self.state is _S.COOLDOWN:
            # No longer than it was meant to be, where the clock was set back meanwhile.
            self._rests_until_us = min(self._rests_until_us, now_us + self._cool_down_us)
            if now_us >= self._rests_until_us:
                self.state = _S.IDLE
        if self._begun_us is not None:
            self._begun_us = min(self._begun_us, now_us)
        if self.state is not _S.IDLE:
            return False
        return self._begun_us is None or now_us - self._begun_us >= self._interval_us

    def begin(self, now_us: int) -> bool:
        """Begin a round, if one is due."""
        if not self.is_due(now_us):
            return False
        self._begun_us = now_us
        self.state = _S.PROFILING
        return True

    def move(self, to: ReflectionState) -> None:
        """On to the next state; raises ValueError for one that does not follow."""
        if to is not _S.STOPPED and to not in NEXT[self.state]:
            raise ValueError(f"{to} does not follow {self.state}")
        self.state = to

    def finish(self, now_us: int, *, is_changed: bool) -> None:
        """The round is over, wherever it was."""
        if self.state is _S.STOPPED:
            return
        self.state = _S.COOLDOWN if is_changed else _S.IDLE
        if is_changed:
            self._rests_until_us = now_us + self._cool_down_us

    def stop(self) -> None:
        """No further rounds, until `start`."""
        self.state = _S.STOPPED

    def start(self) -> None:
        """Rounds again."""
        if self.state is _S.STOPPED:
            self.state = _S.IDLE

    def enacted(self, record: EnactmentRecord, at_us: int) -> Reflection:
        """Record an enactment."""
        action = record.action
        reflection = Reflection(
            action.action_id, action.module_name, action.action_kind, record.status, at_us, record.before,
            record.after, record.verdict, detail=record.detail,
        )  # fmt: skip
        return self._put(reflection)

    def ended(self, change: Change) -> Reflection:
        """Record the effect of a change; the first end that is told stays."""
        known = self._records.get(change.change_id)
        if known is not None and known.verdict is not None:
            return known
        status = known.status if known else EnactmentStatus.SUCCESS
        reflection = Reflection(
            change.change_id, change.module_name, change.action_kind, status,
            known.at_us if known else change.written_us, change.before, change.after, change.verdict,
            change.is_restored, change.reason,
        )  # fmt: skip
        return self._put(reflection)

    @property
    def records(self) -> tuple[Reflection, ...]:
        """The last enactments, oldest first."""
        return tuple(self._records.values())

    def figures(self) -> dict[str, int]:
        """How many ended how, of the last enactments; `open` are not ended, or never changed anything."""
        counted = {verdict.value: 0 for verdict in Verdict} | {"open": 0}
        for each in self._records.values():
            counted[each.verdict.value if each.verdict else "open"] += 1
        return counted

    def _put(self, reflection: Reflection) -> Reflection:
        self._records[reflection.action_id] = reflection
        while len(self._records) > MOST_REFLECTIONS:
            del self._records[next(iter(self._records))]
        return reflection
