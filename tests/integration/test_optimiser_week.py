"""A week of suite life in virtual time: what goes wrong is found, mended or told to a person, what is well left alone.

OPTIMISER_WEEK_PAGE=docs/optimiser_week.md .venv/bin/python -m pytest -s tests/integration/test_optimiser_week.py
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.optimiser_week import BROKEN, SWAPPED, SWAPPED_STEM, Planted, Week
from support.optimiser_week_plan import END_H, HEADING, PAUSED_H, PLANTED, Course, courses, lasted

from kloros.chembus.facts_work import ImprovementFacts, ShadowFacts
from kloros.config import convert, load
from kloros.optimisation import store
from kloros.optimisation.model import Verdict
from kloros.optimisation.settings import OptimiserSettings
from kloros.storage import artifacts

SEED = 20
CONFIG = Path(__file__).parents[2] / "config" / "optimiser_config.toml"
KINDS = ("tune_threshold", "increase_budget", "reduce_load", "hot_swap_module")


def installed() -> OptimiserSettings:
    """As it is installed, but that each kind may act, and that one module's throughput is looked at."""
    shipped = msgspec.to_builtins(load(CONFIG, OptimiserSettings))
    shipped["modes"] = dict.fromkeys(KINDS, "auto")
    shipped["modules"][SWAPPED_STEM] = {"min_throughput_rps": 0.18}
    return convert(shipped, OptimiserSettings, CONFIG)


def promote(week: Week, version: str) -> None:
    """The shadow has tried a version, and proposes it."""
    staged = artifacts.stage(week.root, SWAPPED, version, {artifacts.PARAMETERS: b"a = 1\n"})
    told = {"candidate_id": f"c-{version}", "artifact": staged.name, "sha256": staged.sha256}
    verdict = ShadowFacts(candidate={"a": 1.0}, verdict="promote", module_name=SWAPPED, **told)
    action = ImprovementFacts(
        action_id=f"i-{version}", module_name=SWAPPED, action_kind="HOT_SWAP_MODULE", priority=0.5,
        rationale="the shadow has tried it", parameters={**told, "source": "shadow"},
    )  # fmt: skip
    week.hear("Q_SHADOW_VERDICT", verdict)
    week.hear("Q_IMPROVEMENT_ACTION", action)
    week.beat(is_errand=True)


def live(week: Week) -> None:
    """All seven days; at each minute nothing is beyond its bounds."""
    swaps = {round(each.from_h * 60): each.version for each in week.planted if each.version}
    for minute in range(round(END_H * 60)):
        week.paused = "an audit" if PAUSED_H[0] <= minute / 60 < PAUSED_H[1] else ""
        straw = week.daemons[SWAPPED_STEM]
        straw.is_stubborn = straw.is_stubborn and any(
            each.holds(week.now_s) for each in week.planted if each.stem == SWAPPED_STEM
        )
        if minute in swaps:
            promote(week, swaps[minute])
        week.minute()
        for each in week.daemons.values():
            assert each.own_s <= each.budget_s <= 4 * each.own_s + 1e-9
            assert 0.25 <= each.pace <= 1.0


@pytest.fixture(scope="module")
def week() -> Iterator[Week]:
    """One week for all the tests."""
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as folder:
        week = Week(Path(folder), installed(), PLANTED, SEED)
        live(week)
        yield week
        week.store.close()


@pytest.fixture(scope="module")
def found(week: Week) -> list[Course]:
    return courses(week)[0]


def totals(week: Week, found: list[Course]) -> list[str]:
    """The last lines of the page."""
    real = [each for each in found if each.planted.expects != "nothing"]
    ends = Counter(each.facts.verdict for each in week.said if each.signal == "Q_REFLECTION_REPORT")
    flags = {each.facts.flag_id for each in week.said if each.signal == "FLAG_FOR_REVIEW"}
    by_it = [each for each in real if each.mended_s is not None and each.done]
    cycles = sum(len(each.ended) for each in week.daemons.values())
    slowest = max((each.found_s for each in real if each.found_s is not None), default=None)
    return [
        f"Found: {sum(each.found_s is not None for each in real)} of {len(real)}, the slowest after {lasted(slowest)}.",
        f"Mended by it: {len(by_it)}; told to a person: {sum(each.flagged_s is not None for each in found)}.",
        f"Wrongly touched: {len(courses(week)[1])}, of {len(week.daemons)} daemons and {cycles:,} cycles.",
        "Changes: " + ", ".join(f"{ends[verdict]} {verdict}" for verdict in Verdict) + f"; flags: {len(flags)}.",
    ]  # fmt: skip


