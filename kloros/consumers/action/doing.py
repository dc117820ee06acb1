"""One action is done: written down before, judged after, taken back when it did not help, and ended once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping

from kloros.chembus.facts import Facts
from kloros.consumers.action import store
from kloros.consumers.action.action import Action, Stage, State
from kloros.consumers.action.kinds.base import (
    NOT_YET,
    POLL_S,
    Hand,
    Interrupted,
    Judgement,
    Kind,
    Lapses,
    NotDone,
    TooSlow,
    Unfit,
)
from kloros.consumers.action.outcomes import Outcomes
from kloros.consumers.action.settings import ActionSettings, KindSettings
from kloros.consumers.action.wording import cure_of
from kloros.daemon.cycle import Cycle
from kloros.daemon.limits import Breaker, backoff_until_us
from kloros.errors import CannotObserve, HelperAway, HelperFailed, HelperRefused, HelperSilent, StoreUnusable
from kloros.units import seconds_to_us, us_to_seconds

BREAKER = "breaker"
_CUT_SHORT = "it was cut short while under way; "

Wait = Callable[[Cycle, float], bool]
"""Lets so many seconds pass; returns False when there is no more time at all."""


class Doer:
    """Does actions with a cycle; every step is kept before the next one begins."""

    def __init__(self, cycle: Cycle, settings: ActionSettings, kinds: Mapping[str, Kind], wait: Wait) -> None:
        self._cycle, self._settings, self._kinds, self._wait, self._log = cycle, settings, kinds, wait, cycle.log
        self.hand = Hand(wait=lambda seconds: wait(cycle, seconds), emit=self._emit_now)
        self.ended: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.acted = 0

    def check(self, action: Action) -> State | str:
        """What the target is like, or why nothing can be done."""
        kind = self._kinds.get(action.kind)
        if kind is None:
            return "there is no such kind of action any more"
        try:
            return kind.check(action)
        except (Unfit, CannotObserve) as reason:
            return str(reason)
        except Exception as error:  # noqa: BLE001 - one that cannot be checked must not hold up the others
            self._log.exception("action_raised", action_id=action.action_id, kind=action.kind)
            return f"{type(error).__name__}: {error}"

    def begin(self, action: Action) -> None:
        """Do it, if it still makes sense, and judge it."""
        self.acted += 1
        before = self.check(action)
        if isinstance(before, str):
            self.end(action, "refused", before)
            return
        now_us = self._now_us()
        action.stage, action.before, action.started_us, action.waits_for = Stage.ACTING, before, now_us, None
        store.put(self._cycle, action)
        store.put_attempt(self._cycle, action, now_us)
        self._cycle.commit()  # from here on a kill finds it
        self._log.info("action_begun", action_id=action.action_id, kind=action.kind, target=action.target)
        try:
            self._kinds[action.kind].act(action, before, self.hand)
        except Interrupted as reason:
            self._leave(action, str(reason))
        except (Unfit, HelperAway, HelperRefused) as reason:
            self.end(action, "refused", str(reason))
        except (TooSlow, HelperSilent) as reason:
            self._fail(action, "timed_out", str(reason))
        except (NotDone, HelperFailed, CannotObserve) as reason:
            self._fail(action, "failed", str(reason))
        except StoreUnusable:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of a kind's own is a failed action, not a failed beat
            self._log.exception("action_raised", action_id=action.action_id, kind=action.kind)
            self._fail(action, "failed", f"{type(error).__name__}: {error}")
        else:
            self.settle(action)

    # Judging

    def take_up_again(self, action: Action) -> None:
        """It was begun in an earlier beat, or an earlier life: judge it, and do nothing a second time."""
        if action.stage is Stage.ACTING:
            action.detail = _CUT_SHORT
            self.counts["actions_found_under_way"] += 1
            self._log.warning("action_found_under_way", action_id=action.action_id, target=action.target)
        self.settle(action)

    def settle(self, action: Action) -> None:
        """Look at it for as long as it needs to settle, or until the beat's time is over."""
        kind, settings = self._kinds.get(action.kind), self._settings.kinds.of(action.kind)
        if kind is None or settings is None:
            self._fail(action, "no_help", "there is no such kind of action any more")
            return
        judgement = NOT_YET
        for _ in range(math.ceil((settings.settle_s + settings.timeout_s) / POLL_S) + 1):
            judgement = self._judged(action, kind, settings)
            if judgement.helped is not None or not self._wait(self._cycle, POLL_S):
                break
        if judgement.helped is None:
            self._leave(action, judgement.why)
        elif judgement.helped:
            self._help(action, kind, judgement.why)
        else:
            self._fail(action, "no_help", judgement.why)

    def _judged(self, action: Action, kind: Kind, settings: KindSettings) -> Judgement:
        now_us, before = self._now_us(), action.before or {}
        if action.acted_us is None or action.acted_us > now_us:  # later than now: the clock was set back
            action.acted_us = now_us
        elapsed_s = us_to_seconds(now_us - action.acted_us)
        try:
            if action.after is None:
                action.after = kind.look(action, before)
            judgement = kind.judge(action, before, action.after, elapsed_s)
        except (CannotObserve, Unfit) as reason:
            is_over = elapsed_s >= settings.settle_s + settings.timeout_s
            judgement = Judgement(False if is_over else None, str(reason))
        except Exception as error:  # noqa: BLE001 - what cannot be judged has not helped
            self._log.exception("action_raised", action_id=action.action_id, kind=action.kind)
            judgement = Judgement(False, f"{type(error).__name__}: {error}")
        if action.stage is Stage.ACTING and action.after is not None:
            action.stage = Stage.SETTLING
            store.put(self._cycle, action)
            self._cycle.commit()
        return judgement

    def _leave(self, action: Action, why: str) -> None:
        """The next beat, or the next life, goes on with it."""
        self.counts["actions_left_unverified"] += 1
        self._log.info("action_left_unverified", action_id=action.action_id, target=action.target, reason=why)

    # Ending

    def end(
        self, action: Action, outcome: str, why: str, *, verified: bool | None = None, cure: str | None = None
    ) -> None:
        """The one end of an action, kept and told."""
        outcomes = Outcomes(self._cycle, self._log, self._now_us(), self._settings.queue.flags_at_most)
        outcomes.end(action, outcome, f"{action.detail or ''}{why}", verified=verified, cure=cure or cure_of(action))
        self._cycle.processed += 1
        self._cycle.commit()
        self.ended += outcomes.ended
        self.counts += outcomes.counts

    def _help(self, action: Action, kind: Kind, why: str) -> None:
        if isinstance(kind, Lapses):
            action.lapses_us = self._now_us() + seconds_to_us(kind.lapses_after_s(action.before or {}))
        store.put_trouble(self._cycle, action.target, 0, 0)
        self.end(action, "helped", why, verified=True)

    def _fail(self, action: Action, outcome: str, why: str) -> None:
        undone = self._undo(action)
        now_us, limits = self._now_us(), self._settings.limits
        failures = store.trouble(self._cycle, action.target)[0] + 1
        until_us = backoff_until_us(failures, limits.backoff_s, limits.backoff_at_most_s, now_us)
        store.put_trouble(self._cycle, action.target, failures, until_us)
        self._count_failure(now_us)
        self.end(action, outcome, f"{why}; {undone}" if undone else why, verified=False)

    def _count_failure(self, now_us: int) -> None:
        settings, before = self._settings.breaker, self.breaker()
        after = before.failed(now_us, settings.failures, settings.window_s, settings.pause_s)
        self._cycle.save(BREAKER, after)
        if after.trips > before.trips:
            self.counts["breaker_trips"] += 1
            self._log.error("actions_pause", failures=settings.failures, pause_s=settings.pause_s)

    def _undo(self, action: Action) -> str | None:
        kind = self._kinds.get(action.kind)
        if kind is None:
            return None
        try:
            return kind.undo(action, action.before or {}, self.hand)
        except StoreUnusable:
            raise
        except Exception as error:  # noqa: BLE001 - the action has failed already, and a person must know of this too
            self._log.exception("action_not_undone", action_id=action.action_id)
            return f"it could not be taken back: {str(error) or type(error).__name__}"

    # Helping

    def breaker(self) -> Breaker:
        """The breaker as it is now."""
        breaker = self._cycle.load(BREAKER, Breaker) or Breaker()
        return breaker.at(self._now_us(), self._settings.breaker.pause_s)

    def _emit_now(self, signal: str, facts: Facts) -> None:
        self._cycle.emit(signal, facts)
        self._cycle.commit()

    def _now_us(self) -> int:
        return self._cycle.clock.wall_us()
