"""Phases that keep entries apart, and what lint remarks on a schedule."""

from __future__ import annotations

from math import gcd
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.cli.schedule_lint import locate
from kloros.orchestration.lint import RULES, lint
from kloros.orchestration.schedule_config import load_schedule
from kloros.orchestration.schedule_entry import Entry
from kloros.orchestration.stagger import apart_us, collisions, hyperperiod_us, staggered

S = 1_000_000
DEFAULT = Path(__file__).parents[2] / "config" / "scheduler_config.toml"


def entry(name: str, interval_s: int, offset_s: int = 0) -> Entry:
    signal = f"Q_TRIGGER_{name.upper()}"
    return Entry(
        name=name, signal=signal, ecosystem="test", interval_us=interval_s * S, offset_us=offset_s % interval_s * S
    )


ENTRIES = st.lists(st.tuples(st.sampled_from([4, 5, 6, 10, 12, 15, 20, 30, 60]), st.integers(0, 59)), max_size=6).map(
    lambda specs: [entry(f"e{number}", interval, offset) for number, (interval, offset) in enumerate(specs)]
)


@given(st.integers(1, 40), st.integers(0, 39), st.integers(1, 40), st.integers(0, 39))
def test_how_close_two_grids_come_is_what_walking_the_hyperperiod_finds(a: int, p: int, b: int, q: int) -> None:
    one, other = entry("one", a, p), entry("other", b, q)
    span = hyperperiod_us([one, other])
    mine = range(one.offset_us, span + one.offset_us, one.interval_us)
    theirs = list(range(other.offset_us - span, 3 * span, other.interval_us))
    assert apart_us(one, other) == min(abs(m - t) for m in mine for t in theirs)


@given(ENTRIES)
def test_every_collision_is_two_beats_in_one_second_and_every_such_pair_is_found(entries: list[Entry]) -> None:
    found = {(each.one, each.other) for each in collisions(entries)}
    for number, one in enumerate(entries):
        for other in entries[number + 1 :]:
            meets = (one.offset_us - other.offset_us) % gcd(one.interval_us, other.interval_us) == 0
            assert ((one.name, other.name) in found) == meets
    for each in collisions(entries):
        named = {entry.name: entry for entry in entries}
        assert named[each.one].grid.has(each.first_us)
        assert named[each.other].grid.has(each.first_us + each.apart_us) or named[each.other].grid.has(
            each.first_us - each.apart_us
        )


@given(ENTRIES)
def test_staggering_never_makes_it_worse_and_keeps_offsets_within_their_interval(entries: list[Entry]) -> None:
    offsets = staggered(entries)
    moved = [msgspec.structs.replace(each, offset_us=offsets[each.name]) for each in entries]
    assert all(0 <= each.offset_us < each.interval_us for each in moved)
    assert len(collisions(moved)) <= len(collisions(entries))
    always = [
        (a, b) for n, a in enumerate(entries) for b in entries[n + 1 :] if gcd(a.interval_us, b.interval_us) < 2 * S
    ]
    share = sum(1 / each.interval_us for each in entries) * S
    if share <= 0.3 and not always:
        assert collisions(moved) == [], "there is room for everybody"
    assert staggered(entries) == offsets


def test_the_default_entries_all_at_zero_collide_and_the_planner_parts_them() -> None:
    entries = load_schedule(DEFAULT).entries
    at_zero = [msgspec.structs.replace(each, offset_us=0) for each in entries]
    assert len(collisions(at_zero)) == len(entries) * (len(entries) - 1) // 2
    offsets = staggered(at_zero)
    assert collisions([msgspec.structs.replace(each, offset_us=offsets[each.name]) for each in at_zero]) == []
    assert collisions(entries) == [], "the shipped offsets do, too"


def test_long_cycles_need_more_room_than_a_second() -> None:
    entries = [entry("one", 60, 0), entry("other", 60, 5)]
    assert collisions(entries) == []
    found = collisions(entries, {"one": 10 * S})
    assert [(each.apart_us, each.needed_us) for each in found] == [(5 * S, 10 * S)]
    offsets = staggered(entries, {"one": 10 * S})
    assert abs(offsets["one"] - offsets["other"]) >= 10 * S


# Lint


def remarks(tmp_path: Path, change: str = "", *, replace: tuple[str, str] | None = None, **known: object) -> list[str]:
    text = DEFAULT.read_text(encoding="utf-8")
    if replace is not None:
        assert replace[0] in text
        text = text.replace(*replace)
    path = tmp_path / "scheduler_config.toml"
    path.write_text(text + change, encoding="utf-8")
    found = lint(load_schedule(path), **known)  # type: ignore[arg-type]
    assert {each.code for each in found} <= RULES.keys()
    for each in found:
        line = path.read_text(encoding="utf-8").splitlines()[locate(text + change, each.table, each.key) - 1]
        assert each.key in line or line.startswith("["), "the line that is named is the one that is meant"
    return [each.code for each in found]


def test_the_shipped_schedule_is_without_a_remark(tmp_path: Path) -> None:
    assert remarks(tmp_path) == []


MOOD = '\n[[affect]]\nsignal = "AFFECT_HIGH_RAGE"\nentries = ["curiosity_generation"]\n'


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ("\n[entries.mine]\ninterval_s = 30\noffset_s = 7\nsignal = 'Q_TRIGGER_MINE'\n", ["K101"]),
        (f"{MOOD}pace = 0.5\nttl_s = 5\n", ["K301"]),
        (f"{MOOD}pace = 0.01\nttl_s = 60\n", ["K302"]),
        (f"{MOOD}pace = 0.5\n{MOOD}pace = 0.7\n", ["K305"]),
        ("\n[[backpressure]]\nqueue = 'semantic_dedup'\nhigh = 10\nlow = 9\nslow = {}\n", ["K306"]),
        (
            (
                "\n[entries.mine]\ninterval_s = 60\noffset_s = 5.5\nsignal = 'Q_TRIGGER_MINE'\nmin_interval_s = 60\n"
                "max_interval_s = 60\n[[affect]]\nsignal = 'AFFECT_HIGH_RAGE'\nentries = ['mine']\npace = 0.5\n"
            ),
            ["K101", "K303"],
        ),
    ],
)
def test_each_thing_that_is_legal_and_not_meant(tmp_path: Path, change: str, codes: list[str]) -> None:
    assert remarks(tmp_path, change) == codes


def test_chains_signals_and_work_are_judged_where_more_is_known(tmp_path: Path) -> None:
    slow = {"introspection_scan": 30 * S}
    assert set(remarks(tmp_path, durations_us=slow)) >= {"K201", "K402"}
    heard = {each.signal for each in load_schedule(DEFAULT).entries} - {"Q_TRIGGER_CURIOSITY"}
    assert remarks(tmp_path, heard_signals=heard) == ["K202", "K401"]
    assert remarks(tmp_path, emitted_moods={"AFFECT_EMERGENCY_BRAKE"}).count("K304") == 5


def test_a_line_is_found_by_table_and_key_also_in_arrays_of_tables() -> None:
    text = "[a]\nx = 1\n[[b]]\ny = 1\n[[b]]\nz = 3\ny = 2\n"
    assert [locate(text, *where) for where in (("a", "x"), ("b[0]", "y"), ("b[1]", "y"), ("b[1]", "nothing"))] == [
        2, 4, 7, 5,
    ]  # fmt: skip
