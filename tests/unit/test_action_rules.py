"""The action consumer's arithmetic: quotas, back-off, breaker, the gates in their order, decisions, flags, wording."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.consumers.action.action import Action, Stage, action_id, fingerprint_of, flag_id, rank, shortened
from kloros.consumers.action.flagging import Flag, is_step, must_be_told
from kloros.consumers.action.gate import Standing, answer_decision, judge, stricter, why_not_taken_up
from kloros.consumers.action.kinds import units
from kloros.consumers.action.kinds.base import Judgement
from kloros.consumers.action.settings import MODES, ActionSettings, KindSettings
from kloros.consumers.action.wording import by_hand, would
from kloros.daemon.limits import Breaker, backoff_until_us, free_at_us

S = 1_000_000
NOW = 1_700_000_000 * S
DEFAULTS = ActionSettings()
MODE = st.sampled_from(MODES)


# Quotas


@given(
    gaps_s=st.lists(st.floats(0, 500), max_size=60),
    most=st.integers(1, 5),
    window_s=st.floats(1, 300),
)
def test_whoever_waits_until_it_is_free_never_passes_a_quota_in_any_window(
    gaps_s: list[float], most: int, window_s: float
) -> None:
    done: list[int] = []
    now_us = NOW
    for gap_s in gaps_s:
        now_us += round(gap_s * S)
        now_us = max(now_us, free_at_us(done, most, window_s, now_us))
        done.append(now_us)
    window_us = round(window_s * S)
    for moment_us in done:
        assert sum(moment_us - window_us < each <= moment_us for each in done) <= most


@given(times=st.lists(st.integers(-1000, 1000), max_size=30), most=st.integers(1, 5), window_s=st.integers(1, 600))
def test_it_is_free_no_later_than_it_must_be(times: list[int], most: int, window_s: int) -> None:
    moments = [NOW + each * S for each in times]
    free_us = free_at_us(moments, most, window_s, NOW)
    known = [min(each, NOW) for each in moments]
    assert NOW <= free_us <= NOW + window_s * S
    assert sum(free_us - window_s * S < each for each in known) < most
    if free_us > NOW:
        assert sum(free_us - 1 - window_s * S < each for each in known) >= most


@given(failures=st.integers(0, 10_000), backoff_s=st.floats(0.1, 1e5), at_most_s=st.floats(0.1, 1e6))
def test_a_back_off_grows_up_to_its_end(failures: int, backoff_s: float, at_most_s: float) -> None:
    until_us = backoff_until_us(failures, backoff_s, at_most_s, NOW)
    assert NOW <= until_us <= NOW + round(max(at_most_s, backoff_s) * S)
    assert until_us <= backoff_until_us(failures + 1, backoff_s, at_most_s, NOW)
    assert (until_us > NOW) == (failures > 0)


# The breaker


@given(st.lists(st.integers(0, 400), max_size=60))
def test_the_breaker_opens_exactly_when_three_failures_fall_into_two_minutes(gaps_s: list[int]) -> None:
    breaker, since_pause, now_us = Breaker(), list[int](), NOW
    for gap_s in gaps_s:
        now_us += gap_s * S
        if breaker.is_open(now_us):
            continue
        before = breaker.trips
        breaker = breaker.failed(now_us, 3, 120.0, 600.0)
        since_pause.append(now_us)
        recent = [each for each in since_pause if each > now_us - 120 * S]
        assert (breaker.trips > before) == (len(recent) >= 3)
        if breaker.trips > before:
            assert breaker.open_until_us == now_us + 600 * S
            since_pause.clear()


def test_a_pause_is_never_longer_than_it_was_meant_to_be_when_the_clock_is_set_back() -> None:
    opened = Breaker(open_until_us=NOW + 10_000 * S)
    assert opened.at(NOW, 600.0).open_until_us == NOW + 600 * S
    assert opened.at(NOW + 9_500 * S, 600.0) == opened


# The gates


def standing(**told: object) -> Standing:
    free = {
        "mode": "auto", "is_approved": False, "queued_us": NOW, "now_us": NOW, "wait_at_most_s": 3600.0,
        "breaker_until_us": 0, "is_target_busy": False, "backoff_until_us": 0, "target_free_us": NOW,
        "all_free_us": NOW,
    }  # fmt: skip
    return Standing(**{**free, **told})  # type: ignore[arg-type]


@given(
    mode=MODE,
    is_approved=st.booleans(),
    is_busy=st.booleans(),
    waited_s=st.integers(0, 8000),
    untils=st.tuples(*[st.integers(-100, 5000)] * 4),
)
def test_nothing_goes_through_a_closed_gate(
    mode: str, is_approved: bool, is_busy: bool, waited_s: int, untils: tuple[int, ...]
) -> None:
    breaker, backoff, target, in_all = (NOW + each * S for each in untils)
    verdict = judge(
        standing(
            mode=mode, is_approved=is_approved, is_target_busy=is_busy, queued_us=NOW - waited_s * S,
            breaker_until_us=breaker, backoff_until_us=backoff, target_free_us=target, all_free_us=in_all,
        )
    )  # fmt: skip
    may_be_done = mode == "auto" or (mode == "approve" and is_approved)
    is_free = not is_busy and max(breaker, backoff, target, in_all) <= NOW and waited_s <= 3600
    assert (verdict.answer == "go") == (may_be_done and is_free)
    assert (verdict.answer == "observe") == (mode == "observe")
    assert (verdict.answer == "ask") == (mode == "approve" and not is_approved)
    assert verdict.answer in ("go", "observe") or verdict.why


@given(one=MODE, other=MODE)
def test_the_stricter_of_two_modes_wins_whichever_comes_first(one: str, other: str) -> None:
    wins = stricter(one, other)  # type: ignore[arg-type]
    assert wins == stricter(other, one)  # type: ignore[arg-type]
    assert MODES.index(wins) == min(MODES.index(one), MODES.index(other))  # type: ignore[arg-type]


@given(target=st.text(max_size=300), confidence=st.none() | st.floats(0, 1))
def test_only_what_is_among_the_targets_and_sure_enough_is_taken_up(target: str, confidence: float | None) -> None:
    settings = KindSettings(mode="auto", targets=("web-*.service",))
    why = why_not_taken_up("restart_unit", target, confidence, settings)
    is_target = target.startswith("web-") and target.endswith(".service") and target.isprintable() and len(target) < 256
    is_sure = confidence is not None and confidence >= 0.5
    assert (why is None) == (is_target and is_sure)


def test_a_person_decides_for_himself_how_sure_is_sure_enough() -> None:
    assert why_not_taken_up("restart_unit", "a.service", None, KindSettings(mode="approve")) is None


# Decisions


def action(stage: Stage = Stage.WAITING, **told: object) -> Action:
    made = {"action_id": "a-1", "kind": "restart_unit", "target": "web.service", "mode": "approve", "taken_us": NOW}
    return Action(stage=stage, queued_us=NOW, **{**made, **told})  # type: ignore[arg-type]


@given(
    stage=st.sampled_from(Stage),
    expires_s=st.none() | st.integers(-10, 10),
    decision=st.sampled_from(["approve", "reject"]),
)
def test_a_decision_holds_only_for_what_waits_and_has_not_expired(
    stage: Stage, expires_s: int | None, decision: str
) -> None:
    expires_us = None if expires_s is None else NOW + expires_s * S
    accepted, detail = answer_decision(action(stage, expires_us=expires_us, outcome="helped"), decision, NOW)
    assert accepted == (stage is Stage.WAITING and expires_s is not None and expires_s > 0)
    assert detail


def test_a_decision_on_nothing_is_refused() -> None:
    assert answer_decision(None, "approve", NOW)[0] is False


# Identities and flags


def test_the_same_always_has_the_same_id() -> None:
    assert action_id("q-1", "restart_unit", "web.service") == action_id("q-1", "restart_unit", "web.service")
    assert len({action_id(f"q-{n}", "restart_unit", "web.service") for n in range(100)}) == 100
    assert action_id("q-1", "a", "b").startswith("a-")
    assert len(action_id("q-1", "a", "b")) == 10
    assert len(fingerprint_of("unit_unhealthy", "web.service", "hangs")) == 16
    assert flag_id("f", "a-1") != flag_id("f", "a-2")


def test_steps_are_worth_telling() -> None:
    assert [count for count in range(1, 1001) if is_step(count)] == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]


def test_a_flag_is_told_at_a_step_or_when_it_is_worse_or_another() -> None:
    flag = Flag(
        flag_id="f", fingerprint="f", opened_us=NOW, last_us=NOW, rationale="", reason="observed", count=3,
        severity="medium", told_reason="observed", told_severity="medium",
    )  # fmt: skip
    assert not must_be_told(flag)
    flag.severity = "high"
    assert must_be_told(flag)
    flag.severity, flag.reason = "low", "expired"
    assert must_be_told(flag)
    flag.reason, flag.count = "observed", 5
    assert must_be_told(flag)


@given(st.lists(st.text(max_size=3000), max_size=200))
def test_evidence_keeps_to_a_size_and_says_what_is_left_out(evidence: list[str]) -> None:
    kept = shortened(evidence)
    assert len(kept) <= 51
    assert all(len(line) <= 1000 for line in kept)
    assert len(evidence) <= 50 or kept[-1] == f"and {len(evidence) - 50} more"


def test_a_severity_that_is_not_told_counts_as_medium() -> None:
    assert rank(None) == rank("medium") == rank("nonsense")


# Units


UP = {"active": "active", "result": "success", "restarts": 0, "invocation": "aa", "is_oneshot": False}


@pytest.mark.parametrize(
    ("now", "after", "elapsed_s", "helped"),
    [
        (UP, UP, 19.9, None),
        (UP, UP, 20.0, True),
        ({**UP, "active": "activating"}, UP, 5.0, None),
        ({**UP, "active": "activating"}, UP, 20.0, False),
        ({**UP, "active": "failed", "result": "exit-code"}, UP, 0.1, False),
        ({**UP, "active": "inactive"}, UP, 0.1, False),
        ({**UP, "active": "inactive", "is_oneshot": True}, UP, 0.1, True),
        ({**UP, "active": "inactive", "is_oneshot": True, "result": "exit-code"}, UP, 0.1, False),
        ({**UP, "restarts": 1, "invocation": "bb"}, UP, 30.0, False),
        ({**UP, "invocation": "bb"}, UP, 30.0, False),
        ({**UP, "invocation": "bb"}, {**UP, "active": "activating"}, 30.0, True),
        ({}, UP, 30.0, False),
    ],
)
def test_a_unit_helped_is_up_and_stays_up(
    now: dict[str, object], after: dict[str, object], elapsed_s: float, helped: bool | None
) -> None:
    verdict: Judgement = units.judge(now, after, elapsed_s, 20.0)  # type: ignore[arg-type]
    assert verdict.helped is helped
    assert verdict.why


@pytest.mark.parametrize("kind", DEFAULTS.kinds.__struct_fields__)
def test_each_kind_has_words(kind: str) -> None:
    told = action(kind=kind, target="x", parameters={"property": "MemoryMax", "keep_mb": "5"})
    assert kind not in would(told)
    assert by_hand(told)
