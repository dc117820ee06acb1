"""How often noise is promoted, the better one wins, and the worse one is rolled back: many machines, the same rules as
the daemons', the figures printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.coins import Coins, coins
from support.questions import Habits, history_database, history_of, incidents

from kloros.consumers.candidates import drift
from kloros.consumers.candidates.drift import Progress
from kloros.consumers.candidates.shadow_settings import TrialSettings
from kloros.consumers.candidates.subject import Example, Subject
from kloros.consumers.candidates.subjects.curiosity import CuriositySubject
from kloros.consumers.candidates.subjects.semantic_dedup import SemanticDedupSubject
from kloros.consumers.candidates.tournament import Judgement, Rules, Tournament, is_over, judge, play, share_out

RULES, TRIAL = Rules(), TrialSettings()
Parameters = dict[str, float]
CURIOSITY = {each.path: each.default for each in CuriositySubject.space}
DEDUP = {"threshold": 0.85}


def tournament(subject: Subject, examples: Sequence[Example], incumbent: Parameters, seed: int) -> Judgement:
    """A whole one, on all of these examples."""
    share = share_out(examples, 0, RULES)
    played = Tournament(
        tournament_id=f"t-{seed}", module=subject.name, started_us=0, incumbent=incumbent, cut=0, up_to=1 << 40
    )
    while not is_over(played, RULES):
        play(subject, share.play, played, RULES)
    return judge(subject, share, played, RULES)


def shadow(subject: Subject, days: Sequence[Sequence[Example]], ours: Parameters, theirs: Parameters) -> str:
    """A whole trial; each day has its examples."""
    progress, limits = Progress(), TRIAL.limits()
    for day in days:
        for start in range(0, len(day), TRIAL.keys_per_run):
            new = day[start : start + TRIAL.keys_per_run]
            outputs = subject.replay(ours, new), subject.replay(theirs, new)
            drift.add(progress, drift.run_beside(subject, new, *outputs), TRIAL.keys_per_run)
            if found := drift.judge(progress, limits, Random(0)):
                return found[0]
        progress.observed_s += 86_400
        if found := drift.judge(progress, limits, Random(0)):
            return found[0]
    raise AssertionError("a trial without an end")


def test_thrown_coins() -> None:
    """No bound is better than another, and the best of some hundred candidates looks good on what it was chosen on."""
    seeds, subject, incumbent = 400, Coins(), {"at": 0.5, "idle": 0.5}
    proposed, promoted, promoted_unproven = 0, 0, 0
    for seed in range(seeds):
        chance = Random(seed)
        examples = coins(180, chance, noise=1.0)
        found = tournament(subject, examples, incumbent, seed)
        days = [coins(60, chance, noise=1.0, first=1_000 * day) for day in range(1, 9)]
        wins = shadow(subject, days, incumbent, found.champion.parameters) == "promote"
        proposed += found.verdict == "proposed"
        promoted_unproven += wins
        promoted += wins and found.verdict == "proposed"
    print(f"\nnoise, {seeds} seeds: {proposed} proposed, {promoted} of them promoted;", end=" ")
    print(f"put into the shadow unproven, {promoted_unproven} promoted")
    assert proposed / seeds <= 0.025
    assert promoted / seeds <= 0.0025
    assert promoted_unproven / seeds <= 0.15


@pytest.mark.parametrize(("at", "count", "least"), [(0.7, 180, 0.6), (0.7, 450, 0.95), (0.6, 450, 0.5)])
def test_a_planted_better_bound(at: float, count: int, least: float) -> None:
    """The little that it is better by, and the less there is to show it, the more history it takes until it wins."""
    seeds, subject, incumbent = 100, Coins(), {"at": at, "idle": 0.5}
    proposed = promoted = 0
    for seed in range(seeds):
        chance = Random(seed)
        found = tournament(subject, coins(count, chance, noise=0.1), incumbent, seed)
        if found.verdict == "proposed":
            proposed += 1
            days = [coins(60, chance, noise=0.1, first=1_000 * day) for day in range(1, 9)]
            promoted += shadow(subject, days, incumbent, found.champion.parameters) == "promote"
    print(f"\nright is 0.5, in force {at}, {count} decisions, {seeds} seeds: {proposed} proposed, {promoted} promoted")
    assert proposed / seeds >= least
    assert promoted >= 0.9 * proposed


@pytest.mark.parametrize("at", [0.42, 0.3, 0.1])
def test_a_planted_worse_bound(at: float) -> None:
    seeds, subject = 100, Coins()
    verdicts: Counter[str] = Counter()
    for seed in range(seeds):
        days = [coins(60, Random(1_000 * seed + day), noise=0.1, first=1_000 * day) for day in range(1, 9)]
        verdicts[shadow(subject, days, {"at": 0.5, "idle": 0.5}, {"at": at, "idle": 0.5})] += 1
    print(f"\nright and in force 0.5, candidate {at}: {dict(verdicts)}")
    assert verdicts["promote"] == 0
    assert verdicts["rolled_back"] >= 95


REAL: dict[str, tuple[Callable[[], Any], Parameters, Habits, str]] = {
    "dedup, its threshold too high": (SemanticDedupSubject, DEDUP, Habits(), "proposed"),
    "dedup, answers are noise": (SemanticDedupSubject, DEDUP, Habits(noise=1.0), "kept"),
    "curiosity, its bound too low": (CuriositySubject, CURIOSITY, Habits(worth_above=1.6), "proposed"),
    "curiosity, answers are noise": (CuriositySubject, CURIOSITY, Habits(noise=1.0), "kept"),
}


@pytest.mark.parametrize(("made", "incumbent", "habits", "expected"), REAL.values(), ids=REAL)
def test_the_subjects_of_the_suite_on_recorded_questions(
    tmp_path: Path, made: Callable[[], Any], incumbent: Parameters, habits: Habits, expected: str
) -> None:
    seeds, verdicts = 16, Counter[str]()
    for seed in range(seeds):
        database = history_database(tmp_path / f"{seed}.db")
        history = history_of(incidents(Random(seed), 250, habits), database)
        database.close()
        verdicts[tournament(made(), made().examples(history), incumbent, seed).verdict] += 1
    print(f"\n{len(history)} questions each, {seeds} seeds: {dict(verdicts)}")
    assert verdicts[expected] >= (0.75 if expected == "proposed" else 0.9) * seeds
