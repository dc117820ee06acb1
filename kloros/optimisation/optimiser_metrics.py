"""The five metrics of the self-optimiser document; every series that an alert divides by is there from the start."""

from __future__ import annotations

from kloros.optimisation.model import ActionKind, EnactmentStatus, OrchestratorOutcome
from kloros.telemetry.metrics import Metrics

MOST_MODULES = 200
_OTHER = "other"
STATUSES = (*EnactmentStatus, "DEFERRED")


class PrometheusMetrics:
    """Beyond MOST_MODULES modules a name is counted as `other`: names come off the bus."""

    def __init__(self, metrics: Metrics) -> None:
        self._calls = metrics.counter("asi_optimiser_enact_calls_total", "Calls of enact.")
        self._enacted = metrics.counter(
            "asi_optimiser_actions_enacted_total", "Actions by what became of them.", ("action_kind", "status")
        )
        self._limited = metrics.counter(
            "asi_optimiser_actions_rate_limited_total", "Actions that came too soon.", ("module", "action_kind")
        )
        self._swaps = metrics.counter("asi_optimiser_hot_swaps_total", "Swaps by their end.", ("module", "outcome"))
        self._duration = metrics.histogram(
            "asi_optimiser_enact_duration_seconds", "How long an action took.", ("action_kind",)
        )
        self._modules: set[str] = set()
        for kind in ActionKind:
            self._duration.labels(kind.value)
            for status in STATUSES:
                self._enacted.labels(kind.value, str(status))

    def know(self, module: str) -> None:
        """Have this module's series, at zero, before anything happens to it."""
        self._label(module)

    def enact_called(self) -> None:
        self._calls.inc()

    def enacted(self, kind: str, status: str, duration_s: float) -> None:
        self._enacted.labels(kind, status).inc()
        if status != "DEFERRED":
            self._duration.labels(kind).observe(duration_s)

    def rate_limited(self, module: str, kind: str) -> None:
        self._limited.labels(self._label(module), kind).inc()

    def swapped(self, module: str, outcome: str) -> None:
        self._swaps.labels(self._label(module), outcome).inc()

    def _label(self, module: str) -> str:
        if module in self._modules:
            return module
        label = module if len(self._modules) < MOST_MODULES else _OTHER
        if label not in self._modules:
            self._modules.add(label)
            for kind in ActionKind:
                self._limited.labels(label, kind.value)
            for outcome in OrchestratorOutcome:
                self._swaps.labels(label, outcome.value)
        return label


class NoMetrics:
    """Counts nothing."""

    def enact_called(self) -> None:
        pass

    def enacted(self, kind: str, status: str, duration_s: float) -> None:
        pass

    def rate_limited(self, module: str, kind: str) -> None:
        pass

    def swapped(self, module: str, outcome: str) -> None:
        pass
