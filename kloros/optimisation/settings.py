"""config/optimiser_config.toml: what may be changed, how far, how often, and who must agree."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from kloros.config import Settings
from kloros.optimisation.model import ActionKind, DetectorConfig, Mode, OptimiserConfig
from kloros.optimisation.rules import BreakerRules, Limits, Verification

Seconds = Annotated[float, Meta(ge=0, le=31_622_400)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=31_622_400)]
Milliseconds = Annotated[float, Meta(gt=0, le=86_400_000)]
AtLeastOne = Annotated[int, Meta(ge=1, le=100_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(ge=0, le=1_000_000)]


class ModeSettings(Settings, frozen=True):
    """[modes]"""

    tune_threshold: Mode = "observe"
    increase_budget: Mode = "observe"
    reduce_load: Mode = "observe"
    hot_swap_module: Mode = "observe"


class LimitSettings(Settings, frozen=True):
    """[limits]"""

    max_enactments: AtLeastOne = 5
    max_hot_swaps: Annotated[int, Meta(ge=0, le=100)] = 2
    window_s: PositiveSeconds = 300.0
    cool_down_s: Seconds = 60.0
    unhealthy_share: Share = 0.4
    wait_at_most_s: PositiveSeconds = 3600.0
    answer_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    dry_run: bool = False


class BreakerSettings(Settings, frozen=True):
    """[breaker]"""

    failures: AtLeastOne = 3
    window_s: PositiveSeconds = 120.0
    pause_s: Seconds = 600.0


class BoundSettings(Settings, frozen=True):
    """[bounds]"""

    tune_step: Annotated[float, Meta(ge=0, le=0.9)] = 0.5
    tune_range: Annotated[float, Meta(ge=1, le=100)] = 2.0
    budget_step: Annotated[float, Meta(ge=1, le=10)] = 2.0
    budget_range: Annotated[float, Meta(ge=1, le=10)] = 4.0
    budget_at_most_s: PositiveSeconds = 600.0
    least_pace: Annotated[float, Meta(ge=0.01, le=1)] = 0.25


class VerificationSettings(Settings, frozen=True):
    """[verification]"""

    settle_s: Seconds = 60.0
    min_samples: AtLeastOne = 20
    min_gain: Annotated[float, Meta(ge=0, le=10)] = 0.1
    max_harm: Annotated[float, Meta(ge=0, le=100)] = 0.2
    undo_attempts: Annotated[int, Meta(ge=1, le=1000)] = 5
    lease_s: PositiveSeconds = 1800.0


class ProfileSettings(Settings, frozen=True):
    """[profile]"""

    window_s: PositiveSeconds = 900.0
    samples: AtLeastOne = 10_000
    keep_s: PositiveSeconds = 43_200.0


class DetectorSettings(Settings, frozen=True):
    """[detector]"""

    latency_p95_threshold_ms: Milliseconds = 500.0
    latency_p99_threshold_ms: Milliseconds = 2000.0
    error_rate_threshold: Share = 0.05
    min_throughput_rps: Rate = 0.0
    spike_ratio_threshold: Annotated[float, Meta(gt=1, le=1000)] = 2.0
    baseline_window: AtLeastOne = 60
    min_samples: AtLeastOne = 5


class ModuleSettings(Settings, frozen=True):
    """[modules.NAME]: where a module's thresholds differ."""

    latency_p95_threshold_ms: Milliseconds | None = None
    latency_p99_threshold_ms: Milliseconds | None = None
    error_rate_threshold: Share | None = None
    min_throughput_rps: Rate | None = None
    spike_ratio_threshold: Annotated[float, Meta(gt=1, le=1000)] | None = None
    ignored: bool = False


class PlannerSettings(Settings, frozen=True):
    """[planner]"""

    threshold: Share = 0.2
    at_most: AtLeastOne = 3
    min_samples: AtLeastOne = 5
    propose_again_s: PositiveSeconds = 3600.0
    try_again_s: Seconds = 86_400.0


class HotSwapSettings(Settings, frozen=True):
    """[hot_swap]"""

    modules: dict[str, str] = msgspec.field(
        default_factory=lambda: {"semantic_dedup": "semantic_dedup_consumer", "curiosity": "curiosity_core_consumer"}
    )
    units: dict[str, str] = {}
    start_s: Annotated[float, Meta(gt=0, le=60)] = 10.0
    silent_s: Annotated[float, Meta(ge=1, le=3600)] = 25.0
    probation_cycles: AtLeastOne = 5
    bad_cycles: Annotated[int, Meta(ge=0, le=1000)] = 0
    lease_s: PositiveSeconds = 14_400.0
    require_verdict: bool = True


