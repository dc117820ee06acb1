"""Whether an action may be enacted: the gates, in their order. Pure; what passes is counted in the same step.

parse -> expiry, duplicate -> the kind's mode -> paused -> dry-run -> cool-down, breaker -> conflict -> quotas ->
blast radius -> approval -> act. Flags bypass everything behind the duplicates: they are never lost, never late.

Moments are microseconds of any one clock, except `wall_us`, with which expiry is judged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple

import msgspec

from kloros.daemon.limits import Breaker, kept_since
from kloros.optimisation.model import ActionKind, ImprovementAction, OptimiserConfig
from kloros.optimisation.parsing import Refusal, parse
from kloros.units import US_PER_S

MOST_SEEN = 20_000
MOST_COOLING = 20_000
MOST_APPROVED = 1_000


class Gate(StrEnum):
    """Where an action was stopped; `act`: nowhere."""

    PARSE = "parse"
    EXPIRY = "expiry"
    DUPLICATE = "duplicate"
    FLAG = "flag"
    MODE = "mode"
    PAUSED = "paused"
    DRY_RUN = "dry_run"
    COOL_DOWN = "cool_down"
    BREAKER = "breaker"
    CONFLICT = "conflict"
    QUOTA = "quota"
    BLAST_RADIUS = "blast_radius"
    APPROVAL = "approval"
    ACT = "act"


class Answer(StrEnum):
    """What happens to an action."""

    GO = "go"
    """It is enacted; it is counted already."""
    FLAG = "flag"
    """It is handed to a person, now."""
    SKIP = "skip"
    LIMIT = "limit"
    """Too soon."""
    DEFER = "defer"
    """There is no room in this window: no record, only a count."""
    REFUSE = "refuse"
    """It is not what it claims to be, or is none at all."""
    ASK = "ask"
    """A person must approve it first."""


class Decision(NamedTuple):
    """What happens to an action, where that was decided, and why. `must_flag`: a person should hear of it.

    `action` is what was understood; of something refused, as much of it as can be told.
    """

    answer: Answer
    gate: Gate
    reason_code: str
    detail: str
    action: ImprovementAction
    must_flag: bool = False


class Standing(msgspec.Struct, frozen=True):
    """What the gates cannot know by themselves. `spent`: what this call took up without changing anything."""

    now_us: int
    wall_us: int
    busy: Collection[str] = ()
    unhealthy: int = 0
    modules: int = 0
    spent: int = 0
    paused: str = ""


class GateState(msgspec.Struct):
    """All that the gates remember; it can be kept and brought back."""

    seen: dict[str, int] = {}
    flags_seen: dict[str, int] = {}
    last_enacted: dict[str, int] = {}
    acts_us: list[int] = []
    swaps_us: list[int] = []
    approved: dict[str, int] = {}
    breaker: Breaker = Breaker()
    paused: str = ""
    duplicates: int = 0
    numbered: int = 0


def target_of(action: ImprovementAction) -> str:
    """What an unverified change keeps busy: two at once on one module could not be told apart."""
    return action.module_name


def key_of(action: ImprovementAction) -> str:
    """What cools down together."""
    return f"{action.module_name}|{action.action_kind}"


def decide(state: GateState, raw: object, standing: Standing, config: OptimiserConfig) -> Decision:
    """Judge one action. With GO its quotas and its cool-down are taken already, so that no two share them."""
    parsed = parse(raw)
    if isinstance(parsed, Refusal):
        return Decision(Answer.REFUSE, Gate.PARSE, parsed.reason_code, parsed.detail, parsed.action, must_flag=True)
    action = parsed if parsed.action_id else _numbered(state, parsed)
    if action.action_kind is ActionKind.FLAG_FOR_REVIEW:
        return _flag(state, action, standing.now_us)
    if action.expires_at is not None and standing.wall_us >= action.expires_at * US_PER_S:
        return Decision(Answer.SKIP, Gate.EXPIRY, "expired", "it has expired", action)
    if action.action_id in state.seen:
        state.duplicates += 1
        return Decision(Answer.SKIP, Gate.DUPLICATE, "duplicate", "it was taken up before", action)
    case = _Case(state, action, standing, config)
    for gate in _GATES:
        stopped = gate(case)
        if stopped is not None:
            return stopped
    _take(state, action, standing.now_us)
    return Decision(Answer.GO, Gate.ACT, "act", "", action)


def untake(state: GateState, action: ImprovementAction, taken_us: int) -> None:
    """Nothing was changed after all: give its place in the window back, and its cool-down."""
    for times in (state.acts_us, *([state.swaps_us] if action.action_kind is ActionKind.HOT_SWAP_MODULE else [])):
        if taken_us in times:
            times.remove(taken_us)
    if state.last_enacted.get(key_of(action)) == taken_us:
        del state.last_enacted[key_of(action)]
    state.seen.pop(action.action_id, None)


def unflag(state: GateState, action: ImprovementAction) -> None:
    """The flag could not be kept: sent again, it is none that was seen."""
    state.flags_seen.pop(_flag_key(action), None)


def failed(state: GateState, now_us: int, config: OptimiserConfig) -> None:
    """An action failed: after several in a short time everything pauses."""
    rules = config.breaker
    state.breaker = state.breaker.failed(now_us, rules.failures, rules.window_s, rules.pause_s)


def approve(state: GateState, action_id: str, now_us: int, for_s: float) -> None:
    """A person said yes to this one action, for so long."""
    state.approved = {each: until for each, until in state.approved.items() if until > now_us}
    _keep(state.approved, action_id, now_us + round(for_s * US_PER_S), MOST_APPROVED)


def reset(state: GateState) -> None:
    """Forget cool-downs. Quotas, the breaker, the pause and what was seen stay: they protect the suite."""
    state.last_enacted.clear()
    state.duplicates = 0


class _Case(NamedTuple):
    state: GateState
    action: ImprovementAction
    standing: Standing
    config: OptimiserConfig

    def stopped(self, answer: Answer, gate: Gate, code: str, detail: str, *, must_flag: bool = False) -> Decision:
        return Decision(answer, gate, code, detail, self.action, must_flag)


def _numbered(state: GateState, action: ImprovementAction) -> ImprovementAction:
    """With an id of its own: nobody who names none can mean a duplicate."""
    while True:
        state.numbered += 1
        action_id = f"unnamed-{state.numbered}"
        if action_id not in state.seen:
            return msgspec.structs.replace(action, action_id=action_id)


def _mode(case: _Case) -> Decision | None:
    kind = case.action.action_kind
    mode = case.config.mode_of(kind)
    if mode == "off":
        return case.stopped(Answer.SKIP, Gate.MODE, "off", f"{kind} is switched off")
    if mode == "observe":
        return case.stopped(Answer.SKIP, Gate.MODE, "observed", f"observing: would enact {kind}")
    return None


def _paused(case: _Case) -> Decision | None:
    why = case.state.paused or case.standing.paused
    return case.stopped(Answer.SKIP, Gate.PAUSED, "paused", f"paused: {why}") if why else None


def _dry_run(case: _Case) -> Decision | None:
    if not case.config.dry_run:
        return None
    return case.stopped(Answer.SKIP, Gate.DRY_RUN, "dry_run", f"dry-run: would enact {case.action.action_kind}")


def _cool_down(case: _Case) -> Decision | None:
    key, now_us = key_of(case.action), case.standing.now_us
    last_us = case.state.last_enacted.get(key)
    if last_us is None or not case.config.enable_rate_limit:
        return None
    if last_us > now_us:  # the clock was set back
        case.state.last_enacted[key] = last_us = now_us
    left_s = case.config.cool_down_s - (now_us - last_us) / US_PER_S
    if left_s <= 0:
        return None
    told = f"cool-down active ({case.config.cool_down_s:g}s), another {left_s:.1f} s"
    return case.stopped(Answer.LIMIT, Gate.COOL_DOWN, "cool_down", told)


def _breaker(case: _Case) -> Decision | None:
    now_us = case.standing.now_us
    breaker = case.state.breaker = case.state.breaker.at(now_us, case.config.breaker.pause_s)
    if not breaker.is_open(now_us):
        return None
    told = f"too much failed lately: all pauses for another {(breaker.open_until_us - now_us) / US_PER_S:.0f} s"
    return case.stopped(Answer.LIMIT, Gate.BREAKER, "breaker", told)


def _conflict(case: _Case) -> Decision | None:
    target = target_of(case.action)
    if target not in case.standing.busy:
        return None
    return case.stopped(Answer.SKIP, Gate.CONFLICT, "conflict", f"another change of {target} is not verified yet")


def _quota(case: _Case) -> Decision | None:
    state, config, now_us = case.state, case.config, case.standing.now_us
    state.acts_us = kept_since(state.acts_us, now_us, config.window_s)
    if len(state.acts_us) + case.standing.spent >= config.max_enactments_per_cycle:
        told = f"{config.max_enactments_per_cycle} in {config.window_s:g} s are enough; it has to wait"
        return case.stopped(Answer.DEFER, Gate.QUOTA, "deferred", told)
    if case.action.action_kind is not ActionKind.HOT_SWAP_MODULE:
        return None
    state.swaps_us = kept_since(state.swaps_us, now_us, config.window_s)
    if len(state.swaps_us) < config.max_hot_swap_per_cycle:
        return None
    told = f"hot-swap cap reached for this cycle ({config.max_hot_swap_per_cycle} in {config.window_s:g} s)"
    return case.stopped(Answer.SKIP, Gate.QUOTA, "hot_swap_cap", told)


def _nothing_to_do(case: _Case) -> Decision | None:
    if case.action.action_kind is not ActionKind.NO_OP:
        return None
    return case.stopped(Answer.SKIP, Gate.ACT, "no_op", "no-op")


def _blast_radius(case: _Case) -> Decision | None:
    unhealthy, modules = case.standing.unhealthy, case.standing.modules
    if modules <= 0 or unhealthy <= case.config.unhealthy_share * modules:
        return None
    told = f"{unhealthy} of {modules} modules are unhealthy: nothing is changed now"
    return case.stopped(Answer.SKIP, Gate.BLAST_RADIUS, "blast_radius", told, must_flag=True)


def _approval(case: _Case) -> Decision | None:
    if case.config.mode_of(case.action.action_kind) != "approve":
        return None
    until_us = case.state.approved.get(case.action.action_id)
    if until_us is not None and case.standing.now_us < until_us:
        return None
    return case.stopped(Answer.ASK, Gate.APPROVAL, "needs_approval", "a person must approve it", must_flag=True)


_GATES = (
    _mode, _paused, _dry_run, _cool_down, _breaker, _conflict, _quota, _nothing_to_do, _blast_radius, _approval,
)  # fmt: skip


def _flag(state: GateState, action: ImprovementAction, now_us: int) -> Decision:
    """Only the very same flag is a duplicate: another text under a known id is another flag."""
    key = _flag_key(action)
    if key in state.flags_seen:
        state.duplicates += 1
        return Decision(Answer.FLAG, Gate.DUPLICATE, "flagged_before", "it was queued for review before", action)
    _keep(state.flags_seen, key, now_us, MOST_SEEN)
    return Decision(Answer.FLAG, Gate.FLAG, "flagged", "queued for review", action)


def _flag_key(action: ImprovementAction) -> str:
    told = "|".join((action.module_name, action.rationale, repr(action.parameters)))
    return f"{action.action_id}|{hashlib.sha256(told.encode(errors='replace')).hexdigest()[:16]}"


def _keep(remembered: dict[str, int], key: str, moment_us: int, most: int) -> None:
    """As the newest; the oldest make room."""
    remembered.pop(key, None)
    remembered[key] = moment_us
    while len(remembered) > most:
        del remembered[next(iter(remembered))]


def _take(state: GateState, action: ImprovementAction, now_us: int) -> None:
    _keep(state.seen, action.action_id, now_us, MOST_SEEN)
    state.acts_us.append(now_us)
    if action.action_kind is ActionKind.HOT_SWAP_MODULE:
        state.swaps_us.append(now_us)
    state.approved.pop(action.action_id, None)
    _keep(state.last_enacted, key_of(action), now_us, MOST_COOLING)
