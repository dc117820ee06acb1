"""config/shadow_config.toml: how long a candidate runs beside the incumbent, and how far it may drift."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from kloros.config import Settings
from kloros.consumers.candidates.drift import Limits
from kloros.consumers.candidates.tournament_settings import HistorySettings, Seconds, Share, Some


class TrialSettings(Settings, frozen=True):
    """[trial]"""

    worst_drift: Annotated[float, Meta(gt=0, le=1)] = 0.20
    mean_drift: Share = 0.0001
    error_rate: Share = 0.05
    watch_s: Annotated[float, Meta(ge=1, le=31_536_000)] = 86_400.0
    give_up_s: Annotated[float, Meta(ge=1, le=31_536_000)] = 604_800.0
    keys_per_run: Some = 20
    least_keys: Some = 40
    p_value: Share = 0.05
    most_gap_s: Seconds = 300.0
    seed: int = 0

    def limits(self) -> Limits:
        """As verdicts take them."""
        return Limits(
            worst_drift=self.worst_drift, mean_drift=self.mean_drift, error_rate=self.error_rate, watch_s=self.watch_s,
            give_up_s=self.give_up_s, least_keys=self.least_keys, p_value=self.p_value,
        )  # fmt: skip


class CandidateSettings(Settings, frozen=True):
    """[candidates]"""

    at_once: Some = 10
    remembered: Some = 500
    expire_after_s: Seconds = 259_200.0


class ShadowSettings(Settings, frozen=True):
    """The whole file. `others`: whether candidates for subjects of other packages are tried."""

    others: bool = True
    history: HistorySettings = HistorySettings()
    trial: TrialSettings = TrialSettings()
    candidates: CandidateSettings = CandidateSettings()
