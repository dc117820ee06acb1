"""What the optimiser speaks of: names and fields as the self-optimiser document has them, ours behind. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Literal, TypeAlias

import msgspec

from kloros.optimisation.rules import BreakerRules, Limits, Verification

Mode: TypeAlias = Literal["off", "observe", "approve", "auto"]
MODES: tuple[Mode, ...] = ("off", "observe", "approve", "auto")
"""From the strictest on."""

Parameters: TypeAlias = tuple[tuple[str, str], ...]
Value: TypeAlias = float | str | None
"""What a thing that can be changed is set to: a threshold, a factor, a pace, a version; None: nothing is set."""


class ActionKind(StrEnum):
    """What may be done to a module."""

    TUNE_THRESHOLD = "TUNE_THRESHOLD"
    INCREASE_BUDGET = "INCREASE_BUDGET"
    REDUCE_LOAD = "REDUCE_LOAD"
    HOT_SWAP_MODULE = "HOT_SWAP_MODULE"
    FLAG_FOR_REVIEW = "FLAG_FOR_REVIEW"
    NO_OP = "NO_OP"


CHANGES = (
    ActionKind.TUNE_THRESHOLD,
    ActionKind.INCREASE_BUDGET,
    ActionKind.REDUCE_LOAD,
    ActionKind.HOT_SWAP_MODULE,
)
"""The kinds that change something."""

PLANNER = "planner"
"""The source of what the optimiser itself proposes."""

COSTS: Mapping[ActionKind, float] = {
    ActionKind.TUNE_THRESHOLD: 0.05,
    ActionKind.INCREASE_BUDGET: 0.30,
    ActionKind.REDUCE_LOAD: 0.20,
    ActionKind.HOT_SWAP_MODULE: 0.70,
    ActionKind.FLAG_FOR_REVIEW: 0.01,
    ActionKind.NO_OP: 0.0,
}


class ImprovementAction(msgspec.Struct, frozen=True):
    """A proposed change to one module. `created_at` and `expires_at` are seconds since the Unix epoch."""

    module_name: str
    action_kind: ActionKind
    priority: float
    rationale: str
    parameters: Parameters = ()
    action_id: str = ""
    created_at: float | None = None
    expires_at: float | None = None
    source: str = ""


class EnactmentStatus(StrEnum):
    """What became of an action.

    SUCCESS: in force, and read back where it can be read. PARTIAL: less than was asked, or whether it took hold cannot
    be seen. SKIPPED: nothing was done, by decision. FAILED: it was tried. RATE_LIMITED: too soon.
    """

    SUCCESS = "SUCCESS"
    PARTIAL = "PARTIAL"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    RATE_LIMITED = "RATE_LIMITED"


class Verdict(StrEnum):
    """The one end of a change."""

    CONFIRMED = "CONFIRMED"
    """It helped, or did no harm where no more was expected: it stays."""
    REVERTED = "REVERTED"
    """What was before is in force again, because it did harm, failed, or never took hold."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """Nothing speaks for it: its lease lapsed, or nobody verifies here."""


class EnactmentRecord(msgspec.Struct, frozen=True):
    """One action taken up. `attempted_at` is monotonic, `started_at` seconds since the Unix epoch."""

    action: ImprovementAction
    status: EnactmentStatus
    detail: str
    duration_s: float
    attempted_at: float
    started_at: float | None = None
    reason_code: str = ""
    before: Value = None
    after: Value = None
    verdict: Verdict | None = None


class OptimiserConfig(msgspec.Struct, frozen=True):
    """How much may be done. A cycle is any stretch of `window_s`. `verification` None: changes are not verified.

    Raises:
        ValueError: A figure makes no sense.
    """

    max_enactments_per_cycle: int = 5
    cool_down_s: float = 60.0
    dry_run: bool = False
    enable_rate_limit: bool = True
    max_hot_swap_per_cycle: int = 2
    window_s: float = 300.0
    default_mode: Mode = "auto"
    modes: Mapping[str, Mode] = {}
    action_timeout_s: float = 30.0
    unhealthy_share: float = 0.4
    breaker: BreakerRules = BreakerRules()
    limits: Limits = Limits()
    verification: Verification | None = None

    def __post_init__(self) -> None:
        for name in ("max_enactments_per_cycle", "max_hot_swap_per_cycle"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of 0 or more")
        for name, lowest in (("cool_down_s", 0.0), ("window_s", 1e-6), ("action_timeout_s", 1e-6)):
            value = getattr(self, name)
            if not (math.isfinite(value) and lowest <= value <= 1e9):
                raise ValueError(f"{name} is {value!r}; it must be a number of seconds of at least {lowest:g}")
        if not 0.0 <= self.unhealthy_share <= 1.0:
            raise ValueError(f"unhealthy_share is {self.unhealthy_share!r}; it must be from 0 to 1")
        for kind, mode in (("default_mode", self.default_mode), *self.modes.items()):
            if mode not in MODES or kind not in ("default_mode", *ActionKind):
                raise ValueError(f"modes: {kind!r} = {mode!r}; kinds are {[*ActionKind]}, modes {MODES}")

    def mode_of(self, kind: ActionKind) -> Mode:
        """What may be done about an action of this kind."""
        return self.modes.get(kind.value, self.default_mode)


class DetectorConfig(msgspec.Struct, frozen=True):
    """From where on something is weak. `baseline_window` is how many reports a baseline takes to be trusted at most."""

    latency_p95_threshold_ms: float = 200.0
    latency_p99_threshold_ms: float = 500.0
    error_rate_threshold: float = 0.05
    min_throughput_rps: float = 1.0
    spike_ratio_threshold: float = 2.0
    baseline_window: int = 60
    severity_weights: tuple[float, float, float, float] = (1.0, 1.5, 2.0, 3.0)
    min_samples: int = 5

    def __post_init__(self) -> None:
        for name in THRESHOLDS:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value!r}; it must be a number of 0 or more")
        if self.baseline_window < 1 or self.min_samples < 1:
            raise ValueError("baseline_window and min_samples must be 1 or more")
        if len(self.severity_weights) != 4 or not all(math.isfinite(each) for each in self.severity_weights):
            raise ValueError("severity_weights are four numbers")


THRESHOLDS = (
    "latency_p95_threshold_ms",
    "latency_p99_threshold_ms",
    "error_rate_threshold",
    "min_throughput_rps",
    "spike_ratio_threshold",
)
"""What TUNE_THRESHOLD may change, one at a time."""


class WeaknessKind(StrEnum):
    """In which way a module is weak."""

    HIGH_LATENCY = "HIGH_LATENCY"
    HIGH_ERROR_RATE = "HIGH_ERROR_RATE"
    LOW_THROUGHPUT = "LOW_THROUGHPUT"
    LATENCY_SPIKE = "LATENCY_SPIKE"
    DEGRADED = "DEGRADED"


class Severity(IntEnum):
    """How bad."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def share(self) -> float:
        """0.25 to 1, as the planner counts."""
        return self.value / 4


