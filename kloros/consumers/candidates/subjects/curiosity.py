"""curiosity as a subject: above which worth a question is asked with some urgency. Pure.

A decision was right when the question was asked so and an investigation found an answer it was sure of, or when it was
left at LOW and none did. What was archived was never investigated, so nothing is known of it, and the bound below which
questions are archived cannot be learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kloros.consumers.candidates.space import Parameter, Parameters, Space
from kloros.consumers.candidates.subject import Asked, Example, Output, Outputs
from kloros.consumers.curiosity.worth import HIGH_ABOVE, LOW_ABOVE, MEDIUM_ABOVE, ratio_of

ANSWERED = ("concluded", "inconclusive", "failed", "timed_out")
SURE = 0.5
_OTHER = "other"
_DEFAULTS: dict[str, float] = {name: getattr(MEDIUM_ABOVE, name) for name in MEDIUM_ABOVE.__struct_fields__}


class CuriositySubject:
    """See Subject."""

    name = "curiosity"
    settings = "curiosity_core_consumer"
    assumes: Mapping[str, object] = {}
    space: Space = tuple(
        Parameter(path=f"medium_above.{category}", low=LOW_ABOVE, high=HIGH_ABOVE, default=default, decimals=2)
        for category, default in _DEFAULTS.items()
    )

    def examples(self, history: Sequence[Asked]) -> Sequence[Example]:
        """Of a question that was folded, the one that stands for it was decided and answered in its place."""
        stood = (each for each in history if each.closed is not None and each.folded_into is None)
        return [_example(each) for each in stood if _is_decided_by_threshold(each)]

    def replay(self, parameters: Parameters, examples: Sequence[Example]) -> Outputs:
        thresholds = {category: parameters[f"medium_above.{category}"] for category in _DEFAULTS}
        return {each.key: each.data[1] > thresholds[each.data[0]] for each in examples}

    def loss(self, example: Example, output: Output) -> float:
        _, _, is_worth_it, _ = example.data
        return float(bool(output) != is_worth_it)

    def cost(self, example: Example, output: Output) -> float:
        """Seconds of investigation that found nothing."""
        _, _, is_worth_it, took_s = example.data
        return took_s if output and not is_worth_it else 0.0


def _is_decided_by_threshold(asked: Asked) -> bool:
    """Whether the threshold of its category decides; not so for what is critical, or worth very much or little."""
    question = asked.question
    if question.severity == "critical" or question.value_estimate is None:
        return False
    return _ratio(asked) <= HIGH_ABOVE


def _example(asked: Asked) -> Example:
    question, answer = asked.question, asked.answer
    is_labelled = answer is not None and answer.status in ANSWERED
    is_worth_it = asked.is_concluded and answer is not None and (answer.confidence or 0.0) >= SURE
    took_s = (answer.duration_ms or 0.0) / 1e3 if answer else 0.0
    category = question.category if question.category in _DEFAULTS else _OTHER
    return Example(
        key=question.question_id, group=question.gap_id or question.question_id, closed=asked.closed or 0,
        is_labelled=is_labelled, data=(category, _ratio(asked), is_worth_it, took_s),
    )  # fmt: skip


def _ratio(asked: Asked) -> float:
    return ratio_of(asked.question.value_estimate or 0.0, asked.question.cost_estimate or 0.0)
