"""What the durable signals carry: the work that passes from room to room."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from kloros.chembus.facts import Count, Duration, EpochSeconds, Facts, Share

Severity = Literal["info", "low", "medium", "high", "critical"]
Identity = Annotated[str, Meta(max_length=256)]
"""A name for something: short enough to be the incident of a message, or a key."""


class ObservationFacts(Facts, kw_only=True):
    """A zooid did something: how it went and how long it took. `sig` is an HMAC over the other fields."""

    ts: EpochSeconds
    zooid: str
    ok: bool
    incident_id: str | None = None
    niche: str | None = None
    ttr_ms: Duration | None = None
    sig: str | None = None
    extras: dict[str, Any] = field(default_factory=dict)


class GapFoundFacts(Facts, kw_only=True):
    """A finding opened, worsened or ended. `gap_id` stays the same for as long as it lasts."""

    gap_id: Identity
    gap_type: str
    gap_name: str
    severity: Severity = "medium"
    evidence: list[str] = field(default_factory=list)
    first_seen_ts: EpochSeconds | None = None
    detail: str | None = None
    change: Literal["opened", "worsened", "restored"] | None = None
    duration_s: Duration | None = None


class QuestionFacts(Facts, kw_only=True):
    """A question worth asking; `folded` says how many near-identical ones it stands for."""

    question_id: Identity
    question: str
    hypothesis: str | None = None
    capability_key: str | None = None
    evidence: list[str] = field(default_factory=list)
    evidence_hash: str | None = None
    action_class: str | None = None
    value_estimate: float | None = None
    cost_estimate: Duration | None = None
    priority: str | None = None
    folded: Count = 1
    gap_id: Identity | None = None
    gap_type: str | None = None
    gap_name: str | None = None
    severity: Severity | None = None
    category: str | None = None
    asked_ts: EpochSeconds | None = None


class FoldedFacts(Facts, kw_only=True):
    """A question says nearly what another one says, which stands for it from now on."""

    question_id: Identity
    folded_into: Identity
    similarity: Share
    gap_id: Identity | None = None


class RecommendedAction(Facts, kw_only=True):
    """What an investigation would do. `action_type` is one of the action consumer's kinds; `target` a unit, an entry
    of the schedule or a path."""

    action_type: str
    target: str
    parameters: dict[str, str] = field(default_factory=dict)
    why: str | None = None


class InvestigationFacts(Facts, kw_only=True):
    """What an investigation concluded, by which rule, and how sure it is.

    status: `concluded`, `inconclusive`, `failed`, `timed_out`, `suppressed`, `refused` or `withdrawn` (the finding
    ended first). cure: what a person could do about it, where the rule knows something.
    """

    question_id: Identity
    status: str
    conclusion: str | None = None
    confidence: Share | None = None
    evidence: list[str] = field(default_factory=list)
    evidence_hash: str | None = None
    recommended_action: RecommendedAction | None = None
    duration_ms: Duration | None = None
    gap_id: Identity | None = None
    gap_type: str | None = None
    gap_name: str | None = None
    severity: Severity | None = None
    capability_key: str | None = None
    question: str | None = None
    rule: str | None = None
    playbook: str | None = None
    value_estimate: float | None = None
    cure: str | None = None


class ActionFacts(Facts, kw_only=True):
    """An action was taken up, or ended; `verified` says whether the check afterwards found that it helped.

    outcome: `helped`, `no_help`, `failed`, `timed_out`, `observed` (only said what it would do), `rejected`, `expired`,
    `refused` (a precondition, a limit or the breaker) or `withdrawn` (the finding ended first).
    """

    action_id: Identity
    action_type: str
    question_id: Identity | None = None
    mode: str | None = None
    outcome: str | None = None
    verified: bool | None = None
    target: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    gap_id: Identity | None = None
    rationale: str | None = None
    evidence: list[str] = field(default_factory=list)
    confidence: Share | None = None
    detail: str | None = None
    requester: str | None = None
    duration_s: Duration | None = None
    expires_ts: EpochSeconds | None = None


class DecisionFacts(Facts, kw_only=True):
    """A person's word on an action that waits for approval, by its whole id."""

    action_id: Identity
    decision: Literal["approve", "reject"]
    requester: str | None = None
    reason: str | None = None


class DecidedFacts(Facts, kw_only=True):
    """What became of a decision: `accepted`, or why not. `request_id` is the message that it answers."""

    action_id: Identity
    decision: Literal["approve", "reject"]
    accepted: bool
    detail: str | None = None
    requester: str | None = None
    request_id: Identity | None = None


class PruneFacts(Facts, kw_only=True):
    """The history is to let go of its oldest until its file has so many megabytes (of 10^6 bytes)."""

    keep_mb: Annotated[int, Meta(ge=1, le=2**30)]
    requester: str | None = None
    action_id: Identity | None = None


