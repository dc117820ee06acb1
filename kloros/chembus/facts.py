"""What each signal carries: one struct per shape of facts.

Receivers ignore fields they do not know, so a shape may grow. A field without a default must be there. Numbers are
finite: JSON has no word for the others. Moments are epoch seconds (`_ts`), durations seconds (`_s`) or milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A whole number that every JSON reader and SQLite hold exactly."""
BeatNumber = Annotated[int, Meta(ge=-(2**53), le=2**53)]
EpochSeconds = Annotated[float, Meta(ge=0, le=253_402_300_799)]
"""A moment from 1970 to the end of the year 9999: what `datetime` can hold."""
Positive = Annotated[float, Meta(gt=0)]
Duration = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
SignalName = Annotated[str, Meta(max_length=1024)]
"""Such as any topic: a loss of it must fit into the message that tells of it."""


class Facts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The base of all facts; on its own: none."""


class TriggerFacts(Facts, kw_only=True):
    """A beat is due. All optional: a trigger injected by hand carries none and always runs.

    serial: the how-manieth numbered beat of its entry it is; a consumer that misses one knows by it.
    """

    schedule: str | None = None
    beat: BeatNumber | None = None
    due_ts: EpochSeconds | None = None
    interval_s: Positive | None = None
    pace: Positive | None = None
    reason: Literal["due", "misfire", "control", "clock", "chain", "deadline"] | None = None
    missed: Count = 0
    late_s: float | None = None
    scheduler: str | None = None
    epoch: Count | None = None
    why: str | None = None
    overlap: Literal["skip", "queue_one"] | None = None
    serial: Count | None = None


class TickEntry(Facts, kw_only=True):
    """One schedule entry as the tick shows it.

    held_until_ts: when the last hold on it ends by itself, with or without a scheduler to say so; absent when it has no
    such end, or is paused as well.
    """

    signal: str
    interval_s: Positive
    nominal_s: Positive | None = None
    offset_s: float = 0.0
    pace: Positive = 1.0
    next_due_ts: EpochSeconds | None = None
    last_beat: BeatNumber | None = None
    last_due_ts: EpochSeconds | None = None
    paused: bool = False
    missed: Count = 0
    misfires: Count = 0
    emitted: Count = 0
    priority: int = 0
    override_until_ts: EpochSeconds | None = None
    why: str | None = None
    adaptive: bool = True
    held: bool = False
    held_until_ts: EpochSeconds | None = None
    after: str | None = None


class ClockFacts(Facts, kw_only=True):
    """What the scheduler knows of the machine's clock."""

    synchronised: bool | None = None
    steps: Count = 0
    last_step_s: float | None = None


class TickFacts(Facts, kw_only=True):
    """The whole observable schedule; a long one comes in pages."""

    tick: Count
    uptime_s: Duration
    maintenance: bool = False
    maintenance_changed_ts: EpochSeconds | None = None
    maintenance_until_ts: EpochSeconds | None = None
    maintenance_reason: str | None = None
    epoch: Count | None = None
    scheduler: str | None = None
    page: Count = 0
    pages: Count = 1
    entries: dict[str, TickEntry] = field(default_factory=dict)
    lateness_p50_ms: Duration | None = None
    lateness_p99_ms: Duration | None = None
    clock: ClockFacts | None = None


class ControlFacts(Facts, kw_only=True):
    """A wish to the scheduler. `value` is the interval in seconds for set_interval, the pace for set_pace.

    source: whose pace it is, when it is not an operator's: several sources' paces stand side by side, see the schedule.
    """

    op: Literal["pause", "resume", "trigger", "set_interval", "set_pace", "reload"]
    schedule: str | None = None
    value: float | None = None
    ttl_s: Positive | None = None
    requester: str | None = None
    source: str | None = None


class ChangedFacts(Facts, kw_only=True):
    """The scheduler's answer to a control signal, or news of a change it made itself."""

    op: str
    ok: bool
    schedule: str | None = None
    detail: str | None = None
    value: float | None = None
    request_id: str | None = None
    requester: str | None = None


