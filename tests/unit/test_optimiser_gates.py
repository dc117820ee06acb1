"""The gates: their order, and what each of them says."""

from __future__ import annotations

from typing import Any

import pytest
from support.optimising import action

from kloros.daemon.limits import Breaker
from kloros.optimisation.gates import Answer, Gate, GateState, Standing, approve, decide, failed, reset, unflag, untake
from kloros.optimisation.model import ActionKind, OptimiserConfig

K, S = ActionKind, 1_000_000
NOW = Standing(now_us=1000 * S, wall_us=1000 * S)

# Each gate with what makes it stop an action, in their order; the later ones all stop it too.
CAUSES: list[tuple[Gate, dict[str, Any]]] = [
    (Gate.PARSE, {"action": {"priority": float("nan")}}),
    (Gate.EXPIRY, {"action": {"expires_at": 999.0}}),
    (Gate.DUPLICATE, {"state": {"seen": {"a-1": 5}}}),
    (Gate.MODE, {"config": {"default_mode": "off"}}),
    (Gate.PAUSED, {"state": {"paused": "by hand"}}),
    (Gate.DRY_RUN, {"config": {"dry_run": True}}),
    (Gate.COOL_DOWN, {"state": {"last_enacted": {"alpha|HOT_SWAP_MODULE": 999 * S}}}),
    (Gate.BREAKER, {"state": {"breaker": Breaker(open_until_us=1100 * S)}}),
    (Gate.CONFLICT, {"standing": {"busy": ("alpha",)}}),
    (Gate.QUOTA, {"config": {"max_hot_swap_per_cycle": 0}}),
    (Gate.BLAST_RADIUS, {"standing": {"unhealthy": 5, "modules": 10}}),
    (Gate.APPROVAL, {"config": {"default_mode": "approve"}}),
]


@pytest.mark.parametrize("first", range(len(CAUSES)), ids=[gate.value for gate, _ in CAUSES])
def test_the_first_gate_that_has_a_reason_speaks(first: int) -> None:
    merged: dict[str, dict[str, Any]] = {"action": {}, "state": {}, "config": {}, "standing": {}}
    for _, causes in reversed(CAUSES[first:]):
        for what, fields in causes.items():
            merged[what].update(fields)
    raw = action(K.HOT_SWAP_MODULE, action_id="a-1", **merged["action"])
    standing = Standing(now_us=1000 * S, wall_us=1000 * S, **merged["standing"])
    decision = decide(GateState(**merged["state"]), raw, standing, OptimiserConfig(**merged["config"]))
    assert decision.gate is CAUSES[first][0]
    assert decision.answer is not Answer.GO


def test_with_no_reason_against_it_an_action_goes_and_is_counted() -> None:
    state = GateState()
    decision = decide(state, action(K.HOT_SWAP_MODULE, action_id="a-1"), NOW, OptimiserConfig())
    assert (decision.answer, decision.gate) == (Answer.GO, Gate.ACT)
    assert (state.acts_us, state.swaps_us, list(state.seen)) == ([1000 * S], [1000 * S], ["a-1"])
    untake(state, decision.action, 1000 * S)
    assert (state.acts_us, state.swaps_us, state.seen, state.last_enacted) == ([], [], {}, {})


@pytest.mark.parametrize(("gate", "causes"), CAUSES[3:], ids=[gate.value for gate, _ in CAUSES[3:]])
def test_flags_pass_whatever_stands_against_changes(gate: Gate, causes: dict[str, dict[str, Any]]) -> None:
    state = GateState(**{key: value for key, value in causes.get("state", {}).items() if key != "seen"})
    standing = Standing(now_us=1000 * S, wall_us=1000 * S, **causes.get("standing", {}))
    flag = action(K.FLAG_FOR_REVIEW, expires_at=1.0)
    assert decide(state, flag, standing, OptimiserConfig(**causes.get("config", {}))).answer is Answer.FLAG


def test_the_same_flag_again_is_counted_but_another_one_under_its_id_is_none_of_it() -> None:
    state, config = GateState(), OptimiserConfig()
    flag = action(K.FLAG_FOR_REVIEW, action_id="f-1")
    codes = [decide(state, raw, NOW, config).reason_code for raw in (flag, flag)]
    assert codes == ["flagged", "flagged_before"]
    assert state.duplicates == 1
    other = action(K.FLAG_FOR_REVIEW, action_id="f-1", rationale="something else")
    assert decide(state, other, NOW, config).reason_code == "flagged"
    unflag(state, flag)
    assert decide(state, flag, NOW, config).reason_code == "flagged"


def test_an_action_whose_id_a_flag_has_is_no_duplicate() -> None:
    state, config = GateState(), OptimiserConfig()
    decide(state, action(K.FLAG_FOR_REVIEW, action_id="x"), NOW, config)
    assert decide(state, action(K.TUNE_THRESHOLD, action_id="x"), NOW, config).answer is Answer.GO


