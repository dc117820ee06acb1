"""The shadow on the bench: a planted better candidate is promoted after its watch, a worse one rolled back, and nothing
that either decides has any effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.bench import Bench, bench
from support.foreign_subject import install_kettle
from support.questions import Given, Habits, incidents

from kloros.chembus.facts_work import ShadowFacts
from kloros.chembus.memory import MemoryHub
from kloros.clock import VirtualClock
from kloros.config import load, read_toml
from kloros.consumers.candidates.current import parameters_text
from kloros.consumers.candidates.identity import candidate_id, version_of
from kloros.consumers.candidates.shadow_settings import ShadowSettings
from kloros.consumers.candidates.store import Trial, trial, trials
from kloros.consumers.shadow_daemon import ShadowDaemon
from kloros.storage.artifacts import artifacts_under, make_current, stage

CONFIG = Path(__file__).parents[2] / "config/shadow_config.toml"
# Beats half an hour apart; they may be that far apart here without time getting lost.
BEAT_S, DAY_BEATS = 1800.0, 24 * 2
SETTINGS = "[trial]\nmost_gap_s = 1800\n"
DEDUP, KETTLE = {"threshold": 0.85}, {"level": 0.5}
Table = Bench[ShadowDaemon]


@pytest.fixture(autouse=True)
def settings(tmp_path: Path) -> None:
    configure(tmp_path, "shadow", SETTINGS)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with bench(ShadowDaemon, tmp_path) as bench_table:
        yield bench_table


def propose(
    table: Table, module: str, parameters: Mapping[str, float], incumbent: Mapping[str, float], **told: Any
) -> str:
    """Stage a candidate, and tell of it as the tournament does; returns its id."""
    text = parameters_text(parameters)
    root = artifacts_under(table.daemon.place.state)
    artifact = stage(root, module, version_of(text), {"parameters.toml": text.encode()})
    identity = candidate_id(module, artifact.version, incumbent)
    facts = {
        "candidate": dict(parameters), "incumbent": dict(incumbent), "verdict": "proposed", "artifact": artifact.name,
        "module_name": module, "sha256": artifact.sha256, "candidate_id": identity, "fitness": 0.9,
        "incumbent_fitness": 0.8,
    }  # fmt: skip
    table.say("Q_TOURNAMENT_COMPLETE", facts | told)
    return identity


def verdicts(table: Table) -> list[ShadowFacts]:
    return [each.facts for each in table.heard("Q_SHADOW_VERDICT")]


def on_trial(table: Table) -> list[Trial]:
    return trials(table.daemon.store.database, ended=False, most=100)


def live(table: Table, beats: int, given: Iterable[Given] = (), per_beat: int = 36) -> None:
    """Beat after beat, with some of what the chain says in between; ends with the first verdict."""
    given = iter(given)
    for _ in range(beats):
        for _, (signal, facts) in zip(range(per_beat), given, strict=False):
            table.outsider.emit(signal, facts)
        table.clock.advance(BEAT_S)
        table.say("Q_TRIGGER_SHADOW_EVAL")
        if verdicts(table):
            return


def curiosity(gap: float) -> dict[str, float]:
    return {
        "medium_above.gap": gap, "medium_above.chaos": 1.5, "medium_above.integration": gap,
        "medium_above.discovery": 0.8, "medium_above.other": 1.5,
    }  # fmt: skip


def configure(folder: Path, stem: str, text: str) -> None:
    (folder / "config").mkdir(parents=True, exist_ok=True)
    (folder / f"config/{stem}_config.toml").write_text(text)


@pytest.mark.parametrize("seed", range(3))
def test_a_better_candidate_is_promoted_after_a_day_and_not_before(table: Table, seed: int) -> None:
    identity = propose(table, "semantic_dedup", {"threshold": 0.65}, DEDUP)
    live(table, DAY_BEATS - 1, incidents(Random(seed), 400))
    assert verdicts(table) == []
    assert [each.candidate_id for each in on_trial(table)] == [identity]
    live(table, 1)
    (verdict,) = verdicts(table)
    print(verdict.detail)
    assert verdict.verdict == "promote"
    assert verdict.drift == 0.0
    assert verdict.max_drift is not None
    assert verdict.max_drift < 0.2
    assert verdict.error_rate == 0.0
    (proposed,) = table.heard("Q_IMPROVEMENT_ACTION")
    assert proposed.facts.action_kind == "HOT_SWAP_MODULE"
    assert proposed.facts.parameters["artifact"] == verdict.artifact
    assert proposed.facts.parameters["sha256"] == verdict.sha256
    assert proposed.facts.parameters["source"] == "shadow"
    assert proposed.facts.expires_at
    assert proposed.incident_id == identity
    assert on_trial(table) == []
    live(table, 3)
    assert len(verdicts(table)) == 1


def test_a_worse_candidate_is_rolled_back_when_the_day_is_over(tmp_path: Path) -> None:
    configure(tmp_path, "semantic_dedup_consumer", "threshold = 0.65\n")
    with bench(ShadowDaemon, tmp_path) as table:
        propose(table, "semantic_dedup", {"threshold": 0.9}, {"threshold": 0.65})
        live(table, DAY_BEATS + 1, incidents(Random(1), 400))
        (verdict,) = verdicts(table)
        assert verdict.verdict == "rolled_back"
        assert verdict.drift
        assert verdict.drift > 0.01
        assert table.heard("Q_IMPROVEMENT_ACTION") == []


def test_a_candidate_that_is_much_worse_is_rolled_back_at_once(tmp_path: Path) -> None:
    lines = "".join(f"{name} = 1.4\n" for name in ("gap", "integration"))
    configure(tmp_path, "curiosity_core_consumer", f"[medium_above]\n{lines}")
    with bench(ShadowDaemon, tmp_path) as table:
        propose(table, "curiosity", curiosity(0.5), curiosity(1.4))
        live(table, DAY_BEATS, incidents(Random(1), 400))
        (verdict,) = verdicts(table)
        assert verdict.verdict == "rolled_back"
        assert verdict.max_drift
        assert verdict.max_drift >= 0.2
        assert verdict.runs == 1
        assert verdict.observed_s
        assert verdict.observed_s < 4 * 3600


def test_what_cannot_be_told_from_chance_expires_after_a_week(table: Table) -> None:
    propose(table, "semantic_dedup", {"threshold": 0.851}, DEDUP)
    live(table, 7 * DAY_BEATS + 1, incidents(Random(1), 300), per_beat=6)
    (verdict,) = verdicts(table)
    assert verdict.verdict == "expired"
    assert verdict.observed_s
    assert verdict.observed_s >= 7 * 86_400


def test_without_history_it_expires_too(table: Table) -> None:
    propose(table, "semantic_dedup", {"threshold": 0.65}, DEDUP)
    live(table, 7 * DAY_BEATS + 1)
    (verdict,) = verdicts(table)
    assert (verdict.verdict, verdict.keys) == ("expired", 0)
    assert "only 0 decisions" in (verdict.detail or "")


def test_progress_survives_a_restart_and_time_away_does_not_count(tmp_path: Path) -> None:
    clock, hub = VirtualClock(), MemoryHub()
    given = incidents(Random(1), 400)
    with bench(ShadowDaemon, tmp_path, clock, hub=hub) as table:
        identity = propose(table, "semantic_dedup", {"threshold": 0.65}, DEDUP)
        live(table, 10, given)
        before = on_trial(table)[0].progress
    clock.advance(10 * 86_400)
    with bench(ShadowDaemon, tmp_path, clock, hub=hub) as table:
        assert on_trial(table)[0].progress == before
        live(table, 1, given)
        after = trial(table.daemon.store.database, identity)
        assert after
        assert before.observed_s < after.progress.observed_s <= before.observed_s + 1800
        live(table, DAY_BEATS, given)
        assert [each.verdict for each in verdicts(table)] == ["promote"]


class TestRefused:
    def refused(self, table: Table) -> str:
        (verdict,) = verdicts(table)
        assert verdict.verdict == "refused"
        assert on_trial(table) == []
        return verdict.detail or ""

    def test_an_artifact_that_was_changed(self, table: Table) -> None:
        propose(table, "semantic_dedup", {"threshold": 0.65}, DEDUP, sha256="0" * 64)
        assert "SHA-256" in self.refused(table)

    def test_one_outside_the_artifacts(self, table: Table) -> None:
        propose(table, "semantic_dedup", {"threshold": 0.65}, DEDUP, artifact="../../etc")
        self.refused(table)

    def test_one_of_a_module_that_nobody_knows(self, table: Table) -> None:
        propose(table, "stranger", {"threshold": 0.65}, DEDUP)
        assert "nobody knows" in self.refused(table)

    def test_parameters_beyond_the_space(self, table: Table) -> None:
        propose(table, "semantic_dedup", {"threshold": 0.1}, DEDUP)
        assert "space" in self.refused(table)

    def test_parameters_that_the_module_does_not_declare(self, table: Table) -> None:
        propose(table, "semantic_dedup", {"threshold": 0.65, "batch.questions": 1.0}, DEDUP)
        assert "space" in self.refused(table)

    def test_one_too_many(self, tmp_path: Path) -> None:
        configure(tmp_path, "shadow", SETTINGS + "[candidates]\nat_once = 2\n")
        with bench(ShadowDaemon, tmp_path) as table:
            for threshold in (0.6, 0.65, 0.7):
                propose(table, "semantic_dedup", {"threshold": threshold}, DEDUP)
            (verdict,) = verdicts(table)
            assert verdict.verdict == "refused"
            assert len(on_trial(table)) == 2

    def test_the_same_again_is_not_begun_anew(self, table: Table) -> None:
        for _ in range(2):
            propose(table, "semantic_dedup", {"threshold": 0.65}, DEDUP)
        assert len(on_trial(table)) == 1
        assert verdicts(table) == []


def test_a_trial_is_over_when_something_else_is_put_in_force(table: Table) -> None:
    propose(table, "semantic_dedup", {"threshold": 0.65}, DEDUP)
    root = artifacts_under(table.daemon.place.state)
    other = stage(root, "semantic_dedup", "p-other", {"parameters.toml": b"threshold = 0.7\n"})
    live(table, 1)
    assert verdicts(table) == []
    make_current(root, "semantic_dedup", other.version)
    live(table, 1)
    (verdict,) = verdicts(table)
    assert verdict.verdict == "expired"
    assert "changed" in (verdict.detail or "")


class TestForeignSubject:
    """A subject of another package, that misbehaves in every way that the drift knows."""

    @pytest.fixture
    def table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
        (tmp_path / "packages").mkdir()
        install_kettle(tmp_path / "packages")
        monkeypatch.syspath_prepend(str(tmp_path / "packages"))
        monkeypatch.chdir(tmp_path)
        with bench(ShadowDaemon, tmp_path) as bench_table:
            yield bench_table

    def test_a_better_one_is_promoted(self, table: Table) -> None:
        propose(table, "kettle", {"level": 0.7}, KETTLE)
        live(table, DAY_BEATS + 1, incidents(Random(1), 400))
        assert [each.verdict for each in verdicts(table)] == ["promote"]

    def test_a_missing_key_ends_it_at_once(self, table: Table) -> None:
        propose(table, "kettle", {"level": 0.92}, KETTLE)
        live(table, DAY_BEATS + 1, incidents(Random(1), 400))
        (verdict,) = verdicts(table)
        assert (verdict.verdict, verdict.max_drift, verdict.runs) == ("rolled_back", 1.0, 1)

    @pytest.mark.parametrize(("level", "what"), [(0.91, "boils over"), (0.93, "open")])
    def test_one_that_raises_or_reaches_out_is_rolled_back(
        self, table: Table, tmp_path: Path, level: float, what: str
    ) -> None:
        propose(table, "kettle", {"level": level}, KETTLE)
        live(table, DAY_BEATS + 1, incidents(Random(1), 400))
        (verdict,) = verdicts(table)
        assert (verdict.verdict, verdict.error_rate) == ("rolled_back", 1.0)
        assert what in (verdict.detail or "")
        assert not (tmp_path / "kettle.log").exists()
        assert {each.facts.outcome for each in table.heard("Q_CYCLE_REPORT")} == {"ok"}


def test_one_that_cannot_be_loaded_is_named_and_the_others_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packages").mkdir()
    install_kettle(tmp_path / "packages", "kettle_subject:Teapot")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    with bench(ShadowDaemon, tmp_path) as table:
        propose(table, "semantic_dedup", {"threshold": 0.65}, DEDUP)
        assert len(on_trial(table)) == 1


def test_the_settings_file_says_the_defaults() -> None:
    assert load(CONFIG, ShadowSettings) == ShadowSettings()
    for name, section in read_toml(CONFIG).items():
        if isinstance(section, dict):
            assert set(section) == set(getattr(ShadowSettings(), name).__struct_fields__)


def test_noise_is_not_promoted_though_a_tournament_should_fall_for_it(tmp_path: Path) -> None:
    """Answers that have nothing to do with their questions: neither threshold is better."""
    outcomes = []
    for seed in range(4):
        configure(tmp_path / str(seed), "shadow", SETTINGS)
        with bench(ShadowDaemon, tmp_path / str(seed)) as table:
            propose(table, "curiosity", curiosity(1.6), curiosity_in_force())
            live(table, DAY_BEATS + 1, incidents(Random(seed), 400, Habits(noise=1.0)))
            outcomes += [each.verdict for each in verdicts(table)] or ["goes on"]
    print(outcomes)
    assert "promote" not in outcomes


def curiosity_in_force() -> dict[str, float]:
    return curiosity(1.0) | {"medium_above.integration": 2.0}
