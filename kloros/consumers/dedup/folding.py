"""What is folded into what. Pure.

A question goes to the open question it is most alike, or becomes open itself. What is guaranteed, in whatever order
questions arrive: each is at least `threshold` alike the one that stands for it, and no two questions that were opened
are so alike each other. Questions folded in one batch give the same outcome in whatever order they came. Where being
alike is transitive (which it need not be), so do all orders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kloros.consumers.dedup.question import Question

Alike = Sequence[tuple[float, str]]
"""(similarity, question_id) of questions that are alike one."""


@dataclass(frozen=True)
class Join:
    """A question that another one, `into`, stands for from now on."""

    question: Question
    into: str
    similarity: float


@dataclass
class Folded:
    """What became of a batch. `opened`: those that stand for themselves and for what `joined` them."""

    opened: list[Question] = field(default_factory=list)
    joined: list[Join] = field(default_factory=list)

    def joined_to(self, question_id: str) -> list[Question]:
        """Those that were folded into that one."""
        return [join.question for join in self.joined if join.into == question_id]


def is_due(waiting: int, oldest_waited_s: float, has_critical: bool, batch: int, wait_s: float) -> bool:
    """Whether what waits is to be folded now."""
    return waiting > 0 and (has_critical or waiting >= batch or oldest_waited_s >= wait_s)


def fold(batch: Sequence[Question], open_ones: Mapping[str, Alike], each_other: Mapping[str, Alike]) -> Folded:
    """Fold a batch, the most valuable first.

    open_ones: for each question of the batch, the open questions that are alike enough; each_other: those of the batch.
    """
    outcome = Folded()
    opened: set[str] = set()
    for question in sorted(batch, key=lambda each: each.worth):
        own = question.question_id
        candidates = [*open_ones.get(own, ()), *(like for like in each_other.get(own, ()) if like[1] in opened)]
        if candidates:
            similarity, into = min(candidates, key=lambda like: (-like[0], like[1]))
            outcome.joined.append(Join(question, into, similarity))
        else:
            opened.add(own)
            outcome.opened.append(question)
    return outcome
