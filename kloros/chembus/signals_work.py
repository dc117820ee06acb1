"""The signals of work: durable, each with its effect exactly once."""

from __future__ import annotations

from kloros.chembus import facts_work
from kloros.chembus.declaration import durable

_QUESTION_LEVELS = ("CRITICAL", "HIGH", "MEDIUM", "LOW")

WORK = (
    durable(
        "OBSERVATION",
        facts_work.ObservationFacts,
        "observability",
        "zooids, consumers",
        "ledger writer",
        "Something was done.",
    ),
    durable(
        "CAPABILITY_GAP",
        facts_work.GapFoundFacts,
        "introspection",
        "introspection",
        "curiosity",
        "A finding opened or worsened.",
    ),
    durable(
        "CAPABILITY_RESTORED",
        facts_work.GapFoundFacts,
        "introspection",
        "introspection",
        "curiosity",
        "A finding ended.",
    ),
    *(
        durable(
            f"Q_CURIOSITY_{level}",
            facts_work.QuestionFacts,
            "curiosity",
            "curiosity",
            "semantic dedup",
            f"A question of {level.lower()} priority.",
        )
        for level in _QUESTION_LEVELS
    ),
    durable(
        "Q_CURIOSITY_INVESTIGATE",
        facts_work.QuestionFacts,
        "introspection",
        "semantic dedup",
        "investigation, tournament",
        "The one question that stands for its likes.",
    ),
    durable(
        "Q_QUESTION_FOLDED",
        facts_work.FoldedFacts,
        "curiosity",
        "semantic dedup",
        "curiosity, decay, CLI",
        "A question was folded into another.",
    ),
    durable(
        "Q_INVESTIGATION_COMPLETE",
        facts_work.InvestigationFacts,
        "introspection",
        "investigation",
        "action, decay, optimiser",
        "An investigation ended.",
    ),
    durable(
        "Q_ACTION_SPAWNED",
        facts_work.ActionFacts,
        "queue_management",
        "action",
        "ledger, decay",
        "An action was taken up.",
    ),
    durable(
        "Q_ACTION_COMPLETE",
        facts_work.ActionFacts,
        "queue_management",
        "action",
        "ledger, decay",
        "An action ended.",
    ),
    durable(
        "Q_ACTION_DECISION",
        facts_work.DecisionFacts,
        "queue_management",
        "operators (CLI)",
        "action",
        "An action that waits for approval is approved or rejected.",
    ),
    durable(
        "Q_TOURNAMENT_COMPLETE",
        facts_work.TournamentFacts,
        "dream",
        "tournament",
        "shadow, optimiser",
        "A tournament ended.",
    ),
    durable(
        "Q_SHADOW_VERDICT",
        facts_work.ShadowFacts,
        "dream",
        "shadow",
        "tournament, optimiser",
        "A candidate was judged.",
    ),
    durable(
        "Q_IMPROVEMENT_ACTION",
        facts_work.ImprovementFacts,
        "optimisation",
        "planner, tournament, shadow, operators",
        "optimiser",
        "A proposed change.",
    ),
    durable(
        "Q_ENACTMENT",
        facts_work.EnactmentFacts,
        "optimisation",
        "optimiser",
        "ledger, historian, CLI",
        "What became of a proposed change.",
    ),
    durable(
        "Q_REFLECTION_REPORT",
        facts_work.ReflectionFacts,
        "optimisation",
        "optimiser",
        "ledger, historian, CLI",
        "Whether a change helped.",
    ),
    durable(
        "FLAG_FOR_REVIEW",
        facts_work.ReviewFacts,
        "governance",
        "optimiser, action consumer",
        "operators (CLI, console), historian",
        "Needs a person.",
    ),
    durable(
        "FLAG_CLOSED",
        facts_work.FlagClosedFacts,
        "governance",
        "optimiser, action consumer",
        "operators (CLI, console), historian",
        "What a flag was raised for is over.",
    ),
    durable(
        "Q_MEMORY_FADED",
        facts_work.FadedFacts,
        "memory",
        "decay",
        "monitoring",
        "What faded from memory.",
    ),
    durable(
        "Q_MEMORY_ACCESSED",
        facts_work.MemoryAccessFacts,
        "memory",
        "CLI, whoever uses a memory",
        "decay",
        "A memory was looked at.",
    ),
)
