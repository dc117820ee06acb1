"""Sentences for what the optimiser does: proposals, what became of them, people's words, its kill switch. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kloros.chembus.envelope import Message
from kloros.chembus.facts import CycleBudgetFacts, Facts, OptimiserPauseFacts, OptimiserStateFacts
from kloros.chembus.facts_work import (
    EnactmentFacts,
    ImprovementFacts,
    ReflectionFacts,
    ReviewDecidedFacts,
    ReviewDecisionFacts,
)
from kloros.cli.output import one_line
from kloros.cli.story.line import Line, because, publisher
from kloros.cli.story.work_lines import GOOD_VERDICTS, reaction
from kloros.cli.units import clock_time, duration

STYLES = {
    "SUCCESS": "green", "PARTIAL": "green", "SKIPPED": "dim", "RATE_LIMITED": "yellow", "FAILED": "red",
    "CONFIRMED": "green", "REVERTED": "red", "INCONCLUSIVE": "yellow", **dict.fromkeys(GOOD_VERDICTS, "green"),
}  # fmt: skip
VERBS = {"approve": "approves", "reject": "rejects", "acknowledge": "has seen"}
NOUNS = {"approve": "approval", "reject": "rejection", "acknowledge": "acknowledgement"}
FIGURES = (("p95_ms", "p95", 0.001), ("error_rate", "errors", 100.0))


def _improvement(message: Message, facts: ImprovementFacts) -> Line:
    why = f": {one_line(facts.rationale)}" if facts.rationale else ""
    what = f"{facts.action_kind} of {facts.module_name} ({facts.action_id})"
    return reaction(message, f"proposes {one_line(what)}{why}", "bold")


def _enactment(message: Message, facts: EnactmentFacts) -> Line:
    told = facts.status.replace("_", " ")
    at = f" at {facts.gate}" if facts.gate and facts.gate not in ("act", "flag") else ""
    what = one_line(f"{facts.action_kind} of {facts.module_name}: {told}{at}")
    return reaction(message, f"{what}{because(one_line(facts.detail or ''))}", STYLES.get(facts.status, ""))


def _reflection(message: Message, facts: ReflectionFacts) -> Line:
    about = " ".join(filter(None, (facts.action_id, facts.module_name and f"on {facts.module_name}")))
    back = ", taken back" if facts.is_restored else ""
    told = one_line(f"{about}: {facts.verdict.replace('_', ' ')}{back}")
    text = f"looked back at {told}{_figures(facts)}{because(one_line(facts.detail or ''))}"
    return reaction(message, text, STYLES.get(facts.verdict, ""))


def _figures(facts: ReflectionFacts) -> str:
    """What was measured before and after, of what is told of both."""
    told = []
    for key, name, factor in FIGURES:
        if key in facts.before and key in facts.after:
            sides = [each[key] * factor for each in (facts.before, facts.after)]
            shown = [f"{side:.3g} %" if name == "errors" else duration(side) for side in sides]
            told.append(f"{name} {shown[0]} -> {shown[1]}")
    return "".join(f", {each}" for each in told)


def _decision(message: Message, facts: ReviewDecisionFacts) -> Line:
    who = one_line(facts.requester or publisher(message))
    about = one_line(facts.flag_id or facts.action_id or "something")
    text = f"{message.signal}: {who} {VERBS[facts.decision]} {about}{because(one_line(facts.reason or ''))}"
    return Line(message.ts, text)


def _decided(message: Message, facts: ReviewDecidedFacts) -> Line:
    verb = "accepts" if facts.accepted else "does not accept"
    who = f" of {one_line(facts.requester)}" if facts.requester else ""
    about = one_line(facts.flag_id or facts.action_id or "something")
    text = f"{verb} the {NOUNS[facts.decision]}{who} of {about}{because(one_line(facts.detail or ''))}"
    return reaction(message, text, "green" if facts.accepted else "yellow")


def _pause(message: Message, facts: OptimiserPauseFacts) -> Line:
    who = one_line(facts.requester or publisher(message))
    why = because(one_line(facts.reason or ""))
    if message.signal == "OPTIMISER_RESUME":
        return Line(message.ts, f"{message.signal}: {who} lets the optimiser change things again{why}", "bold yellow")
    until = "" if facts.until_ts is None else f" until {clock_time(facts.until_ts)}"
    text = f"{message.signal}: {who} lets the optimiser change nothing more{until}{why}"
    return Line(message.ts, text, "bold yellow")


def _state(message: Message, facts: OptimiserStateFacts) -> Line:
    notes = [one_line(facts.state).lower().replace("_", " ")]
    if facts.paused:
        notes.append(f"changes nothing: {one_line(facts.paused)}")
    counts = ((facts.waiting, "waiting"), (facts.open_changes, "to be verified"), (facts.open_flags, "need a person"))
    notes += [f"{count} {what}" for count, what in counts if count]
    return reaction(message, f"is {', '.join(notes)}", "yellow" if facts.paused else "dim")


def _budget(message: Message, facts: CycleBudgetFacts) -> Line:
    until = "" if facts.until_ts is None else f" until {clock_time(facts.until_ts)}"
    may = "as long as its settings say" if facts.budget_s is None else f"up to {duration(facts.budget_s)}{until}"
    return reaction(message, f"lets cycles of {one_line(facts.daemon)} take {may}", "bold")


OPTIMISER_TELLERS: dict[type[Facts], Callable[[Message, Any], Line]] = {
    ImprovementFacts: _improvement,
    EnactmentFacts: _enactment,
    ReflectionFacts: _reflection,
    ReviewDecisionFacts: _decision,
    ReviewDecidedFacts: _decided,
    OptimiserPauseFacts: _pause,
    OptimiserStateFacts: _state,
    CycleBudgetFacts: _budget,
}
