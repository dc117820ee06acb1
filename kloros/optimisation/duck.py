"""A cognitive cycle as the document has it, behind the typed ports: `_detector_config`, `_budget_map` and so on."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
from typing import Any

import msgspec

from kloros.optimisation.ports import CycleBudgets, DetectorThresholds, LoadShedder


class DuckThresholds:
    """`cycle._detector_config`: one for all modules; of its thresholds exactly one changes at a time."""

    def __init__(self, cycle: object) -> None:
        self._cycle: Any = cycle

    def threshold(self, module: str, metric: str) -> float | None:
        return _finite(getattr(self._cycle._detector_config, metric, None))

    def set_threshold(self, module: str, metric: str, value: float) -> None:
        self._cycle._detector_config = _replaced(self._cycle._detector_config, metric, value)


class DuckBudgets:
    """`cycle._budget_map`: a factor per module, 1.0 where none is told. It knows no leases."""

    def __init__(self, cycle: object) -> None:
        self._cycle: Any = cycle

    def budget(self, module: str) -> float | None:
        return _finite(self._cycle._budget_map.get(module, 1.0))

    def set_budget(self, module: str, factor: float, lease_s: float | None) -> None:
        self._cycle._budget_map[module] = factor


class DuckShedder:
    """`cycle._load_shedder.shed(module)`: whether it took hold cannot be read."""

    def __init__(self, cycle: object) -> None:
        self._cycle: Any = cycle

    async def shed(self, module: str) -> bool:
        """Ask it to reduce the load; whether it said that it did not."""
        answer = self._cycle._load_shedder.shed(module)
        answer = await answer if inspect.isawaitable(answer) else answer
        return answer is not False


def thresholds_of(cycle: object) -> DetectorThresholds | None:
    """The cycle's thresholds, however it offers them."""
    if isinstance(cycle, DetectorThresholds) and not hasattr(cycle, "_detector_config"):
        return cycle
    return DuckThresholds(cycle) if getattr(cycle, "_detector_config", None) is not None else None


def budgets_of(cycle: object) -> CycleBudgets | None:
    """The cycle's budgets, however it offers them."""
    if isinstance(cycle, CycleBudgets) and not hasattr(cycle, "_budget_map"):
        return cycle
    return DuckBudgets(cycle) if getattr(cycle, "_budget_map", None) is not None else None


def shedder_of(cycle: object) -> LoadShedder | DuckShedder | None:
    """The cycle's load shedder, however it offers it."""
    shedder = getattr(cycle, "_load_shedder", None)
    if shedder is None:
        return cycle if isinstance(cycle, LoadShedder) else None
    if isinstance(shedder, LoadShedder) and not hasattr(shedder, "shed"):
        return shedder
    return DuckShedder(cycle)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, float | int) or not math.isfinite(value):
        return None
    return float(value)


def _replaced(config: Any, name: str, value: float) -> Any:
    if isinstance(config, msgspec.Struct):
        return msgspec.structs.replace(config, **{name: value})
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return dataclasses.replace(config, **{name: value})
    if hasattr(config, "_replace"):
        return config._replace(**{name: value})
    changed = copy.copy(config)
    setattr(changed, name, value)
    return changed
