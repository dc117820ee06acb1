"""What the optimiser reaches out to. Each method may also be a coroutine function; None: no such module there. Pure.

What is written can be read: an action has succeeded when what was asked for is read back, not when a call returned.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

from kloros.optimisation.model import Figures, ImprovementAction, OrchestratorRequest, OrchestratorResult

_T = TypeVar("_T")
MaybeAsync: TypeAlias = _T | Awaitable[_T]


@runtime_checkable
class DetectorThresholds(Protocol):
    """The thresholds that the detector reads for a module; `metric` is one of `model.THRESHOLDS`."""

    def threshold(self, module: str, metric: str) -> MaybeAsync[float | None]:
        """The threshold in force."""

    def set_threshold(self, module: str, metric: str, value: float) -> MaybeAsync[None]:
        """From now on this one."""


@runtime_checkable
class CycleBudgets(Protocol):
    """How much time a module's cycle may take, as a factor of what its settings say."""

    def budget(self, module: str) -> MaybeAsync[float | None]:
        """The factor in force."""

    def set_budget(self, module: str, factor: float, lease_s: float | None) -> MaybeAsync[None]:
        """From now on this factor; after `lease_s` the one before returns by itself."""


@runtime_checkable
class LoadShedder(Protocol):
    """At which pace a module's entry is triggered; 1.0 is its own."""

    def pace(self, module: str) -> MaybeAsync[float | None]:
        """The pace asked for by the optimiser."""

    def set_pace(self, module: str, pace: float, lease_s: float | None) -> MaybeAsync[None]:
        """Ask for this pace, for so long; 1.0 takes the wish back."""


@runtime_checkable
class HotSwapper(Protocol):
    """Puts staged versions in force."""

    def current(self, module: str) -> MaybeAsync[str | None]:
        """The version in force; empty: the module as it was installed."""

    def activate(self, module: str, version: str, sha256: str | None) -> MaybeAsync[OrchestratorResult]:
        """Put a staged version in force (empty: as installed), by the SHA-256 of its manifest where one is told."""


@runtime_checkable
class Orchestrator(Protocol):
    """Swaps a module, as the documents have it."""

    async def orchestrate_swap(self, request: OrchestratorRequest) -> OrchestratorResult:
        """Swap it, and say how that went."""


@runtime_checkable
class CodeSource(Protocol):
    """Where an orchestrator of the documents gets code from: never from an action."""

    def fetch(self, module: str, version: str) -> MaybeAsync[bytes]:
        """The verified bytes of a staged version."""


class Health(Protocol):
    """How the suite is."""

    def unhealthy(self) -> tuple[int, int]:
        """How many modules are unhealthy, and how many there are."""


class ModuleFigures(Protocol):
    """How modules do."""

    def figures(self, module: str, since_us: int | None) -> Figures | None:
        """Over the last window, and nothing from before `since_us`; None: nothing was ever heard of it."""


class Alerts(Protocol):
    """Where flags go; bounded, and never waited for."""

    def put_nowait(self, action: ImprovementAction) -> None:
        """Take a flag; raises when there is no room."""


class OptimiserMetrics(Protocol):
    """The five metrics of the document."""

    def enact_called(self) -> None:
        """One call of `enact`."""

    def enacted(self, kind: str, status: str, duration_s: float) -> None:
        """One action was taken up, or deferred (status DEFERRED)."""

    def rate_limited(self, module: str, kind: str) -> None:
        """One action was too soon."""

    def swapped(self, module: str, outcome: str) -> None:
        """One swap ended."""
