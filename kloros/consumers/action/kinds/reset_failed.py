"""reset_failed: systemd forgets that a unit failed and how often it was started; then the unit is started."""

from __future__ import annotations

from kloros.consumers.action.action import Action, State
from kloros.consumers.action.kinds import units
from kloros.consumers.action.kinds.base import NOT_YET, Hand, Judgement, Tools, Unfit
from kloros.consumers.action.settings import KindSettings
from kloros.machine.privileged_protocol import ResetFailed, Start


class ResetFailedUnit:
    """Has no inverse: a failure that was forgotten stays in the journal."""

    def __init__(self, tools: Tools, settings: KindSettings) -> None:
        self._tools, self._settings = tools, settings

    def check(self, action: Action) -> State:
        state = units.seen(units.read(self._tools, action.target))
        if state["active"] != "failed":
            raise Unfit(f"{action.target} has not failed: it is {state['active']}")
        self._tools.require_helper()
        return state

    def act(self, action: Action, before: State, hand: Hand) -> None:
        helper, timeout_s = self._tools.helper, self._settings.timeout_s
        helper.ask(ResetFailed(unit=action.target, by=action.action_id), timeout_s)
        if _starts(action):
            helper.ask(Start(unit=action.target, by=action.action_id), timeout_s)
            units.wait_for_job(self._tools, action, hand, timeout_s)

    def look(self, action: Action, before: State) -> State:
        return units.look(self._tools, action)

    def judge(self, action: Action, before: State, after: State, elapsed_s: float) -> Judgement:
        now = units.look(self._tools, action)
        if _starts(action) or not now:
            return units.judge(now, after, elapsed_s, self._settings.settle_s)
        if now["active"] == "failed":
            return Judgement(False, "it failed again")
        is_over = elapsed_s >= self._settings.settle_s
        return Judgement(True, "it is no longer marked as failed") if is_over else NOT_YET

    def undo(self, action: Action, before: State, hand: Hand) -> str | None:
        return None


def _starts(action: Action) -> bool:
    return action.parameters.get("start", "yes") != "no"
