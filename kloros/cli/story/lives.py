"""One finding's whole life, from scan to outcome: its messages as steps, each with what came before it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from kloros.chembus.envelope import Message
from kloros.chembus.facts import Facts
from kloros.chembus.facts_work import (
    ActionFacts,
    DecidedFacts,
    FlagClosedFacts,
    FoldedFacts,
    GapFoundFacts,
    InvestigationFacts,
    QuestionFacts,
    ReviewFacts,
)
from kloros.cli.harmless import harmless
from kloros.cli.output import one_line
from kloros.cli.story.line import SEVERITY_STYLES, because, publisher
from kloros.cli.story.narrate import narrate
from kloros.cli.story.work_lines import OUTCOME_STYLES, action_name, certainty, percent, worth

MOST_DETAILS = 6
LONGEST_TEXT = 400


@dataclass
class Step:
    """One thing that happened. `took_s`: how long it took by itself; `after_s`: how long after the step before."""

    ts: float
    word: str
    text: str
    style: str = ""
    details: list[str] = field(default_factory=list)
    took_s: float | None = None
    after_s: float | None = None
    signal: str = ""
    by: str = ""


@dataclass
class Life:
    """From one opening to the next. `since_ts` is None where the beginning is not known any more.

    `is_remembered`: it is put together from memories, which are fewer than what happened.
    """

    about: str = ""
    is_remembered: bool = False
    steps: list[Step] = field(default_factory=list)
    since_ts: float | None = None
    until_ts: float | None = None

    @property
    def lasted_s(self) -> float | None:
        """How long it was open, once it is over."""
        return None if self.since_ts is None or self.until_ts is None else max(0.0, self.until_ts - self.since_ts)


def lives(messages: Iterable[Message]) -> list[Life]:
    """The messages of one incident, in order, as lives: it begins anew whenever it opens."""
    told: list[Life] = []
    for message in messages:
        if not told or _opens(message, told[-1]):
            told.append(Life())
        _live_on(told[-1], message)
    for life in told:
        measure(life.steps)
    return told


def _opens(message: Message, life: Life) -> bool:
    facts = message.facts
    if message.signal != "CAPABILITY_GAP" or not isinstance(facts, GapFoundFacts):
        return False
    return facts.change == "opened" or (facts.change is None and life.until_ts is not None)


def _live_on(life: Life, message: Message) -> None:
    if message.signal == "CAPABILITY_GAP" and not life.steps:
        life.since_ts = message.ts
    elif message.signal == "CAPABILITY_RESTORED":
        life.until_ts = message.ts
    if isinstance(message.facts, GapFoundFacts):
        life.about = one_line(f"{message.facts.gap_name} ({message.facts.gap_type})")
    known = {detail for step in life.steps for detail in step.details}
    steps = _TELLERS.get(type(message.facts), _anything)(message, message.facts)
    for step in steps:
        step.signal, step.by, step.text = message.signal, publisher(message), harmless(step.text)
        step.details = _bounded(detail for detail in map(one_line, step.details) if detail and detail not in known)
    life.steps += steps


def measure(steps: Sequence[Step]) -> None:
    """Say of each step how long after the one before it came."""
    for before, step in pairwise(steps):
        step.after_s = max(0.0, step.ts - before.ts)


# Each signal as one step or two


def _finding(message: Message, facts: GapFoundFacts) -> list[Step]:
    what = one_line(facts.detail or f"{facts.gap_type} {facts.gap_name}", LONGEST_TEXT)
    if message.signal == "CAPABILITY_RESTORED":
        return [Step(message.ts, "restored", what, "green", took_s=facts.duration_s)]
    word = "worsened" if facts.change == "worsened" else "found"
    style = SEVERITY_STYLES.get(facts.severity, "")
    return [Step(message.ts, word, f"{what} [{facts.severity}]", style, facts.evidence)]


def _question(message: Message, facts: QuestionFacts) -> list[Step]:
    name = f"[{facts.question_id}]"
    if message.signal == "Q_CURIOSITY_INVESTIGATE":
        stands = f"it stands for {facts.folded} questions" if facts.folded > 1 else "it stands for itself"
        return [Step(message.ts, "handed on", f"{stands} {name}")]
    level = message.signal.removeprefix("Q_CURIOSITY_")
    text = f"{one_line(facts.question, LONGEST_TEXT)} [{', '.join(filter(None, (level, worth(facts))))}] {name}"
    hypothesis = [f"guess: {facts.hypothesis}"] if facts.hypothesis else []
    return [Step(message.ts, "asked", text, SEVERITY_STYLES.get(level.lower(), ""), hypothesis)]


def _folded(message: Message, facts: FoldedFacts) -> list[Step]:
    text = f"{facts.question_id} into {facts.folded_into}, {percent(facts.similarity)} alike"
    return [Step(message.ts, "folded", text, details=[f"see kloros story {facts.folded_into}"])]


def _investigation(message: Message, facts: InvestigationFacts) -> list[Step]:
    took_s = None if facts.duration_ms is None else facts.duration_ms / 1e3
    what = one_line(facts.conclusion or facts.question or facts.question_id, LONGEST_TEXT)
    cure = [f"cure: {facts.cure}"] if facts.cure else []
    details = [*cure, *facts.evidence]
    if facts.status != "concluded":
        word = "withdrawn" if facts.status == "withdrawn" else "investigated"
        text = what if facts.status == "withdrawn" else f"{facts.status.replace('_', ' ')}: {what}"
        return [Step(message.ts, word, text, "yellow" if word == "investigated" else "dim", details, took_s)]
    steps = [Step(message.ts, "investigated", f"{what}{because(certainty(facts))}", "bold cyan", details, took_s)]
    if facts.recommended_action is not None:
        action = facts.recommended_action
        why = f": {one_line(action.why)}" if action.why else ""
        steps.append(Step(message.ts, "recommended", f"{one_line(f'{action.action_type} {action.target}')}{why}"))
    return steps


def _action(message: Message, facts: ActionFacts) -> list[Step]:
    what, mode = action_name(facts), f", mode {facts.mode}" if facts.mode else ""
    if message.signal == "Q_ACTION_SPAWNED":
        details = [facts.rationale or ""]
        return [Step(message.ts, "taken up", f"{what}{mode} [{facts.action_id}]", details=details)]
    outcome = facts.outcome or "ended"
    style = OUTCOME_STYLES.get(outcome, "")
    text = f"{what}: {outcome.replace('_', ' ')}{mode} [{facts.action_id}]"
    steps = [Step(message.ts, "acted", text, style, [facts.detail or "", *facts.evidence], facts.duration_s)]
    if facts.verified is not None:
        helped = "the check afterwards says that it helped" if facts.verified else "the check afterwards finds no help"
        steps.append(Step(message.ts, "verified", helped, "green" if facts.verified else "yellow"))
    return steps


def _decided(message: Message, facts: DecidedFacts) -> list[Step]:
    word = "approved" if facts.decision == "approve" else "rejected"
    text = f"{facts.action_id} by {one_line(facts.requester or 'a person')}"
    why = because(one_line(facts.detail or ""))
    if facts.accepted:
        return [Step(message.ts, word, f"{text}{why}")]
    return [Step(message.ts, "not decided", f"{text}: {word}, which was not accepted{why}", "yellow")]


def _flag(message: Message, facts: ReviewFacts) -> list[Step]:
    often = f", {facts.count} times" if facts.count > 1 else ""
    text = f"{one_line(facts.rationale, LONGEST_TEXT)} [{facts.flag_id}{often}]"
    details = [f"cure: {facts.cure}" if facts.cure else "", *facts.evidence]
    return [Step(message.ts, "flagged", text, SEVERITY_STYLES.get(facts.severity or "", "") or "yellow", details)]


def _flag_closed(message: Message, facts: FlagClosedFacts) -> list[Step]:
    return [Step(message.ts, "unflagged", f"{one_line(facts.reason)} [{facts.flag_id}]", "green")]


def _anything(message: Message, _facts: Any) -> list[Step]:
    line = narrate(message)
    return [Step(message.ts, "told", line.text, line.style)]


def _bounded(texts: Iterable[str]) -> list[str]:
    lines = list(texts)
    more = [f"and {len(lines) - MOST_DETAILS} more"] if len(lines) > MOST_DETAILS else []
    return [*lines[:MOST_DETAILS], *more]


_TELLERS: dict[type[Facts], Callable[[Message, Any], list[Step]]] = {
    GapFoundFacts: _finding,
    QuestionFacts: _question,
    FoldedFacts: _folded,
    InvestigationFacts: _investigation,
    ActionFacts: _action,
    DecidedFacts: _decided,
    ReviewFacts: _flag,
    FlagClosedFacts: _flag_closed,
}
