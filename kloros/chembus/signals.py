"""Every signal of the suite, in one table; the names are API."""

from __future__ import annotations

from kloros.chembus import facts
from kloros.chembus.declaration import Signal, durable
from kloros.chembus.signals_work import WORK

TICK_DEADLINE_S = 3.0
HEARTBEAT_DEADLINE_S = 30.0

_EVERY_DAEMON = "every daemon"
_CONSUMERS = "every consumer"
_MONITORING = "monitoring"


def _trigger(name: str, ecosystem: str, consumer: str, interval_s: float, summary: str) -> Signal:
    return Signal(
        name=f"Q_TRIGGER_{name}",
        facts=facts.TriggerFacts,
        ecosystem=ecosystem,
        summary=summary,
        emitted_by="scheduler, or anyone by injection",
        heard_by=consumer,
        rate_per_s=5_000.0,
        burst=20_000,
        lifespan_s=max(60.0, 2 * interval_s),
    )


def _affect(name: str, summary: str) -> Signal:
    return Signal(
        name=f"AFFECT_{name}",
        facts=facts.AffectFacts,
        ecosystem="affect",
        summary=summary,
        emitted_by="affect",
        heard_by="scheduler, consumers",
        rate_per_s=50.0,
        burst=100,
    )


TRIGGERS = (
    _trigger("INTROSPECTION", "introspection", "introspection", 5.0, "Scan the machine."),
    _trigger("CURIOSITY", "curiosity", "curiosity_core_consumer", 60.0, "Turn open findings into questions."),
    _trigger("ACTION_PROCESSING", "queue_management", "action_consumer", 300.0, "Drain the action queue."),
    _trigger("INVESTIGATION", "queue_management", "investigation_consumer", 300.0, "Investigate open questions."),
    _trigger("SHADOW_EVAL", "dream", "shadow", 60.0, "Compare candidates with incumbents."),
    _trigger("TOURNAMENT", "dream", "tournament_consumer", 15.0, "Play one round of candidates."),
    _trigger("SEMANTIC_DEDUP", "curiosity", "semantic_dedup_consumer", 5.0, "Fold near-identical questions."),
    _trigger("DECAY", "memory", "decay", 3600.0, "Let memories fade."),
    _trigger("LEDGER_FLUSH", "observability", "ledger_writer", 60.0, "Write out what the ledger holds back."),
    _trigger("AFFECT", "affect", "affect", 10.0, "Feel how the machine is."),
    _trigger("OPTIMISATION", "optimisation", "optimiser", 60.0, "Profile, detect, plan, enact, verify, reflect."),
    _trigger("HISTORY_ROTATE", "observability", "chembus_historian", 3600.0, "Keep the history within its limits."),
)

SCHEDULE = (
    Signal(
        name="Q_SCHEDULE_TICK",
        facts=facts.TickFacts,
        ecosystem="schedule",
        summary="The whole observable schedule, every second. Silence: FALLBACK_ENGAGED, by each daemon of its own.",
        emitted_by="scheduler",
        heard_by="monitoring, every daemon",
        lifespan_s=10.0,
        deadline_s=TICK_DEADLINE_S,
    ),
    Signal(
        name="Q_SCHEDULE_CONTROL",
        facts=facts.ControlFacts,
        ecosystem="schedule",
        summary="Pause, resume, trigger, slow down or speed up entries, or reload them all.",
        emitted_by="CLI",
        heard_by="scheduler",
        rate_per_s=100.0,
        burst=500,
        over_rate="raise",
        lifespan_s=60.0,
    ),
    Signal(
        name="Q_SCHEDULE_CHANGED",
        facts=facts.ChangedFacts,
        ecosystem="schedule",
        summary="What became of a control signal; news of every change to the schedule.",
        emitted_by="scheduler",
    ),
    durable(
        "Q_CYCLE_REPORT",
        facts.CycleReportFacts,
        "schedule",
        _CONSUMERS,
        "scheduler, optimiser, historian",
        "One cycle ended.",
    ),
    Signal(
        name="FALLBACK_ENGAGED",
        facts=facts.FallbackFacts,
        ecosystem="schedule",
        summary="Triggers stayed away: a consumer runs its beats on its own clock.",
        emitted_by=_CONSUMERS,
        heard_by=_MONITORING,
    ),
    Signal(
        name="FALLBACK_RELEASED",
        facts=facts.FallbackFacts,
        ecosystem="schedule",
        summary="Triggers are back: a consumer follows them again.",
        emitted_by=_CONSUMERS,
        heard_by=_MONITORING,
    ),
)

