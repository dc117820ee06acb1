"""Of what is planned, what is done now: what lasts and can help, one change for each module, least costly first. Pure.

A person is asked where nothing that is left to do can help; what did not help lately is not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from kloros.optimisation.model import (
    CHANGES,
    COSTS,
    PLANNER,
    ActionKind,
    Figures,
    ImprovementAction,
    Weakness,
    WeaknessKind,
)

LASTS_WINDOWS = 1 / 3
"""What is weak for less than this share of the profile's window may pass by itself."""
SPIKE_LASTS_WINDOWS = 4.0
"""After so many windows a spike is how things are: only then is the detector made less sensitive to it."""
SUITE = "suite"
"""What a flag is about that is about no module in particular."""
_BUDGET_SHARE = 0.9


def standing(before: Mapping[str, int], weaknesses: Iterable[Weakness], now_us: int) -> dict[str, int]:
    """Since when each weakness is seen at every look, by `what_of`."""
    return {what: before.get(what, now_us) for what in map(what_of, weaknesses)}


def what_of(weakness: Weakness) -> str:
    """A weakness, whatever its figures."""
    return f"{weakness.module_name}|{weakness.kind}"


def everywhere(weak: int, known: int, wall_s: float) -> ImprovementAction:
    """One flag for all, where so many are weak that the cause lies elsewhere."""
    told = f"{weak} of {known} modules are weak at once: the cause lies elsewhere, and none of them is changed"
    return ImprovementAction(
        SUITE, ActionKind.FLAG_FOR_REVIEW, 1.0, told, (("severity", "critical"),), f"p-suite-{wall_s:.0f}", wall_s,
        source=PLANNER,
    )  # fmt: skip


@dataclass(frozen=True)
class Fitting:
    """What is known when something is chosen. tried: (module, kind) of what did not help lately.

    spiking_s: for how long a module's latency spike lasts. budget_s: how long its cycles may take, if anybody knows.
    """

    weaknesses: Collection[Weakness]
    figures: Mapping[str, Figures]
    window_s: float
    spiking_s: Callable[[str], float]
    tried: Collection[tuple[str, str]]
    budget_s: Callable[[str], float | None]

    def is_allowed(self, action: ImprovementAction) -> bool | str:
        """The planner's safety gate: True, or why it could not help."""
        if (action.module_name, action.action_kind.value) in self.tried:
            return "did not help lately"
        if action.action_kind is ActionKind.INCREASE_BUDGET:
            budget_s, figures = self.budget_s(action.module_name), self.figures.get(action.module_name)
            if budget_s and figures and figures.p95_ms < budget_s * _BUDGET_SHARE * 1000:
                return f"cannot help, its cycles take less time than the {budget_s:g} s that they may"
        return True

    def choose(
        self, planned: Iterable[ImprovementAction], was_proposed: Callable[[ImprovementAction], bool], at_most: int
    ) -> list[ImprovementAction]:
        """At most so many: of each module its flag, and the least costly change that fits."""
        by_module: dict[str, list[ImprovementAction]] = {}
        for each in planned:
            by_module.setdefault(each.module_name, []).append(each)
        chosen = [each for module, actions in by_module.items() for each in self._of_module(module, actions)]
        due = [each for each in chosen if not was_proposed(each)]
        first: dict[tuple[str, bool], ImprovementAction] = {}
        for each in sorted(due, key=lambda each: COSTS[each.action_kind]):
            first.setdefault((each.module_name, each.action_kind in CHANGES), each)
        ordered = sorted(first.values(), key=lambda each: (-each.priority, each.action_id))
        return [self._aimed(each) for each in ordered[:at_most]]

    def _aimed(self, action: ImprovementAction) -> ImprovementAction:
        """More time for who runs into its budget is to end that, and not to make it quicker."""
        budget_s, figures = self.budget_s(action.module_name), self.figures.get(action.module_name)
        is_budget = action.action_kind is ActionKind.INCREASE_BUDGET
        if not (is_budget and budget_s and figures and figures.p95_ms >= budget_s * 1000):
            return action
        return msgspec.structs.replace(action, parameters=(*action.parameters[:1], ("aim", "errors")))

    def _of_module(self, module: str, actions: list[ImprovementAction]) -> list[ImprovementAction]:
        kinds = {each.kind for each in self.weaknesses if each.module_name == module}
        is_only_spiking = kinds == {WeaknessKind.LATENCY_SPIKE}
        may_tune = is_only_spiking and self.spiking_s(module) >= SPIKE_LASTS_WINDOWS * self.window_s
        changes = [
            each
            for each in actions
            if each.action_kind in CHANGES and (each.action_kind is not ActionKind.TUNE_THRESHOLD or may_tune)
        ]
        # Whoever is slower than usual, and within its thresholds, needs nobody yet.
        asks = not changes and not is_only_spiking
        flags = [
            each
            for each in actions
            if each.action_kind is ActionKind.FLAG_FOR_REVIEW and (asks or "refused_kind" not in dict(each.parameters))
        ]
        return [*flags, *changes]
