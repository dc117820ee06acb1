"""restart_unit: a unit that runs badly, or failed, is started anew."""

from __future__ import annotations

from kloros.consumers.action.action import Action, State
from kloros.consumers.action.kinds import units
from kloros.consumers.action.kinds.base import Hand, Judgement, Tools, Unfit
from kloros.consumers.action.settings import KindSettings
from kloros.machine.privileged_protocol import Restart


class RestartUnit:
    """Has no inverse: what was restarted was restarted."""

    def __init__(self, tools: Tools, settings: KindSettings) -> None:
        self._tools, self._settings = tools, settings

    def check(self, action: Action) -> State:
        state = units.seen(units.read(self._tools, action.target))
        if state["active"] == "inactive":
            raise Unfit(f"{action.target} is stopped and did not fail: somebody may want it so")
        self._tools.require_helper()
        return state

    def act(self, action: Action, before: State, hand: Hand) -> None:
        self._tools.helper.ask(Restart(unit=action.target, by=action.action_id), self._settings.timeout_s)
        units.wait_for_job(self._tools, action, hand, self._settings.timeout_s)

    def look(self, action: Action, before: State) -> State:
        return units.look(self._tools, action)

    def judge(self, action: Action, before: State, after: State, elapsed_s: float) -> Judgement:
        now = units.look(self._tools, action)
        if now and now["invocation"] == before.get("invocation"):
            return Judgement(False, "it was not restarted")
        return units.judge(now, after, elapsed_s, self._settings.settle_s)

    def undo(self, action: Action, before: State, hand: Hand) -> str | None:
        return None
