"""What may be improved: a module whose decisions can be taken again, with other parameters, on recorded history. Pure.

Other packages offer subjects under the entry-point group `kloros.subjects`: a class without arguments that has what
`Subject` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec

from kloros.chembus.facts_work import InvestigationFacts, QuestionFacts
from kloros.consumers.candidates.space import Parameter, Parameters

Output: TypeAlias = str | float | bool
"""A decision."""
Outputs: TypeAlias = Mapping[str, Output]
"""Decisions by the key of their example."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A question of the recorded history, and what became of it.

    asked, closed: numbers in the order in which things happened; whoever was asked before and closed after something
    was open then. folded_into: the question that stood for it. answer: how the investigation ended, if there was one.
    """

    question: QuestionFacts
    level: str
    asked: int
    closed: int | None = None
    folded_into: str | None = None
    answer: InvestigationFacts | None = None

    @property
    def is_concluded(self) -> bool:
        """Whether an investigation found an answer."""
        return self.answer is not None and self.answer.status == "concluded"


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One decision to be taken again.

    key: names it; stays the same. group: examples of one group hang together and count as one piece of evidence.
    closed: when it was known what came of it. is_labelled: whether reality has said what would have been right.
    data: whatever the subject needs.
    """

    key: str
    group: str
    closed: int
    is_labelled: bool
    data: Any = None


@runtime_checkable
class Subject(Protocol):
    """A module's decisions as pure functions: no clock, file, socket, thread or process, and nothing kept between
    calls. While they run, attempts at any of that raise SideEffect.

    name: the module, as artifacts are called. settings: the stem of its settings file, whose keys `space` varies.
    assumes: settings that `replay` takes for granted; while the module runs with others, it cannot be judged.
    """

    name: str
    settings: str
    assumes: Mapping[str, object]
    space: Sequence[Parameter]

    def examples(self, history: Sequence[Asked]) -> Sequence[Example]:
        """The decisions that history holds. Unlabelled ones too: there a candidate may differ, but not be right."""

    def replay(self, parameters: Parameters, examples: Sequence[Example]) -> Outputs:
        """What the module decides with these parameters, by the key of the example."""

    def loss(self, example: Example, output: Output) -> float:
        """How wrong that decision was: 0 right to 1 wrong. Asked of labelled examples only."""

    def cost(self, example: Example, output: Output) -> float:
        """What that decision cost, in the subject's own unit; 0 or more. Asked of labelled examples only."""
