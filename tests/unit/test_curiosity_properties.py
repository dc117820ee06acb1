"""What a question is worth, how urgent that makes it, when it may come again, and what its evidence hash stands for."""

from __future__ import annotations

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.chembus.facts_work import Severity
from kloros.consumers.curiosity import evidence
from kloros.consumers.curiosity.question import Candidate, evidence_hash, question_id
from kloros.consumers.curiosity.settings import CoolDownSettings, CostSettings, CuriositySettings
from kloros.consumers.curiosity.worth import (
    ARCHIVED,
    LEVELS,
    US_PER_DAY,
    category_of,
    cool_down_us,
    cost_of,
    is_cool,
    learn,
    level_of,
    ratio_of,
    value_of,
    worth_of,
)

DEFAULTS = CuriositySettings()
SEVERITIES: tuple[Severity, ...] = ("info", "low", "medium", "high", "critical")
THRESHOLDS = {"gap": 1.0, "chaos": 1.5, "integration": 2.0, "discovery": 0.8, "other": 1.5, "whatever": 1.5}
NOW_US = 1_700_000_000_000_000

ratios = st.floats(0, 1e6, allow_nan=False)
categories = st.sampled_from(sorted(THRESHOLDS))
texts = st.text(max_size=40)
numbers = st.one_of(st.integers(-(10**12), 10**12).map(str), st.floats(allow_nan=False).map(str))


def candidate(severity: Severity = "high", gap_type: str = "unit_unhealthy", **more: object) -> Candidate:
    told = {"gap_id": "g", "gap_name": "n", "topic": "t", "evidence": [], "measures": [], "evidence_hash": "h"}
    told |= {"detail": "", "first_seen_us": NOW_US, "heard_us": NOW_US, "severity": severity, "gap_type": gap_type}
    return Candidate(**{**told, **more})  # type: ignore[arg-type]


# Ratio and level


@pytest.mark.parametrize(("value", "cost", "ratio"), [(3.0, 1.0, 3.0), (1.0, 0.0, 100.0), (1.0, 0.001, 100.0)])
def test_the_ratio_is_value_by_cost_and_no_cost_is_below_a_hundredth(value: float, cost: float, ratio: float) -> None:
    assert ratio_of(value, cost) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("ratio", "category", "level"),
    [
        (3.01, "gap", "CRITICAL"), (3.0, "gap", "HIGH"), (2.01, "gap", "HIGH"), (2.0, "gap", "MEDIUM"),
        (1.01, "gap", "MEDIUM"), (1.0, "gap", "LOW"), (0.51, "gap", "LOW"), (0.5, "gap", ARCHIVED),
        (0.0, "gap", ARCHIVED),
        (1.5, "chaos", "LOW"), (1.51, "chaos", "MEDIUM"), (2.0, "integration", "LOW"), (2.01, "integration", "HIGH"),
        (0.8, "discovery", "LOW"), (0.81, "discovery", "MEDIUM"), (1.5, "other", "LOW"), (1.51, "other", "MEDIUM"),
    ],
)  # fmt: skip
def test_the_levels_are_those_of_the_specification(ratio: float, category: str, level: str) -> None:
    assert level_of(ratio, category, is_critical=False) == level


@given(ratios, categories)
def test_what_is_critical_is_asked_as_such_whatever_it_costs(ratio: float, category: str) -> None:
    assert level_of(ratio, category, is_critical=True) == "CRITICAL"


@given(ratios, ratios, categories)
def test_a_better_ratio_is_never_less_urgent(one: float, other: float, category: str) -> None:
    order = (*LEVELS, ARCHIVED)
    low, high = sorted((one, other))
    assert order.index(level_of(high, category, False)) <= order.index(level_of(low, category, False))


@given(ratios, categories)
def test_every_level_is_between_its_figures(ratio: float, category: str) -> None:
    level = level_of(ratio, category, False)
    assert (level == "CRITICAL") == (ratio > 3.0)
    assert (level == "HIGH") == (2.0 < ratio <= 3.0)
    assert (level == "MEDIUM") == (THRESHOLDS[category] < ratio <= 2.0)
    assert (level == ARCHIVED) == (ratio <= 0.5)


