"""What a cycle keeps as it goes: actions with their one Q_ENACTMENT, the gates' state, flags; a step at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kloros.chembus.facts_work import EnactmentFacts
from kloros.daemon.cycle import Cycle
from kloros.optimisation import store
from kloros.optimisation.flags import State
from kloros.optimisation.gates import GateState
from kloros.optimisation.levers import Hand, Lever
from kloros.optimisation.model import ActionKind, EnactmentStatus, Value
from kloros.optimisation.ports import OptimiserMetrics
from kloros.optimisation.register import Register, live_flag_of
from kloros.optimisation.settings import OptimiserSettings, enacting
from kloros.optimisation.store import Stage, Taken
from kloros.optimisation.swap import Versions
from kloros.units import us_to_seconds

GATES = "gates"
INFO, WARNING = 20, 30
_FINE = (EnactmentStatus.SUCCESS, EnactmentStatus.SKIPPED)


@dataclass(frozen=True)
class Desk:
    """What the enactor works with. `paused`: why nothing may be changed just now; asked before each act.

    health: how many modules are unhealthy, and how many there are.
    """

    settings: OptimiserSettings
    levers: Mapping[ActionKind, Lever]
    versions: Versions
    hand: Hand
    paused: Callable[[], str]
    health: Callable[[], tuple[int, int]]
    metrics: OptimiserMetrics


class Journal:
    """One cycle's. `commit` keeps all that was given so far, and sends it."""

    def __init__(self, cycle: Cycle, desk: Desk) -> None:
        self.cycle, self.desk, self.settings, self.log = cycle, desk, desk.settings, cycle.log
        self.config = enacting(desk.settings)
        self.gates = cycle.load(GATES, GateState) or GateState()
        self.register = Register(cycle, cycle.log, self.now_us(), desk.settings.flags.at_most)

    def now_us(self) -> int:
        """The moment (wall)."""
        return self.cycle.clock.wall_us()

    def keep(self, taken: Taken) -> None:
        """Keep an action, and all that belongs to this step."""
        store.put_action(self.cycle, taken)
        self.commit()

    def commit(self) -> None:
        """Keep all that was given, in one transaction."""
        self.cycle.save(GATES, self.gates)
        self.cycle.commit()
        self.register.committed()

    def end(self, taken: Taken, status: EnactmentStatus, detail: str) -> None:
        """The one end of an action, kept and told."""
        now_us = self.now_us()
        if taken.stage is Stage.WAITING or taken.expires_us is not None:
            self._close_approval(taken, detail)
        taken.stage, taken.status, taken.detail = Stage.ENDED, status.value, detail[:1000]
        taken.ended_us, taken.waits_for = now_us, None
        taken.mode = taken.mode or self._mode_word(taken.kind)
        duration_s = max(0.0, us_to_seconds(now_us - (taken.started_us or now_us)))
        facts = EnactmentFacts(
            action_id=taken.action_id, module_name=taken.module, action_kind=taken.kind, status=status.value,
            detail=taken.detail, duration_s=duration_s, attempted_ts=us_to_seconds(taken.started_us or now_us),
            reason_code=taken.reason_code, gate=taken.gate, mode=taken.mode, source=taken.source or None,
            before=taken.before, after=taken.after, change_id=taken.change_id, flag_id=taken.flag_id,
            requester=taken.decided_by,
        )  # fmt: skip
        self.cycle.emit("Q_ENACTMENT", facts, incident_id=taken.action_id)
        self.desk.metrics.enacted(kind_label(taken.kind), status.value, duration_s)
        self.cycle.processed += 1
        self.log.log(
            INFO if status in _FINE else WARNING, "enactment",
            action_id=taken.action_id, kind=taken.kind, module=taken.module, status=status.value,
            reason=taken.reason_code, detail=taken.detail,
        )  # fmt: skip
        self.keep(taken)

    def _close_approval(self, taken: Taken, detail: str) -> None:
        waiting = live_flag_of(self.cycle, taken.action_id)
        if taken.change_id is None and waiting is not None and waiting.asks_for_approval:
            self.register.close(waiting.flag_id, State.EXPIRED, detail)

    def _mode_word(self, kind: str) -> str | None:
        return self.config.mode_of(ActionKind(kind)) if kind in ActionKind.__members__ else None


def kind_label(kind: str) -> str:
    """A kind as metrics name it: there are no others."""
    return kind if kind in ActionKind.__members__ else ActionKind.NO_OP.value


def word(value: Value) -> str:
    """A value in words."""
    return f"{value:g}" if isinstance(value, float | int) else value or "as installed"
