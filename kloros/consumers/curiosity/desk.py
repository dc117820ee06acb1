"""Where findings become questions: heard, weighed, asked or archived, and closed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from kloros.chembus.facts_work import FoldedFacts, GapFoundFacts, InvestigationFacts
from kloros.consumers.curiosity import evidence, wording
from kloros.consumers.curiosity.about import is_about_questions
from kloros.consumers.curiosity.question import (
    Candidate,
    Question,
    Reason,
    Status,
    Tally,
    evidence_hash,
    question_id,
)
from kloros.consumers.curiosity.settings import CuriositySettings
from kloros.consumers.curiosity.store import CuriosityStore, Topic, Waiting
from kloros.consumers.curiosity.worth import (
    ARCHIVED,
    US_PER_DAY,
    Worth,
    category_of,
    cool_down_us,
    expected_s,
    is_cool,
    learn,
    worth_of,
)
from kloros.units import US_PER_S

_ANSWERS = ("concluded", "inconclusive")
_WITHDRAWN = "withdrawn"
_TOOK_TIME = (*_ANSWERS, "failed", "timed_out")
_UNENDED = (Status.OPEN, Status.FOLDED)


class Desk:
    """One piece of work on the tables of a store, at one moment. `tally` and `archived` say what was done."""

    def __init__(self, store: CuriosityStore, settings: CuriositySettings, tally: Tally, now_us: int) -> None:
        self._store, self._settings, self._now_us = store, settings, now_us
        self._learnt_s: Mapping[str, float] = store.learnt_s()
        self.tally = tally
        self.archived: Counter[str] = Counter()

    # What is heard

    def hear(self, facts: GapFoundFacts) -> None:
        """A finding opened or worsened: it waits to be asked about, unless that is pointless."""
        self.tally.heard += 1
        if not (facts.gap_id and facts.gap_type):
            self._archive(_malformed(facts, self._now_us), Reason.MALFORMED, nth=1)
            return
        name = evidence.topic_of(facts.gap_type, facts.gap_name)
        topic = self._store.topic(name)
        returns = 0 if topic is None else topic.returns + (not topic.is_open)
        topic = (topic or Topic())._replace(is_open=True, returns=returns)
        self._store.put_topic(name, topic, self._now_us)
        known = self._store.candidate(facts.gap_id)
        candidate = self._candidate(facts, name, returns, known)
        if known is not None:
            self.tally.renewed += 1
        reason = self._objection(facts, candidate)
        if reason is None:
            self._store.put_candidate(candidate)
        else:
            self._store.drop_candidate(candidate.gap_id)
            self._archive(candidate, reason, nth=topic.asks + 1)

    def _candidate(self, facts: GapFoundFacts, topic: str, returns: int, known: Candidate | None) -> Candidate:
        parts = evidence.split(facts.gap_type, facts.gap_name, facts.severity, facts.evidence, returns)
        since_us = self._now_us if facts.first_seen_ts is None else round(facts.first_seen_ts * US_PER_S)
        return Candidate(
            gap_id=facts.gap_id,
            gap_type=evidence.clipped(facts.gap_type, evidence.MAX_NAME_CHARS),
            gap_name=evidence.clipped(facts.gap_name),
            severity=facts.severity,
            topic=topic,
            evidence=parts.evidence,
            measures=parts.measures,
            evidence_hash=evidence_hash(parts.evidence),
            detail=evidence.clipped(facts.detail or ""),
            first_seen_us=min(self._now_us, since_us, known.first_seen_us if known else since_us),
            heard_us=self._now_us,
            times=known.times + 1 if known else 1,
            returns=returns,
        )

    def _objection(self, facts: GapFoundFacts, candidate: Candidate) -> Reason | None:
        """Why nothing is to be asked about it."""
        if is_about_questions(facts.gap_type, facts.gap_name, evidence.read(candidate.evidence + candidate.measures)):
            return Reason.ABOUT_QUESTIONS
        if self._store.was_asked(candidate.evidence_hash):
            self._store.note_asked(candidate.evidence_hash, self._now_us)
            return Reason.ASKED_BEFORE
        return None

    def restore(self, facts: GapFoundFacts) -> None:
        """A finding ended: nothing need be asked about it, and nothing answered."""
        name = evidence.topic_of(facts.gap_type, facts.gap_name)
        topic = self._store.topic(name)
        if topic is not None:
            self._store.put_topic(name, topic._replace(is_open=False), self._now_us)
        candidate = self._store.candidate(facts.gap_id)
        if candidate is not None:
            self._store.drop_candidate(candidate.gap_id)
            self._archive(candidate, Reason.RESTORED, nth=topic.asks + 1 if topic else 1)
        for question in self._store.questions_of(facts.gap_id, *_UNENDED):
            self._close(question, Status.ARCHIVED, Reason.RESTORED)
            self._stand_alone(self._store.folded_into(question.question_id), facts.gap_id)

    def _stand_alone(self, folded: Iterable[Question], gap_id: str) -> None:
        """What stood for these ended because its own finding, `gap_id`, did: those about others are open again."""
        for question in folded:
            if question.gap_id != gap_id:
                question.status, question.folded_into, question.changed_us = Status.OPEN, None, self._now_us
                self._store.put_question(question)

    def fold(self, facts: FoldedFacts) -> bool:
        """Another question stands for this one from now on; False when it is none of ours."""
        question = self._store.question(facts.question_id)
        if question is None or question.status not in _UNENDED:
            return False
        question.status, question.folded_into, question.changed_us = Status.FOLDED, facts.folded_into, self._now_us
        self._store.put_question(question)
        return True

    def take_answer(self, facts: InvestigationFacts) -> bool:
        """An investigation ended, for its question and all that were folded into it; False when it is none of ours."""
        self._learn(facts)
        question = self._store.question(facts.question_id)
        if question is None:
            return False
        ended, folded = [question], self._store.folded_into(facts.question_id)
        if facts.status == _WITHDRAWN:
            self._stand_alone(folded, question.gap_id)
        else:
            ended += folded
        for each in ended:
            if each.status not in _UNENDED:
                continue  # it is told twice: by who answers, and by who folds
            each.outcome, each.confidence = facts.status[: evidence.MAX_NAME_CHARS], facts.confidence
            each.conclusion = evidence.clipped(facts.conclusion or "") or None
            if facts.status in _ANSWERS:
                self._close(each, Status.ANSWERED, None)
            else:
                self._close(each, Status.ARCHIVED, each.outcome)
        return True

    def _learn(self, facts: InvestigationFacts) -> None:
        if facts.gap_type is None or facts.duration_ms is None or facts.status not in _TOOK_TIME:
            return
        gap_type = evidence.clipped(facts.gap_type, evidence.MAX_NAME_CHARS)
        known_s = expected_s(gap_type, self._learnt_s, self._settings.cost)
        learnt_s = learn(known_s, facts.duration_ms / 1e3, self._settings.cost.learning)
        self._learnt_s = {**self._learnt_s, gap_type: learnt_s}
        self._store.put_learnt(gap_type, learnt_s, self._now_us)

    def keep_within_limits(self) -> None:
        """Archive the least valuable candidates beyond the limit, and forget the oldest questions beyond theirs."""
        excess = self._store.waiting_count() - self._settings.limits.candidates
        if excess > 0:
            for _, (candidate, topic) in self._ranked()[-excess:]:
                self._store.drop_candidate(candidate.gap_id)
                self._archive(candidate, Reason.QUEUE_FULL, nth=topic.asks + 1)
        self.tally.forgotten += self._store.forget_questions(self._settings.limits.kept_questions)

    # What is asked

    def ask(self) -> list[Question]:
        """The questions of one beat, the most valuable first."""
        limits = self._settings.limits
        room = min(limits.questions_per_beat, limits.open_questions - self._store.count(Status.OPEN))
        asked: list[Question] = []
        hashes: set[str] = set()
        topics: set[str] = set()
        for worth, (candidate, topic) in self._ranked():
            cool_down = cool_down_us(candidate.gap_type, candidate.severity, self._settings)
            asked_us = self._now_us if candidate.topic in topics else topic.asked_us
            if not is_cool(asked_us, cool_down, self._now_us):
                continue
            nth = topic.asks + 1
            if worth.level == ARCHIVED:
                self._store.drop_candidate(candidate.gap_id)
                self._archive(candidate, Reason.WORTH_TOO_LITTLE, nth)
            elif candidate.evidence_hash in hashes or self._store.was_asked(candidate.evidence_hash):
                self._store.drop_candidate(candidate.gap_id)
                self._archive(candidate, Reason.ASKED_BEFORE, nth)
            elif len(asked) < room:
                hashes.add(candidate.evidence_hash)
                topics.add(candidate.topic)
                asked.append(self._ask(candidate, worth, topic))
        return asked

    def _ask(self, candidate: Candidate, worth: Worth, topic: Topic) -> Question:
        question = self._question(candidate, worth, topic.asks + 1)
        question.status, question.asked_us = Status.OPEN, self._now_us
        self._store.drop_candidate(candidate.gap_id)
        self._store.put_question(question)
        self._store.note_asked(candidate.evidence_hash, self._now_us)
        remembered = topic._replace(asks=topic.asks + 1, asked_us=self._now_us)
        self._store.put_topic(candidate.topic, remembered, self._now_us)
        self.tally.asked[worth.level] = self.tally.asked.get(worth.level, 0) + 1
        return question

    def tidy(self) -> None:
        """Give up on questions that nobody answers, and forget what is long past."""
        limits = self._settings.limits
        for question in self._store.unanswered_since(self._now_us - round(limits.unanswered_after_d * US_PER_DAY)):
            self._close(question, Status.ARCHIVED, Reason.UNANSWERED)
        self._store.forget_old(self._now_us - round(limits.forget_after_d * US_PER_DAY), limits.remembered)
        self.tally.forgotten += self._store.forget_questions(limits.kept_questions)

    # Both

    def _ranked(self) -> list[tuple[Worth, Waiting]]:
        """Every candidate with what it is worth, the most valuable first, of equals the oldest."""
        weighed = [
            (worth_of(each.candidate, self._learnt_s, self._now_us, self._settings), each)
            for each in self._store.waiting()
        ]
        return sorted(
            weighed, key=lambda pair: (*pair[0].rank, pair[1].candidate.first_seen_us, pair[1].candidate.gap_id)
        )

    def _archive(self, candidate: Candidate, reason: Reason, nth: int) -> None:
        worth = worth_of(candidate, self._learnt_s, self._now_us, self._settings)
        question = self._question(candidate, worth, nth)
        before = self._store.question(question.question_id)
        question.reason, question.times = reason, before.times + 1 if before else 1
        self._store.put_question(question)
        self.tally.archived[reason] = self.tally.archived.get(reason, 0) + 1
        self.archived[reason] += 1

    def _close(self, question: Question, status: Status, reason: str | None) -> None:
        question.status, question.reason, question.changed_us = status, reason, self._now_us
        self._store.put_question(question)
        why = reason or question.outcome or status
        self.tally.closed[why] = self.tally.closed.get(why, 0) + 1

    def _question(self, candidate: Candidate, worth: Worth, nth: int) -> Question:
        pairs = evidence.read(candidate.evidence)
        return Question(
            question_id=self._free_id(candidate, nth),
            gap_id=candidate.gap_id,
            gap_type=candidate.gap_type,
            gap_name=candidate.gap_name,
            severity=candidate.severity,
            question=wording.question(candidate.gap_type, candidate.gap_name, pairs),
            hypothesis=wording.hypothesis(candidate.gap_type, pairs, candidate.detail, candidate.measures),
            capability_key=evidence.capability_key(candidate.gap_type, candidate.gap_name),
            category=category_of(candidate.gap_type, self._settings),
            evidence=candidate.evidence,
            evidence_hash=candidate.evidence_hash,
            value=round(worth.value, 4), cost=round(worth.cost, 4), ratio=round(worth.ratio, 4), level=worth.level,
            status=Status.ARCHIVED,
            changed_us=self._now_us,
            first_seen_us=candidate.first_seen_us,
        )  # fmt: skip

    def _free_id(self, candidate: Candidate, nth: int) -> str:
        """The question's id; the next one where eight digits are those of another finding's already."""
        while True:
            wanted = question_id(candidate.gap_id, candidate.evidence_hash, nth)
            taken = self._store.question(wanted)
            if taken is None or taken.gap_id == candidate.gap_id:
                return wanted
            nth += 1


def _malformed(facts: GapFoundFacts, now_us: int) -> Candidate:
    """What can be told of a finding without a usable identity."""
    identity = msgspec.json.encode([facts.gap_id, facts.gap_type, facts.gap_name])
    hashed = evidence_hash([identity.decode()])
    return Candidate(
        gap_id=facts.gap_id, gap_type=evidence.clipped(facts.gap_type, 64),
        gap_name=evidence.clipped(facts.gap_name), severity=facts.severity, topic="", evidence=[], measures=[],
        evidence_hash=hashed, detail="", first_seen_us=now_us, heard_us=now_us,
    )  # fmt: skip
