"""What the optimiser's tests share: a small world with things to change, that outlives whoever changes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from kloros.clock import VirtualClock
from kloros.optimisation.model import (
    THRESHOLDS,
    ActionKind,
    DetectorConfig,
    Figures,
    ImprovementAction,
    OrchestratorOutcome,
    OrchestratorResult,
)

T = TypeVar("T")
MODULES = ("alpha", "beta", "gamma", "delta")
SHA256 = "ab" * 32


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """On an event loop of its own, with a limit."""
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def action(kind: ActionKind | str, module: str = "alpha", action_id: str = "", **more: Any) -> ImprovementAction:
    """An action with as little as it needs."""
    parameters = tuple(more.pop("parameters", {}).items())
    fields = {"priority": 0.5, "rationale": "because", "parameters": parameters, "action_id": action_id, **more}
    return ImprovementAction(module_name=module, action_kind=kind, **fields)  # type: ignore[arg-type]


def figures(module: str = "alpha", calls: int = 50, p95_ms: float = 100.0, errors: int = 0, **more: Any) -> Figures:
    """Figures with as little as they need."""
    fields = {"p50_ms": p95_ms / 2, "p99_ms": p95_ms, "max_ms": p95_ms, "throughput_rps": 2.0, "window_s": 60.0, **more}
    return Figures(module, calls, errors, p95_ms=p95_ms, **fields)


class Killed(BaseException):
    """As SIGKILL: nobody catches it, nothing runs after it."""


class World:
    """All four ports, and the figures of its modules. `touch` is called around each write and may raise."""

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock(monotonic_s=1.0)
        base = DetectorConfig()
        self.thresholds = {module: {name: float(getattr(base, name)) for name in THRESHOLDS} for module in MODULES}
        self.budgets = dict.fromkeys(MODULES, 1.0)
        self.paces = dict.fromkeys(MODULES, 1.0)
        self.versions = dict.fromkeys(MODULES, "")
        self.after: Callable[[str], Figures | None] = lambda module: figures(module)
        self.touch: Callable[[str], None] = lambda what: None
        self.outcome = OrchestratorOutcome.SUCCESS
        self.writes: list[tuple[str, str, object]] = []

    def _write(self, values: dict[Any, Any], what: str, key: str, value: object) -> None:
        self.touch(f"before {what}")
        values[key] = value
        self.writes.append((what, key, value))
        self.touch(f"after {what}")

    def threshold(self, module: str, metric: str) -> float | None:
        return self.thresholds.get(module, {}).get(metric)

    def set_threshold(self, module: str, metric: str, value: float) -> None:
        self._write(self.thresholds[module], "threshold", metric, value)

    def budget(self, module: str) -> float | None:
        return self.budgets.get(module)

    async def set_budget(self, module: str, factor: float, lease_s: float | None) -> None:
        await asyncio.sleep(0)
        self._write(self.budgets, "budget", module, factor)

    def pace(self, module: str) -> float | None:
        return self.paces.get(module)

    def set_pace(self, module: str, pace: float, lease_s: float | None) -> None:
        self._write(self.paces, "pace", module, pace)

    def current(self, module: str) -> str | None:
        return self.versions.get(module)

    async def activate(self, module: str, version: str, sha256: str | None) -> OrchestratorResult:
        await asyncio.sleep(0)
        if self.outcome is OrchestratorOutcome.SUCCESS:
            self._write(self.versions, "version", module, version)
        return OrchestratorResult(self.outcome, "as the test wants it")

    def figures(self, module: str, since_us: int | None) -> Figures | None:
        return figures(module) if since_us is None else self.after(module)

    def ports(self) -> dict[str, Any]:
        """As the optimiser takes them."""
        return {
            "clock": self.clock, "thresholds": self, "budgets": self, "shedder": self, "swapper": self, "figures": self,
        }  # fmt: skip

    def value(self, kind: ActionKind, module: str, name: str) -> object:
        """What is in force."""
        if kind is ActionKind.TUNE_THRESHOLD:
            return self.thresholds[module][name]
        values: dict[ActionKind, dict[str, Any]] = {
            ActionKind.INCREASE_BUDGET: self.budgets,
            ActionKind.REDUCE_LOAD: self.paces,
            ActionKind.HOT_SWAP_MODULE: self.versions,
        }
        return values[kind][module]