# Value and cost


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(1, 10**6), st.integers(1, 10**6))
def test_worse_longer_and_oftener_is_never_worth_less(age: int, older: int, times: int, more: int) -> None:
    severities = [value_of(candidate(severity), NOW_US, DEFAULTS) for severity in SEVERITIES]
    assert severities == sorted(severities)
    low, high = sorted((age, older))
    few, many = sorted((times, more))
    less = value_of(candidate(first_seen_us=NOW_US - low, times=few), NOW_US, DEFAULTS)
    assert less <= value_of(candidate(first_seen_us=NOW_US - high, times=many), NOW_US, DEFAULTS) <= 2 * severities[3]


@given(st.sampled_from(SEVERITIES), st.integers(-(10**18), 10**18), st.integers(0, 2**53))
def test_worth_is_a_number_whatever_the_clock_says(severity: Severity, age: int, times: int) -> None:
    worth = worth_of(candidate(severity, first_seen_us=NOW_US - age, times=times), {}, NOW_US, DEFAULTS)
    assert all(math.isfinite(each) and each >= 0 for each in worth[:3])
    assert worth.level in (*LEVELS, ARCHIVED)


def test_what_was_learnt_counts_before_what_was_expected() -> None:
    settings = CostSettings()
    assert cost_of("disk_full", {}, settings) == pytest.approx(0.35 + 0.5 * 30 / 60)
    assert cost_of("pressure_io", {}, settings) == pytest.approx(0.35 + 0.5 * 10 / 60)
    assert cost_of("disk_full", {"disk_full": 0.0}, settings) == pytest.approx(0.35)


@given(st.floats(0, 3600), st.lists(st.floats(0, 1e12), max_size=50), st.floats(0.01, 1.0))
def test_what_is_learnt_stays_between_what_was_seen(known_s: float, seen_s: list[float], learning: float) -> None:
    learnt_s = known_s
    for took_s in seen_s:
        learnt_s = learn(learnt_s, took_s, learning)
    bounds = [known_s, *(min(took_s, 3600.0) for took_s in seen_s)]
    assert min(bounds) - 1e-6 <= learnt_s <= max(bounds) + 1e-6


@given(st.floats(0, 3600))
def test_the_mean_comes_to_what_always_happens(took_s: float) -> None:
    learnt_s = 5.0
    for _ in range(100):
        learnt_s = learn(learnt_s, took_s, 0.2)
    assert learnt_s == pytest.approx(took_s, abs=1e-4)


# Categories and cool-downs


@pytest.mark.parametrize(
    ("gap_type", "category", "days"),
    [
        ("unit_unhealthy", "gap", 1), ("disk_full", "gap", 1), ("pressure_cpu", "gap", 3), ("journal_errors", "gap", 7),
        ("cycles_slow", "integration", 3), ("daemon_silent", "integration", 1), ("scanner_blind", "discovery", 30),
        ("chaos_of_ours", "chaos", 1), ("anything_else", "other", 1),
    ],
)  # fmt: skip
def test_each_type_has_its_category_and_its_cool_down(gap_type: str, category: str, days: int) -> None:
    assert category_of(gap_type, DEFAULTS) == category
    assert cool_down_us(gap_type, "high", DEFAULTS) == days * US_PER_DAY
    assert cool_down_us(gap_type, "critical", DEFAULTS) == 0


def test_settings_name_the_kind_and_the_category_of_further_types() -> None:
    settings = CuriositySettings(
        kind={"my_*": "sight", "my_own": "load"}, category={"my_*": "chaos"}, cool_down_d=CoolDownSettings(sight=2.0)
    )
    assert cool_down_us("my_thing", "low", settings) == 2 * US_PER_DAY
    assert cool_down_us("my_own", "low", settings) == 3 * US_PER_DAY
    assert category_of("my_thing", settings) == "chaos"


@given(st.integers(0, 10**16), st.integers(0, 40 * US_PER_DAY), st.integers(0, 40 * US_PER_DAY))
def test_nothing_is_cool_before_its_time_and_everything_after_it(asked_us: int, wait_us: int, cool_us: int) -> None:
    assert is_cool(asked_us, cool_us, asked_us + wait_us) == (wait_us >= cool_us)
    assert is_cool(None, cool_us, asked_us)


# Evidence


