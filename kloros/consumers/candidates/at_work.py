"""Subjects at work in a daemon: confined, their history prepared once, their faults under one name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from structlog.typing import FilteringBoundLogger

from kloros.consumers.candidates.confined import confined
from kloros.consumers.candidates.current import tables_in_force
from kloros.consumers.candidates.history import History
from kloros.consumers.candidates.registry import all_subjects
from kloros.consumers.candidates.space import parameters_of, value_at
from kloros.consumers.candidates.subject import Example, Subject
from kloros.errors import SubjectFailed
from kloros.place import Place


@contextmanager
def at_work(module: str) -> Iterator[None]:
    """While a subject's code runs. Raises SubjectFailed for whatever goes wrong in it."""
    try:
        with confined():
            yield
    except Exception as error:  # a subject may be somebody else's
        raise SubjectFailed(module=module, reason=f"{type(error).__name__}: {error}"[:300]) from error


class Company:
    """All subjects that there are."""

    def __init__(self, place: Place, with_others: bool, log: FilteringBoundLogger) -> None:
        self._place = place
        self.subjects, refused = all_subjects(with_others)
        self._prepared: dict[str, tuple[int, int, Sequence[Example]]] = {}
        for name, reason in refused.items():
            log.error("subject_refused", subject=name, reason=reason)

    def __getitem__(self, module: str) -> Subject:
        """The subject of that module; raises SubjectFailed when there is none."""
        try:
            return self.subjects[module]
        except KeyError:
            raise SubjectFailed(module=module, reason="nobody knows it here") from None

    def examples(self, module: str, history: History, up_to: int, most: int) -> Sequence[Example]:
        """The decisions in the history up to then, prepared once. Raises SubjectFailed, StoreUnusable."""
        kept = self._prepared.get(module)
        if kept and kept[:2] == (up_to, most):
            return kept[2]
        subject, asked = self[module], history.read(up_to, most)
        with at_work(module):
            examples = list(subject.examples(asked))
        self._prepared[module] = (up_to, most, examples)
        return examples

    def lack(self, module: str) -> str:
        """Why the module cannot be judged, empty when it can."""
        try:
            self.incumbent(module)
        except SubjectFailed as error:
            return str(error.reason)
        return ""

    def incumbent(self, module: str) -> dict[str, float]:
        """The parameters that the module runs with now.

        Raises:
            SubjectFailed: It is unknown, or runs with settings under which it cannot be judged.
        """
        subject = self[module]
        tables = tables_in_force(self._place.state, self._place.config, module, subject.settings)
        for path, value in subject.assumes.items():
            if value_at(tables, path, value) != value:
                raise SubjectFailed(module=module, reason=f"it cannot be judged unless {path} is {value}")
        return parameters_of(subject.space, tables)
