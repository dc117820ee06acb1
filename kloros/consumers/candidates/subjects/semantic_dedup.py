"""semantic_dedup as a subject: how alike two questions must be to be folded into one. Pure.

Each question is a decision: fold it into the open one that it is most like, or let it stand. Folding was right when
both turned out to be the same, see Conclusions. To fold a question into another one loses it: that is twice as wrong as
to let one stand that could have been folded, which costs one more investigation.

Likeness is the room's own: its built-in embedder, and the names that must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kloros.consumers.candidates.space import Parameter, Parameters, Space
from kloros.consumers.candidates.subject import Asked, Example, Output, Outputs
from kloros.consumers.candidates.subjects.conclusions import Conclusions
from kloros.consumers.dedup.hashed_words import HashedWords
from kloros.consumers.dedup.names import differ, names_of
from kloros.consumers.dedup.question import text_of
from kloros.consumers.dedup.vectors import alike, packed, squares, stacked

STANDS = ""
WRONGLY_FOLDED, NOT_FOLDED = 1.0, 0.5
LOW, HIGH, DEFAULT = 0.5, 0.99, 0.85
MOST_OPEN = 200


class Text(NamedTuple):
    """A question as it is compared."""

    vector: bytes
    names: frozenset[str]


class Near(NamedTuple):
    """An open question that is not far off, and whether it turned out to be the same."""

    question_id: str
    similarity: float
    is_same: bool | None


class Choice(NamedTuple):
    """What could be decided. `took_s`: what its investigation took, if it stood."""

    near: tuple[Near, ...]
    took_s: float


class SemanticDedupSubject:
    """See Subject."""

    name = "semantic_dedup"
    settings = "semantic_dedup_consumer"
    assumes: Mapping[str, object] = {"embedder": HashedWords.name, "names_must_agree": True}
    space: Space = (Parameter(path="threshold", low=LOW, high=HIGH, default=DEFAULT),)

    def examples(self, history: Sequence[Asked]) -> Sequence[Example]:
        conclusions = Conclusions(history)
        texts = {each.question.question_id: _text(each) for each in history}
        return [_example(each, before, texts, conclusions) for each, before in _with_open_ones(history)]

    def replay(self, parameters: Parameters, examples: Sequence[Example]) -> Outputs:
        threshold = parameters["threshold"]
        return {each.key: _decided(each.data, threshold) for each in examples}

    def loss(self, example: Example, output: Output) -> float:
        choice: Choice = example.data
        if output == STANDS:
            return NOT_FOLDED if any(each.is_same for each in choice.near) else 0.0
        return 0.0 if any(each.is_same and each.question_id == output for each in choice.near) else WRONGLY_FOLDED

    def cost(self, example: Example, output: Output) -> float:
        """Seconds of investigation for a question that had been asked already."""
        choice: Choice = example.data
        return choice.took_s if output == STANDS and any(each.is_same for each in choice.near) else 0.0


def _decided(choice: Choice, threshold: float) -> str:
    nearest = max(choice.near, key=lambda each: each.similarity, default=None)
    return nearest.question_id if nearest and nearest.similarity >= threshold else STANDS


def _with_open_ones(history: Sequence[Asked]) -> Iterator[tuple[Asked, list[Asked]]]:
    """Each closed question, and those before it that were open and stood when it was asked, the newest of them."""
    standing: list[Asked] = []
    for asked in sorted(history, key=lambda each: each.asked):
        standing = [each for each in standing if each.closed is None or each.closed > asked.asked][-MOST_OPEN:]
        if asked.closed is not None:
            yield asked, standing
        if asked.folded_into is None:
            standing.append(asked)


def _example(asked: Asked, before: Sequence[Asked], texts: Mapping[str, Text], conclusions: Conclusions) -> Example:
    near = [
        Near(each.question.question_id, similarity, conclusions.are_same(asked, each))
        for similarity, each in _alike(asked, before, texts)
    ]
    is_labelled = conclusions.of(asked) is not None or any(each.is_same is not None for each in near)
    if is_labelled:  # what nobody has investigated can be neither right nor wrong
        near = [each for each in near if each.is_same is not None]
    took_s = ((asked.answer.duration_ms if asked.answer else None) or 0.0) / 1e3
    question = asked.question
    return Example(
        key=question.question_id, group=question.gap_id or question.question_id, closed=asked.closed or 0,
        is_labelled=is_labelled, data=Choice(tuple(near), took_s),
    )  # fmt: skip


def _alike(asked: Asked, before: Sequence[Asked], texts: Mapping[str, Text]) -> Iterator[tuple[float, Asked]]:
    """Those before it that could be folded into at some threshold of the space, with how alike they are."""
    own = texts[asked.question.question_id]
    open_ones = [each for each in before if not differ(own.names, texts[each.question.question_id].names)]
    if open_ones:
        known = stacked([texts[each.question.question_id].vector for each in open_ones])
        (found,) = alike(stacked([own.vector]), known, squares(known), LOW)
        yield from ((similarity, open_ones[row]) for similarity, row in found)


def _text(asked: Asked) -> Text:
    text = text_of(asked.question.question, asked.question.gap_name)
    (vector,) = HashedWords().embed([text])
    return Text(packed(vector), frozenset(names_of(text).certain))