def test_a_mode_is_per_kind_and_observing_says_what_it_would_do() -> None:
    config = OptimiserConfig(default_mode="observe", modes={"TUNE_THRESHOLD": "auto"})
    assert decide(GateState(), action(K.TUNE_THRESHOLD), NOW, config).answer is Answer.GO
    observed = decide(GateState(), action(K.REDUCE_LOAD), NOW, config)
    assert (observed.answer, observed.reason_code) == (Answer.SKIP, "observed")
    assert "would enact REDUCE_LOAD" in observed.detail


def test_an_approval_is_for_one_action_and_for_a_while() -> None:
    state, config = GateState(), OptimiserConfig(default_mode="approve")
    raw = action(K.TUNE_THRESHOLD, action_id="a-1")
    asked = decide(state, raw, NOW, config)
    assert (asked.answer, asked.must_flag) == (Answer.ASK, True)
    approve(state, "a-1", NOW.now_us, 10)
    late = Standing(now_us=1010 * S, wall_us=1010 * S)
    assert decide(state, raw, late, config).answer is Answer.ASK
    assert decide(state, raw, NOW, config).answer is Answer.GO
    assert not state.approved


def test_a_clock_that_is_set_back_prolongs_no_cool_down_beyond_its_length() -> None:
    config, raw = OptimiserConfig(cool_down_s=60), action(K.TUNE_THRESHOLD)
    state = GateState(last_enacted={"alpha|TUNE_THRESHOLD": 10**15}, breaker=Breaker(open_until_us=10**15))
    assert decide(state, raw, NOW, config).gate is Gate.COOL_DOWN
    later = Standing(now_us=1060 * S, wall_us=1060 * S)
    assert decide(state, raw, later, config).gate is Gate.BREAKER
    much_later = Standing(now_us=1060 * S + 600 * S, wall_us=0)
    assert decide(state, raw, much_later, config).answer is Answer.GO


def test_the_breaker_opens_at_so_many_failures_within_its_window_only() -> None:
    state, config = GateState(), OptimiserConfig()
    for at_s in (0, 119, 239):
        failed(state, at_s * S, config)
    assert not state.breaker.is_open(239 * S)
    failed(state, 240 * S, config)
    failed(state, 241 * S, config)
    assert state.breaker.is_open(242 * S)
    assert state.breaker.trips == 1


def test_reset_forgets_cool_downs_and_nothing_that_protects() -> None:
    state = GateState(last_enacted={"x": 1}, acts_us=[1], seen={"a": 1}, paused="yes")
    reset(state)
    assert state == GateState(acts_us=[1], seen={"a": 1}, paused="yes")


@pytest.mark.parametrize(("unhealthy", "stops"), [(4, False), (5, True), (10, True)])
def test_the_blast_radius_is_more_than_forty_percent(unhealthy: int, stops: bool) -> None:
    standing = Standing(now_us=1, wall_us=1, unhealthy=unhealthy, modules=10)
    decision = decide(GateState(), action(K.TUNE_THRESHOLD), standing, OptimiserConfig())
    assert (decision.gate is Gate.BLAST_RADIUS, decision.must_flag) == (stops, stops)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"priority": 2}, "bad_priority"), ({"priority": True}, "bad_priority"), ({"priority": "x"}, "bad_priority"),
        ({"module_name": "../x"}, "bad_module"), ({"module_name": 3}, "bad_module"),
        ({"expires_at": float("inf")}, "bad_moment"), ({"created_at": "now"}, "bad_moment"),
        ({"action_id": "x" * 257}, "bad_id"), ({"rationale": 3}, "malformed"),
        ({"parameters": [("a",)]}, "bad_parameters"), ({"parameters": 3}, "bad_parameters"),
        ({"parameters": [("a", "1"), ("a", "2")]}, "bad_parameters"), ({"parameters": {"a b": "1"}}, "bad_parameters"),
        ({"parameters": {f"k{n}": "v" for n in range(33)}}, "bad_parameters"),
        ({"parameters": {"a": "x" * 1001}}, "bad_parameters"), ({"parameters": [("a", 1)]}, "bad_parameters"),
    ],
)  # fmt: skip
def test_each_field_is_of_its_type_and_size(fields: dict[str, Any], code: str) -> None:
    whole = {"module_name": "alpha", "action_kind": "TUNE_THRESHOLD"}
    decision = decide(GateState(), {**whole, **fields}, NOW, OptimiserConfig())
    assert (decision.answer, decision.reason_code) == (Answer.REFUSE, code)


def test_facts_off_the_bus_become_an_action() -> None:
    facts = {
        "module_name": "alpha", "action_kind": "INCREASE_BUDGET", "priority": "high", "rationale": "a\x1bb",
        "parameters": {"budget_factor": 1.25}, "action_id": "i-1", "expires_at": None,
    }  # fmt: skip
    found = decide(GateState(), facts, NOW, OptimiserConfig()).action
    assert (found.priority, found.rationale, found.parameters) == (0.75, "a b", (("budget_factor", "1.25"),))
