"""What the optimiser's changes are made with: the ports, read and written by the kind and name of a change."""

from __future__ import annotations

import inspect
from typing import Any

from kloros.optimisation.changes import Change
from kloros.optimisation.duck import DuckShedder
from kloros.optimisation.model import ActionKind, OrchestratorOutcome, OrchestratorRequest, Value
from kloros.optimisation.ports import CodeSource, CycleBudgets, DetectorThresholds, HotSwapper, LoadShedder

CANNOT_UNDO = "CANNOT_UNDO"


class NotDone(Exception):
    """A subsystem said no; `outcome` is its word."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(f"{outcome}: {detail}" if detail else outcome)
        self.outcome = outcome


class Hands:
    """Reads what is in force, and puts something else in force. None for a port that is not there."""

    def __init__(
        self,
        thresholds: DetectorThresholds | None = None,
        budgets: CycleBudgets | None = None,
        shedder: LoadShedder | DuckShedder | None = None,
        swapper: HotSwapper | None = None,
        orchestrator: Any = None,
        code: CodeSource | None = None,
    ) -> None:
        self.thresholds, self.budgets, self.shedder = thresholds, budgets, shedder
        self.swapper, self.orchestrator, self.code = swapper, orchestrator, code

    def missing(self, kind: ActionKind) -> str | None:
        """What is not there for such an action."""
        match kind:
            case ActionKind.TUNE_THRESHOLD:
                return None if self.thresholds else "no detector_config available on cycle"
            case ActionKind.INCREASE_BUDGET:
                return None if self.budgets else "no budget_map on cycle"
            case ActionKind.REDUCE_LOAD:
                return None if self.shedder else "no load_shedder on cycle"
        return None if self.swapper or self.orchestrator else "no orchestrator injected"

    def can_read(self, kind: ActionKind) -> bool:
        """Whether what is in force can be seen."""
        if kind is ActionKind.REDUCE_LOAD:
            return not isinstance(self.shedder, DuckShedder)
        return kind is not ActionKind.HOT_SWAP_MODULE or self.swapper is not None

    async def read(self, kind: ActionKind, module: str, name: str) -> Value:
        """What is in force; None: there is no such module."""
        found: object = None
        if kind is ActionKind.TUNE_THRESHOLD and self.thresholds:
            found = self.thresholds.threshold(module, name)
        elif kind is ActionKind.INCREASE_BUDGET and self.budgets:
            found = self.budgets.budget(module)
        elif kind is ActionKind.REDUCE_LOAD and self.shedder and not isinstance(self.shedder, DuckShedder):
            found = self.shedder.pace(module)
        elif kind is ActionKind.HOT_SWAP_MODULE and self.swapper:
            found = self.swapper.current(module)
        found = await found if inspect.isawaitable(found) else found
        return found if found is None or isinstance(found, float | str) else float(found)  # type: ignore[arg-type]

    async def write(self, change: Change, value: Value, lease_s: float | None) -> str:
        """Put `value` in force; what the subsystem said. Raises NotDone when it said no."""
        kind, module = change.action_kind, change.module_name
        if kind is ActionKind.HOT_SWAP_MODULE:
            return await self._swap(change, str(value or ""))
        if kind is ActionKind.REDUCE_LOAD and isinstance(self.shedder, DuckShedder):
            if value != change.after:
                raise NotDone(CANNOT_UNDO, "this load shedder takes nothing back")
            if not await self.shedder.shed(module):
                raise NotDone("REFUSED", "the load shedder did not")
            return ""
        if not isinstance(value, float | int):
            raise NotDone("NO_NUMBER", "a number is needed")
        answer: object = None
        if kind is ActionKind.TUNE_THRESHOLD and self.thresholds:
            answer = self.thresholds.set_threshold(module, change.name, float(value))
        elif kind is ActionKind.INCREASE_BUDGET and self.budgets:
            answer = self.budgets.set_budget(module, float(value), lease_s)
        elif kind is ActionKind.REDUCE_LOAD and self.shedder and not isinstance(self.shedder, DuckShedder):
            answer = self.shedder.set_pace(module, float(value), lease_s)
        if inspect.isawaitable(answer):
            await answer
        return ""

    async def _swap(self, change: Change, version: str) -> str:
        sha256 = dict(change.parameters).get("sha256") if version == change.after else None
        if self.swapper:
            answer: Any = self.swapper.activate(change.module_name, version, sha256)
        else:
            answer = self.orchestrator.orchestrate_swap(await self._request(change, version, sha256))
        result = await answer if inspect.isawaitable(answer) else answer
        outcome = str(getattr(result.outcome, "name", result.outcome))
        detail = str(getattr(result, "detail", ""))[:500]
        if outcome != OrchestratorOutcome.SUCCESS:
            raise NotDone(outcome if outcome in OrchestratorOutcome.__members__ else "SWAP_ERROR", detail)
        return f"orchestrator: {outcome} — {detail}"

    async def _request(self, change: Change, version: str, sha256: str | None) -> OrchestratorRequest:
        if version != change.after:
            raise NotDone(CANNOT_UNDO, "which version was in force before is not known")
        code: Any = self.code.fetch(change.module_name, version) if self.code else None
        code = await code if inspect.isawaitable(code) else code
        tags = tuple(f"{key}={value}" for key, value in (("sha256", sha256), ("action_id", change.change_id)) if value)
        return OrchestratorRequest(change.module_name, code, version, tags, requested_at=change.written_us / 1e6)
