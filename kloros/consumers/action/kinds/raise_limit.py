"""raise_limit: a unit that meets its limit of memory, tasks or files gets more of it, and is brought up."""

from __future__ import annotations

from typing import Any

import msgspec

from kloros.consumers.action.action import Action, State
from kloros.consumers.action.kinds import units
from kloros.consumers.action.kinds.base import Hand, Judgement, NotDone, Property, Tools, Unfit, number
from kloros.consumers.action.settings import RaiseLimitSettings
from kloros.errors import HelperFailed, HelperRefused
from kloros.machine.privileged_protocol import ResetFailed, Restart, RevertLimit, SetLimit, Start

# Of a limit of files, programs meet the soft one.
_READ_AS = {"LimitNOFILE": "LimitNOFILESoft"}


class RaiseLimit:
    """Its inverse removes the raise: the unit's own files then say again what the limit is."""

    def __init__(self, tools: Tools, settings: RaiseLimitSettings) -> None:
        self._tools, self._settings = tools, settings

    def check(self, action: Action) -> State:
        name = _property(action)
        unit = units.read(self._tools, action.target)
        limit = unit.number(_READ_AS.get(name, name))
        if limit is None:
            raise Unfit(f"{name} of {action.target} is not limited")
        factor = number(action, "factor", self._settings.factor)
        if not 1 < factor <= 100:
            raise Unfit(f"{factor:g} times as much is no raise")
        self._tools.require_helper()
        return {**units.seen(unit), "limit": limit, "factor": factor}

    def act(self, action: Action, before: State, hand: Hand) -> None:
        helper, timeout_s, name = self._tools.helper, self._settings.timeout_s, _property(action)
        wish = SetLimit(
            unit=action.target, property=name, factor=float(before["factor"]), persistent=self._settings.persistent,
            by=action.action_id,
        )  # fmt: skip
        helper.ask(wish, timeout_s)
        try:
            self._bring_up(action, before, timeout_s)
        except HelperRefused as error:
            raise NotDone(f"the limit was raised, but the unit could not be brought up: {error.reason}") from error
        units.wait_for_job(self._tools, action, hand, timeout_s)

    def _bring_up(self, action: Action, before: State, timeout_s: float) -> None:
        helper, unit, by = self._tools.helper, action.target, action.action_id
        if before["active"] == "failed":
            helper.ask(ResetFailed(unit=unit, by=by), timeout_s)
            helper.ask(Start(unit=unit, by=by), timeout_s)
        elif action.parameters["property"] == "LimitNOFILE" and before["active"] != "inactive":
            helper.ask(Restart(unit=unit, by=by), timeout_s)  # a process keeps the limits that it was started with

    def look(self, action: Action, before: State) -> State:
        return {**units.look(self._tools, action), "limit": self._limit(action)}

    def judge(self, action: Action, before: State, after: State, elapsed_s: float) -> Judgement:
        if self._limit(action) <= int(before["limit"]):
            return Judgement(False, "the limit was not raised")
        return units.judge(units.look(self._tools, action), after, elapsed_s, self._settings.settle_s)

    def undo(self, action: Action, before: State, hand: Hand) -> str | None:
        name = _property(action)
        if self._limit(action) == int(before["limit"]):
            return None  # this action raised nothing: what is in force may be an earlier raise, which helped
        try:
            request = RevertLimit(unit=action.target, property=name, by=action.action_id)
            answer = self._tools.helper.ask(request, self._settings.timeout_s)
        except HelperRefused as error:
            return f"nothing to take back ({error.reason})"
        except HelperFailed as error:
            return f"{name} could not be taken back: {error.reason}"
        return f"{name} is {answer.after} again"

    def _limit(self, action: Action) -> int:
        try:
            unit = units.read(self._tools, action.target)
        except Unfit:
            return 0
        name = _property(action)
        return unit.number(_READ_AS.get(name, name)) or 0


def _property(action: Action) -> Property:
    asked: Any = action.parameters.get("property")
    try:
        found: Property = msgspec.convert(asked, Property)
    except msgspec.ValidationError:
        raise Unfit(f"property={str(asked)[:40]!r} is not MemoryMax, TasksMax or LimitNOFILE") from None
    return found
