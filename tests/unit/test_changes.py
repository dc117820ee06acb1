"""A change from before it is made to its one end."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.optimising import figures

from kloros.optimisation.changes import Aim, Change, ChangeState, Do, Seen, compare, end, made, same, step, undo
from kloros.optimisation.model import ActionKind, Verdict
from kloros.optimisation.rules import Verification

S = 1_000_000
RULES = Verification(settle_s=10, min_samples=20, min_gain=0.1, max_harm=0.2, undo_attempts=3)
BEFORE = figures(calls=100, p95_ms=100.0, errors=2, throughput_rps=2.0)


def change(**fields: Any) -> Change:
    whole: dict[str, Any] = {
        "change_id": "c-1", "action_kind": ActionKind.INCREASE_BUDGET, "module_name": "alpha", "name": "budget",
        "before": 1.0, "after": 1.5, "written_us": 0, "lease_until_us": 100 * S, "baseline": BEFORE,
    }  # fmt: skip
    return Change(**{**whole, **fields})


def settling(**fields: Any) -> Change:
    return made(change(**fields), 0)


@pytest.mark.parametrize(
    ("aim", "after", "verdict"),
    [
        (Aim.LATENCY, {"p95_ms": 90.0}, Verdict.CONFIRMED),
        (Aim.LATENCY, {"p95_ms": 91.0}, Verdict.INCONCLUSIVE),
        (Aim.LATENCY, {"p95_ms": 120.0}, Verdict.INCONCLUSIVE),
        (Aim.LATENCY, {"p95_ms": 121.0}, Verdict.REVERTED),
        (Aim.LATENCY, {"p95_ms": 50.0, "errors": 5}, Verdict.REVERTED),
        (Aim.ERRORS, {"errors": 0}, Verdict.CONFIRMED),
        (Aim.ERRORS, {"errors": 1}, Verdict.INCONCLUSIVE),
        (Aim.THROUGHPUT, {"throughput_rps": 2.2}, Verdict.CONFIRMED),
        (Aim.THROUGHPUT, {"throughput_rps": 1.5}, Verdict.REVERTED),
        (Aim.NO_HARM, {}, Verdict.CONFIRMED),
        (Aim.NO_HARM, {"p95_ms": 130.0}, Verdict.REVERTED),
    ],
)
def test_figures_before_and_after_say_what_came_of_it(aim: Aim, after: dict[str, Any], verdict: Verdict) -> None:
    seen = figures(**{"calls": 50, "p95_ms": 100.0, "errors": 1, "throughput_rps": 2.0, **after})
    found = compare(BEFORE, seen, aim, RULES)[0]
    assert found is verdict


@pytest.mark.parametrize("before", [None, figures(calls=19)])
def test_without_a_baseline_nothing_is_confirmed(before: Any) -> None:
    assert compare(before, figures(calls=1000, p95_ms=1.0), Aim.NO_HARM, RULES)[0] is Verdict.INCONCLUSIVE


def test_what_was_infinitely_fast_and_is_not_has_become_worse_but_not_by_next_to_nothing() -> None:
    assert compare(figures(p95_ms=0.0), figures(p95_ms=50.0), Aim.NO_HARM, RULES)[0] is Verdict.REVERTED
    assert compare(figures(p95_ms=0.0), figures(p95_ms=20.0), Aim.NO_HARM, RULES)[0] is Verdict.CONFIRMED


@pytest.mark.parametrize(
    ("p50_ms", "p95_ms", "verdict"),
    [(50.0, 125.0, Verdict.CONFIRMED), (100.0, 125.0, Verdict.REVERTED), (50.0, 200.0, Verdict.REVERTED)],
)
def test_one_percentile_alone_says_nothing_unless_it_doubles(p50_ms: float, p95_ms: float, verdict: Verdict) -> None:
    after = figures(p50_ms=p50_ms, p95_ms=p95_ms)
    assert compare(figures(p95_ms=100.0), after, Aim.NO_HARM, RULES)[0] is verdict


def test_it_is_not_judged_before_it_has_settled_nor_on_too_few_samples() -> None:
    worse = figures(calls=50, p95_ms=900.0)
    assert step(settling(), Seen(10 * S - 1, 1.5, figures=worse), RULES).do is Do.WAIT
    few = figures(calls=19, p95_ms=900.0)
    assert step(settling(), Seen(11 * S, 1.5, figures=few), RULES).do is Do.WAIT
    assert step(settling(), Seen(10 * S, 1.5, figures=worse), RULES).do is Do.UNDO


def test_what_helped_stays_and_what_did_harm_is_put_back_exactly() -> None:
    found, do = step(settling(aim=Aim.LATENCY), Seen(10 * S, 1.5, figures=figures(p95_ms=50.0, errors=1)), RULES)
    assert (found.state, found.verdict, found.is_restored, do) == (ChangeState.ENDED, Verdict.CONFIRMED, False, Do.END)
    going, do = step(settling(), Seen(10 * S, 1.5, figures=figures(p95_ms=500.0)), RULES)
    assert (going.state, going.inverse, do) == (ChangeState.UNDOING, 1.0, Do.UNDO)
    ended, do = step(going, Seen(11 * S, 1.0), RULES)
    assert (ended.verdict, ended.is_restored, do) == (Verdict.REVERTED, True, Do.END)


def test_what_nothing_speaks_for_lapses_with_its_lease() -> None:
    assert step(settling(), Seen(100 * S - 1, 1.5), RULES).do is Do.WAIT
    lapsing, do = step(settling(), Seen(100 * S, 1.5), RULES)
    assert do is Do.UNDO
    ended = step(lapsing, Seen(101 * S, 1.0), RULES).change
    assert (ended.verdict, ended.is_restored) == (Verdict.INCONCLUSIVE, True)


@pytest.mark.parametrize(
    ("in_force", "state", "verdict"),
    [(1.5, ChangeState.SETTLING, None), (1.0, ChangeState.ENDED, Verdict.REVERTED),
     (7.0, ChangeState.ENDED, Verdict.INCONCLUSIVE)],
)  # fmt: skip
def test_after_a_kill_what_is_in_force_says_whether_it_was_made(in_force: float, state: Any, verdict: Any) -> None:
    found = step(change(), Seen(5 * S, in_force), RULES).change
    assert (found.state, found.verdict) == (state, verdict)


def test_what_cannot_be_seen_after_a_kill_is_taken_back() -> None:
    found, do = step(change(), Seen(5 * S, is_readable=False), RULES)
    assert (found.coming_to, do) == (Verdict.REVERTED, Do.UNDO)


def test_what_somebody_else_changed_meanwhile_is_left_alone() -> None:
    for state in (settling(), undo(settling(), Verdict.REVERTED, "it did harm").change):
        found = step(state, Seen(20 * S, 3.0, figures=figures(p95_ms=900.0)), RULES).change
        assert (found.verdict, found.is_restored) == (Verdict.INCONCLUSIVE, False)


def test_undoing_is_tried_so_often_and_then_said_to_have_failed() -> None:
    going = undo(settling(), Verdict.REVERTED, "it did harm").change
    for _ in range(RULES.undo_attempts):
        going, do = step(going, Seen(20 * S, 1.5), RULES)
        assert do is Do.UNDO
    ended, do = step(going, Seen(20 * S, 1.5), RULES)
    assert (ended.verdict, ended.is_restored, do) == (Verdict.INCONCLUSIVE, False, Do.END)
    assert "could not be put back" in ended.reason


def test_an_end_is_final() -> None:
    ended = end(settling(), Verdict.CONFIRMED, "good", 5, is_restored=False).change
    for again in (
        end(ended, Verdict.REVERTED, "no", 6, is_restored=True), undo(ended, Verdict.REVERTED, "no"),
        step(ended, Seen(10**12, 9.0), RULES),
    ):  # fmt: skip
        assert again == (ended, Do.WAIT)
    assert made(ended, 7) == ended


values = st.one_of(st.none(), st.text(max_size=3), st.floats(allow_nan=False))
seens = st.builds(
    Seen, st.integers(0, 200 * S), st.sampled_from([1.0, 1.5, 3.0, None]), st.booleans(),
    st.one_of(st.none(), st.builds(figures, calls=st.integers(0, 50), p95_ms=st.floats(0, 1000))),
)  # fmt: skip


@given(st.lists(seens, max_size=30), st.sampled_from(list(Aim)))
def test_whatever_is_seen_there_is_at_most_one_end_and_it_can_be_kept_at_any_moment(seen: list[Seen], aim: Aim) -> None:
    now, ends = change(aim=aim), 0
    for each in seen:
        now = msgspec.json.decode(msgspec.json.encode(now), type=Change)
        now, do = step(now, each, RULES)
        ends += do is Do.END
        assert (now.state is ChangeState.ENDED) == (now.verdict is not None) == (ends == 1)
        assert now.undo_attempts <= RULES.undo_attempts


@given(values, values)
def test_sameness_goes_both_ways(one: Any, other: Any) -> None:
    assert same(one, one)
    assert same(one, other) == same(other, one)
