"""config/tournament_consumer_config.toml: when tournaments are played, how, and what a winner must show."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from kloros.config import Settings
from kloros.consumers.candidates.history import Limits
from kloros.consumers.candidates.tournament import CONVERGED_OF, Rules
from kloros.consumers.candidates.turns import Pauses

Some = Annotated[int, Meta(ge=1, le=1_000_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]


class HistorySettings(Settings, frozen=True):
    """[history]"""

    closed_questions: Some = 5_000
    open_questions: Some = 1_000
    patience_s: Seconds = 21_600.0
    examples: Some = 2_000

    def limits(self) -> Limits:
        """As the history takes them."""
        return Limits(self.closed_questions, self.open_questions, self.patience_s)


class PlaySettings(Settings, frozen=True):
    """[play]"""

    candidates: Annotated[int, Meta(ge=1, le=64)] = 8
    variance: Share = 0.02
    settled_gain: Share = 0.005
    least_rounds: Annotated[int, Meta(ge=CONVERGED_OF, le=1_000)] = 6
    most_rounds: Annotated[int, Meta(ge=CONVERGED_OF, le=1_000)] = 40
    seed: int = 0


class ProofSettings(Settings, frozen=True):
    """[proof]"""

    least_examples: Some = 120
    least_held_out: Some = 40
    p_value: Share = 0.01
    least_gain: Share = 0.01


class TurnSettings(Settings, frozen=True):
    """[turns]"""

    between_s: Seconds = 60.0
    waiting: Some = 100
    failures: Some = 3
    failures_within_s: Seconds = 120.0
    failures_pause_s: Seconds = 600.0


class ProposalSettings(Settings, frozen=True):
    """[proposals]"""

    expire_after_s: Seconds = 691_200.0
    keep_artifacts: Some = 20
    keep_tournaments: Some = 500


class TournamentSettings(Settings, frozen=True):
    """The whole file. `others`: whether subjects of other packages play."""

    others: bool = True
    history: HistorySettings = HistorySettings()
    play: PlaySettings = PlaySettings()
    proof: ProofSettings = ProofSettings()
    turns: TurnSettings = TurnSettings()
    proposals: ProposalSettings = ProposalSettings()

    def rules(self) -> Rules:
        """As tournaments take them."""
        play, proof = self.play, self.proof
        return Rules(
            candidates=play.candidates, variance=play.variance, settled_gain=play.settled_gain,
            least_rounds=play.least_rounds, most_rounds=play.most_rounds, least_examples=proof.least_examples,
            least_held_out=proof.least_held_out, p_value=proof.p_value, least_gain=proof.least_gain, seed=play.seed,
        )  # fmt: skip

    def pauses(self) -> Pauses:
        """As turns take them."""
        turns = self.turns
        return Pauses(turns.between_s, turns.waiting, turns.failures, turns.failures_within_s, turns.failures_pause_s)
