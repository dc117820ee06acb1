"""What reality said about questions: what investigations concluded, and so which questions were the same. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kloros.consumers.candidates.subject import Asked


class Conclusion(NamedTuple):
    """What was found, and about what."""

    rule: str
    target: str


class Conclusions:
    """The conclusions of a history: each question's own, and the last of each finding."""

    def __init__(self, history: Sequence[Asked]) -> None:
        self._of_finding: dict[str, Conclusion] = {}
        for asked in sorted(history, key=lambda each: each.closed or 0):
            found = own_conclusion(asked)
            if found and asked.question.gap_id:
                self._of_finding[asked.question.gap_id] = found

    def of(self, asked: Asked) -> Conclusion | None:
        """Its own, or, where it was folded, that of its finding, if that was asked about again and answered."""
        return own_conclusion(asked) or self._of_finding.get(asked.question.gap_id or "")

    def are_same(self, one: Asked, other: Asked) -> bool | None:
        """Whether two questions turned out to be the same; None when nobody knows.

        They are when the same was found about the same target, or they are about one finding, unless each led to
        another conclusion. They are not when another rule or another target was found.
        """
        if one.question.gap_id and one.question.gap_id == other.question.gap_id:
            own = own_conclusion(one), own_conclusion(other)
            return own[0] == own[1] or None in own
        both = self.of(one), self.of(other)
        return None if None in both else both[0] == both[1]


def own_conclusion(asked: Asked) -> Conclusion | None:
    """What the investigation of this very question found."""
    if asked.answer is None or not asked.is_concluded or not asked.answer.rule:
        return None
    action = asked.answer.recommended_action
    target = action.target if action else asked.question.capability_key or asked.question.gap_name or ""
    return Conclusion(asked.answer.rule, target)
