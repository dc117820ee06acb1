"""How evidence becomes a conclusion: a table of rules, of which the first that fits is right. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from kloros.chembus.facts_work import RecommendedAction
from kloros.consumers.investigation.evidence import Evidence

Told: TypeAlias = str | Callable[[Evidence], str]
"""A sentence: a template over the facts (`{unit} ...`), or a function for what needs a choice of words."""

INCONCLUSIVE = "inconclusive"
# Something that could not be looked at may have told otherwise.
_DOUBT_PER_LACK, _MOST_DOUBT = 0.05, 0.2
_CONCLUSION_CHARS = 600


@dataclass(frozen=True)
class Rule:
    """One thing that evidence can mean.

    says: a sentence that a person accepts. action: what would help, or None where nothing does that may be done
    unasked. cure: what a person could do.
    """

    name: str
    matches: Callable[[Evidence], bool]
    says: Told
    confidence: float
    action: Callable[[Evidence], RecommendedAction | None] = lambda _: None
    cure: Told = ""


class Conclusion(NamedTuple):
    """What an investigation found out."""

    rule: str
    text: str
    confidence: float
    action: RecommendedAction | None = None
    cure: str | None = None

    @property
    def is_conclusive(self) -> bool:
        """Whether a rule fitted."""
        return self.rule != INCONCLUSIVE


def conclude(evidence: Evidence, rules: Sequence[Rule]) -> Conclusion:
    """By the first rule that fits; when none does, what was seen."""
    doubt = min(_MOST_DOUBT, _DOUBT_PER_LACK * len(evidence.lacks))
    for rule in rules:
        if rule.matches(evidence):
            return Conclusion(
                rule.name,
                filled(rule.says, evidence)[:_CONCLUSION_CHARS],
                round(max(0.05, rule.confidence - doubt), 3),
                rule.action(evidence),
                filled(rule.cure, evidence) or None,
            )
    return Conclusion(INCONCLUSIVE, _what_was_seen(evidence), 0.1)


def filled(told: Told, evidence: Evidence) -> str:
    """The sentence, with the facts in it."""
    text = told(evidence) if callable(told) else told.format_map(_Facts(evidence.seen))
    return " ".join(text.split())


class _Facts(dict[str, Any]):
    """Facts to fill a template with; one that is not known reads as such."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__(facts)

    def __missing__(self, name: str) -> str:
        return f"(unknown {name.replace('_', ' ')})"


def _what_was_seen(evidence: Evidence) -> str:
    if not evidence.lines:
        lacks = "; ".join(evidence.lacks)
        return f"Nothing was seen that explains {evidence.subject}" + (
            f": could not look at {lacks}." if lacks else "."
        )
    return f"No known cause fits what was seen of {evidence.subject}: {'; '.join(evidence.lines[:3])}."[
        :_CONCLUSION_CHARS
    ]
