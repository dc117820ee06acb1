"""The optimiser on a bench: actions by hand, each gate, approval, the kill switch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bench import bench
from support.optimisers import QUICK, Office, Opened, StrawOptimiser, World

from kloros.optimisation.flags import State
from kloros.optimisation.model import Verdict
from kloros.optimisation.store import Stage
from kloros.units import us_to_seconds


class TestAnActionByHand:
    def test_it_is_done_at_once_told_once_and_verified(self, office: Office) -> None:
        office.report("slow", 1.0, count=10)
        action_id = office.propose(parameters={"budget_factor": "1.5", "aim": "latency"})
        told = office.enactment(action_id)
        assert (told.status, told.before, told.after, told.gate) == ("SUCCESS", 4.0, 6.0, "act")
        assert office.world.daemons["slow"].granted_s == 6.0
        office.pass_by(60, slow=0.5)
        office.beat()
        (report,) = office.heard("Q_REFLECTION_REPORT")
        assert (report.verdict, report.action_id) == ("CONFIRMED", action_id)
        assert (report.old_value, report.new_value) == (4.0, 6.0)
        assert report.before["p95_ms"] == 1000.0
        assert report.after["p95_ms"] == 500.0
        office.pass_by(3000, every_s=60.0)
        office.beat()
        assert office.world.daemons["slow"].granted_s == 6.0

    def test_the_same_again_is_the_same_action(self, office: Office) -> None:
        action_id = office.propose()
        for _ in range(3):
            assert office.propose(action_id=action_id) == action_id
        assert office.enactment(action_id).status == "SUCCESS"
        assert office.world.daemons["slow"].granted_s == 6.0
        assert office.table.daemon.counters["actions_heard_again"] == 3
        assert not office.flags()

    def test_another_action_under_a_known_id_is_flagged_and_passed_over(self, office: Office) -> None:
        action_id = office.propose()
        office.propose("REDUCE_LOAD", "calm", action_id=action_id)
        assert office.enactment(action_id).module_name == "slow"
        assert [flag.reason for flag in office.flags()] == ["same_id"]
        assert office.world.paces["calm"] == 1.0

    def test_an_expired_one_is_skipped(self, office: Office) -> None:
        now_ts = us_to_seconds(office.table.clock.wall_us())
        told = office.enactment(office.propose(expires_at=now_ts - 1))
        assert (told.status, told.reason_code) == ("SKIPPED", "expired")

    @pytest.mark.parametrize(
        ("kind", "told", "reason_code"),
        [
            ("SET_FIRE", {}, "unknown_kind"),
            ("increase_budget", {}, "unknown_kind"),
            ("INCREASE_BUDGET", {"module_name": "../../etc"}, "bad_module"),
            ("INCREASE_BUDGET", {"module_name": ""}, "bad_module"),
            ("INCREASE_BUDGET", {"parameters": {"budget_factor": "nan"}}, "bad_number"),
            ("INCREASE_BUDGET", {"parameters": {"budget_factor": "1e400"}}, "bad_number"),
            ("INCREASE_BUDGET", {"parameters": {"x": {"y": [1]}}}, "bad_parameters"),
            ("INCREASE_BUDGET", {"priority": 17.0}, "bad_priority"),
            ("TUNE_THRESHOLD", {"parameters": {"metric": "kernel", "delta": "0.1"}}, "unknown_metric"),
            ("TUNE_THRESHOLD", {"parameters": {"suggested_delta": "inf"}}, "bad_number"),
            ("HOT_SWAP_MODULE", {"parameters": {"code": "import os"}}, "carries_code"),
            ("HOT_SWAP_MODULE", {"parameters": {"path": "/tmp/evil.py"}}, "carries_code"),
            ("HOT_SWAP_MODULE", {"parameters": {"artifact": "../../tmp/evil", "sha256": "0" * 64}}, "bad_artifact"),
            ("HOT_SWAP_MODULE", {"parameters": {"artifact": "slow/../x", "sha256": "0" * 64}}, "bad_artifact"),
        ],
    )  # fmt: skip
    def test_what_is_no_action_is_refused_told_and_flagged(
        self, office: Office, kind: str, told: dict[str, Any], reason_code: str
    ) -> None:
        enacted = office.enactment(office.propose(kind, **told))
        assert (enacted.status, enacted.reason_code) == ("FAILED", reason_code)
        assert [flag.reason for flag in office.flags()] == [reason_code]
        assert len(office.heard("FLAG_FOR_REVIEW")) == 1
        assert not office.changes()

    def test_a_flag_is_an_alert_on_the_bus_folded_with_a_count(self, office: Office) -> None:
        for number in range(3):
            told = office.enactment(office.propose("FLAG_FOR_REVIEW", rationale=f"{number} of 9 disks are odd"))
            assert told.status == "SUCCESS"
        (flag,) = office.flags()
        assert (flag.count, flag.state, flag.module) == (3, State.OPEN, "slow")
        assert [facts.count for facts in office.heard("FLAG_FOR_REVIEW")] == [1, 2]

    def test_a_module_that_nobody_knows_cannot_be_changed(self, office: Office) -> None:
        told = office.enactment(office.propose(module="nobody"))
        assert (told.status, told.reason_code) == ("SKIPPED", "not_there")
        assert office.enactment(office.propose("REDUCE_LOAD", "nobody")).status == "SKIPPED"

    def test_a_daemon_that_does_not_obey_is_a_failure_and_nothing_is_left_of_it(self, office: Office) -> None:
        office.world.daemons["slow"].obeys = False
        told = office.enactment(office.propose())
        assert (told.status, told.before) == ("FAILED", 4.0)
        assert [(each.verdict, each.is_restored) for each in office.changes()] == [(Verdict.REVERTED, True)]

    def test_nothing_to_do_is_skipped(self, office: Office) -> None:
        assert office.enactment(office.propose("NO_OP")).reason_code == "no_op"

    def test_what_waits_has_bounds(self, open_office: Opened) -> None:
        with open_office(QUICK + "[queue]\nat_most = 2\n") as office:
            for number in range(4):
                facts = {"action_id": f"i-{number}", "module_name": "slow", "action_kind": "NO_OP"}
                office.table.outsider.emit("Q_IMPROVEMENT_ACTION", facts)
            office.settle()
            told = {facts.action_id: facts.reason_code for facts in office.heard("Q_ENACTMENT")}
            assert sorted(told) == ["i-0", "i-1", "i-2", "i-3"]
            assert set(told.values()) <= {"no_op", "no_room"}


class TestGates:
    def test_at_first_it_only_says_what_it_would_do(self, tmp_path: Path) -> None:
        StrawOptimiser.world = World()
        with bench(StrawOptimiser, tmp_path) as table:
            office = Office(table, StrawOptimiser.world)
            told = office.enactment(office.propose())
            assert (told.status, told.reason_code, told.mode) == ("SKIPPED", "observed", "observe")
            assert "would set budget of slow from 4 to 6" in told.detail
            assert office.world.daemons["slow"].granted_s is None

    def test_off_says_so(self, open_office: Opened) -> None:
        with open_office(mode="off") as office:
            told = office.enactment(office.propose())
            assert (told.status, told.gate) == ("SKIPPED", "mode")

    def test_dry_run(self, open_office: Opened) -> None:
        with open_office(QUICK.replace("[limits]", "[limits]\ndry_run = true")) as office:
            assert office.enactment(office.propose()).reason_code == "dry_run"

    def test_the_cool_down_is_told_and_counted(self, open_office: Opened) -> None:
        with open_office(QUICK.replace("cool_down_s = 0.0", "cool_down_s = 300.0")) as office:
            assert office.enactment(office.propose()).status == "SUCCESS"
            told = office.enactment(office.propose(parameters={"budget_factor": "1.6"}))
            assert told.status == "RATE_LIMITED"
            sample = office.table.daemon.metrics.registry.get_sample_value
            labels = {"module": "slow", "action_kind": "INCREASE_BUDGET"}
            assert sample("asi_optimiser_actions_rate_limited_total", labels) == 1.0

    def test_one_change_that_is_not_verified_keeps_its_module_busy(self, office: Office) -> None:
        office.propose()
        told = office.enactment(office.propose("REDUCE_LOAD"))
        assert (told.status, told.reason_code) == ("SKIPPED", "conflict")
        assert office.enactment(office.propose("REDUCE_LOAD", "calm")).status == "SUCCESS"

    def test_what_is_beyond_the_quota_waits_for_the_next_window(self, open_office: Opened) -> None:
        with open_office(QUICK.replace("[limits]", "[limits]\nmax_enactments = 1")) as office:
            first, second = office.propose(), office.propose(module="calm")
            assert office.enactment(first).status == "SUCCESS"
            assert [each.action_id for each in office.actions(Stage.QUEUED)] == [second]
            office.advance(20)
            office.beat()
            assert office.enactment(second).status == "SUCCESS"

    def test_nothing_is_changed_while_too_many_are_unhealthy(self, office: Office) -> None:
        office.pass_by(60, slow=5.0, quick=5.0, calm=5.0)
        office.beat()
        told = office.enactment(office.propose(module="semantic_dedup_consumer"))
        assert told.reason_code == "blast_radius"
        assert "blast_radius" in [flag.reason for flag in office.flags()]

    def test_failures_open_the_breaker(self, office: Office) -> None:
        for stem in ("slow", "quick", "calm"):
            office.world.daemons[stem].obeys = False
            assert office.enactment(office.propose(module=stem)).status == "FAILED"
        told = office.enactment(office.propose("REDUCE_LOAD", "semantic_dedup_consumer"))
        assert (told.status, told.gate) == ("RATE_LIMITED", "breaker")


class TestApproval:
    @pytest.fixture
    def office(self, open_office: Opened) -> Iterator[Office]:
        with open_office(mode="approve") as office:
            yield office

    def test_it_waits_for_a_word_and_is_done_on_it(self, office: Office) -> None:
        action_id = office.propose()
        assert not office.heard("Q_ENACTMENT")
        (flag,) = office.flags()
        assert (flag.action_id, flag.reason) == (action_id, "needs_approval")
        answer = office.decide("approve", flag_id=flag.flag_id)
        assert (answer.accepted, answer.action_id, answer.requester) == (True, action_id, "Zoë")
        told = office.enactment(action_id)
        assert (told.status, told.requester) == ("SUCCESS", "Zoë")
        assert office.flags()[0].state is State.APPROVED

    def test_rejected_it_is_not_done(self, office: Office) -> None:
        action_id = office.propose()
        assert office.decide("reject", action_id=action_id).accepted
        told = office.enactment(action_id)
        assert (told.status, told.reason_code) == ("SKIPPED", "rejected")
        assert office.world.daemons["slow"].granted_s is None
        assert not office.decide("approve", action_id=action_id).accepted

    def test_without_a_word_it_is_not_done(self, office: Office) -> None:
        action_id = office.propose()
        office.advance(14_401)
        office.beat()
        told = office.enactment(action_id)
        assert (told.status, told.reason_code) == ("SKIPPED", "not_approved")
        assert [each.state for each in office.flags() if each.reason == "needs_approval"] == [State.EXPIRED]

    def test_acknowledged_it_still_waits(self, office: Office) -> None:
        action_id = office.propose()
        assert office.decide("acknowledge", action_id=action_id).accepted
        assert not office.heard("Q_ENACTMENT")
        assert office.decide("approve", action_id=action_id).accepted
        assert office.enactment(action_id).status == "SUCCESS"

    def test_a_word_under_the_actions_own_id_means_the_action(self, office: Office) -> None:
        for number in range(8):
            action_id = office.propose(action_id=f"i-{number}")
            office.propose(action_id=action_id, rationale="another, under the same id")
            assert office.decide("reject", action_id=action_id).accepted
            assert office.enactment(action_id).reason_code == "rejected"

    def test_approved_late_it_still_has_its_time_to_wait(self, open_office: Opened) -> None:
        narrow = QUICK.replace("window_s = 10.0", "window_s = 600.0\nmax_enactments = 1\nunhealthy_share = 1.0")
        with open_office(narrow, mode="approve") as office:
            first, second = office.propose(), office.propose(module="quick")
            office.advance(7200)
            for action_id in (first, second):
                assert office.decide("approve", action_id=action_id).accepted
            office.advance(601)
            office.beat()
            assert [office.enactment(each).status for each in (first, second)] == ["SUCCESS", "SUCCESS"]

    def test_what_is_not_as_it_was_when_it_was_asked_for_is_not_done(self, open_office: Opened) -> None:
        with open_office(f"{QUICK}".replace("window_s", "unhealthy_share = 1.0\nwindow_s"), mode="approve") as office:
            well = {"slow": 0.1, "quick": 0.1, "calm": 0.1, "semantic_dedup_consumer": 0.1}
            office.pass_by(100, **well)
            tuned = {"metric": "latency_p95_threshold_ms"}
            first = office.propose("TUNE_THRESHOLD", parameters={**tuned, "delta": "0.3"})
            second = office.propose("TUNE_THRESHOLD", parameters={**tuned, "delta": "0.5"})
            office.decide("approve", action_id=second)
            office.pass_by(120, **well)
            office.beat()
            assert office.verdicts() == [("CONFIRMED", "latency_p95_threshold_ms")]
            office.decide("approve", action_id=first)
            told = office.enactment(first)
            assert (told.status, told.reason_code) == ("SKIPPED", "changed_meanwhile")
            assert told.detail == "500 to 650 was approved, and it would now be 750 to 975"

    def test_a_word_on_nothing_is_answered(self, office: Office) -> None:
        answer = office.decide("approve", flag_id="f-0")
        assert not answer.accepted
        assert "nothing waits" in answer.detail


class TestTheKillSwitch:
    def test_by_signal_it_is_remembered_and_announced(self, open_office: Opened) -> None:
        with open_office() as office:
            office.table.say("OPTIMISER_PAUSE", {"reason": "an audit", "requester": "Zoë"})
            office.settle()
            told = office.enactment(office.propose())
            assert (told.status, told.gate) == ("SKIPPED", "paused")
            assert "paused by Zoë: an audit" in told.detail
            state = office.heard("OPTIMISER_STATE")[-1]
            assert (state.state, state.paused) == ("STOPPED", "paused by Zoë: an audit")
        with open_office() as office:
            assert office.enactment(office.propose(module="calm")).gate == "paused"
            office.table.say("OPTIMISER_RESUME", {"requester": "Zoë"})
            assert office.enactment(office.propose(module="quick")).status == "SUCCESS"

    def test_by_file_it_is_noticed_within_a_second_and_nobody_lifts_it_over_the_bus(self, office: Office) -> None:
        office.table.daemon.kill_file.parent.mkdir(parents=True, exist_ok=True)
        office.table.daemon.kill_file.touch()
        office.table.advance(1.0)
        assert office.heard("OPTIMISER_STATE")[-1].state == "STOPPED"
        office.table.say("OPTIMISER_RESUME", {"requester": "Zoë"})
        assert office.enactment(office.propose()).gate == "paused"
        office.table.daemon.kill_file.unlink()
        office.table.advance(1.0)
        assert office.heard("OPTIMISER_STATE")[-1].paused == ""
        assert office.enactment(office.propose(module="calm")).status == "SUCCESS"

    def test_it_is_looked_at_before_each_act(self, office: Office) -> None:
        """The file appears while the first of two actions is done."""
        office.table.daemon.kill_file.parent.mkdir(parents=True, exist_ok=True)
        office.world.on_wait = office.table.daemon.kill_file.touch
        for number, module in enumerate(("slow", "calm")):
            facts = {"action_id": f"i-{number}", "module_name": module, "action_kind": "INCREASE_BUDGET"}
            office.table.outsider.emit("Q_IMPROVEMENT_ACTION", facts)
        office.settle()
        assert office.enactment("i-0").status == "SUCCESS"
        assert office.enactment("i-1").gate == "paused"

    def test_flags_still_pass(self, office: Office) -> None:
        office.table.say("OPTIMISER_PAUSE", {})
        assert office.enactment(office.propose("FLAG_FOR_REVIEW")).status == "SUCCESS"

    def test_a_pause_may_end_by_itself(self, office: Office) -> None:
        until_ts = us_to_seconds(office.table.clock.wall_us()) + 60
        office.table.say("OPTIMISER_PAUSE", {"until_ts": until_ts})
        assert office.enactment(office.propose()).gate == "paused"
        office.advance(61)
        assert office.enactment(office.propose(module="calm")).status == "SUCCESS"
