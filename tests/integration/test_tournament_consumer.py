"""The tournament on the bench: on recorded history the better parameters win, and what cannot be told from chance
does not."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.bench import Bench, bench
from support.foreign_subject import install_kettle
from support.questions import Habits, feed

from kloros.chembus.facts_work import ImprovementFacts, TournamentFacts
from kloros.chembus.memory import MemoryHub
from kloros.clock import VirtualClock
from kloros.config import load, read_toml
from kloros.consumers.candidates.tournament_settings import TournamentSettings
from kloros.consumers.candidates.turns import Turns
from kloros.consumers.tournament_consumer_daemon import TURNS, TournamentConsumerDaemon
from kloros.storage.artifacts import artifacts_under, split_name, verify

CONFIG = Path(__file__).parents[2] / "config/tournament_consumer_config.toml"
BEAT_S = 15.0
Table = Bench[TournamentConsumerDaemon]


def beat(table: Bench[Any], times: int = 1, signal: str = "Q_TRIGGER_TOURNAMENT") -> None:
    for _ in range(times):
        table.clock.advance(BEAT_S)
        table.say(signal)


def ended(table: Table, module: str) -> list[TournamentFacts]:
    return [each.facts for each in table.heard("Q_TOURNAMENT_COMPLETE") if each.facts.module_name == module]


def play_until_proposed(table: Table, module: str, seed: int, habits: Habits = Habits()) -> TournamentFacts:  # noqa: B008
    """Let history go on until somebody has won; how much that takes is a matter of luck."""
    for part in range(6):
        feed(table, seed * 100 + part, 100, habits)
        beat(table, 25)
        if found := [each for each in ended(table, module) if each.verdict == "proposed"]:
            return found[0]
    raise AssertionError(f"nothing was proposed: {[each.detail for each in ended(table, module)]}")


def play_until_ended(table: Table, module: str, count: int = 1) -> TournamentFacts:
    for _ in range(200):
        if len(found := ended(table, module)) >= count:
            return found[-1]
        beat(table)
    raise AssertionError(f"no tournament of {module} ended")


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with bench(TournamentConsumerDaemon, tmp_path) as bench_table:
        yield bench_table


def test_without_history_it_waits_and_says_so(table: Table) -> None:
    feed(table, 1, 5)
    beat(table, 3)
    turns = table.daemon.store.get(TURNS, Turns)
    assert turns
    assert turns.current is None
    assert turns.ready["semantic_dedup"].lack.startswith("waits for history: ")
    assert table.heard("Q_TOURNAMENT_COMPLETE") == []
    assert table.heard("Q_CYCLE_REPORT")[-1].facts.outcome == "ok"


@pytest.mark.parametrize("seed", range(3))
def test_better_parameters_win_on_recorded_history_and_are_staged_and_proposed(table: Table, seed: int) -> None:
    found = play_until_proposed(table, "semantic_dedup", seed)
    print(found.detail)
    assert found.incumbent == {"threshold": 0.85}
    assert isinstance(found.candidate, dict)
    assert 0.5 <= found.candidate["threshold"] < 0.8
    assert found.fitness
    assert found.incumbent_fitness
    assert found.fitness > found.incumbent_fitness + 0.01
    assert found.p_value is not None
    assert found.p_value <= 0.01
    artifact = verify(artifacts_under(table.daemon.place.state), *split_name(found.artifact or ""), found.sha256)
    assert tomllib.loads(artifact.files["parameters.toml"].decode()) == found.candidate
    (proposed,) = [each for each in table.heard("Q_IMPROVEMENT_ACTION") if each.facts.module_name == "semantic_dedup"]
    facts: ImprovementFacts = proposed.facts
    assert facts.action_kind == "HOT_SWAP_MODULE"
    assert facts.parameters["artifact"] == found.artifact
    assert facts.parameters["sha256"] == found.sha256
    assert facts.expires_at
    assert facts.expires_at > table.clock.wall_us() / 1e6
    assert proposed.incident_id == found.candidate_id


def test_the_curiosity_of_a_machine_learns_from_what_its_investigations_found(table: Table) -> None:
    found = play_until_proposed(table, "curiosity", 1, Habits(worth_above=1.6))
    assert isinstance(found.candidate, dict)
    assert found.candidate["medium_above.gap"] == pytest.approx(1.6, abs=0.15)
    # of chaos and discovery there is no history, so nothing speaks for another value
    assert found.candidate["medium_above.chaos"] == 1.5
    assert found.candidate["medium_above.discovery"] == 0.8


def test_a_module_on_trial_has_no_other_tournament_until_the_verdict(table: Table) -> None:
    first = play_until_proposed(table, "semantic_dedup", 1)
    count = len(ended(table, "semantic_dedup"))
    feed(table, 2, 100)
    beat(table, 40)
    assert len(ended(table, "semantic_dedup")) == count
    verdict = {"candidate": first.candidate, "module_name": "semantic_dedup", "verdict": "rolled_back"}
    table.say("Q_SHADOW_VERDICT", verdict)
    feed(table, 3, 30)
    assert play_until_ended(table, "semantic_dedup", count + 1)


def test_a_judgement_needs_history_that_no_other_has_used(table: Table) -> None:
    feed(table, 1, 200, Habits(threshold=0.65, noise=1.0))
    play_until_ended(table, "semantic_dedup")
    count = len(ended(table, "semantic_dedup"))
    beat(table, 60)
    assert len(ended(table, "semantic_dedup")) == count
    turns = table.daemon.store.get(TURNS, Turns)
    assert turns
    assert turns.ready["semantic_dedup"].fresh == 0


def test_at_least_a_minute_lies_between_two_tournaments_and_one_round_is_played_per_beat(table: Table) -> None:
    feed(table, 1, 200)
    reports: list[tuple[float, int]] = []
    for _ in range(40):
        beat(table)
        reports.append((table.clock.monotonic_s(), table.heard("Q_CYCLE_REPORT")[-1].facts.processed))
    assert {rounds for _, rounds in reports} == {0, 1}
    played = [moment for moment, rounds in reports if rounds]
    pauses = [later - earlier for earlier, later in pairwise(played) if later - earlier > BEAT_S]
    assert len(ended(table, "semantic_dedup")) == len(ended(table, "curiosity")) == 1
    assert pauses == [60.0]


def test_the_same_history_is_played_alike_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    outcomes = []
    for name, restarts in (("one", False), ("other", True)):
        folder, clock, hub = tmp_path / name, VirtualClock(), MemoryHub()
        with bench(TournamentConsumerDaemon, folder, clock, hub=hub) as table:
            feed(table, 7, 200)
            beat(table, 3)
            if not restarts:
                outcomes.append(play_until_ended(table, "semantic_dedup"))
        if restarts:
            with bench(TournamentConsumerDaemon, folder, clock, hub=hub) as table:
                outcomes.append(play_until_ended(table, "semantic_dedup"))
    assert outcomes[0] == outcomes[1]


def test_what_another_setting_would_make_of_it_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/semantic_dedup_consumer_config.toml").write_text('embedder = "cleverer"\n')
    with bench(TournamentConsumerDaemon, tmp_path) as table:
        feed(table, 1, 200)
        beat(table, 60)
        assert ended(table, "semantic_dedup") == []
        assert ended(table, "curiosity")
        turns = table.daemon.store.get(TURNS, Turns)
        assert turns
        assert "embedder" in turns.ready["semantic_dedup"].lack
        assert table.daemon.counters.get("failures") is None


def test_a_subject_that_fails_opens_the_breaker_and_the_others_play_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packages").mkdir()
    install_kettle(tmp_path / "packages", "kettle_subject:Broken")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    with bench(TournamentConsumerDaemon, tmp_path) as table:
        feed(table, 1, 200)
        failed = play_until_ended(table, "broken")
        assert failed.verdict == "failed"
        assert "ZeroDivisionError: always" in (failed.detail or "")
        assert (table.daemon.counters["failures"], table.daemon.counters["breaker_opened"]) == (3, 1)
        before = len(table.heard("Q_TOURNAMENT_COMPLETE"))
        reports = len(table.heard("Q_CYCLE_REPORT"))
        beat(table, 38)
        assert all(each.facts.processed == 0 for each in table.heard("Q_CYCLE_REPORT")[reports:])
        beat(table, 80)
        assert len(table.heard("Q_TOURNAMENT_COMPLETE")) >= before
        assert {each.facts.outcome for each in table.heard("Q_CYCLE_REPORT")} == {"ok"}
        assert ended(table, "curiosity")
        assert ended(table, "semantic_dedup")
        assert len(ended(table, "broken")) == 1, "it needs new history first, as all do"


def test_more_modules_than_may_wait_are_refused_and_counted(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/tournament_consumer_config.toml").write_text("[turns]\nwaiting = 1\n")
    with bench(TournamentConsumerDaemon, tmp_path) as table:
        feed(table, 1, 200)
        beat(table)
        turns = table.daemon.store.get(TURNS, Turns)
        assert turns
        assert turns.current
        assert turns.refused == table.daemon.counters["waiting_list_refused"] == 1


def test_the_settings_file_says_the_defaults() -> None:
    assert load(CONFIG, TournamentSettings) == TournamentSettings()
    for name, section in read_toml(CONFIG).items():
        if isinstance(section, dict):
            assert set(section) == set(getattr(TournamentSettings(), name).__struct_fields__)
