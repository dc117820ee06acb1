"""Which subjects there are: the built-in ones, and those that other packages offer under `kloros.subjects`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points

from kloros.consumers.candidates.space import defaults, is_within
from kloros.consumers.candidates.subject import Subject
from kloros.consumers.candidates.subjects.curiosity import CuriositySubject
from kloros.consumers.candidates.subjects.semantic_dedup import SemanticDedupSubject

ENTRY_POINT_GROUP = "kloros.subjects"


def built_in() -> list[Subject]:
    """The subjects of the suite."""
    return [SemanticDedupSubject(), CuriositySubject()]


def from_other_packages() -> Iterator[tuple[str, Subject | Exception]]:
    """(name, subject) of each entry point, a callable that needs no arguments; or what was wrong with it."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            yield entry.name, _checked(entry.load()())
        except Exception as error:  # noqa: BLE001 - somebody else's code; it is named, and the rest goes on
            yield entry.name, error


def all_subjects(with_others: bool) -> tuple[dict[str, Subject], dict[str, str]]:
    """Subjects by their names; and, by the names of their entry points, why others are refused."""
    subjects = {each.name: each for each in built_in()}
    refused: dict[str, str] = {}
    for name, subject in from_other_packages() if with_others else ():
        if isinstance(subject, Exception):
            refused[name] = f"{type(subject).__name__}: {subject}"
        elif subject.name in subjects:
            refused[name] = f"there is already a subject {subject.name}"
        else:
            subjects[subject.name] = subject
    return subjects, refused


def _checked(subject: object) -> Subject:
    if not isinstance(subject, Subject):
        raise TypeError("it lacks something that a subject has")
    paths = defaults(subject.space)
    if not paths or len(paths) != len(subject.space) or not is_within(subject.space, paths):
        raise TypeError("its space is empty, or names a setting twice")
    return subject
