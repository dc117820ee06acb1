"""What becomes of a signal in memory: which memory it makes or touches, of what sector, how important. Pure.

The same key is the same memory: what is found or concluded again is not remembered twice, it is remembered better.
Why each signal belongs where it does stands in docs/decisions/0015.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from kloros.chembus.envelope import Message
from kloros.chembus.facts import AffectFacts
from kloros.chembus.facts_work import (
    ActionFacts,
    DecidedFacts,
    EnactmentFacts,
    FlagClosedFacts,
    FoldedFacts,
    GapFoundFacts,
    InvestigationFacts,
    QuestionFacts,
    ReflectionFacts,
    ReviewFacts,
    Severity,
    ShadowFacts,
    TournamentFacts,
)
from kloros.consumers.memory.fading import Sector
from kloros.consumers.memory.words import candidate_name, lasted, share

# How much what it is about matters.
_BY_SEVERITY: dict[str | None, float] = {
    None: 0.3, "info": 0.1, "low": 0.25, "medium": 0.5, "high": 0.75, "critical": 1.0,
}  # fmt: skip
_BY_PRIORITY: dict[str | None, float] = {None: 0.25, "low": 0.15, "medium": 0.3, "high": 0.45, "critical": 0.6}
# Only these outcomes teach what an action does; the others tell that it was not done.
_BY_OUTCOME = {"helped": 0.9, "no_help": 0.8, "failed": 0.7, "timed_out": 0.7}
_NOT_DONE = 0.3
_NOT_CONCLUDED_SHARE = 0.4
_ALARMS = ("EMERGENCY_BRAKE", "CRITICAL_FATIGUE", "HIGH_RAGE")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What a signal does to the memory `key` (`kind:id`).

    text: what it says. note: what became of it. keeps_text: the text is for a memory that is not there yet; of one that
    is, only the note changes. related: other ids that belong to it. is_new: it happened again, and did not only go on.
    """

    key: str
    sector: Sector
    importance: float
    text: str
    note: str = ""
    keeps_text: bool = False
    is_new: bool = True
    gap_id: str | None = None
    severity: Severity | None = None
    related: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The first word of the key."""
        return self.key.partition(":")[0]


def event_of(message: Message) -> Event | None:
    """What the message does to the memory; None when there is nothing to remember of it."""
    tell = _EVENTS.get(type(message.facts))
    event = tell(message, message.facts) if tell else None
    if event is not None and event.gap_id is None and message.incident_id is not None:
        event = msgspec.structs.replace(event, gap_id=message.incident_id)
    return event


def _finding(message: Message, facts: GapFoundFacts) -> Event:
    is_over = message.signal == "CAPABILITY_RESTORED"
    over = "over" if facts.duration_s is None else f"over after {lasted(facts.duration_s)}"
    note = over if is_over else "became worse" if facts.change == "worsened" else ""
    return Event(
        key=f"finding:{facts.gap_id}",
        sector=_alarming(facts.severity),
        importance=_BY_SEVERITY[facts.severity],
        text=facts.detail or f"{facts.gap_type} {facts.gap_name}",
        note=note,
        is_new=not note,
        gap_id=facts.gap_id,
        severity=facts.severity,
    )


def _question(message: Message, facts: QuestionFacts) -> Event:
    is_first = message.signal != "Q_CURIOSITY_INVESTIGATE"
    priority = message.signal.removeprefix("Q_CURIOSITY_").lower() if is_first else (facts.priority or "").lower()
    stands = f"stands for {facts.folded}" if facts.folded > 1 else "handed on to be investigated"
    return Event(
        key=f"question:{facts.question_id}",
        sector=Sector.EPISODIC,
        importance=_BY_PRIORITY.get(priority, _BY_PRIORITY[None]),
        text=facts.question,
        note=f"asked as {priority}" if is_first else stands,
        is_new=is_first,
        gap_id=facts.gap_id,
        severity=facts.severity,
    )


def _folded(_message: Message, facts: FoldedFacts) -> Event:
    return Event(
        key=f"question:{facts.question_id}",
        sector=Sector.EPISODIC,
        importance=_BY_PRIORITY["low"],
        text=f"question {facts.question_id}",
        note=f"folded into {facts.folded_into}, {share(facts.similarity)} alike",
        keeps_text=True,
        is_new=False,
        gap_id=facts.gap_id,
        related=(facts.folded_into,),
    )


def _investigation(_message: Message, facts: InvestigationFacts) -> Event:
    matters = _BY_SEVERITY[facts.severity]
    about = facts.gap_id or facts.capability_key or facts.question_id
    if facts.status == "concluded" and facts.conclusion:
        confidence = 0.5 if facts.confidence is None else facts.confidence
        rule = facts.rule or _hashed(facts.conclusion)
        key, sector, importance = f"conclusion:{about}/{rule}", Sector.SEMANTIC, matters * (0.5 + 0.5 * confidence)
        text, note = facts.conclusion, f"{facts.rule or 'no rule'}, confidence {share(confidence)}"
    else:
        key, sector, importance = f"investigation:{facts.question_id}", Sector.EPISODIC, matters * _NOT_CONCLUDED_SHARE
        what = facts.conclusion or facts.question or facts.question_id
        text, note = f"investigation {facts.status.replace('_', ' ')}: {what}", facts.rule or ""
    if facts.recommended_action is not None:
        note += f", recommends {facts.recommended_action.action_type} {facts.recommended_action.target}"
    return Event(
        key=key,
        sector=sector,
        importance=importance,
        text=text,
        note=note,
        gap_id=facts.gap_id,
        severity=facts.severity,
        related=(facts.question_id,),
    )


def _action(message: Message, facts: ActionFacts) -> Event:
    is_over = message.signal == "Q_ACTION_COMPLETE"
    outcome = facts.outcome or "ended" if is_over else "taken up"
    is_lesson = is_over and outcome in _BY_OUTCOME
    what = " ".join(filter(None, (facts.action_type, facts.target)))
    return Event(
        key=f"action:{facts.action_id}",
        sector=Sector.PROCEDURAL if is_lesson else Sector.EPISODIC,
        importance=_BY_OUTCOME[outcome] if is_lesson else _NOT_DONE,
        text=f"{what}: {outcome.replace('_', ' ')}",
        note=facts.detail or facts.rationale or "",
        is_new=not is_over,
        gap_id=facts.gap_id,
        related=() if facts.question_id is None else (facts.question_id,),
    )


def _decided(_message: Message, facts: DecidedFacts) -> Event | None:
    if not facts.accepted:
        return None
    verb = "approved" if facts.decision == "approve" else "rejected"
    reason = f": {facts.detail}" if facts.detail else ""
    return Event(
        key=f"action:{facts.action_id}",
        sector=Sector.EPISODIC,
        importance=_NOT_DONE,
        text=f"action {facts.action_id}",
        note=f"{verb} by {facts.requester or 'a person'}{reason}",
        keeps_text=True,
        is_new=False,
    )


def _flag(_message: Message, facts: ReviewFacts) -> Event:
    return Event(
        key=f"flag:{facts.flag_id}",
        sector=_alarming(facts.severity),
        importance=_BY_SEVERITY[facts.severity or "medium"],
        text=facts.rationale,
        note=f"cure: {facts.cure}" if facts.cure else "",
        gap_id=facts.gap_id,
        severity=facts.severity,
        related=() if facts.action_id is None else (facts.action_id,),
    )


def _flag_closed(_message: Message, facts: FlagClosedFacts) -> Event:
    return Event(
        key=f"flag:{facts.flag_id}",
        sector=Sector.EPISODIC,
        importance=_NOT_DONE,
        text=f"flag {facts.flag_id}",
        note=f"closed: {facts.reason}",
        keeps_text=True,
        is_new=False,
        gap_id=facts.gap_id,
    )


def _enactment(_message: Message, facts: EnactmentFacts) -> Event:
    return Event(
        key=f"change:{facts.action_id}",
        sector=Sector.PROCEDURAL,
        importance=0.6,
        text=f"{facts.action_kind} {facts.module_name}: {facts.status}",
        note=facts.detail or "",
    )


def _reflection(_message: Message, facts: ReflectionFacts) -> Event:
    return Event(
        key=f"reflection:{facts.action_id}",
        sector=Sector.REFLECTIVE,
        importance=0.8,
        text=f"{facts.module_name or 'change'} {facts.action_id}: {facts.verdict}",
        note=facts.detail or "",
        related=(facts.action_id,),
    )


def _shadow(_message: Message, facts: ShadowFacts) -> Event:
    drift = "" if facts.drift is None else f", drift {share(facts.drift)}"
    return _verdict("shadow", facts.module_name, facts.candidate, facts.verdict, drift, facts.detail)


def _tournament(_message: Message, facts: TournamentFacts) -> Event:
    fitness = "" if facts.fitness is None else f", fitness {facts.fitness:.4g}"
    return _verdict("tournament", facts.module_name, facts.candidate, facts.verdict, fitness, facts.detail)


def _verdict(
    judge: str, module: str | None, candidate: object, verdict: str | None, figure: str, detail: str | None
) -> Event:
    name = candidate_name(candidate)
    return Event(
        key=f"verdict:{judge}/{module or 'any'}/{_hashed(name)}",
        sector=Sector.REFLECTIVE,
        importance=0.5,
        text=f"{judge} of {module or 'a candidate'}: {verdict or 'judged'}{figure} ({name})",
        note=detail or "",
    )


def _mood(message: Message, facts: AffectFacts) -> Event | None:
    turn = message.signal.removeprefix("AFFECT_")
    if turn == "STATE":
        return None
    state = f": {candidate_name(facts.state)}" if facts.state is not None and turn == "STATE_CHANGE" else ""
    return Event(
        key=f"mood:{turn}{state and '/' + _hashed(state)}",
        sector=Sector.EMOTIONAL,
        importance=1.0 if turn in _ALARMS else 0.5,
        text=f"{turn.replace('_', ' ').lower()}{state}",
        note=facts.cause or "",
    )


def _alarming(severity: str | None) -> Sector:
    return Sector.EMOTIONAL if severity == "critical" else Sector.EPISODIC


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


_EVENTS: dict[type, Callable[[Message, Any], Event | None]] = {
    GapFoundFacts: _finding,
    QuestionFacts: _question,
    FoldedFacts: _folded,
    InvestigationFacts: _investigation,
    ActionFacts: _action,
    DecidedFacts: _decided,
    ReviewFacts: _flag,
    FlagClosedFacts: _flag_closed,
    EnactmentFacts: _enactment,
    ReflectionFacts: _reflection,
    ShadowFacts: _shadow,
    TournamentFacts: _tournament,
    AffectFacts: _mood,
}
