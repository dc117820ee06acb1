"""What is folded into what: the guarantees of folding, and that comparing in bulk finds what comparing each does."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.alike import TUNING, pairs
from support.many_questions import many_questions

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.dedup.folding import Folded, fold, is_due
from kloros.consumers.dedup.hashed_words import HashedWords
from kloros.consumers.dedup.names import differ, names_of
from kloros.consumers.dedup.open_set import Entry, OpenSet, among
from kloros.consumers.dedup.question import CRITICAL, Question, question_of, told
from kloros.consumers.dedup.vectors import packed, similarity

THRESHOLD = 0.85
SAID = [text for pair in pairs(TUNING) for text in (pair.one, pair.other)]


def question(question_id: str, text: str, level: str = "MEDIUM", value: float = 1.0, taken_us: int = 0) -> Question:
    facts = QuestionFacts(question_id=question_id, question=text, value_estimate=value)
    return question_of(f"Q_CURIOSITY_{level}", facts, None, taken_us)


def entries(questions: Sequence[Question]) -> list[Entry]:
    vectors = HashedWords().embed([each.text for each in questions])
    return [(each.question_id, each.text, packed(vector)) for each, vector in zip(questions, vectors, strict=True)]


def fold_among_themselves(questions: Sequence[Question], names_must_agree: bool = True) -> Folded:
    return fold(questions, {}, among(entries(questions), THRESHOLD, names_must_agree))


QUESTIONS = st.lists(
    st.tuples(st.sampled_from(SAID), st.sampled_from(("LOW", "MEDIUM", "HIGH", "CRITICAL")), st.integers(0, 3)),
    max_size=25,
).map(lambda drawn: [question(f"q-{n}", text, level, value) for n, (text, level, value) in enumerate(drawn)])


@given(QUESTIONS)
@settings(max_examples=60, deadline=None)
def test_what_folding_guarantees(questions: list[Question]) -> None:
    outcome = fold_among_themselves(questions)
    opened = {each.question_id: each for each in outcome.opened}
    assert sorted([*opened, *(join.question.question_id for join in outcome.joined)]) == sorted(
        each.question_id for each in questions
    ), "each question is in one place"
    kept = {each[0]: each for each in entries(questions)}
    for join in outcome.joined:
        assert join.similarity == similarity(kept[join.question.question_id][2], kept[join.into][2]) >= THRESHOLD
        assert opened[join.into].worth < join.question.worth, "the most valuable stands for the others"
    for one, other in combinations(opened, 2):
        names = [frozenset(names_of(kept[each][1]).certain) for each in (one, other)]
        assert similarity(kept[one][2], kept[other][2]) < THRESHOLD or differ(*names)


@given(QUESTIONS, st.randoms())
@settings(max_examples=60, deadline=None)
def test_within_a_batch_the_order_does_not_matter(questions: list[Question], chance: random.Random) -> None:
    shuffled = list(questions)
    chance.shuffle(shuffled)
    one, other = fold_among_themselves(questions), fold_among_themselves(shuffled)
    assert one.opened == other.opened
    by_id = [sorted(outcome.joined, key=lambda join: join.question.question_id) for outcome in (one, other)]
    assert by_id[0] == by_id[1]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.randoms())
@settings(max_examples=60, deadline=None)
def test_where_being_alike_is_transitive_no_order_matters_not_even_across_batches(
    groups: list[int], chance: random.Random
) -> None:
    """The same groups, whether they come at once or one by one in any order."""
    questions = [question(f"q-{n}", f"Why does unit{group}.service fail?") for n, group in enumerate(groups)]
    at_once = fold_among_themselves(questions)
    assert len(at_once.opened) == len(set(groups))
    shuffled = list(questions)
    chance.shuffle(shuffled)
    known, stands_for = OpenSet("k"), dict[str, set[str]]()
    for each in shuffled:
        (entry,) = entries([each])
        outcome = fold([each], known.alike([entry], THRESHOLD, True), {})
        for opened in outcome.opened:
            known.add([entry])
            stands_for[opened.question_id] = {opened.text}
        for join in outcome.joined:
            stands_for[join.into].add(join.question.text)
    assert sorted(map(sorted, stands_for.values())) == sorted([each.text] for each in at_once.opened)


def test_one_goes_to_the_most_alike_and_of_equals_to_the_one_whose_id_comes_first() -> None:
    asked = question("q-new", "x")
    outcome = fold([asked], {"q-new": [(0.9, "q-b"), (0.95, "q-d"), (0.95, "q-c")]}, {})
    assert [(join.into, join.similarity) for join in outcome.joined] == [("q-c", 0.95)]


def test_one_that_is_alike_only_to_a_folded_one_stands_for_itself() -> None:
    """a ~ b ~ c, but not a ~ c: who is folded is always alike the one that stands for it."""
    a, b, c = (question(f"q-{name}", name, value=value) for name, value in (("a", 3.0), ("b", 2.0), ("c", 1.0)))
    alike = {"q-a": [(0.9, "q-b")], "q-b": [(0.9, "q-a"), (0.9, "q-c")], "q-c": [(0.9, "q-b")]}
    outcome = fold([c, b, a], {}, alike)
    assert [each.question_id for each in outcome.opened] == ["q-a", "q-c"]


@pytest.mark.parametrize(
    ("waiting", "oldest_s", "critical", "due"),
    [
        (0, 1e9, False, False),
        (1, 29.9, False, False),
        (1, 30.0, False, True),
        (9, 0, False, False),
        (10, 0, False, True),
        (1, 0, True, True),
    ],
)
def test_when_a_batch_is_due(waiting: int, oldest_s: float, critical: bool, due: bool) -> None:
    assert is_due(waiting, oldest_s, critical, batch=10, wait_s=30.0) is due


# Comparing many


@pytest.mark.parametrize("names_must_agree", [True, False])
def test_comparing_in_bulk_finds_what_comparing_each_with_each_finds(names_must_agree: bool) -> None:
    chance = random.Random(7)
    every = entries([question(f"q-{n}", text) for n, text in enumerate(many_questions(1_550, chance))])
    known, asked = every[:1_500], every[1_500:]
    held = OpenSet("k")
    for first in range(0, len(known), 400):
        held.add(known[first : first + 400])
    gone = {entry[0] for entry in chance.sample(known, 500)}
    held.remove(gone)
    found = held.alike(asked, THRESHOLD, names_must_agree)
    for question_id, text, vector in asked:
        names = frozenset(names_of(text).certain)
        expected = {
            (alike, other_id)
            for other_id, other, other_vector in known
            if other_id not in gone
            and (alike := similarity(vector, other_vector)) >= THRESHOLD
            and not (names_must_agree and differ(names, frozenset(names_of(other).certain)))
        }
        assert set(found[question_id]) == expected
    assert any(found.values())
    assert len(held) == 1_000


def test_ten_thousand_open_ones_take_little_memory(capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(1)
    held = OpenSet("k")
    held.add(entries([question(f"q-{n}", text) for n, text in enumerate(many_questions(10_000, chance))]))
    with capsys.disabled():
        print(f"\n10,000 open questions: {held.size_bytes / 2**20:.1f} MiB of vectors")
    assert held.size_bytes <= 10_000 * (512 + 8) * 1.6


def test_an_empty_set_finds_nothing() -> None:
    (entry,) = entries([question("q-1", "Why does nginx.service fail?")])
    held = OpenSet("k")
    assert held.alike([entry], THRESHOLD, True) == {}
    held.add([])
    held.add([entry])
    assert held.alike([entry], THRESHOLD, True) == {"q-1": []}, "not alike itself"
    held.remove(["q-1"])
    assert (len(held), "q-1" in held) == (0, False)


# What is told


def test_what_is_told_is_as_urgent_and_valuable_as_the_most_urgent_and_valuable() -> None:
    first = QuestionFacts(question_id="q-1", question="Why?", value_estimate=1.0, severity="low", gap_id="g1")
    likes = [
        QuestionFacts(question_id="q-2", question="Why?", value_estimate=5.0, severity="medium"),
        QuestionFacts(question_id="q-3", question="Why?", severity="critical"),
    ]
    facts = told(first, CRITICAL, likes, 3)
    assert (facts.question_id, facts.gap_id, facts.folded) == ("q-1", "g1", 3)
    assert (facts.priority, facts.value_estimate, facts.severity) == ("critical", 5.0, "critical")
    alone = told(QuestionFacts(question_id="q-1", question="Why?"), 0, [], 1)
    assert (alone.priority, alone.value_estimate, alone.severity) == ("low", None, None)


def test_worth_is_level_then_value_for_its_cost_then_age() -> None:
    dear = QuestionFacts(question_id="q-dear", question="?", value_estimate=4.0, cost_estimate=10.0)
    free = QuestionFacts(question_id="q-free", question="?", value_estimate=1.0, cost_estimate=0.0)
    asked = [question_of("Q_CURIOSITY_HIGH", facts, None, 5) for facts in (dear, free)]
    asked += [question("q-critical", "?", "CRITICAL", 0.0), question("q-old", "?", "HIGH", 0.4, 1)]
    in_order = [each.question_id for each in sorted(asked, key=lambda each: each.worth)]
    assert in_order == ["q-critical", "q-free", "q-old", "q-dear"]
