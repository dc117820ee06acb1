"""From what is weak to what to do about it, best first. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

import msgspec

from kloros.optimisation.model import COSTS, PLANNER, ActionKind, ImprovementAction, Parameters, Weakness, WeaknessKind

_SWAP, _BUDGET, _FLAG = ActionKind.HOT_SWAP_MODULE, ActionKind.INCREASE_BUDGET, ActionKind.FLAG_FOR_REVIEW
_REDUCE, _TUNE = ActionKind.REDUCE_LOAD, ActionKind.TUNE_THRESHOLD

REMEDIES: Mapping[WeaknessKind, tuple[ActionKind, ...]] = {
    WeaknessKind.HIGH_LATENCY: (_SWAP, _BUDGET),
    WeaknessKind.HIGH_ERROR_RATE: (_SWAP, _FLAG),
    WeaknessKind.LOW_THROUGHPUT: (_REDUCE, _TUNE),
    WeaknessKind.LATENCY_SPIKE: (_BUDGET, _TUNE),
    WeaknessKind.DEGRADED: (_FLAG, _SWAP),
}
_AIMS = {
    WeaknessKind.HIGH_LATENCY: "latency",
    WeaknessKind.LATENCY_SPIKE: "latency",
    WeaknessKind.HIGH_ERROR_RATE: "errors",
    WeaknessKind.LOW_THROUGHPUT: "throughput",
}
COST_WEIGHT = 0.3

SafetyGate = Callable[[ImprovementAction], bool | str]
"""Whether an action may be proposed at all: True, or why not."""


class PlannerConfig(msgspec.Struct, frozen=True):
    """Below `threshold` nothing is proposed; at most `most` per report; `min_samples` give full confidence."""

    threshold: float = 0.2
    most: int = 3
    min_samples: int = 20
    lives_s: float = 300.0


def priority_of(severity: float, samples: int, kind: ActionKind, min_samples: int) -> float:
    """clamp(severity * confidence - 0.3 * cost, 0, 1), with confidence = min(1, samples / min_samples)."""
    confidence = min(1.0, samples / min_samples) if min_samples > 0 else 1.0
    return min(max(severity * confidence - COST_WEIGHT * COSTS[kind], 0.0), 1.0)


def plan(
    weaknesses: Iterable[Weakness],
    wall_s: float,
    config: PlannerConfig | None = None,
    is_allowed: SafetyGate | None = None,
    versions: Mapping[str, tuple[str, str]] | None = None,
) -> list[ImprovementAction]:
    """What to do about a report: sorted first, then cut.

    versions: staged versions that a module could be swapped for, as (artifact, sha256). Where there is none, a swap is
    no remedy: it would be for nothing. What the safety gate refuses, or fails on, becomes FLAG_FOR_REVIEW.
    """
    rules = config or PlannerConfig()
    staged = versions or {}
    weaknesses = list(weaknesses)
    failing = {each.module_name for each in weaknesses if each.kind is WeaknessKind.HIGH_ERROR_RATE}
    proposed: dict[tuple[str, ActionKind], ImprovementAction] = {}
    for weakness in weaknesses:
        for kind in REMEDIES[weakness.kind]:
            if kind is _SWAP and weakness.module_name not in staged:
                continue
            action = _action(weakness, kind, wall_s, rules, staged)
            if action.priority < rules.threshold:
                continue
            if kind is _BUDGET and weakness.module_name in failing:  # a cycle over its budget counts as an error
                action = msgspec.structs.replace(action, parameters=(("budget_factor", "1.5"), ("aim", "errors")))
            action = _gated(action, is_allowed)
            key = (action.module_name, action.action_kind)
            if key not in proposed or proposed[key].priority < action.priority:
                proposed[key] = action
    ordered = sorted(proposed.values(), key=lambda each: (-each.priority, COSTS[each.action_kind], each.action_id))
    return ordered[: rules.most]


def _action(
    weakness: Weakness, kind: ActionKind, wall_s: float, rules: PlannerConfig, staged: Mapping[str, tuple[str, str]]
) -> ImprovementAction:
    # That nothing is heard is certain without a sample.
    samples = rules.min_samples if weakness.metric == "calls" else weakness.samples
    priority = priority_of(weakness.severity.share, samples, kind, rules.min_samples)
    named = f"{weakness.module_name}|{weakness.kind}|{kind}|{wall_s:.6f}"
    return ImprovementAction(
        weakness.module_name, kind, priority, f"{weakness.kind}: {weakness.detail}",
        _parameters(weakness, kind, staged), "p-" + hashlib.sha256(named.encode()).hexdigest()[:12], wall_s,
        wall_s + rules.lives_s, PLANNER,
    )  # fmt: skip


def _parameters(weakness: Weakness, kind: ActionKind, staged: Mapping[str, tuple[str, str]]) -> Parameters:
    aim = (("aim", _AIMS[weakness.kind]),) if weakness.kind in _AIMS else ()
    if kind is _TUNE:  # what is tuned is what was too sensitive: it does no harm, and makes nothing faster
        down = weakness.metric == "min_throughput_rps"
        return (("metric", weakness.metric), ("delta", "-0.1" if down else "0.1"))
    if kind is _BUDGET:
        return (("budget_factor", "1.5"), *aim)
    if kind is _REDUCE:  # who is asked less often does less; what it does should take less time
        return (("pace", "0.5"), ("aim", "latency"))
    if kind is _SWAP:
        artifact, sha256 = staged[weakness.module_name]
        return (("artifact", artifact), ("sha256", sha256), *aim)
    return (("weakness", weakness.kind), ("severity", weakness.severity.name.lower()))


def _gated(action: ImprovementAction, is_allowed: SafetyGate | None) -> ImprovementAction:
    if is_allowed is None or action.action_kind is _FLAG:
        return action
    try:
        answer = is_allowed(action)
        if answer is True:
            return action
        why = answer if isinstance(answer, str) else "refused by the safety gate"
    except Exception as error:  # noqa: BLE001 - a gate that fails lets nothing pass
        why = f"the safety gate failed: {type(error).__name__}"
    told = f"{action.action_kind} {why}; {action.rationale}"
    parameters = (("refused_kind", action.action_kind.value),)
    return msgspec.structs.replace(action, action_kind=_FLAG, rationale=told, parameters=parameters)
