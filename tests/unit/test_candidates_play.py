"""How candidates are drawn, compared and told from noise: the arithmetic."""

from __future__ import annotations

import math
from random import Random
from statistics import pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.coins import Coins, coins

from kloros.consumers.candidates.play import Champion, compare, p_value, play_round, score, tidied, variance
from kloros.consumers.candidates.space import (
    Parameter,
    defaults,
    distance,
    draw_round,
    is_within,
    parameters_of,
    tables_of,
)
from kloros.consumers.candidates.subject import Example
from kloros.consumers.candidates.tournament import (
    CONVERGED_OF,
    Readiness,
    Rules,
    Tournament,
    chance_of,
    is_converged,
    is_over,
    play,
    readiness,
    share_out,
)

shares = st.floats(0, 1)
gains = st.dictionaries(st.text(max_size=3), st.floats(-1, 1), max_size=8)
RULES = Rules()


@st.composite
def spaces(draw: st.DrawFn) -> list[Parameter]:
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True))
    space = []
    for name in names:
        low = draw(st.floats(-100, 100).map(lambda value: round(value, 3)))
        high = low + draw(st.floats(0.5, 100))
        space.append(Parameter(path=f"{name}.x", low=low, high=high, default=low))
    return space


# The space


@given(spaces(), st.integers(0, 60), st.integers())
def test_whatever_is_drawn_lies_within_and_the_same_seed_draws_the_same(
    space: list[Parameter], round_number: int, seed: int
) -> None:
    leader = defaults(space)
    drawn = draw_round(space, leader, round_number, 8, Random(seed))
    assert len(drawn) == 8
    assert all(is_within(space, each) for each in drawn)
    assert drawn == draw_round(space, leader, round_number, 8, Random(seed))
    assert all(distance(space, each, each) == 0.0 for each in drawn)


@given(spaces(), st.integers())
def test_parameters_become_a_settings_file_and_come_back(space: list[Parameter], seed: int) -> None:
    (drawn,) = draw_round(space, defaults(space), 0, 1, Random(seed))
    assert parameters_of(space, tables_of(drawn)) == drawn


@pytest.mark.parametrize("tables", [{}, {"a": 1}, {"a": {"x": "text"}}, {"a": {"x": True}}, {"a": {"x": None}}])
def test_where_the_settings_hold_no_number_the_default_holds(tables: dict[str, object]) -> None:
    space = [Parameter(path="a.x", low=0, high=1, default=0.5)]
    assert parameters_of(space, tables) == {"a.x": 0.5}


@pytest.mark.parametrize(
    ("path", "low", "high", "default"),
    [("A", 0, 1, 0), ("a..b", 0, 1, 0), ("a", 1, 1, 1), ("a", 0, math.inf, 0), ("a", 0, 1, 2), ("a", 0, 1, math.nan)],
)
def test_what_is_no_parameter_is_refused(path: str, low: float, high: float, default: float) -> None:
    with pytest.raises(ValueError, match=r"range|key"):
        Parameter(path=path, low=low, high=high, default=default)


# The arithmetic


@given(st.lists(st.floats(0, 1), max_size=30))
def test_variance_is_that_of_the_statistics(values: list[float]) -> None:
    assert variance(values) == pytest.approx(pvariance(values) if len(values) > 1 else 0.0, abs=1e-12)


@given(gains, st.integers())
def test_a_p_value_is_a_probability_and_one_without_a_gain(gained: dict[str, float], seed: int) -> None:
    found = p_value(gained, Random(seed))
    assert 0.0 < found <= 1.0
    assert found == p_value(gained, Random(seed))
    if math.fsum(gained.values()) <= 0:
        assert found == 1.0


@given(st.integers(1, 12))
def test_groups_that_all_gain_alike_are_a_row_of_coins(count: int) -> None:
    assert p_value({str(n): 0.5 for n in range(count)}, Random(0)) == pytest.approx(0.5**count)


def test_many_groups_are_dealt_by_chance_to_nearly_the_same() -> None:
    chance = Random(1)
    gained = {str(n): chance.gauss(0.15, 1.0) for n in range(100)}
    total = sum(gained.values())
    expected = 0.5 * math.erfc(total / math.sqrt(2 * sum(gain * gain for gain in gained.values())))
    assert p_value(gained, Random(2)) == pytest.approx(expected, abs=0.02)


@given(st.integers(), st.floats(0, 1))
def test_fitness_is_the_share_of_right_decisions_and_a_missing_one_is_wrong(seed: int, noise: float) -> None:
    subject, examples = Coins(), coins(40, Random(seed), noise=noise)
    outputs = dict(subject.replay({"at": 0.5, "idle": 0.5}, examples))
    right = sum(outputs[each.key] == each.data[1] for each in examples)
    assert score(subject, examples, outputs).fitness == pytest.approx(right / 40)
    del outputs[examples[0].key]
    assert score(subject, examples, outputs).fitness <= right / 40 + 1e-12