class TournamentFacts(Facts, kw_only=True):
    """A tournament of candidates for a module's parameters ended.

    verdict: `proposed` (better on held-out history, and staged as `artifact`), `kept` or `failed`; `detail` says why.
    `fitness` and `incumbent_fitness` are those on held-out history, where it came to that. `p_value`: how likely
    chance alone would have favoured the candidate as much.
    """

    candidate: dict[str, Any] | str
    incumbent: dict[str, Any] | str | None = None
    fitness: float | None = None
    verdict: str | None = None
    artifact: str | None = None
    module_name: str | None = None
    incumbent_fitness: float | None = None
    examples: Count | None = None
    sha256: str | None = None
    tournament_id: Identity | None = None
    candidate_id: Identity | None = None
    rounds: Count | None = None
    p_value: Share | None = None
    detail: str | None = None


class ShadowFacts(Facts, kw_only=True):
    """A candidate ran beside the incumbent on the same input; `drift` is the mean share that it decided worse.

    verdict: `promote`, `rolled_back`, `expired` (nothing speaks for it) or `refused` (it was not tried at all).
    """

    candidate: dict[str, Any] | str
    incumbent: dict[str, Any] | str | None = None
    drift: Share | None = None
    verdict: str | None = None
    artifact: str | None = None
    module_name: str | None = None
    max_drift: Share | None = None
    error_rate: Share | None = None
    runs: Count | None = None
    detail: str | None = None
    sha256: str | None = None
    candidate_id: Identity | None = None
    keys: Count | None = None
    observed_s: Duration | None = None


class ImprovementFacts(Facts, kw_only=True):
    """A proposed change to one module."""

    action_id: Identity
    module_name: str
    action_kind: str
    priority: float | str | None = None
    rationale: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    expires_at: EpochSeconds | None = None


class EnactmentFacts(Facts, kw_only=True):
    """What became of an improvement action."""

    action_id: Identity
    module_name: str
    action_kind: str
    status: str
    detail: str | None = None
    duration_s: Duration | None = None
    attempted_ts: EpochSeconds | None = None
    reason_code: str | None = None
    gate: str | None = None
    mode: str | None = None
    source: str | None = None
    before: float | str | None = None
    after: float | str | None = None
    change_id: Identity | None = None
    flag_id: Identity | None = None
    requester: str | None = None


class ReflectionFacts(Facts, kw_only=True):
    """Whether an enactment helped, by the figures before and after."""

    action_id: Identity
    verdict: str
    module_name: str | None = None
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    detail: str | None = None
    action_kind: str | None = None
    change_id: Identity | None = None
    name: str | None = None
    old_value: float | str | None = None
    new_value: float | str | None = None
    is_restored: bool | None = None
    duration_s: Duration | None = None


class ReviewDecisionFacts(Facts, kw_only=True):
    """A person's word on a flag, or on an improvement action that waits for approval, by its whole id."""

    decision: Literal["approve", "reject", "acknowledge"]
    flag_id: Identity | None = None
    action_id: Identity | None = None
    requester: str | None = None
    reason: str | None = None


class ReviewDecidedFacts(Facts, kw_only=True):
    """What became of a decision: `accepted`, or why not. `request_id` is the message that it answers."""

    decision: Literal["approve", "reject", "acknowledge"]
    accepted: bool
    flag_id: Identity | None = None
    action_id: Identity | None = None
    detail: str | None = None
    requester: str | None = None
    request_id: Identity | None = None


class ReviewFacts(Facts, kw_only=True):
    """Something that needs a person. The same fingerprint again raises `count` instead of a new flag."""

    flag_id: Identity
    rationale: str
    module_name: str | None = None
    evidence: list[str] = field(default_factory=list)
    fingerprint: str | None = None
    count: Count = 1
    severity: Severity | None = None
    gap_id: Identity | None = None
    action_id: Identity | None = None
    cure: str | None = None


class FlagClosedFacts(Facts, kw_only=True):
    """What a flag was raised for is over, or was decided."""

    flag_id: Identity
    reason: str
    fingerprint: str | None = None
    gap_id: Identity | None = None
    requester: str | None = None


class FadedFacts(Facts, kw_only=True):
    """What one beat of decay did: how many memories there were, and how many of each sector faded away.

    `examples` names some of the faded, most important first. `crowded_out` of them went for want of room.
    """

    examined: Count
    faded: Count
    kept: Count
    by_sector: dict[str, Count] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    duration_s: Duration | None = None
    crowded_out: Count = 0


class MemoryAccessFacts(Facts, kw_only=True):
    """Somebody looked at a memory: it fades later. `memory` is its number."""

    memory: Count
    requester: str | None = None