@given(st.lists(texts, max_size=8), st.randoms())
def test_the_hash_is_that_of_the_sorted_evidence_joined(items: list[str], chance: object) -> None:
    expected = hashlib.sha256("|".join(sorted(items)).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    shuffled = list(items)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert evidence_hash(shuffled) == expected


@given(texts, texts, st.lists(st.tuples(st.sampled_from(["avg10_percent", "free_mib", "count", "x"]), numbers)))
def test_measured_numbers_change_nothing(gap_type: str, name: str, measured: list[tuple[str, str]]) -> None:
    given_ = [f"{key}={value}" for key, value in measured]
    with_them = evidence.split(gap_type, name, "high", ["unit=a", "exit=exit-code, status 1", *given_], 0)
    without = evidence.split(gap_type, name, "high", ["unit=a", "exit=exit-code, status 1"], 0)
    assert with_them.evidence == without.evidence
    assert len(with_them.measures) <= evidence.MAX_ITEMS


@given(st.lists(st.text(max_size=2_000), max_size=60), st.text(max_size=2_000), st.text(max_size=2_000))
def test_whatever_is_given_the_evidence_is_small_and_sorted(items: list[str], gap_type: str, name: str) -> None:
    parts = evidence.split(gap_type, name, "low", items, 3)
    assert parts.evidence == sorted(parts.evidence)
    assert max(len(parts.evidence), len(parts.measures)) <= evidence.MAX_ITEMS
    assert all(len(each) <= evidence.MAX_NAME_CHARS + evidence.MAX_VALUE_CHARS + 1 for each in parts.evidence)
    assert not any("\n" in each for each in (*parts.evidence, *parts.measures))


@pytest.mark.parametrize("item", ["problem=stuck", "exit=exit-code, status 2", "result=timeout", "mount=/srv/2"])
def test_facets_change_everything(item: str) -> None:
    plain = evidence.split("unit_unhealthy", "x", "high", ["problem=failed", "exit=exit-code, status 1"], 0)
    other = evidence.split("unit_unhealthy", "x", "high", [item, "exit=exit-code, status 1"], 0)
    assert evidence_hash(plain.evidence) != evidence_hash(other.evidence)


def test_who_worse_and_how_often_it_came_back_are_part_of_it() -> None:
    def hashed(name: str = "x", severity: str = "high", returns: int = 0) -> str:
        return evidence_hash(evidence.split("t", name, severity, [], returns).evidence)

    assert len({hashed(), hashed(name="y"), hashed(severity="critical"), hashed(returns=1), hashed(returns=2)}) == 5
    assert hashed(returns=2) == hashed(returns=3)
    assert hashed(returns=4) == hashed(returns=7) != hashed(returns=8)


def test_numbers_within_words_do_not_waver_either() -> None:
    first = evidence.split("scanner_blind", "disk", "low", ["reason=timed out after 3.02 s"], 0)
    second = evidence.split("scanner_blind", "disk", "low", ["reason=timed out after 2.98 s"], 0)
    assert first.evidence == second.evidence
    assert "reason=timed out after <n> s" in first.evidence


def test_evidence_in_plain_words_counts_too() -> None:
    first = evidence.split("raid", "md0", "low", ["sda failed 3 times", "sda failed 4 times", "at slot 1"], 0)
    assert first.evidence == ["at slot <n>", "gap=raid", "name=md0", "sda failed <n> times", "severity=low"]


def test_a_process_is_the_same_under_another_number() -> None:
    assert evidence.topic_of("process_files_exhausted", "nginx[12]") == evidence.topic_of(
        "process_files_exhausted", "nginx[99]"
    )
    assert evidence.capability_key("journal_errors", "nginx.service: cannot <n>") == "journal_errors:nginx.service"


@given(texts, texts, st.integers(1, 10**6))
def test_an_id_is_the_same_everywhere_and_another_for_each_asking(gap_id: str, hashed: str, nth: int) -> None:
    digest = hashlib.sha256(f"{gap_id}|{hashed}|{nth}".encode()).hexdigest()
    assert question_id(gap_id, hashed, nth) == f"q-{digest[:8]}"
    assert question_id(gap_id, hashed, nth) != question_id(gap_id, hashed, nth + 1)
