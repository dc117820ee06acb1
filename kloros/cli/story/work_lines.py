"""Sentences for the work that passes from room to room: findings, questions, conclusions, actions, flags. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kloros.chembus.envelope import Message
from kloros.chembus.facts import Facts
from kloros.chembus.facts_work import (
    ActionFacts,
    DecidedFacts,
    DecisionFacts,
    FadedFacts,
    FlagClosedFacts,
    FoldedFacts,
    GapFoundFacts,
    InvestigationFacts,
    MemoryAccessFacts,
    PruneFacts,
    QuestionFacts,
    ReviewFacts,
    ShadowFacts,
    TournamentFacts,
)
from kloros.cli.output import one_line
from kloros.cli.story.line import SEVERITY_STYLES, Line, because, publisher
from kloros.cli.units import duration

OUTCOME_STYLES = {
    "helped": "green", "no_help": "yellow", "failed": "red", "timed_out": "red", "expired": "yellow",
    "rejected": "yellow", "refused": "yellow", "observed": "dim", "withdrawn": "dim",
}  # fmt: skip
GOOD_VERDICTS = ("promote", "promoted", "proposed", "better", "helped", "improved", "enacted", "applied")
BAD_VERDICTS = ("failed", "rolled_back", "worse", "rejected", "refused")


def percent(share: float) -> str:
    """A share as people read it: 95 %, 0.01 %."""
    return f"{share * 100:.3g} %"


def worth(facts: QuestionFacts) -> str:
    """What a question is worth, and what it costs to answer."""
    told = []
    if facts.value_estimate is not None:
        told.append(f"value {facts.value_estimate:.3g}")
    if facts.cost_estimate is not None:
        told.append(f"cost {facts.cost_estimate:.3g}")
    return " / ".join(told)


def certainty(facts: InvestigationFacts) -> str:
    """By which rule something was concluded, and how sure it is."""
    sure = "" if facts.confidence is None else percent(facts.confidence)
    return ", ".join(filter(None, (facts.rule, sure)))


def action_name(facts: ActionFacts) -> str:
    """What is done to what."""
    return one_line(" ".join(filter(None, (facts.action_type, facts.target))))


def reaction(message: Message, text: str, style: str = "") -> Line:
    """What somebody does about something."""
    return Line(message.ts, f"{publisher(message)} {text}", style, is_reaction=True)


def _finding(message: Message, facts: GapFoundFacts) -> Line:
    what = one_line(facts.detail or f"{facts.gap_type} {facts.gap_name}")
    if message.signal == "CAPABILITY_RESTORED":
        lasted = "" if facts.duration_s is None else f" (lasted {duration(facts.duration_s)})"
        return reaction(message, f"says it is over: {what}{lasted}", "green")
    verb = "found it worse" if facts.change == "worsened" else "found"
    return reaction(message, f"{verb}: {what} [{facts.severity}]", SEVERITY_STYLES.get(facts.severity, ""))


def _question(message: Message, facts: QuestionFacts) -> Line:
    what = one_line(facts.question)
    if message.signal == "Q_CURIOSITY_INVESTIGATE":
        stands = f" (stands for {facts.folded})" if facts.folded > 1 else ""
        return reaction(message, f"hands on: {what}{stands}", "dim")
    level = message.signal.removeprefix("Q_CURIOSITY_")
    told = ", ".join(filter(None, (level, worth(facts))))
    return reaction(message, f"asks: {what} [{told}]", SEVERITY_STYLES.get(level.lower(), ""))


def _folded(message: Message, facts: FoldedFacts) -> Line:
    text = f"folds {facts.question_id} into {facts.folded_into} ({percent(facts.similarity)} alike)"
    return reaction(message, text, "dim")


def _investigation(message: Message, facts: InvestigationFacts) -> Line:
    what = one_line(facts.conclusion or facts.question or facts.question_id)
    if facts.status != "concluded":
        style = "dim" if facts.status == "withdrawn" else "yellow"
        return reaction(message, f"did not conclude, {facts.status.replace('_', ' ')}: {what}", style)
    action = facts.recommended_action
    advice = f"; recommends {one_line(f'{action.action_type} {action.target}')}" if action else ""
    return reaction(message, f"concludes: {what}{because(certainty(facts))}{advice}", "bold cyan")


def _action(message: Message, facts: ActionFacts) -> Line:
    what = action_name(facts)
    mode = f" [{facts.mode}]" if facts.mode else ""
    if message.signal == "Q_ACTION_SPAWNED":
        return reaction(message, f"takes up {what}{mode}{because(facts.action_id)}", "bold")
    outcome = facts.outcome or "ended"
    took = f" in {duration(facts.duration_s)}" if facts.duration_s else ""
    detail = f": {one_line(facts.detail)}" if facts.detail else ""
    text = f"is done with {what}: {outcome.replace('_', ' ')}{took}{detail}"
    return reaction(message, text, OUTCOME_STYLES.get(outcome, ""))


def _decision(message: Message, facts: DecisionFacts) -> Line:
    who, verb = facts.requester or publisher(message), "approves" if facts.decision == "approve" else "rejects"
    return Line(message.ts, f"{message.signal}: {one_line(who)} {verb} {facts.action_id}{because(facts.reason)}")


def _decided(message: Message, facts: DecidedFacts) -> Line:
    word = "approval" if facts.decision == "approve" else "rejection"
    verb = "accepts" if facts.accepted else "does not accept"
    who = f" of {one_line(facts.requester)}" if facts.requester else ""
    style = "green" if facts.accepted else "yellow"
    return reaction(message, f"{verb} the {word}{who} of {facts.action_id}{because(facts.detail)}", style)


def _flag(message: Message, facts: ReviewFacts) -> Line:
    often = f", {facts.count} times" if facts.count > 1 else ""
    cure = f"; cure: {one_line(facts.cure)}" if facts.cure else ""
    text = f"needs a person: {one_line(facts.rationale)} [{facts.flag_id}{often}]{cure}"
    return reaction(message, text, SEVERITY_STYLES.get(facts.severity or "", "") or "yellow")


def _flag_closed(message: Message, facts: FlagClosedFacts) -> Line:
    return reaction(message, f"needs nobody for {facts.flag_id} any more{because(one_line(facts.reason))}", "green")


def _tournament(message: Message, facts: TournamentFacts) -> Line:
    figures = ""
    if facts.fitness is not None:
        against = "" if facts.incumbent_fitness is None else f" against {facts.incumbent_fitness:.4g}"
        figures = f", fitness {facts.fitness:.4g}{against}"
    return verdict_line(message, "held a tournament for", facts.module_name, facts.verdict, figures, facts.detail)


def _shadow(message: Message, facts: ShadowFacts) -> Line:
    figures = "" if facts.drift is None else f", drift {percent(facts.drift)}"
    return verdict_line(message, "tried a candidate beside", facts.module_name, facts.verdict, figures, facts.detail)


def verdict_line(
    message: Message, did: str, about: str | None, verdict: str | None, figures: str, detail: str | None
) -> Line:
    """What was tried of something, and how that was judged."""
    told = (verdict or "no verdict").replace("_", " ")
    style = "green" if verdict in GOOD_VERDICTS else "yellow" if verdict in BAD_VERDICTS else ""
    text = f"{did} {about or 'something'}: {told}{figures}{because(one_line(detail or ''))}"
    return reaction(message, one_line(text), style)


def _faded(message: Message, facts: FadedFacts) -> Line:
    if not facts.faded:
        return reaction(message, f"forgot none of {facts.examined} memories", "dim")
    sectors = ", ".join(f"{count} {sector}" for sector, count in sorted(facts.by_sector.items()))
    example = f", such as: {one_line(facts.examples[0], 80)}" if facts.examples else ""
    return reaction(message, f"forgot {facts.faded} of {facts.examined} memories{because(sectors)}{example}")


def _accessed(message: Message, facts: MemoryAccessFacts) -> Line:
    who = one_line(facts.requester or publisher(message))
    return Line(message.ts, f"{message.signal}: {who} looked at memory {facts.memory}", "dim")


def _prune(message: Message, facts: PruneFacts) -> Line:
    who = one_line(facts.requester or publisher(message))
    return Line(message.ts, f"{message.signal}: the history is to shrink to {facts.keep_mb} MB (from {who})")


WORK_TELLERS: dict[type[Facts], Callable[[Message, Any], Line]] = {
    GapFoundFacts: _finding,
    QuestionFacts: _question,
    FoldedFacts: _folded,
    InvestigationFacts: _investigation,
    ActionFacts: _action,
    DecisionFacts: _decision,
    DecidedFacts: _decided,
    ReviewFacts: _flag,
    FlagClosedFacts: _flag_closed,
    TournamentFacts: _tournament,
    ShadowFacts: _shadow,
    FadedFacts: _faded,
    MemoryAccessFacts: _accessed,
    PruneFacts: _prune,
}