class CycleReportFacts(Facts, kw_only=True):
    """One cycle of one consumer, told once it ended.

    overlapped_ts: when beats were due whose triggers came while this cycle ran or waited, and that got no cycle of
    their own.
    """

    daemon: str
    schedule: str
    beat: BeatNumber | None = None
    due_ts: EpochSeconds | None = None
    source: Literal["trigger", "fallback", "injected"]
    outcome: Literal["ok", "failed", "over_budget", "hung"]
    started_ts: EpochSeconds
    duration_s: Duration
    processed: Count = 0
    backlog: Count = 0
    error: str | None = None
    missed: Count = 0
    coalesced: Count = 0
    overlapped_ts: list[EpochSeconds] = []


class FallbackFacts(Facts, kw_only=True):
    """A consumer took to its own clock, or came back from it."""

    daemon: str
    schedule: str
    last_beat: BeatNumber | None = None
    silent_s: Duration | None = None


class HeartbeatFacts(Facts, kw_only=True):
    """A process lives. `sent` is its last sequence number per signal, so that a lost tail is seen. `artifact`: the
    staged package that its code is from."""

    zooid: str
    niche: str
    uptime_s: Duration
    processed_count: Count
    pid: Count | None = None
    version: str | None = None
    mode: str | None = None
    schedule: str | None = None
    last_beat: BeatNumber | None = None
    last_due_ts: EpochSeconds | None = None
    backlog: Count | None = None
    detail: str | None = None
    counters: dict[str, Count] = field(default_factory=dict)
    sent: dict[SignalName, Count] = field(default_factory=dict)
    budget_s: Positive | None = None
    artifact: str | None = None


class StatusRequestFacts(Facts, kw_only=True):
    """Everyone, or the named zooid, is asked for a HEARTBEAT at once."""

    zooid: str | None = None
    requester: str | None = None


class CycleBudgetFacts(Facts, kw_only=True):
    """The named daemon's cycles may take so long until then; `budget_s` None: as long as its own settings say."""

    daemon: str
    budget_s: Positive | None = None
    until_ts: EpochSeconds | None = None
    requester: str | None = None


class OptimiserPauseFacts(Facts, kw_only=True):
    """The optimiser changes nothing any more, until OPTIMISER_RESUME or until `until_ts`."""

    reason: str | None = None
    requester: str | None = None
    until_ts: EpochSeconds | None = None


class OptimiserStateFacts(Facts, kw_only=True):
    """What the optimiser does now. `paused`: why it changes nothing; empty when it may."""

    state: str
    paused: str = ""
    reason: str | None = None
    waiting: Count = 0
    open_changes: Count = 0
    open_flags: Count = 0


class KillFacts(Facts, kw_only=True):
    """The named zooid stops handling messages until it is started anew."""

    zooid: str
    reason: str | None = None
    requester: str | None = None


class SuspendFacts(Facts, kw_only=True):
    """The suite rests until MAINTENANCE_RESUME, or until `until_ts`."""

    reason: str | None = None
    requester: str | None = None
    until_ts: EpochSeconds | None = None


class ResumeFacts(Facts, kw_only=True):
    """The suite works again."""

    reason: str | None = None
    requester: str | None = None


class AffectFacts(Facts, kw_only=True):
    """How the machine feels, why, and for how long that holds unless it is said again. `requester`: who injected it."""

    state: dict[str, Any] | str | None = None
    cause: str | None = None
    evidence: list[Any] | dict[str, Any] | None = None
    ttl_s: Positive | None = None
    requester: str | None = None


class GapFacts(Facts, kw_only=True):
    """A subscriber missed messages of a publisher: its sequence numbers jumped."""

    observer: str
    signal: str
    pub: str
    missing: Count
    since_ts: EpochSeconds | None = None


class DropFacts(Facts, kw_only=True):
    """A subscriber could not keep up and dropped messages from its full queue."""

    observer: str
    signal: str
    dropped: Count
    since_ts: EpochSeconds | None = None


class JournalFacts(Facts, kw_only=True):
    """The journal has grown: whoever consumes one of `signals` (or all of them, `*`) may fetch up to `offset`."""

    journal: str
    offset: Count
    signals: list[str] = []