COLONY = (
    Signal(
        name="HEARTBEAT",
        facts=facts.HeartbeatFacts,
        ecosystem="colony",
        summary="A process lives; every 10 s, one per process. Silence: a CAPABILITY_GAP, daemon_silent.",
        emitted_by="every process",
        heard_by=_MONITORING,
        rate_per_s=20.0,
        burst=100,
        deadline_s=HEARTBEAT_DEADLINE_S,
    ),
    Signal(
        name="STATUS_REQUEST",
        facts=facts.StatusRequestFacts,
        ecosystem="colony",
        summary="Asks every daemon for a HEARTBEAT at once.",
        emitted_by="CLI",
        heard_by=_EVERY_DAEMON,
        rate_per_s=20.0,
        burst=50,
        lifespan_s=10.0,
    ),
    Signal(
        name="governance.kill",
        facts=facts.KillFacts,
        ecosystem="governance",
        summary="Stops a zooid from handling messages.",
        emitted_by="operator",
        heard_by=_EVERY_DAEMON,
        over_rate="raise",
    ),
    Signal(
        name="CYCLE_BUDGET",
        facts=facts.CycleBudgetFacts,
        ecosystem="optimisation",
        summary="A daemon's cycles may take longer for a while.",
        emitted_by="optimiser",
        heard_by=_CONSUMERS,
        lifespan_s=60.0,
    ),
    Signal(
        name="OPTIMISER_PAUSE",
        facts=facts.OptimiserPauseFacts,
        ecosystem="governance",
        summary="The optimiser changes nothing any more.",
        emitted_by="operator",
        heard_by="optimiser",
    ),
    Signal(
        name="OPTIMISER_RESUME",
        facts=facts.OptimiserPauseFacts,
        ecosystem="governance",
        summary="The optimiser may change things again.",
        emitted_by="operator",
        heard_by="optimiser",
    ),
    Signal(
        name="OPTIMISER_STATE",
        facts=facts.OptimiserStateFacts,
        ecosystem="optimisation",
        summary="What the optimiser does, whenever that turns.",
        emitted_by="optimiser",
        heard_by=_MONITORING,
    ),
    Signal(
        name="MAINTENANCE_SUSPEND",
        facts=facts.SuspendFacts,
        ecosystem="governance",
        summary="The suite rests: no triggers, no fallback, no work.",
        emitted_by="operator, scheduler",
        heard_by=_EVERY_DAEMON,
    ),
    Signal(
        name="MAINTENANCE_RESUME",
        facts=facts.ResumeFacts,
        ecosystem="governance",
        summary="The suite works again.",
        emitted_by="operator, scheduler",
        heard_by=_EVERY_DAEMON,
    ),
    Signal(
        name="Q_JOURNAL_ADVANCED",
        facts=facts.JournalFacts,
        ecosystem="colony",
        summary="Durable signals were added to the journal: the doorbell of those who consume them.",
        emitted_by="chem proxy",
        heard_by="every consumer of durable signals",
    ),
    Signal(
        name="BUS_GAP",
        facts=facts.GapFacts,
        ecosystem="colony",
        summary="A subscriber missed messages of a publisher.",
        emitted_by="any subscriber",
        heard_by=_MONITORING,
        rate_per_s=20.0,
        burst=200,
    ),
    Signal(
        name="BUS_DROP",
        facts=facts.DropFacts,
        ecosystem="colony",
        summary="A subscriber's queue was full.",
        emitted_by="any subscriber",
        heard_by=_MONITORING,
        rate_per_s=20.0,
        burst=200,
    ),
)

AFFECT = (
    _affect("STATE", "How the machine feels, every 10 s."),
    _affect("STATE_CHANGE", "The mood turned."),
    _affect("EMERGENCY_BRAKE", "Stop everything that can wait."),
    _affect("CRITICAL_FATIGUE", "Far too much work for too long."),
    _affect("STUCK_LOOP", "The same is tried over and over."),
    _affect("HIGH_RAGE", "Persistent obstruction."),
    _affect("RESOURCE_STRAIN", "Resources are short."),
    _affect("REPETITIVE_ERROR", "The same error again and again."),
    _affect("MEMORY_PRESSURE", "Memory is short."),
    _affect("TASK_FAILURE_PATTERN", "Tasks fail in a pattern."),
    _affect("MODULE_INTEGRATION_NEEDED", "A part is there but unused."),
    _affect("CONTEXT_OVERFLOW", "More context than fits."),
    _affect("WELLBEING_LOW", "Things have not gone well for a while."),
    _affect("WELLBEING_HIGH", "All is well, and there is room for more."),
)

ALL = (*TRIGGERS, *SCHEDULE, *COLONY, *AFFECT, *WORK)
