"""The book of findings, by example."""

from __future__ import annotations

from kloros.consumers.introspection.findings import (
    OVERFLOW_SCANNER,
    Closed,
    FindingBook,
    Opened,
    Severity,
    Symptom,
    Worsened,
    gap_id,
)
from kloros.units import US_PER_S

STEP_US = 5 * US_PER_S


def symptom(name: str = "ssh.service", severity: Severity = Severity.MEDIUM, **other: object) -> Symptom:
    fields = {"gap_type": "unit", "gap_name": name, "scanner": "units", "severity": severity, "summary": "broken"}
    return Symptom(**(fields | other))  # type: ignore[arg-type]


def test_a_finding_opens_once_and_closes_after_it_stayed_away() -> None:
    book = FindingBook()
    kinds = []
    for index in range(6):
        seen = [symptom()] if index < 3 else []
        kinds.append([type(change) for change in book.observe(seen, {"units"}, index * STEP_US)])
    assert kinds == [[Opened], [], [], [], [Closed], []]
    assert len(book) == 0


def test_it_worsens_only_beyond_what_was_announced() -> None:
    book = FindingBook()
    levels = [Severity.LOW, Severity.HIGH, Severity.LOW, Severity.HIGH, Severity.CRITICAL]
    changes = [book.observe([symptom(severity=level)], {"units"}, index) for index, level in enumerate(levels)]
    assert [[type(change) for change in each] for each in changes] == [[Opened], [Worsened], [], [], [Worsened]]
    worsened = changes[4][0]
    assert isinstance(worsened, Worsened)
    assert (worsened.was, worsened.finding.severity) == (Severity.HIGH, Severity.CRITICAL)


def test_a_scanner_that_could_not_look_closes_nothing() -> None:
    book = FindingBook()
    book.observe([symptom()], {"units"}, 0)
    for index in range(1, 100):
        assert book.observe([], {"journal"}, index * STEP_US) == []
    assert len(book) == 1


def test_a_symptom_that_only_sustains_keeps_open_but_does_not_open() -> None:
    book = FindingBook()
    assert book.observe([symptom(sustains=True)], {"units"}, 0) == []
    book.observe([symptom(severity=Severity.HIGH)], {"units"}, STEP_US)
    for index in range(2, 20):
        assert book.observe([symptom(sustains=True)], {"units"}, index * STEP_US) == []
    assert book.open_findings()[0].summary == "broken"


def test_many_looks_in_a_short_time_do_not_close() -> None:
    book = FindingBook()
    book.observe([symptom()], {"units"}, 0)
    assert [book.observe([], {"units"}, index) for index in range(1, 50)] == [[]] * 49


def test_one_look_after_a_long_time_does_not_close() -> None:
    book = FindingBook()
    book.observe([symptom()], {"units"}, 0)
    assert book.observe([], {"units"}, 3600 * US_PER_S) == []
    assert [type(change) for change in book.observe([], {"units"}, 3605 * US_PER_S)] == [Closed]


def test_an_event_is_over_when_it_has_been_quiet() -> None:
    book = FindingBook()
    error = symptom(clear_after_s=600.0, occurrences=3)
    book.observe([error], {"units"}, 0)
    book.observe([error], {"units"}, 300 * US_PER_S)
    assert book.open_findings()[0].occurrences == 6
    assert book.observe([], {"units"}, 305 * US_PER_S) == []
    assert book.observe([], {"units"}, 899 * US_PER_S) == []
    (closed,) = book.observe([], {"units"}, 900 * US_PER_S)
    assert isinstance(closed, Closed)
    assert closed.lasted_s == 900.0


def test_a_clock_that_stepped_backwards_does_not_keep_a_finding_open() -> None:
    book = FindingBook()
    book.observe([symptom()], {"units"}, 10**15)
    book.observe([], {"units"}, 10**14)
    (closed,) = book.observe([], {"units"}, 10**14 + STEP_US)
    assert isinstance(closed, Closed)
    assert closed.lasted_s == 0.0


def test_two_symptoms_of_one_identity_are_the_worse_one() -> None:
    book = FindingBook()
    seen = [symptom(sustains=True), symptom(severity=Severity.LOW), symptom(severity=Severity.HIGH)]
    (opened,) = book.observe(seen, {"units"}, 0)
    assert opened.finding.severity is Severity.HIGH


def test_a_full_book_refuses_counts_and_says_so_once() -> None:
    book = FindingBook(max_open=3)
    flood = [symptom(f"{index}.service") for index in range(10)]
    changes = book.observe(flood, {"units"}, 0)
    assert [change.finding.scanner for change in changes] == ["units"] * 3 + [OVERFLOW_SCANNER]
    assert book.observe(flood, {"units"}, STEP_US) == []
    assert book.refused_total == 14
    ends = [change for index in range(2, 130) for change in book.observe([], {"units"}, index * STEP_US)]
    assert len(ends) == 4
    assert {type(end) for end in ends} == {Closed}


def test_a_restart_announces_nothing_anew_and_closes_what_mended() -> None:
    book = FindingBook()
    book.observe([symptom("a.service"), symptom("b.service")], {"units"}, 0)
    book = FindingBook(book.snapshot())
    changes = []
    for index in range(1, 5):
        changes += book.observe([symptom("a.service")], {"units"}, index * STEP_US)
    assert [(type(change), change.finding.gap_name) for change in changes] == [(Closed, "b.service")]


def test_a_snapshot_does_not_change_with_the_book() -> None:
    book = FindingBook()
    book.observe([symptom()], {"units"}, 0)
    kept = book.snapshot()
    book.observe([symptom(severity=Severity.CRITICAL)], {"units"}, STEP_US)
    assert kept.findings[0].severity is Severity.MEDIUM


def test_identities_are_stable_and_distinct() -> None:
    assert gap_id("disk_full", "/") == gap_id("disk_full", "/")
    assert len(gap_id("disk_full", "/")) == 16
    assert gap_id("a", "bc") != gap_id("ab", "c")
