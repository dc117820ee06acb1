"""When the loop runs, where it is, and what came of what it did."""

from __future__ import annotations

from typing import Any

import pytest
from support.optimising import World, action, run

from kloros.optimisation.changes import Change
from kloros.optimisation.model import ActionKind, OptimiserConfig, ReflectionState, Verdict
from kloros.optimisation.optimiser import AsyncSelfOptimiser
from kloros.optimisation.reflection import NEXT, ReflectionCycle
from kloros.optimisation.rules import Verification

S, R = 1_000_000, ReflectionState


def test_a_round_goes_through_its_states_and_rests_after_a_change() -> None:
    cycle = ReflectionCycle(interval_s=50)
    assert cycle.begin(0)
    for state in (R.DETECTING, R.PLANNING, R.AWAITING_APPROVAL, R.OPTIMISING):
        cycle.move(state)
    assert not cycle.begin(300 * S)
    cycle.finish(310 * S, is_changed=True)
    assert cycle.state is R.COOLDOWN
    assert not cycle.begin(370 * S - 1)
    assert cycle.begin(370 * S)


def test_rounds_are_an_interval_apart() -> None:
    cycle = ReflectionCycle()
    moments = []
    for second in range(0, 1000, 10):
        if cycle.begin(second * S):
            moments.append(second)
            cycle.finish(second * S, is_changed=False)
    assert moments == [0, 300, 600, 900]


def test_a_clock_that_is_set_back_does_not_stop_the_loop() -> None:
    cycle = ReflectionCycle()
    assert cycle.begin(10**15)
    cycle.finish(10**15, is_changed=True)
    assert not cycle.begin(0)
    assert cycle.state is R.COOLDOWN
    assert not cycle.begin(300 * S - 1)
    assert cycle.state is R.IDLE
    assert cycle.begin(300 * S)


def test_no_state_is_reached_out_of_turn() -> None:
    for state, follows in NEXT.items():
        for to in R:
            cycle = ReflectionCycle()
            cycle.state = state
            if to in follows or to is R.STOPPED:
                cycle.move(to)
                assert cycle.state is to
            else:
                with pytest.raises(ValueError, match="does not follow"):
                    cycle.move(to)


def test_what_is_stopped_stays_so_until_it_is_started() -> None:
    cycle = ReflectionCycle()
    cycle.stop()
    cycle.finish(0, is_changed=True)
    assert not cycle.begin(10**12)
    cycle.start()
    assert cycle.begin(10**12)


def test_each_enactment_is_recorded_with_its_effect() -> None:
    async def scenario() -> None:
        world, cycle = World(), ReflectionCycle()
        config = OptimiserConfig(verification=Verification(settle_s=1, min_samples=5))
        optimiser = AsyncSelfOptimiser(config=config, **world.ports())
        (record,) = await optimiser.enact([action(ActionKind.INCREASE_BUDGET, action_id="a-1")])
        assert cycle.enacted(record, 5).verdict is None
        assert cycle.figures() == {"CONFIRMED": 0, "REVERTED": 0, "INCONCLUSIVE": 0, "open": 1}
        world.clock.advance(2)
        (ended,) = await optimiser.verify()
        found = cycle.ended(ended)
        assert (found.before, found.after, found.verdict) == (1.0, 1.5, Verdict.CONFIRMED)
        assert cycle.figures()["CONFIRMED"] == 1
        assert cycle.records == (found,)

    run(scenario())


def test_the_first_end_that_is_told_stays() -> None:
    cycle = ReflectionCycle()
    fields: dict[str, Any] = {
        "change_id": "a-1", "action_kind": ActionKind.REDUCE_LOAD, "module_name": "alpha", "name": "pace",
        "before": 1.0, "after": 0.5, "written_us": 0, "lease_until_us": 1,
    }  # fmt: skip
    cycle.ended(Change(**fields, verdict=Verdict.REVERTED))
    assert cycle.ended(Change(**fields, verdict=Verdict.CONFIRMED)).verdict is Verdict.REVERTED


@pytest.mark.parametrize(("interval_s", "cool_down_s"), [(0, 1), (float("nan"), 1), (1, -1), (1, float("inf"))])
def test_intervals_make_sense(interval_s: float, cool_down_s: float) -> None:
    with pytest.raises(ValueError, match="interval"):
        ReflectionCycle(interval_s, cool_down_s)
