"""The curve by which memories fade: its known values, and what must hold of it everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.config import load, read_toml
from kloros.consumers.memory.fading import US_PER_H, Fading, Sector
from kloros.consumers.memory.settings import FadingSettings, HalfLifeSettings, MemorySettings

FADING = Fading(HalfLifeSettings(), FadingSettings())
HALF_LIFE_H = {
    Sector.EPISODIC: 168, Sector.SEMANTIC: 720, Sector.PROCEDURAL: 2160, Sector.EMOTIONAL: 360, Sector.REFLECTIVE: 1440,
}  # fmt: skip
BORN_US = 1_763_000_000_000_000

sectors = st.sampled_from(list(Sector))
importances = st.floats(0, 1)
ages_us = st.integers(0, 20_000 * US_PER_H)


def by_the_book(sector: Sector, importance: float, age_h: float) -> float:
    """The formula as it is written in the specification."""
    return (0.5 ** (age_h / HALF_LIFE_H[sector])) ** (1 / (1 + importance * 0.7))


# Worked out from the specification's formula with 40 decimal places.
@pytest.mark.parametrize(
    ("sector", "importance", "age_h", "score"),
    [
        (Sector.EPISODIC, 0.0, 0, 1.0),
        (Sector.EPISODIC, 0.0, 168, 0.5),
        (Sector.EPISODIC, 0.0, 336, 0.25),
        (Sector.SEMANTIC, 0.0, 720, 0.5),
        (Sector.PROCEDURAL, 0.0, 2160, 0.5),
        (Sector.EMOTIONAL, 0.0, 360, 0.5),
        (Sector.REFLECTIVE, 0.0, 1440, 0.5),
        (Sector.EPISODIC, 1.0, 168 * 1.7, 0.5),
        (Sector.EPISODIC, 1.0, 168, 0.6651560290990610),
        (Sector.EPISODIC, 0.5, 24, 0.9292765414400604),
        (Sector.EPISODIC, 0.5, 24.001, 0.9292737013852527),  # the reference fell to 0.11 here
        (Sector.SEMANTIC, 0.5, 1000, 0.4901154108361737),
        (Sector.EMOTIONAL, 1.0, 2033.0, 0.1000022645409977),
    ],
)
def test_known_values(sector: Sector, importance: float, age_h: float, score: float) -> None:
    assert FADING.score(sector, importance, age_h * US_PER_H) == pytest.approx(score, rel=1e-12)


@given(sectors, importances, ages_us)
def test_it_is_the_formula_everywhere_and_a_share(sector: Sector, importance: float, age_us: int) -> None:
    score = FADING.score(sector, importance, age_us)
    assert 0 <= score <= 1
    assert score == pytest.approx(by_the_book(sector, importance, age_us / US_PER_H), rel=1e-9, abs=1e-12)


@given(sectors, importances, ages_us, st.integers(0, US_PER_H))
def test_it_only_falls_and_never_jumps(sector: Sector, importance: float, age_us: int, later_us: int) -> None:
    before, after = (FADING.score(sector, importance, age) for age in (age_us, age_us + later_us))
    assert after <= before
    assert before - after <= later_us / US_PER_H / 168  # nowhere steeper than at the start of the shortest half-life


@given(sectors, importances, importances, ages_us)
def test_what_matters_more_fades_later(sector: Sector, one: float, other: float, age_us: int) -> None:
    little, much = sorted((one, other))
    assert FADING.score(sector, little, age_us) <= FADING.score(sector, much, age_us)
    assert FADING.fades_us(sector, little, BORN_US) <= FADING.fades_us(sector, much, BORN_US)


@given(sectors, importances)
def test_when_it_fades_is_known_to_the_microsecond(sector: Sector, importance: float) -> None:
    age_us = FADING.fades_us(sector, importance, BORN_US) - BORN_US
    assert FADING.score(sector, importance, age_us) >= 0.1 * (1 - 1e-9)
    assert FADING.score(sector, importance, age_us + 2) < 0.1


@given(sectors, importances, ages_us)
def test_an_access_gives_back_half_of_what_is_lost(sector: Sector, importance: float, age_us: int) -> None:
    now_us = BORN_US + age_us
    before = FADING.score(sector, importance, age_us)
    born_us = FADING.accessed(sector, importance, BORN_US, now_us)
    after = FADING.score(sector, importance, now_us - born_us)
    assert after == pytest.approx(before + 0.5 * (1 - before), abs=1e-9)
    assert BORN_US <= born_us <= now_us


@given(sectors, importances, st.lists(st.integers(-5_000 * US_PER_H, 5_000 * US_PER_H), max_size=20))
def test_no_access_ever_lowers_it_whatever_the_clock_does(sector: Sector, importance: float, steps: list[int]) -> None:
    now_us = born_us = BORN_US
    for step_us in steps:
        now_us = max(0, now_us + step_us)
        later_us = FADING.accessed(sector, importance, born_us, now_us)
        assert later_us >= born_us
        assert later_us <= max(now_us, born_us)  # and nothing becomes younger than new
        born_us = later_us


@given(sectors, importances, sectors, importances, ages_us)
def test_a_memory_of_another_kind_goes_on_from_where_it_was(
    sector: Sector, importance: float, to: Sector, new_importance: float, age_us: int
) -> None:
    now_us = BORN_US + age_us
    refreshed = FADING.refreshed_score(FADING.score(sector, importance, age_us))
    born_us = FADING.moved(sector, importance, to, new_importance, BORN_US, now_us)
    assert FADING.score(to, new_importance, now_us - born_us) == pytest.approx(refreshed, abs=1e-9)


@given(sectors, importances, st.integers(1, 10_000 * US_PER_H))
def test_a_clock_that_is_set_back_makes_nothing_older(sector: Sector, importance: float, back_us: int) -> None:
    now_us = BORN_US - back_us
    assert FADING.score(sector, importance, -back_us) == 1
    assert FADING.accessed(sector, importance, BORN_US, now_us) == BORN_US
    assert FADING.fades_us(sector, importance, BORN_US) >= now_us


def test_the_extremes_of_the_settings_hold() -> None:
    slow = Fading(HalfLifeSettings(episodic=1_000_000), FadingSettings(importance_weight=100, forgotten_below=1e-9))
    assert slow.fades_us(Sector.EPISODIC, 1.0, BORN_US) <= 1 << 53
    idle = Fading(HalfLifeSettings(episodic=1e-3), FadingSettings(refresh_share=0))
    assert idle.accessed(Sector.EPISODIC, 0, BORN_US, BORN_US + 20_000 * US_PER_H) == BORN_US


def test_the_settings_file_says_the_defaults() -> None:
    path = Path(__file__).parents[2] / "config/decay_config.toml"
    assert load(path, MemorySettings) == MemorySettings()
    said = {name: set(table) for name, table in read_toml(path).items()}
    assert said == {
        name: set(getattr(MemorySettings(), name).__struct_fields__) for name in MemorySettings.__struct_fields__
    }
