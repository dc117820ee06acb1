from __future__ import annotations

import pytest

from kloros.chembus import facts
from kloros.chembus.facts import TriggerFacts
from kloros.chembus.vocabulary import VOCABULARY, Delivery, Signal, declare, suite_vocabulary
from kloros.errors import UnknownSignal

VOLATILE = """
Q_TRIGGER_INTROSPECTION Q_TRIGGER_CURIOSITY Q_TRIGGER_ACTION_PROCESSING Q_TRIGGER_INVESTIGATION Q_TRIGGER_SHADOW_EVAL
Q_TRIGGER_TOURNAMENT Q_TRIGGER_SEMANTIC_DEDUP Q_TRIGGER_DECAY Q_TRIGGER_LEDGER_FLUSH Q_TRIGGER_HISTORY_ROTATE
Q_TRIGGER_AFFECT
Q_SCHEDULE_TICK Q_SCHEDULE_CONTROL Q_SCHEDULE_CHANGED FALLBACK_ENGAGED FALLBACK_RELEASED HEARTBEAT governance.kill
STATUS_REQUEST MAINTENANCE_SUSPEND MAINTENANCE_RESUME AFFECT_CRITICAL_FATIGUE AFFECT_WELLBEING_HIGH AFFECT_WELLBEING_LOW
AFFECT_MEMORY_PRESSURE AFFECT_RESOURCE_STRAIN AFFECT_EMERGENCY_BRAKE AFFECT_STATE AFFECT_STUCK_LOOP AFFECT_HIGH_RAGE
AFFECT_REPETITIVE_ERROR AFFECT_TASK_FAILURE_PATTERN AFFECT_MODULE_INTEGRATION_NEEDED AFFECT_CONTEXT_OVERFLOW
AFFECT_STATE_CHANGE BUS_GAP BUS_DROP Q_JOURNAL_ADVANCED
Q_TRIGGER_OPTIMISATION CYCLE_BUDGET OPTIMISER_PAUSE OPTIMISER_RESUME OPTIMISER_STATE
"""
DURABLE = """
Q_CYCLE_REPORT OBSERVATION CAPABILITY_GAP CAPABILITY_RESTORED Q_CURIOSITY_CRITICAL Q_CURIOSITY_HIGH Q_CURIOSITY_MEDIUM
Q_CURIOSITY_LOW Q_CURIOSITY_INVESTIGATE Q_INVESTIGATION_COMPLETE Q_ACTION_SPAWNED Q_ACTION_COMPLETE
Q_TOURNAMENT_COMPLETE Q_SHADOW_VERDICT Q_IMPROVEMENT_ACTION Q_ENACTMENT Q_REFLECTION_REPORT FLAG_FOR_REVIEW
Q_QUESTION_FOLDED Q_ACTION_DECISION Q_ACTION_DECIDED Q_HISTORY_PRUNE FLAG_CLOSED Q_MEMORY_FADED Q_MEMORY_ACCESSED
Q_REVIEW_DECISION Q_REVIEW_DECIDED
"""


def test_the_vocabulary_is_complete_and_nothing_more() -> None:
    assert {signal.name for signal in suite_vocabulary()} == {*VOLATILE.split(), *DURABLE.split()}


def test_each_signal_has_its_delivery_class() -> None:
    durable = {signal.name for signal in suite_vocabulary() if signal.delivery is Delivery.DURABLE}
    assert durable == set(DURABLE.split())


@pytest.mark.parametrize("signal", list(suite_vocabulary()), ids=lambda signal: signal.name)
def test_each_signal_says_who_and_what(signal: Signal) -> None:
    assert signal.summary.endswith(".")
    assert signal.ecosystem
    assert signal.emitted_by
    assert signal.heard_by
    assert signal.rate_per_s
    assert signal.burst >= 1


def test_excess_work_raises_and_excess_news_is_dropped() -> None:
    assert {signal.over_rate for signal in suite_vocabulary() if signal.delivery is Delivery.DURABLE} == {"raise"}
    assert VOCABULARY.lookup("HEARTBEAT").over_rate == "drop"


def test_a_trigger_of_the_users_own_needs_no_declaration() -> None:
    signal = VOCABULARY.lookup("Q_TRIGGER_WATER_THE_PLANTS")
    assert signal.facts is TriggerFacts
    assert signal.ecosystem == "water_the_plants"
    assert signal.delivery is Delivery.VOLATILE


@pytest.mark.parametrize(
    "name", ["Q_TRIGGER_", "Q_TRIGGER_lower", "Q_TRIGGER_A B", "Q_TRIGGER_" + "X" * 65, "", "q", "*"]
)
def test_what_is_not_a_signal_is_unknown(name: str) -> None:
    with pytest.raises(UnknownSignal):
        VOCABULARY.lookup(name)
    assert not VOCABULARY.knows(name)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Q_TRIGGER_INTROSPECTON", "Q_TRIGGER_INTROSPECTION"),
        ("Q_TRIGER_CURIOSITY", "Q_TRIGGER_CURIOSITY"),
        ("HEARTBEATS", "HEARTBEAT"),
        ("Q_CYCLE_REPORTS", "Q_CYCLE_REPORT"),
    ],
)
def test_a_typing_error_is_recognised_as_one(typed: str, meant: str) -> None:
    with pytest.raises(UnknownSignal, match=f"did you mean {meant}") as caught:
        VOCABULARY.lookup(typed)
    assert caught.value.suggestion == meant
    assert caught.value.signal == typed


class PlantFacts(facts.Facts, kw_only=True):
    litres: float


def test_developers_declare_their_own() -> None:
    vocabulary = suite_vocabulary()
    mine = Signal(name="PLANT_WATERED", facts=PlantFacts, ecosystem="garden", summary="Done.")
    assert vocabulary.declare(mine) is mine
    assert vocabulary.declare(mine) is mine
    assert vocabulary.lookup("PLANT_WATERED") is mine
    with pytest.raises(ValueError, match="already declared"):
        vocabulary.declare(Signal(name="PLANT_WATERED", facts=PlantFacts, ecosystem="kitchen", summary="Other."))


@pytest.mark.parametrize("name", ["", "PLANT*", "PLANT\n"])
def test_what_cannot_be_a_topic_cannot_be_declared(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        declare(Signal(name=name, facts=PlantFacts, ecosystem="garden", summary="No."))


def test_the_process_wide_vocabulary_starts_as_the_suites() -> None:
    assert {s.name for s in suite_vocabulary()} <= {s.name for s in VOCABULARY}
    assert len(VOCABULARY) >= len(suite_vocabulary())
