"""One beat: what is under way is judged, what waits is done as far as the limits and the time allow."""

from __future__ import annotations

from collections.abc import Mapping

from kloros.consumers.action import store
from kloros.consumers.action.action import Action, Stage
from kloros.consumers.action.doing import Doer, Wait
from kloros.consumers.action.gate import Standing, judge, stricter
from kloros.consumers.action.kinds.base import Kind, Lapses
from kloros.consumers.action.settings import ActionSettings, KindSettings
from kloros.consumers.action.wording import by_hand, would
from kloros.daemon.cycle import Cycle
from kloros.daemon.limits import free_at_us
from kloros.units import seconds_to_us

_IN_HAND = (Stage.QUEUED, Stage.ACTING, Stage.SETTLING)


class Round:
    """Works through the queue, the most valuable first."""

    def __init__(self, cycle: Cycle, settings: ActionSettings, kinds: Mapping[str, Kind], wait: Wait) -> None:
        self._cycle, self._settings, self._kinds = cycle, settings, kinds
        self.doer = Doer(cycle, settings, kinds, wait)

    def run(self) -> None:
        """Everything that can be done now."""
        self._tidy()
        self.finish_what_is_under_way()
        self._expire()
        self._end_what_lapses()
        while (action := self._next()) is not None:
            self.doer.begin(action)
        self._cycle.backlog = len(store.actions(self._cycle, _IN_HAND))

    def finish_what_is_under_way(self) -> None:
        """What was done before, and could not be judged then."""
        for action in store.actions(self._cycle, (Stage.SETTLING, Stage.ACTING)):
            self.doer.take_up_again(action)

    def _next(self) -> Action | None:
        """The next action that may be done now; what becomes of those before it is seen to."""
        for action in store.actions(self._cycle, (Stage.QUEUED,)):
            if self._cycle.cancelled.is_set():
                return None
            verdict = judge(self._standing(action))
            if verdict.answer == "go":
                return action if self._has_time_for(action) else None
            if verdict.answer == "wait":
                self._note_waiting(action, verdict.why)
            elif verdict.answer == "refuse":
                self.doer.end(action, "refused", verdict.why)
            elif verdict.answer == "observe":
                self._observe(action)
            else:
                self._ask(action)
        return None

    def _standing(self, action: Action) -> Standing:
        now_us, limits, cycle = self._now_us(), self._settings.limits, self._cycle
        settings = self._settings_of(action)
        times_here, times = store.attempt_times(cycle, action.target), store.attempt_times(cycle)
        return Standing(
            mode=stricter(action.mode, settings.mode if settings else "off"),
            is_approved=action.is_approved,
            queued_us=action.queued_us,
            now_us=now_us,
            wait_at_most_s=limits.wait_at_most_s,
            breaker_until_us=self.doer.breaker().open_until_us,
            is_target_busy=store.is_busy(cycle, action.target),
            backoff_until_us=store.trouble(cycle, action.target)[1],
            target_free_us=free_at_us(times_here, limits.per_target, limits.per_target_window_s, now_us),
            all_free_us=free_at_us(times, limits.in_all, limits.in_all_window_s, now_us),
        )

    def _has_time_for(self, action: Action) -> bool:
        """The first action of a beat may take what it takes: it goes on at the next one if need be."""
        settings = self._settings_of(action)
        needed_s = settings.timeout_s + settings.settle_s if settings else 0.0
        return self.doer.acted == 0 or self._cycle.remaining_s > needed_s

    def _note_waiting(self, action: Action, why: str) -> None:
        if action.waits_for is None:
            self.doer.counts["actions_deferred"] += 1
            self._cycle.log.info("action_deferred", action_id=action.action_id, target=action.target, reason=why)
        action.waits_for = why
        store.put(self._cycle, action)

    def _observe(self, action: Action) -> None:
        state = self.doer.check(action)
        detail = f"would {would(action)}" + (f", and could not: {state}" if isinstance(state, str) else "")
        cure = f"{by_hand(action)}; to let the suite do it: kloros actions mode {action.kind} approve"
        self.doer.end(action, "observed", detail, cure=f"{action.cure}; {cure}" if action.cure else cure)

    def _ask(self, action: Action) -> None:
        """The mode has become stricter since it was taken up: now somebody has to approve it."""
        action.stage, action.mode = Stage.WAITING, "approve"
        action.expires_us = self._now_us() + seconds_to_us(self._settings.approvals.valid_s)
        store.put(self._cycle, action)
        self._cycle.commit()

    def _expire(self) -> None:
        """Fails closed: what nobody approved in time is not done."""
        for action in store.actions(self._cycle, (Stage.WAITING,)):
            now_us = self._now_us()
            latest_us = now_us + seconds_to_us(self._settings.approvals.valid_s)
            if action.expires_us is None or action.expires_us <= now_us:
                self.doer.end(action, "expired", "nobody approved it in time")
            elif action.expires_us > latest_us:  # the clock was set back, or the settings are stricter now
                action.expires_us = latest_us
                store.put(self._cycle, action)

    def _end_what_lapses(self) -> None:
        for action in store.lapsing(self._cycle):
            kind = self._kinds.get(action.kind)
            if not isinstance(kind, Lapses) or action.lapses_us is None:
                continue
            latest_us = self._now_us() + seconds_to_us(kind.lapses_after_s(action.before or {}))
            if action.lapses_us > latest_us:  # the clock was set back
                action.lapses_us = latest_us
                store.put(self._cycle, action)
            if action.lapses_us > self._now_us() and not kind.is_over(action):
                continue
            if kind.take_back(action, self.doer.hand):
                action.lapses_us = None
                store.put(self._cycle, action)
                self._cycle.log.info("action_lapsed", action_id=action.action_id, target=action.target)

    def _tidy(self) -> None:
        now_us, limits = self._now_us(), self._settings.limits
        window_us = seconds_to_us(max(limits.per_target_window_s, limits.in_all_window_s))
        longest_us = seconds_to_us(max(limits.backoff_at_most_s, limits.backoff_s))
        store.tidy(
            self._cycle, now_us, self._settings.queue.keep_ended, attempts_since_us=now_us - window_us,
            trouble_since_us=now_us - longest_us, longest_until_us=now_us + longest_us,
        )  # fmt: skip
        self._cycle.commit()

    def _settings_of(self, action: Action) -> KindSettings | None:
        return self._settings.kinds.of(action.kind)

    def _now_us(self) -> int:
        return self._cycle.clock.wall_us()
