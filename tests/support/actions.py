"""Actions of straw: kinds that do what a test says, and an action consumer in virtual time that uses them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kloros.clock import VirtualClock
from kloros.consumers.action import store
from kloros.consumers.action.action import Action, Stage, State
from kloros.consumers.action.kinds.base import Hand, Judgement, Kind
from kloros.consumers.action.settings import ActionSettings, KindsSettings
from kloros.consumers.action_consumer_daemon import ActionConsumerDaemon
from kloros.daemon.cycle import Cycle
from support.bench import Bench

HELPED, NO_HELP, NOT_YET = Judgement(True, "it is well"), Judgement(False, "it is not well"), Judgement(None, "not yet")


@dataclass
class Straw:
    """A kind that remembers what was done, and behaves as told."""

    unfit: Exception | None = None
    fails: BaseException | None = None
    judgement: Judgement = HELPED
    inverse: str | None = None
    acted: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)

    def check(self, action: Action) -> State:
        if self.unfit:
            raise self.unfit
        return {"was": "ill"}

    def act(self, action: Action, before: State, hand: Hand) -> None:
        self.acted.append(action.target)
        if self.fails:
            raise self.fails

    def look(self, action: Action, before: State) -> State:
        return {"is": "acted"}

    def judge(self, action: Action, before: State, after: State, elapsed_s: float) -> Judgement:
        return self.judgement

    def undo(self, action: Action, before: State, hand: Hand) -> str | None:
        self.undone.append(action.target)
        return self.inverse


class StrawConsumer(ActionConsumerDaemon):
    """Its kinds are of straw, and waiting takes no time."""

    straw: dict[str, Straw] = {}

    def kinds(self, settings: ActionSettings) -> dict[str, Kind]:
        return {name: self.straw.setdefault(name, Straw()) for name in KindsSettings.__struct_fields__}

    def wait(self, cycle: Cycle, seconds: float) -> bool:
        assert isinstance(cycle.clock, VirtualClock)
        cycle.clock.advance(seconds)
        return not cycle.cancelled.is_set()


class Desk:
    """Somebody who recommends, decides and lets beats pass."""

    def __init__(self, table: Bench[StrawConsumer]) -> None:
        self.table = table
        self._questions = 0

    @property
    def straw(self) -> dict[str, Straw]:
        return self.table.daemon.straw

    def recommend(self, kind: str | None = "restart_unit", target: str = "web.service", **told: Any) -> str:
        """An investigation ends; returns the question's id."""
        self._questions += 1
        question_id = told.pop("question_id", f"q-{self._questions:08x}")
        wish = {"action_type": kind, "target": target, "parameters": told.pop("parameters", {})} if kind else None
        gap = told.pop("gap", target)
        facts = {
            "question_id": question_id, "status": "concluded", "conclusion": "it hangs", "confidence": 0.9,
            "evidence": ["state=active"], "recommended_action": wish, "gap_id": f"gap of {gap}", "rule": "hangs",
            "gap_type": "unit_unhealthy", "gap_name": gap, "severity": "high", **told,
        }  # fmt: skip
        self.table.say("Q_INVESTIGATION_COMPLETE", {name: value for name, value in facts.items() if value is not None})
        return question_id

    def restore(self, gap: str = "web.service") -> None:
        self._gap("CAPABILITY_RESTORED", gap)

    def reopen(self, gap: str = "web.service") -> None:
        self._gap("CAPABILITY_GAP", gap)

    def _gap(self, signal: str, gap: str) -> None:
        self.table.say(signal, {"gap_id": f"gap of {gap}", "gap_type": "unit_unhealthy", "gap_name": gap})

    def decide(self, action_id: str, decision: str = "approve", **told: Any) -> Any:
        """A person decides; returns the consumer's answer."""
        facts = {"action_id": action_id, "decision": decision, "requester": "Zoë", **told}
        self.table.say("Q_ACTION_DECISION", facts)
        self.table.settle()
        return self.heard("Q_ACTION_DECIDED")[-1]

    def beat(self) -> None:
        """The trigger, injected."""
        self.table.say("Q_TRIGGER_ACTION_PROCESSING", None)
        self.table.settle()

    def heard(self, signal: str) -> list[Any]:
        self.table.settle()
        return [message.facts for message in self.table.heard(signal)]

    def outcomes(self) -> list[tuple[str, str]]:
        return [(facts.target, facts.outcome) for facts in self.heard("Q_ACTION_COMPLETE")]

    def actions(self, *stages: Stage) -> list[Action]:
        return store.actions(self.table.daemon.store.database, stages or tuple(Stage))
