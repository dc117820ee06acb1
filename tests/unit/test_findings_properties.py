"""The book of findings under random streams of symptoms, blind scanners, clock steps and restarts."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kloros.consumers.introspection.findings import (
    ABSENT_SCANS_TO_CLOSE,
    BookSnapshot,
    Change,
    Closed,
    FindingBook,
    Opened,
    Severity,
    Symptom,
    Worsened,
)
from kloros.units import US_PER_S

CLEAR_AFTER_S = 8.0
NAMES = ("a", "b", "c")
SCANNERS = {"a": "units", "b": "units", "c": "disk"}


class Step(msgspec.Struct, frozen=True):
    """One cycle: which identities are seen and how, who could look, how much time passed, whether a restart follows."""

    seen: dict[str, tuple[Severity, bool]]
    looked: frozenset[str]
    passed_s: float
    restart: bool


sightings = st.dictionaries(st.sampled_from(NAMES), st.tuples(st.sampled_from(list(Severity)), st.booleans()))
steps = st.builds(
    Step,
    seen=sightings,
    looked=st.frozensets(st.sampled_from(["units", "disk"])),
    passed_s=st.floats(0.1, 20.0),
    restart=st.booleans(),
)


def symptoms_of(step: Step) -> list[Symptom]:
    """Only a scanner that looked has anything to say."""
    return [
        Symptom(
            gap_type="t",
            gap_name=name,
            scanner=SCANNERS[name],
            severity=severity,
            summary="",
            sustains=sustains,
            clear_after_s=CLEAR_AFTER_S,
        )
        for name, (severity, sustains) in step.seen.items()
        if SCANNERS[name] in step.looked
    ]


def restarted(book: FindingBook) -> FindingBook:
    stored = msgspec.json.encode(book.snapshot())
    return FindingBook(msgspec.json.decode(stored, type=BookSnapshot))


def play(stream: list[Step], *, with_restarts: bool = True) -> list[list[tuple[type[Change], str, Severity]]]:
    """What is announced in each step; severities are copied, because findings live on."""
    book, now_us, told = FindingBook(), 0, []
    for step in stream:
        now_us += int(step.passed_s * US_PER_S)
        changes = book.observe(symptoms_of(step), step.looked, now_us)
        told.append([(type(change), change.finding.gap_name, change.finding.severity) for change in changes])
        if step.restart and with_restarts:
            book = restarted(book)
    return told


@given(st.lists(steps, max_size=60))
def test_each_identity_opens_worsens_strictly_and_closes_in_turn(stream: list[Step]) -> None:
    announced: dict[str, Severity] = {}
    for kind, name, severity in (change for changes in play(stream) for change in changes):
        if kind is Opened:
            assert name not in announced
            announced[name] = severity
        elif kind is Worsened:
            assert severity > announced[name]
            announced[name] = severity
        else:
            assert announced.pop(name) == severity


@given(st.lists(steps, max_size=60))
def test_restarts_change_nothing(stream: list[Step]) -> None:
    assert play(stream) == play(stream, with_restarts=False)


@given(st.lists(steps, max_size=60))
def test_it_closes_exactly_when_its_own_scanner_says_so(stream: list[Step]) -> None:
    """Against a naive model: absent in two looks, for long enough."""
    model: dict[str, tuple[int, int]] = {}  # name -> last seen, looks without it
    now_us = 0
    for step, changes in zip(stream, play(stream), strict=True):
        now_us += int(step.passed_s * US_PER_S)
        expected = set()
        for symptom in symptoms_of(step):
            if symptom.gap_name in model or not symptom.sustains:
                model[symptom.gap_name] = (now_us, 0)
        seen = {symptom.gap_name for symptom in symptoms_of(step)}
        for name, (last_us, absent) in list(model.items()):
            if name in seen or SCANNERS[name] not in step.looked:
                continue
            model[name] = (last_us, absent + 1)
            if absent + 1 >= ABSENT_SCANS_TO_CLOSE and now_us - last_us >= CLEAR_AFTER_S * US_PER_S:
                expected.add(name)
                del model[name]
        assert {name for kind, name, _ in changes if kind is Closed} == expected


@given(st.lists(st.tuples(steps, st.integers(-(10**12), 10**12)), max_size=40))
def test_clock_steps_break_no_alternation(stream: list[tuple[Step, int]]) -> None:
    book, now_us = FindingBook(), 10**15
    is_open: set[str] = set()
    for step, jump_us in stream:
        now_us += jump_us
        for change in book.observe(symptoms_of(step), step.looked, now_us):
            name = change.finding.gap_name
            assert (name in is_open) is not isinstance(change, Opened)
            if isinstance(change, Closed):
                is_open.discard(name)
                assert change.lasted_s >= 0
            else:
                is_open.add(name)
    assert is_open == {finding.gap_name for finding in book.open_findings()}


@given(st.lists(st.sets(st.integers(0, 30)), max_size=30), st.integers(1, 10))
def test_it_never_holds_more_than_its_bound(stream: list[set[int]], bound: int) -> None:
    book = FindingBook(max_open=bound)
    for index, numbers in enumerate(stream):
        seen = [
            Symptom(gap_type="t", gap_name=str(number), scanner="s", severity=Severity.LOW, summary="")
            for number in sorted(numbers)
        ]
        book.observe(seen, {"s"}, index * 5 * US_PER_S)
        assert len(book) <= bound + 1  # one place is for the overflow itself