@given(st.lists(shares, min_size=0, max_size=20))
def test_converged_means_little_variance_little_gain_and_rounds_enough(fitness: list[float]) -> None:
    last = fitness[-CONVERGED_OF:]
    expected = len(fitness) >= RULES.least_rounds and variance(last) < 0.02 and last[-1] - last[0] <= 0.005
    assert is_converged(fitness, RULES) == expected


def test_the_variance_alone_would_call_nearly_everything_settled() -> None:
    climbing = [0.50, 0.55, 0.60, 0.65, 0.70, 0.75]
    assert variance(climbing[-CONVERGED_OF:]) < RULES.variance
    assert not is_converged(climbing, RULES)
    assert is_converged([*climbing, *[0.75] * 4], RULES)


# Rounds


def test_the_incumbent_plays_too_and_nothing_worse_is_champion() -> None:
    subject, examples = Coins(), coins(60, Random(3))
    best = {"at": 0.5, "idle": 0.5}
    champion = play_round(subject, examples, best, best, 0, 8, Random(1))
    assert champion.parameters == best
    assert champion.fitness == 1.0


def test_of_equals_the_cheapest_wins_and_then_the_one_that_changes_least() -> None:
    subject, examples = Coins(cost_of_idle=1.0), coins(60, Random(3))
    champion = play_round(subject, examples, {"at": 0.5, "idle": 0.5}, {"at": 0.5, "idle": 0.1}, 0, 0, Random(1))
    assert champion.parameters["idle"] == 0.1
    same = play_round(Coins(), examples, {"at": 0.5, "idle": 0.5}, {"at": 0.5, "idle": 0.1}, 0, 0, Random(1))
    assert same.parameters["idle"] == 0.5


def test_what_no_example_speaks_for_is_left_as_it_was() -> None:
    subject, examples = Coins(), coins(60, Random(3))
    incumbent = {"at": 0.2, "idle": 0.5}
    champion = Champion({"at": 0.5, "idle": 0.9}, *score(subject, examples, subject.replay({"at": 0.5}, examples)))
    assert tidied(subject, examples, champion, incumbent).parameters == {"at": 0.5, "idle": 0.5}


@given(st.integers())
def test_a_tournament_never_gets_worse_and_ends(seed: int) -> None:
    subject, examples = Coins(), coins(60, Random(seed), noise=0.2)
    tournament = Tournament(
        tournament_id=f"t-{seed}", module="coins", started_us=0, incumbent={"at": 0.9, "idle": 0.5}, cut=0, up_to=60
    )
    while not is_over(tournament, RULES):
        play(subject, examples, tournament, RULES)
    fitness = [each.fitness for each in tournament.champions]
    assert fitness == sorted(fitness)
    assert RULES.least_rounds <= tournament.rounds <= RULES.most_rounds
    assert chance_of(tournament, "1", RULES).random() == chance_of(tournament, "1", RULES).random()


# Sharing out


@given(st.integers(0, 300), st.integers(0, 300))
def test_what_is_held_out_is_newer_than_what_is_played_with_and_never_judged_before(count: int, judged_to: int) -> None:
    examples = [each for n in range(count) for each in [_example(n + 1)]]
    share = share_out(examples, judged_to, RULES)
    assert [*share.play, *share.held_out] == examples
    assert all(each.closed > judged_to for each in share.held_out)
    if readiness(examples, judged_to, RULES).is_ready:
        assert len(share.held_out) >= RULES.least_held_out
        assert len(share.play) >= RULES.least_examples - max(RULES.least_held_out, RULES.least_examples // 3)


def test_only_labelled_ones_count_and_the_lack_is_told() -> None:
    examples = [_example(n, is_labelled=n % 2 == 0) for n in range(1, 101)]
    found = readiness(examples, 80, RULES)
    assert (found.labelled, found.fresh, found.is_ready) == (50, 10, False)
    assert found.lack == "waits for history: 50 labelled decisions of 120, 10 new ones of 40"
    assert Readiness(reason="it sleeps").lack == "it sleeps"
    assert not Readiness(reason="it sleeps").is_ready


@given(st.integers())
def test_a_candidate_against_itself_gains_nothing(seed: int) -> None:
    subject, examples = Coins(), coins(50, Random(seed), noise=0.5)
    same = {"at": 0.4, "idle": 0.5}
    found = compare(subject, examples, same, same, Random(seed))
    assert (found.gain, found.p_value) == (0.0, 1.0)


def _example(closed: int, *, is_labelled: bool = True) -> Example:
    return Example(key=f"e{closed:04}", group="g", closed=closed, is_labelled=is_labelled)