class FlagSettings(Settings, frozen=True):
    """[flags]"""

    at_most: AtLeastOne = 500
    expire_after_s: PositiveSeconds = 2_592_000.0


class ApprovalSettings(Settings, frozen=True):
    """[approvals]"""

    valid_s: PositiveSeconds = 14_400.0


class PauseSettings(Settings, frozen=True):
    """[pause]"""

    kill_file: str = ""


class QueueSettings(Settings, frozen=True):
    """[queue]"""

    at_most: AtLeastOne = 100
    keep_ended: AtLeastOne = 1000


class OptimiserSettings(Settings, frozen=True):
    """The whole file."""

    modes: ModeSettings = ModeSettings()
    limits: LimitSettings = LimitSettings()
    breaker: BreakerSettings = BreakerSettings()
    bounds: BoundSettings = BoundSettings()
    verification: VerificationSettings = VerificationSettings()
    profile: ProfileSettings = ProfileSettings()
    detector: DetectorSettings = DetectorSettings()
    modules: dict[str, ModuleSettings] = msgspec.field(
        default_factory=lambda: {
            "introspection": ModuleSettings(latency_p95_threshold_ms=2000.0, latency_p99_threshold_ms=4000.0),
            "investigation_consumer": ModuleSettings(
                latency_p95_threshold_ms=60_000.0, latency_p99_threshold_ms=120_000.0
            ),
            "action_consumer": ModuleSettings(latency_p95_threshold_ms=60_000.0, latency_p99_threshold_ms=120_000.0),
            "shadow": ModuleSettings(latency_p95_threshold_ms=20_000.0, latency_p99_threshold_ms=40_000.0),
            "tournament_consumer": ModuleSettings(latency_p95_threshold_ms=5000.0, latency_p99_threshold_ms=10_000.0),
            "decay": ModuleSettings(latency_p95_threshold_ms=20_000.0, latency_p99_threshold_ms=60_000.0),
            "chembus_historian": ModuleSettings(latency_p95_threshold_ms=20_000.0, latency_p99_threshold_ms=60_000.0),
        }
    )
    planner: PlannerSettings = PlannerSettings()
    hot_swap: HotSwapSettings = HotSwapSettings()
    flags: FlagSettings = FlagSettings()
    approvals: ApprovalSettings = ApprovalSettings()
    pause: PauseSettings = PauseSettings()
    queue: QueueSettings = QueueSettings()


def enacting(settings: OptimiserSettings) -> OptimiserConfig:
    """The same as the gates take it."""
    limits, breaker = settings.limits, settings.breaker
    return OptimiserConfig(
        max_enactments_per_cycle=limits.max_enactments, cool_down_s=limits.cool_down_s, dry_run=limits.dry_run,
        max_hot_swap_per_cycle=limits.max_hot_swaps, window_s=limits.window_s, default_mode="observe",
        modes={
            **{name.upper(): getattr(settings.modes, name) for name in settings.modes.__struct_fields__},
            ActionKind.NO_OP.value: "auto",  # there is nothing in it to observe
        },
        action_timeout_s=limits.answer_s, unhealthy_share=limits.unhealthy_share,
        breaker=BreakerRules(breaker.failures, breaker.window_s, breaker.pause_s), limits=bounds_of(settings),
        verification=verification_of(settings),
    )  # fmt: skip


def bounds_of(settings: OptimiserSettings) -> Limits:
    """How far a change may go."""
    bounds = settings.bounds
    return Limits(
        tune_step=bounds.tune_step, tune_range=bounds.tune_range, budget_step=bounds.budget_step,
        budget_range=bounds.budget_range, least_pace=bounds.least_pace, lease_s=settings.verification.lease_s,
    )  # fmt: skip


def verification_of(settings: OptimiserSettings) -> Verification:
    """How a change is judged."""
    told = settings.verification
    return Verification(
        settle_s=told.settle_s, min_samples=told.min_samples, min_gain=told.min_gain, max_harm=told.max_harm,
        undo_attempts=told.undo_attempts,
    )  # fmt: skip


def detector_of(settings: OptimiserSettings, module: str) -> DetectorConfig:
    """A module's thresholds as the settings have them."""
    base = msgspec.structs.asdict(settings.detector)
    own = settings.modules.get(module)
    if own is not None:
        told = msgspec.structs.asdict(own)
        base |= {name: value for name, value in told.items() if name in base and value is not None}
    return DetectorConfig(**base)
