"""What an investigator is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.investigation.evidence import Evidence
from kloros.consumers.investigation.rule import Rule
from kloros.machine.deadline import Deadline
from kloros.machine.whole import Machine

Question: TypeAlias = QuestionFacts


class Investigator(Protocol):
    """Looks into one kind of question. Called from several threads at once, each with a machine of its own."""

    name: str

    def handles(self, question: Question) -> float:
        """How well it can answer the question; 0 for not at all. The one with the most is asked."""

    def gather(self, question: Question, machine: Machine, deadline: Deadline) -> Evidence:
        """What is to be seen. Changes nothing; says in the evidence what it could not look at; ends by the deadline.

        An exception counts as a failed investigation.
        """


@runtime_checkable
class BringsRules(Protocol):
    """An investigator with rules of its own; they are tried before all others, on its own evidence."""

    rules: Sequence[Rule]
