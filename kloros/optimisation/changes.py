"""A change from before it is made to its one end. Pure: `(change, what is seen) -> (change, what to do)`.

Whoever drives it keeps the change that `step` returns *before* doing what it says, so that after a kill at any moment
the same call, with what is then in force, goes on where it stopped:

    WRITTEN    kept, perhaps made: before, after and inverse are known
    SETTLING   made and read back; judged once it has settled and enough was seen
    UNDOING    what was before is being put back; the end it comes to is known
    ENDED      CONFIRMED, REVERTED or INCONCLUSIVE; nothing leads out of it
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

import msgspec

from kloros.optimisation.model import ActionKind, Figures, Parameters, Value, Verdict
from kloros.optimisation.rules import Verification
from kloros.units import US_PER_S


class ChangeState(StrEnum):
    """Where a change is."""

    WRITTEN = "written"
    SETTLING = "settling"
    UNDOING = "undoing"
    ENDED = "ended"


class Aim(StrEnum):
    """What a change was made for."""

    LATENCY = "latency"
    ERRORS = "errors"
    THROUGHPUT = "throughput"
    NO_HARM = "no_harm"
    """That nothing gets worse is all that is asked."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one thing. Moments are microseconds of the driver's clock; `lease_until_us`: held until then.

    `before` is what was in force and is the inverse too: putting it back undoes the change.
    """

    change_id: str
    action_kind: ActionKind
    module_name: str
    name: str
    before: Value
    after: Value
    written_us: int
    lease_until_us: int
    state: ChangeState = ChangeState.WRITTEN
    aim: Aim = Aim.NO_HARM
    baseline: Figures | None = None
    parameters: Parameters = ()
    made_us: int | None = None
    pid: int | None = None
    """The process that runs with it, of a swap."""
    undo_attempts: int = 0
    coming_to: Verdict | None = None
    verdict: Verdict | None = None
    reason: str = ""
    is_restored: bool | None = None
    ended_us: int | None = None

    @property
    def is_open(self) -> bool:
        """Not ended yet: its target is busy."""
        return self.state is not ChangeState.ENDED

    @property
    def inverse(self) -> Value:
        """What undoes it."""
        return self.before


class Do(StrEnum):
    """What the driver does next, after it has kept the change."""

    WAIT = "wait"
    MAKE = "make"
    """Put `after` in force, read it back, and call `made` or `not_made`."""
    UNDO = "undo"
    """Put `before` in force, and step again."""
    END = "end"
    """It has ended: tell so, once."""


class Step(NamedTuple):
    """The change as it must be kept, and what to do then."""

    change: Change
    do: Do


class Seen(NamedTuple):
    """What is in force now, and how the module did since the change settled. `is_readable` False: nobody knows."""

    now_us: int
    current: Value = None
    is_readable: bool = True
    figures: Figures | None = None


def set_back(change: Change, now_us: int) -> Change:
    """The same after the clock was set back: nothing was made later than now, and no lease is longer than it was."""
    late_us = (change.made_us or change.written_us) - now_us
    if late_us <= 0:
        return change
    return msgspec.structs.replace(
        change, written_us=change.written_us - late_us, lease_until_us=change.lease_until_us - late_us,
        made_us=None if change.made_us is None else now_us,
    )  # fmt: skip


def made(change: Change, now_us: int) -> Change:
    """It was made, and read back."""
    if change.state is not ChangeState.WRITTEN:
        return change
    return msgspec.structs.replace(change, state=ChangeState.SETTLING, made_us=now_us)


def undo(change: Change, verdict: Verdict, reason: str) -> Step:
    """Put back what was before; the change then ends as `verdict`. One that has ended stays as it is."""
    if not change.is_open:
        return Step(change, Do.WAIT)
    if change.state is ChangeState.UNDOING:
        return Step(change, Do.UNDO)
    going = msgspec.structs.replace(change, state=ChangeState.UNDOING, coming_to=verdict, reason=reason)
    return Step(going, Do.UNDO)


def end(change: Change, verdict: Verdict, reason: str, now_us: int, *, is_restored: bool) -> Step:
    """Its one end. A change that has ended keeps the end it had."""
    if not change.is_open:
        return Step(change, Do.WAIT)
    ended = msgspec.structs.replace(
        change, state=ChangeState.ENDED, verdict=verdict, coming_to=None, reason=reason, ended_us=now_us,
        is_restored=is_restored,
    )  # fmt: skip
    return Step(ended, Do.END)


def step(change: Change, seen: Seen, rules: Verification) -> Step:
    """What is next for a change, by what is seen now; safe to ask at any time, also after a kill."""
    match change.state:
        case ChangeState.WRITTEN:
            return _resumed(change, seen)
        case ChangeState.SETTLING:
            return _judged(change, seen, rules)
        case ChangeState.UNDOING:
            return _undone(change, seen, rules)
    return Step(change, Do.WAIT)


def same(one: Value, other: Value) -> bool:
    """Whether two values are one, but for rounding."""
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other


def _resumed(change: Change, seen: Seen) -> Step:
    """Written ahead, and nobody said that it was made: by what is in force it was, or it never took hold."""
    if not seen.is_readable:
        return undo(change, Verdict.REVERTED, "whether it took hold cannot be seen")
    if same(seen.current, change.after) and not same(change.before, change.after):
        return Step(made(change, seen.now_us), Do.WAIT)
    if same(seen.current, change.before):
        return end(change, Verdict.REVERTED, "it never took hold", seen.now_us, is_restored=True)
    return end(change, Verdict.INCONCLUSIVE, "somebody else changed it", seen.now_us, is_restored=False)


def _judged(change: Change, seen: Seen, rules: Verification) -> Step:
    if seen.is_readable and not same(seen.current, change.after):
        return end(change, Verdict.INCONCLUSIVE, "somebody else changed it", seen.now_us, is_restored=False)
    settled_us = (change.made_us or change.written_us) + round(rules.settle_s * US_PER_S)
    if seen.now_us >= settled_us and seen.figures is not None and seen.figures.calls >= rules.min_samples:
        verdict, reason = compare(change.baseline, seen.figures, change.aim, rules)
        if verdict is Verdict.CONFIRMED:
            return end(change, verdict, reason, seen.now_us, is_restored=False)
        if verdict is Verdict.REVERTED:
            return undo(change, verdict, reason)
    if seen.now_us >= change.lease_until_us:
        return undo(change, Verdict.INCONCLUSIVE, "nothing spoke for it until its lease lapsed")
    return Step(change, Do.WAIT)


def _undone(change: Change, seen: Seen, rules: Verification) -> Step:
    verdict = change.coming_to or Verdict.REVERTED
    if seen.is_readable and same(seen.current, change.before):
        return end(change, verdict, change.reason, seen.now_us, is_restored=True)
    if seen.is_readable and not same(seen.current, change.after):
        told = f"{change.reason}; meanwhile somebody else changed it"
        return end(change, Verdict.INCONCLUSIVE, told, seen.now_us, is_restored=False)
    if change.undo_attempts >= rules.undo_attempts:
        told = f"{change.reason}; what was before could not be put back in {change.undo_attempts} attempts"
        return end(change, Verdict.INCONCLUSIVE, told, seen.now_us, is_restored=False)
    return Step(msgspec.structs.replace(change, undo_attempts=change.undo_attempts + 1), Do.UNDO)


def compare(before: Figures | None, after: Figures, aim: Aim, rules: Verification) -> tuple[Verdict, str]:
    """What the figures say; INCONCLUSIVE as long as they say nothing."""
    if before is None or before.calls < rules.min_samples:
        return Verdict.INCONCLUSIVE, "too little is known of before"
    gains = _gains(before, after)
    for name, gain in gains.items():
        if gain < -rules.max_harm:
            return Verdict.REVERTED, f"{name} got worse by {-gain:.0%}"
    if aim is Aim.NO_HARM:
        return Verdict.CONFIRMED, "nothing got worse"
    gain = gains[aim]
    if gain >= rules.min_gain:
        return Verdict.CONFIRMED, f"{aim} got better by {gain:.0%}"
    return Verdict.INCONCLUSIVE, f"{aim} changed by {gain:+.0%} only"


def _gains(before: Figures, after: Figures) -> dict[str, float]:
    """By which share each figure got better (negative: worse); error rates in points of what is left to go wrong."""
    latency = _latency_gain(before, after)
    throughput = (
        (after.throughput_rps - before.throughput_rps) / before.throughput_rps if before.throughput_rps > 0 else 0.0
    )
    # A rate of nearly nothing that doubles is nearly nothing still: below 1 % it is compared with 1 %.
    errors = (before.error_rate - after.error_rate) / max(before.error_rate, 0.01)
    return {Aim.LATENCY: latency, Aim.ERRORS: errors, Aim.THROUGHPUT: throughput}


_BEYOND_CHANCE = 0.5
_LEAST_MS = 20.0
"""What takes less is as good as this: 4 ms that become 7 harm nobody."""


def _latency_gain(before: Figures, after: Figures) -> float:
    """The lesser of what the 50th and the 95th percentile say, nothing where they differ.

    Of some twenty cycles the 95th percentile alone moves by a fifth by chance; one that halves or doubles does not.
    """
    typical, late = _gain(before.p50_ms, after.p50_ms), _gain(before.p95_ms, after.p95_ms)
    if late >= _BEYOND_CHANCE or late <= -2 * _BEYOND_CHANCE:
        return late
    return min(typical, late, key=abs) if (typical > 0) == (late > 0) else 0.0


def _gain(before_ms: float, after_ms: float) -> float:
    before_ms, after_ms = max(before_ms, _LEAST_MS), max(after_ms, _LEAST_MS)
    return (before_ms - after_ms) / before_ms
