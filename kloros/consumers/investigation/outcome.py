"""What is told when a question ends. Pure."""

from __future__ import annotations

import msgspec

from kloros.chembus.envelope import MAX_MESSAGE_BYTES, Message, codec_for
from kloros.chembus.facts_work import InvestigationFacts, QuestionFacts
from kloros.consumers.investigation.evidence import Evidence, evidence_hash
from kloros.consumers.investigation.rule import Conclusion
from kloros.errors import Oversize

_IDS = ("question_id", "gap_id", "gap_type", "capability_key", "priority", "category", "action_class", "evidence_hash")
_TEXTS = ("question", "hypothesis", "gap_name")
ID_CHARS = 256
_TEXT_CHARS, _LINES, _LINE_CHARS = 500, 50, 300
_COMPLETE = "Q_INVESTIGATION_COMPLETE"
SUPPRESSED = "Not looked into: the last {count} investigations of this failed ({reason})."
REFUSED = "Not looked into: {limit} questions wait already, none of them worth less."
WITHDRAWN = "Not looked into: the finding ended before."
TIMED_OUT = "Nothing was found out within {timeout_s:g} s."


def bounded(question: QuestionFacts) -> QuestionFacts:
    """The question, with nothing in it longer than a person reads: what is told of it later must fit into a message."""
    ids = {name: value[:ID_CHARS] for name in _IDS if (value := getattr(question, name))}
    texts = {name: value[:_TEXT_CHARS] for name in _TEXTS if (value := getattr(question, name))}
    lines = [line[:_LINE_CHARS] for line in question.evidence[:_LINES]]
    return msgspec.structs.replace(question, **ids, **texts, evidence=lines)


def ended(
    question: QuestionFacts,
    status: str,
    conclusion: str,
    *,
    evidence: list[str] | None = None,
    duration_s: float = 0.0,
    playbook: str | None = None,
) -> InvestigationFacts:
    """A question that ended without a conclusion, and why."""
    lines = question.evidence if evidence is None else evidence
    return InvestigationFacts(
        question_id=question.question_id, status=status, conclusion=conclusion, evidence=lines,
        evidence_hash=evidence_hash(lines), duration_ms=round(duration_s * 1e3, 1), gap_id=question.gap_id,
        gap_type=question.gap_type, gap_name=question.gap_name, severity=question.severity, playbook=playbook,
        capability_key=question.capability_key, question=question.question, value_estimate=question.value_estimate,
    )  # fmt: skip


def concluded(
    question: QuestionFacts, evidence: Evidence, conclusion: Conclusion, duration_s: float
) -> InvestigationFacts:
    """A question that was answered, or at least looked into."""
    status = "concluded" if conclusion.is_conclusive else "inconclusive"
    facts = ended(
        question, status, conclusion.text, evidence=evidence.told(), duration_s=duration_s, playbook=evidence.playbook
    )
    facts.rule, facts.confidence = conclusion.rule, conclusion.confidence
    facts.recommended_action, facts.cure = conclusion.action, conclusion.cure
    return facts


def check(facts: InvestigationFacts) -> None:
    """Whether it can be told at all: what investigators of other packages found may be anything.

    Raises:
        BadFacts: It has another shape, or text that is not Unicode.
        Oversize: It is too long for a message.
    """
    message = Message(signal=_COMPLETE, ecosystem="", facts=facts, incident_id=facts.gap_id, ts=0.0)
    size_bytes, limit_bytes = len(codec_for(InvestigationFacts).encode(message)), MAX_MESSAGE_BYTES // 2
    if size_bytes > limit_bytes:
        raise Oversize(signal=_COMPLETE, size_bytes=size_bytes, limit_bytes=limit_bytes)