def test_the_table(week: Week, found: list[Course]) -> None:
    rows = [HEADING, ["---"] * len(HEADING), *(course.row() for course in found)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    text = f"{table}\n" + "".join(f"* {line}\n" for line in totals(week, found))
    print(f"\n{text}")
    if page := os.environ.get("OPTIMISER_WEEK_PAGE"):
        kept = Path(page).read_text()
        begin, end = "<!-- table: begin -->", "<!-- table: end -->"
        Path(page).write_text(f"{kept.partition(begin)[0]}{begin}\n{text}{end}{kept.partition(end)[2]}")


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: f"{planted.stem or 'all'}, {planted.what}")
def test_it_comes_to_its_end(found: list[Course], planted: Planted) -> None:
    (course,) = [each for each in found if each.planted is planted]
    assert course.is_as_expected, course
    assert planted.expects == "nothing" or course.found_s is not None


def test_nothing_that_is_well_is_touched_or_left_changed(week: Week) -> None:
    assert courses(week)[1] == []
    ill = {each.stem for each in week.planted if each.until_h == END_H}
    assert {knob.module for knob in week.knobs()} <= ill | {SWAPPED_STEM}
    assert {stem for stem, straw in week.daemons.items() if straw.granted_s or straw.pace != 1.0} <= ill | {
        SWAPPED_STEM
    }


def test_while_everybody_is_ill_it_says_so_once_and_waits(week: Week) -> None:
    flags = [each for each in week.said if each.signal == "FLAG_FOR_REVIEW" and 96 <= each.at_s / 3600 < 97]
    assert len({each.facts.flag_id for each in flags if "cause lies elsewhere" in each.facts.rationale}) == 1
    assert not [each for each in week.said if each.signal == "Q_ENACTMENT" and each.facts.change_id
                and 96 <= each.at_s / 3600 < 98]  # fmt: skip


def test_each_change_has_exactly_one_end(week: Week) -> None:
    database = week.store.database
    changes = [*store.open_changes(database), *store.ended_changes(database, 10_000)]
    ends = Counter(each.facts.change_id for each in week.said if each.signal == "Q_REFLECTION_REPORT")
    assert set(ends) == {each.change_id for each in changes if not each.is_open}
    assert set(ends.values()) == {1}
    actions = Counter(each.facts.action_id for each in week.said if each.signal == "Q_ENACTMENT")
    assert set(actions.values()) == {1}
    for change in changes:
        if change.verdict is not Verdict.CONFIRMED and not change.is_open:
            assert change.is_restored, change


def test_no_quota_is_passed_in_any_window(week: Week) -> None:
    acted = [each for each in week.said if each.signal == "Q_ENACTMENT" and each.facts.change_id]
    for most, kinds in ((5, None), (2, "HOT_SWAP_MODULE")):
        times_s = [each.at_s for each in acted if kinds in (None, each.facts.action_kind)]
        assert times_s
        for time_s in times_s:
            assert sum(time_s <= other < time_s + 300 for other in times_s) <= most


def test_the_old_version_serves_again_at_once(week: Week) -> None:
    straw = week.daemons[SWAPPED_STEM]
    assert (straw.version, straw.lives) == ("good", True)
    broken = next(each for each in week.planted if each.version == BROKEN)
    (told,) = [each for each in week.said if each.signal == "Q_ENACTMENT" and each.facts.action_id == "i-broken"]
    assert told.facts.status == "FAILED"
    assert told.at_s - broken.from_h * 3600 < 30
