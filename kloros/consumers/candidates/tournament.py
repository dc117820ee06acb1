"""A tournament as it goes on from round to round, and who plays next. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from kloros.consumers.candidates.play import Champion, Comparison, compare, play_round, tidied, variance
from kloros.consumers.candidates.subject import Example, Subject

CONVERGED_OF = 5

Verdict: TypeAlias = Literal["proposed", "kept", "failed"]


class Rules(NamedTuple):
    """How tournaments are played; the settings say them."""

    candidates: int = 8
    variance: float = 0.02
    settled_gain: float = 0.005
    least_rounds: int = 6
    most_rounds: int = 40
    least_examples: int = 120
    least_held_out: int = 40
    p_value: float = 0.01
    least_gain: float = 0.01
    seed: int = 0


class Tournament(msgspec.Struct, kw_only=True):
    """One that is being played, on examples that had closed by `up_to`. Those up to `cut` have judged before, and are
    not held out again."""

    tournament_id: str
    module: str
    started_us: int
    incumbent: dict[str, float]
    cut: int
    up_to: int
    rounds: int = 0
    champions: list[Champion] = []


class Share(NamedTuple):
    """Labelled examples, the older ones to play with, the newer ones held out; none have been held out before."""

    play: Sequence[Example]
    held_out: Sequence[Example]


class Judgement(NamedTuple):
    """What becomes of the best. `comparison` is of the held-out examples, if it came to that."""

    verdict: Verdict
    detail: str
    champion: Champion
    comparison: Comparison | None = None


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Labelled examples of a module, and those among them that no judgement has seen; or the `reason` why it cannot
    play at all."""

    labelled: int = 0
    fresh: int = 0
    needed: int = 0
    needed_fresh: int = 0
    reason: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether a tournament can be played."""
        return not self.reason and self.labelled >= self.needed and self.fresh >= self.needed_fresh

    @property
    def lack(self) -> str:
        """What it waits for, empty when it is ready."""
        if self.is_ready or self.reason:
            return self.reason
        return (
            f"waits for history: {self.labelled} labelled decisions of {self.needed}, "
            f"{self.fresh} new ones of {self.needed_fresh}"
        )


def readiness(examples: Sequence[Example], judged_to: int, rules: Rules) -> Readiness:
    """Whether there is history enough: each judgement needs examples that no other has used."""
    labelled = [each for each in examples if each.is_labelled]
    fresh = sum(each.closed > judged_to for each in labelled)
    return Readiness(
        labelled=len(labelled), fresh=fresh, needed=rules.least_examples, needed_fresh=rules.least_held_out
    )


def share_out(examples: Sequence[Example], judged_to: int, rules: Rules) -> Share:
    """The newest third is held out, as far as it is fresh."""
    labelled = sorted((each for each in examples if each.is_labelled), key=lambda each: (each.closed, each.key))
    fresh = sum(each.closed > judged_to for each in labelled)
    held_out = min(fresh, max(rules.least_held_out, len(labelled) // 3))
    return Share(labelled[: len(labelled) - held_out], labelled[len(labelled) - held_out :])


def tournament_id(module: str, up_to: int, incumbent: dict[str, float]) -> str:
    """The same for the same history and incumbent."""
    named = f"{module}|{up_to}|{sorted(incumbent.items())}"
    return "t-" + hashlib.sha256(named.encode()).hexdigest()[:8]


def chance_of(tournament: Tournament, step: str, rules: Rules) -> Random:
    """The chance that a step of a tournament depends on: played again, it falls out the same."""
    return Random(f"{rules.seed}|{tournament.tournament_id}|{step}")


def play(subject: Subject, examples: Sequence[Example], tournament: Tournament, rules: Rules) -> Champion:
    """One more round; its champion is added."""
    leader = tournament.champions[-1].parameters if tournament.champions else tournament.incumbent
    champion = play_round(
        subject, examples, tournament.incumbent, leader, tournament.rounds, rules.candidates,
        chance_of(tournament, str(tournament.rounds), rules),
    )  # fmt: skip
    tournament.rounds += 1
    tournament.champions.append(champion)
    return champion


def unplayed(tournament: Tournament) -> Champion:
    """Who leads before the first round: the incumbent, of whom nothing is known yet."""
    return Champion(dict(tournament.incumbent), 0.0, 0.0)


def is_converged(fitness: Sequence[float], rules: Rules) -> bool:
    """Whether the champions' fitness has settled: the last five vary little, and gained little on those before.

    On a scale of 0 to 1 a variance below 0.02 alone would nearly always be so, after the first round.
    """
    last = fitness[-CONVERGED_OF:]
    if len(fitness) < max(CONVERGED_OF, rules.least_rounds):
        return False
    return variance(last) < rules.variance and last[-1] - last[0] <= rules.settled_gain


def is_over(tournament: Tournament, rules: Rules) -> bool:
    """Whether no further round is to be played."""
    fitness = [each.fitness for each in tournament.champions]
    return is_converged(fitness, rules) or tournament.rounds >= rules.most_rounds


def judge(subject: Subject, share: Share, tournament: Tournament, rules: Rules) -> Judgement:
    """Whether the last champion is proposed: better than the incumbent on examples that it was not chosen on."""
    champion = tidied(subject, share.play, tournament.champions[-1], tournament.incumbent)
    if not is_converged([each.fitness for each in tournament.champions], rules):
        return Judgement("kept", f"not converged after {tournament.rounds} rounds", champion)
    if champion.parameters == tournament.incumbent:
        return Judgement("kept", "nothing is better than what is in force", champion)
    found = compare(
        subject, share.held_out, champion.parameters, tournament.incumbent, chance_of(tournament, "judge", rules)
    )
    told = f"{found.gain:+.3f} on {len(share.held_out)} held-out decisions, by chance in {found.p_value:.1%} of cases"
    if found.gain < rules.least_gain or found.p_value > rules.p_value:
        return Judgement("kept", f"not surely better: {told}", champion, found)
    return Judgement("proposed", told, champion, found)