class Figures(msgspec.Struct, frozen=True):
    """How a module did over a window. Calls and errors are counted over the very same samples."""

    module_name: str
    calls: int
    errors: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    throughput_rps: float
    window_s: float
    last_seen_us: int | None = None

    @property
    def error_rate(self) -> float:
        """Of the calls in the window; 0 of none."""
        return self.errors / self.calls if self.calls else 0.0

    @property
    def is_silent(self) -> bool:
        """Nothing was heard of it in the window."""
        return self.calls == 0


class Weakness(msgspec.Struct, frozen=True):
    """One way in which a module is weak. `ratio` is how many times worse than its threshold; `score` is weighted."""

    module_name: str
    kind: WeaknessKind
    severity: Severity
    value: float
    threshold: float
    ratio: float
    samples: int
    metric: str
    score: float = 0.0
    detail: str = ""


class OrchestratorOutcome(StrEnum):
    """What became of a swap."""

    SUCCESS = "SUCCESS"
    REJECTED = "REJECTED"
    DEP_FAILED = "DEP_FAILED"
    SWAP_ERROR = "SWAP_ERROR"
    SHUTDOWN = "SHUTDOWN"


class OrchestratorRequest(msgspec.Struct, frozen=True):
    """A swap. `new_code` None: the staged version that `new_version` names; it is never empty."""

    module_id: str
    new_code: bytes | None
    new_version: str
    tags: tuple[str, ...] = ()
    requester: str = "self_optimiser"
    requested_at: float | None = None

    def __post_init__(self) -> None:
        if self.new_code is not None and not self.new_code:
            raise ValueError("a module is never swapped for no code at all")


class OrchestratorResult(msgspec.Struct, frozen=True):
    """How a swap went."""

    outcome: OrchestratorOutcome
    detail: str = ""


class ReflectionState(StrEnum):
    """Where the loop is."""

    IDLE = "IDLE"
    PROFILING = "PROFILING"
    DETECTING = "DETECTING"
    PLANNING = "PLANNING"
    OPTIMISING = "OPTIMISING"
    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    COOLDOWN = "COOLDOWN"
    STOPPED = "STOPPED"
