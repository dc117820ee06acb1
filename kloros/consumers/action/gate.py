"""Whether an action may be taken up, and at a beat whether it may be done: the gates in their order. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from kloros.consumers.action.action import Action, Stage
from kloros.consumers.action.settings import MODES, KindSettings, Mode
from kloros.units import US_PER_S

_LONGEST_TARGET = 255


class Verdict(NamedTuple):
    """What happens to an action at a beat, and why."""

    answer: Literal["go", "observe", "ask", "wait", "refuse"]
    why: str = ""


GO = Verdict("go")


class Standing(NamedTuple):
    """All that matters for one action at one moment (wall microseconds)."""

    mode: Mode
    is_approved: bool
    queued_us: int
    now_us: int
    wait_at_most_s: float
    breaker_until_us: int
    is_target_busy: bool
    backoff_until_us: int
    target_free_us: int
    all_free_us: int


def stricter(one: Mode, other: Mode) -> Mode:
    """Of two modes the one that allows less."""
    return min(one, other, key=MODES.index)


def judge(standing: Standing) -> Verdict:
    """The gates at a beat. Whatever waits for too long is refused: what it rests on is too old."""
    if standing.mode == "off":
        return Verdict("refuse", "this kind of action is switched off")
    if standing.mode == "observe":
        return Verdict("observe")
    if standing.mode == "approve" and not standing.is_approved:
        return Verdict("ask", "it needs approval")
    now_us = standing.now_us
    why = _what_it_waits_for(standing)
    waited_s = (now_us - standing.queued_us) / US_PER_S
    if waited_s > standing.wait_at_most_s:
        return Verdict("refuse", f"it could not be done for {waited_s:.0f} s: {why or 'nobody looked at it'}")
    return Verdict("wait", why) if why else GO


def _what_it_waits_for(standing: Standing) -> str:
    now_us = standing.now_us
    for name, until_us in (
        ("too much failed lately; all actions pause", standing.breaker_until_us),
        ("the last action on this target did not help; it is left alone", standing.backoff_until_us),
        ("the limit of actions on this target is reached", standing.target_free_us),
        ("the limit of actions in all is reached", standing.all_free_us),
    ):
        if until_us > now_us:
            return f"{name} for another {(until_us - now_us) / US_PER_S:.0f} s"
    return "another action on this target is not verified yet" if standing.is_target_busy else ""


def why_not_taken_up(kind: str, target: str, confidence: float | None, settings: KindSettings | None) -> str | None:
    """Why a recommendation never becomes an action; None when it does."""
    if settings is None:
        return f"there is no action of the kind {kind[:60]!r} here"
    if settings.mode == "off":
        return "this kind of action is switched off"
    if len(target) > _LONGEST_TARGET or not target.isprintable() or not target:
        return "that is no target"
    if not any(fnmatchcase(target, pattern) for pattern in settings.targets):
        return f"{target} is not among the targets of {kind} (action_consumer_config.toml)"
    if settings.mode == "auto" and (confidence is None or confidence < settings.least_confidence):
        told = "not told" if confidence is None else f"{confidence:g}"
        return f"the investigation is not sure enough: {told}, and {settings.least_confidence:g} is needed"
    return None


def answer_decision(action: Action | None, decision: str, now_us: int) -> tuple[bool, str]:
    """Whether a person's decision holds, and what is said to that."""
    if action is None:
        return False, "there is no action with this id"
    if action.stage is Stage.ENDED:
        return False, f"it has ended already: {action.outcome}"
    if action.stage in (Stage.ACTING, Stage.SETTLING):
        return False, "it is under way already"
    if action.stage is Stage.QUEUED:
        if action.is_approved:
            return False, f"{action.decided_by or 'somebody'} has approved it already"
        return False, f"it is in the mode {action.mode} and waits for nobody's approval"
    if action.expires_us is None or now_us >= action.expires_us:
        return False, "it has expired: nobody approved it in time"
    return True, "it will be done at the next beat" if decision == "approve" else "it will not be done"
