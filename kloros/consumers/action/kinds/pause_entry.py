"""pause_entry: an entry of the schedule rests for a while; its inverse, and its end, is to resume it."""

from __future__ import annotations

from typing import Literal

from kloros.chembus.facts import ControlFacts
from kloros.consumers.action.action import Action, State
from kloros.consumers.action.kinds.base import NOT_YET, Hand, Judgement, NotDone, Tools, Unfit, number
from kloros.consumers.action.settings import PauseEntrySettings


class PauseEntry:
    """The scheduler knows no pause that ends by itself: the action consumer resumes the entry when its time is over."""

    def __init__(self, tools: Tools, settings: PauseEntrySettings) -> None:
        self._tools, self._settings = tools, settings

    def check(self, action: Action) -> State:
        entries = self._tools.entries()
        if not entries:
            raise Unfit("no scheduler has told its schedule yet")
        if action.target == self._tools.own_entry:
            raise Unfit(f"{action.target} is the beat at which it would have to be resumed")
        entry = entries.get(action.target)
        if entry is None:
            raise Unfit(f"the schedule has no entry {action.target}")
        if entry.paused:
            raise Unfit(f"{action.target} is paused already")
        return {"for_s": min(number(action, "for_s", self._settings.for_s), self._settings.for_s_at_most)}

    def act(self, action: Action, before: State, hand: Hand) -> None:
        self._ask("pause", action, hand)

    def look(self, action: Action, before: State) -> State:
        return {}

    def judge(self, action: Action, before: State, after: State, elapsed_s: float) -> Judgement:
        if self._is_paused(action):
            return Judgement(True, f"{action.target} is paused, for {float(before['for_s']):.0f} s")
        return Judgement(False, f"{action.target} is not paused") if elapsed_s >= self._settings.settle_s else NOT_YET

    def undo(self, action: Action, before: State, hand: Hand) -> str | None:
        self._ask("resume", action, hand)
        return f"{action.target} is resumed"

    def lapses_after_s(self, before: State) -> float:
        return float(before.get("for_s", self._settings.for_s))

    def is_over(self, action: Action) -> bool:
        entry = self._tools.entries().get(action.target)
        return entry is not None and not entry.paused

    def take_back(self, action: Action, hand: Hand) -> bool:
        """Resumes it, and is sure of that when the schedule says so."""
        if not self._tools.entries():
            return False
        if not self._is_paused(action):
            return True
        hand.emit("Q_SCHEDULE_CONTROL", _wish("resume", action))
        return False

    def _is_paused(self, action: Action) -> bool:
        entry = self._tools.entries().get(action.target)
        return entry is not None and entry.paused

    def _ask(self, op: Literal["pause", "resume"], action: Action, hand: Hand) -> None:
        wish, answers = _wish(op, action), self._tools.answers
        requester = wish.requester or ""
        hand.emit("Q_SCHEDULE_CONTROL", wish)
        hand.wait_until(lambda: requester in answers, self._settings.timeout_s, "the scheduler did not answer")
        if not answers[requester].ok:
            raise NotDone(f"the scheduler refused: {answers[requester].detail}")


def _wish(op: Literal["pause", "resume"], action: Action) -> ControlFacts:
    return ControlFacts(op=op, schedule=action.target, requester=f"action consumer, {op} for {action.action_id}")
