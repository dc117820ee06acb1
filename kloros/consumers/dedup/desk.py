"""What becomes of each question: taken in, folded, opened, ended. Decides nothing about being alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from kloros.chembus.facts import Facts
from kloros.chembus.facts_work import FoldedFacts, GapFoundFacts, InvestigationFacts
from kloros.consumers.dedup.folding import Folded, Join
from kloros.consumers.dedup.question import Question, told
from kloros.consumers.dedup.settings import DedupSettings
from kloros.consumers.dedup.store import DedupStore

US_PER_DAY = 86_400_000_000
WITHDRAWN = "withdrawn"
RESTORED = "restored"
REFUSED = "refused"
UNANSWERED = "unanswered"
# Open or folded questions given up on one beat: no more may be told at once than the bus takes.
MOST_GIVEN_UP = 1_000
_SIMILARITY_DIGITS = 4


class Tally(msgspec.Struct, kw_only=True):
    """Since the beginning. It adds up: taken = those that wait, are open or folded now + all that ended."""

    taken: int = 0
    duplicates: int = 0
    opened: int = 0
    folded: int = 0
    promoted: int = 0
    told_again: int = 0
    ended: dict[str, int] = {}


@dataclass(frozen=True)
class Told:
    """A signal that follows from it."""

    signal: str
    facts: Facts
    incident_id: str | None


class Desk:
    """The questions at one moment, in a batch or a cycle. `told` is what is to be emitted; `refused` counts by
    reason."""

    def __init__(self, store: DedupStore, settings: DedupSettings, tally: Tally, now_us: int) -> None:
        self._store, self._settings, self._now_us = store, settings, now_us
        self.tally = tally
        self.told: list[Told] = []
        self.refused: Counter[str] = Counter()

    # What is heard

    def take(self, question: Question) -> None:
        """A question was asked; the same one again changes nothing."""
        if self._store.knows(question.question_id):
            self.tally.duplicates += 1
            return
        self.tally.taken += 1
        self._store.put_waiting(question)

    def answer(self, facts: InvestigationFacts) -> None:
        """An investigation ended: for its question, and for all that were folded into it unless it was withdrawn."""
        if found := self._store.open_question(facts.question_id):
            if facts.status == WITHDRAWN:
                self._close(found[0], WITHDRAWN)
            else:
                self._end_with_its_likes(found[0], facts.status)
        elif folded := self._store.folded_question(facts.question_id):
            self._unfold(*folded)
            self._end(folded[0], facts.status, into=folded[1])
        elif waiting := self._store.waiting_question(facts.question_id):
            self._store.drop("waiting", waiting.question_id)
            self._end(waiting, facts.status)

    def restore(self, facts: GapFoundFacts) -> None:
        """A finding ended, and so did the questions about it; not those about others that they stood for."""
        for question in self._store.of_gap("waiting", facts.gap_id):
            self._store.drop("waiting", question.question_id)
            self._end(question, RESTORED)
        for question in self._store.of_gap("folded", facts.gap_id):
            if folded := self._store.folded_question(question.question_id):
                self._unfold(*folded)
                self._end(question, RESTORED, into=folded[1])
        for question in self._store.of_gap("open", facts.gap_id):
            self._close(question, RESTORED)

    def keep_waiting_within_limits(self) -> None:
        """Refuse the least valuable of those that wait, beyond the limit."""
        limit = self._settings.limits.waiting
        if self._store.waiting().count > limit:
            for question in self._store.least_valuable("waiting", beyond=limit):
                self._store.drop("waiting", question.question_id)
                self._refuse(question, REFUSED, f"more than {limit} questions wait")

    # What is done on a beat

    def give_up_unanswered(self) -> int:
        """End the open questions that nobody answers; returns how many groups there were."""
        days = self._settings.limits.unanswered_after_d
        unanswered = self._store.open_since(self._now_us - round(days * US_PER_DAY), MOST_GIVEN_UP)
        for question in unanswered:
            likes = self._store.folded_into(question.question_id)
            self._refuse_open(question, likes, UNANSWERED, f"nobody answered for {days:g} days")
        return len(unanswered)

    def keep_folded_within_limits(self) -> int:
        """Refuse the least valuable of those that are folded, beyond the limit; returns how many."""
        limit = self._settings.limits.folded
        if self._store.counts()["folded"] <= limit:
            return 0
        excess = self._store.least_valuable("folded", beyond=limit)[-MOST_GIVEN_UP:]
        for question in excess:
            if folded := self._store.folded_question(question.question_id):
                self._unfold(*folded)
                self._refuse(question, REFUSED, f"more than {limit} questions are folded", into=folded[1])
        return len(excess)

    def settle(self, outcome: Folded) -> None:
        """Keep and tell what became of a batch of those that waited."""
        losers = self._losers(outcome)
        for question in outcome.opened:
            likes = outcome.joined_to(question.question_id)
            self._store.drop("waiting", question.question_id)
            if question.question_id in losers:
                self._refuse(question, REFUSED, self._full())
            else:
                self._open(question, likes)
        joined = [join for join in outcome.joined if join.into not in losers]
        for join in outcome.joined:
            self._store.drop("waiting", join.question.question_id)
            if join.into in losers:
                self._refuse(join.question, REFUSED, self._full(), into=join.into)
            else:
                self._fold(join)
        for question_id, loser in losers.items():
            if loser is not None:
                self._refuse_open(loser, self._store.folded_into(question_id), REFUSED, self._full())
        self._add_to_open_ones(outcome, joined)

    def _losers(self, outcome: Folded) -> dict[str, Question | None]:
        """What there is no room for among the open ones: None for one that would have been new."""
        limit = self._settings.limits.open
        if self._store.counts()["open"] + len(outcome.opened) <= limit:
            return {}
        known = {question.question_id: question for question in self._store.least_valuable("open", beyond=0)}
        every = sorted([*known.values(), *outcome.opened], key=lambda question: question.worth)
        losers = {question.question_id: known.get(question.question_id) for question in reversed(every[limit:])}
        given_up = [question_id for question_id, loser in losers.items() if loser is not None][MOST_GIVEN_UP:]
        return {question_id: loser for question_id, loser in losers.items() if question_id not in set(given_up)}

    def _full(self) -> str:
        return f"more than {self._settings.limits.open} questions are open"

    def _open(self, question: Question, likes: Sequence[Question]) -> None:
        level, folded = max(each.level for each in (question, *likes)), 1 + len(likes)
        self._store.put_open(question, folded, level, self._now_us)
        self.tally.opened += 1
        self._tell_to_investigate(question, level, likes, folded)

    def _fold(self, join: Join) -> None:
        question = join.question
        self._store.put_folded(question, join.into, join.similarity, self._now_us)
        self.tally.folded += 1
        facts = FoldedFacts(
            question_id=question.question_id, folded_into=join.into, gap_id=question.gap_id,
            similarity=round(join.similarity, _SIMILARITY_DIGITS),
        )  # fmt: skip
        self.told.append(Told("Q_QUESTION_FOLDED", facts, question.incident_id))

    def _add_to_open_ones(self, outcome: Folded, joined: Sequence[Join]) -> None:
        """Those that were open before stand for more now. They are told again only when they became more urgent."""
        new = {question.question_id for question in outcome.opened}
        for question_id in dict.fromkeys(join.into for join in joined if join.into not in new):
            found = self._store.open_question(question_id)
            if found is None:
                continue
            question, folded, told_level = found
            likes = [join.question for join in joined if join.into == question_id]
            self._store.add_folded(question_id, len(likes))
            level = max(like.level for like in likes)
            if level > told_level:
                self._store.put_told(question_id, level)
                self.tally.told_again += 1
                every = [*self._store.folded_into(question_id), *likes]
                self._tell_to_investigate(question, level, every, folded + len(likes))

    def _tell_to_investigate(self, question: Question, level: int, likes: Sequence[Question], folded: int) -> None:
        facts = told(question.facts, level, [like.facts for like in likes], folded)
        self.told.append(Told("Q_CURIOSITY_INVESTIGATE", facts, question.incident_id))

    # Ending

    def _close(self, question: Question, how: str) -> None:
        """An open question ends because its own finding did. What was folded into it about other findings waits again,
        to be opened, or folded into another one, on the next beat."""
        for like in self._store.folded_into(question.question_id):
            self._store.drop("folded", like.question_id)
            if like.gap_id is not None and like.gap_id == question.gap_id:
                self._end(like, how, into=question.question_id)
            else:
                self._store.put_waiting(like)
                self.tally.promoted += 1
        self._store.drop("open", question.question_id)
        self._end(question, how)

    def _end_with_its_likes(self, question: Question, how: str) -> None:
        for like in self._store.folded_into(question.question_id):
            self._store.drop("folded", like.question_id)
            self._end(like, how, into=question.question_id)
        self._store.drop("open", question.question_id)
        self._end(question, how)

    def _unfold(self, question: Question, into: str) -> None:
        self._store.drop("folded", question.question_id)
        self._store.add_folded(into, -1)

    def _refuse_open(self, question: Question, likes: Sequence[Question], how: str, reason: str) -> None:
        for like in likes:
            self._store.drop("folded", like.question_id)
            self._refuse(like, how, reason, into=question.question_id)
        self._store.drop("open", question.question_id)
        self._refuse(question, how, reason)

    def _refuse(self, question: Question, how: str, reason: str, into: str | None = None) -> None:
        """Nobody will answer it; whoever asked is told so."""
        self._end(question, how, reason, into)
        self.refused[reason] += 1
        asked = question.facts
        facts = InvestigationFacts(
            question_id=question.question_id, status=REFUSED, conclusion=f"not investigated: {reason}",
            evidence=[f"reason={reason}"], evidence_hash=asked.evidence_hash, gap_id=question.gap_id,
            gap_type=asked.gap_type, gap_name=asked.gap_name, severity=asked.severity,
            capability_key=asked.capability_key, question=asked.question, value_estimate=asked.value_estimate,
        )  # fmt: skip
        self.told.append(Told("Q_INVESTIGATION_COMPLETE", facts, question.incident_id))

    def _end(self, question: Question, how: str, reason: str | None = None, into: str | None = None) -> None:
        self._store.put_ended(question, how, reason, into, self._now_us)
        self.tally.ended[how] = self.tally.ended.get(how, 0) + 1
