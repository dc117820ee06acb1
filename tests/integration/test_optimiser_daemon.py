"""The optimiser on a bench: each gate and effect, the loop closed, and everything that a bus can bring along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.bench import bench
from support.optimisers import QUICK, Office, StrawOptimiser, World, modes

from kloros.clock import VirtualClock, us_to_seconds
from kloros.optimisation.flags import State
from kloros.optimisation.model import Verdict
from kloros.optimisation.round import REPORT, Report
from kloros.optimisation.store import Stage

Opened = Callable[..., AbstractContextManager[Office]]


def opener(folder: Path) -> Opened:
    world, clock = World(), VirtualClock()

    @contextmanager
    def opened(settings: str = QUICK, mode: str = "auto", **more: Any) -> Iterator[Office]:
        StrawOptimiser.world = world
        path = folder / "config" / "optimiser_config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{modes(mode)}{settings}")
        with bench(StrawOptimiser, folder, clock, **more) as table:
            yield Office(table, world)

    return opened


@pytest.fixture
def open_office(tmp_path: Path) -> Opened:
    return opener(tmp_path)


@pytest.fixture
def office(open_office: Opened) -> Iterator[Office]:
    with open_office() as office:
        yield office


def slowed(office: Office, duration_s: float = 1.0, before_s: float = 0.1) -> None:
    """A module was quick for long, and is slow now; the others are well."""
    well = {"quick": 0.1, "calm": 0.1, "semantic_dedup_consumer": 0.1}
    office.pass_by(100, slow=before_s, **well)
    office.beat()
    office.pass_by(300, slow=duration_s, **well)
    office.beat()


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


class TestTheLoop:
    def test_a_slow_daemon_is_found_and_the_least_costly_thing_that_fits_is_done_and_confirmed(
        self, open_office: Opened
    ) -> None:
        with open_office(QUICK + "[profile]\nwindow_s = 60.0\n[detector]\nspike_ratio_threshold = 1000.0\n") as office:
            office.world.daemons["slow"].own_s = 1.1
            slowed(office)
            (proposed,) = office.heard("Q_IMPROVEMENT_ACTION")
            assert (proposed.action_kind, proposed.module_name) == ("INCREASE_BUDGET", "slow")
            told = office.enactment(proposed.action_id)
            assert (told.status, told.before, told.source) == ("SUCCESS", 1.1, "planner")
            assert told.after == pytest.approx(1.65)
            office.pass_by(90, slow=0.3)
            office.beat()
            (report,) = office.heard("Q_REFLECTION_REPORT")
            assert (report.verdict, report.action_id) == ("CONFIRMED", proposed.action_id)
            assert office.world.daemons["slow"].granted_s == told.after

    def test_a_spike_is_answered_with_the_least_costly_of_all(self, open_office: Opened) -> None:
        with open_office(QUICK + "[profile]\nwindow_s = 60.0\n") as office:
            slowed(office, duration_s=0.4)
            told = office.enactment(office.heard("Q_IMPROVEMENT_ACTION")[0].action_id)
            assert (told.action_kind, told.status, told.before) == ("TUNE_THRESHOLD", "SUCCESS", 2.0)
            assert told.after == pytest.approx(2.2)

    def test_a_worsening_is_taken_back_to_the_exact_value(self, open_office: Opened) -> None:
        with open_office(QUICK + "[profile]\nwindow_s = 60.0\n[detector]\nspike_ratio_threshold = 1000.0\n") as office:
            office.world.daemons["slow"].own_s = 1.05
            slowed(office)
            assert office.world.daemons["slow"].granted_s == pytest.approx(1.575)
            office.pass_by(90, slow=3.0)
            office.beat()
            (report,) = office.heard("Q_REFLECTION_REPORT")
            assert (report.verdict, report.is_restored) == ("REVERTED", True)
            assert (office.world.daemons["slow"].granted_s, office.world.daemons["slow"].own_s) == (None, 1.05)

    def test_what_nothing_speaks_for_ends_with_its_lease(self, office: Office) -> None:
        office.propose()
        office.advance(601)
        office.beat()
        (report,) = office.heard("Q_REFLECTION_REPORT")
        assert (report.verdict, report.is_restored) == ("INCONCLUSIVE", True)
        assert office.world.daemons["slow"].granted_s is None

    def test_more_time_is_not_given_to_who_does_not_use_what_it_has_and_a_person_is_asked(
        self, open_office: Opened
    ) -> None:
        with open_office(QUICK + "[profile]\nwindow_s = 60.0\n") as office:
            slowed(office)
            proposed = office.heard("Q_IMPROVEMENT_ACTION")
            assert {each.action_kind for each in proposed} == {"FLAG_FOR_REVIEW"}
            assert "cannot help" in office.flags()[0].rationale
            assert not office.changes()

    def test_a_flag_about_a_weakness_ends_when_the_module_is_well_again_and_nobody_elses_does(
        self, open_office: Opened
    ) -> None:
        with open_office(QUICK + "[profile]\nwindow_s = 60.0\n") as office:
            by_hand = office.enactment(office.propose("FLAG_FOR_REVIEW", rationale="look at this")).flag_id
            slowed(office)
            weak = {flag.flag_id for flag in office.flags()} - {by_hand}
            assert weak
            for _ in range(3):
                office.pass_by(60, slow=0.1, quick=0.1, calm=0.1, semantic_dedup_consumer=0.1)
                office.beat()
            assert {(told.flag_id, told.reason) for told in office.heard("FLAG_CLOSED")} == {
                (flag_id, "slow is well again") for flag_id in weak
            }
            assert [flag.flag_id for flag in office.flags() if flag.is_live] == [by_hand]

    def test_what_did_not_help_is_not_done_again_and_a_person_is_asked(self, open_office: Opened) -> None:
        settings = QUICK + "[profile]\nwindow_s = 60.0\n[detector]\nspike_ratio_threshold = 1000.0\n"
        with open_office(settings) as office:
            office.world.daemons["slow"].own_s = 1.1
            slowed(office)
            for _ in range(40):
                office.pass_by(60, slow=1.0, quick=0.1, calm=0.1, semantic_dedup_consumer=0.1)
                office.beat()
            assert office.verdicts() == [("INCONCLUSIVE", "budget")]
            assert "did not help lately" in office.flags()[0].rationale

    def test_what_passes_by_itself_is_left_alone(self, open_office: Opened) -> None:
        settings = QUICK + "[profile]\nwindow_s = 300.0\n"
        with open_office(settings) as office:
            office.world.daemons["slow"].own_s = 1.1
            others = {"quick": 0.1, "calm": 0.1, "semantic_dedup_consumer": 0.1}
            for seconds, duration_s in ((300, 0.1), (80, 1.5), (600, 0.1)):
                office.pass_by(seconds, slow=duration_s, **others)
            assert not office.heard("Q_IMPROVEMENT_ACTION")

    def test_observing_says_it_once_and_not_at_each_beat(self, open_office: Opened) -> None:
        settings = QUICK.replace("propose_again_s = 60.0", "propose_again_s = 3600.0") + "[profile]\nwindow_s = 60.0\n"
        with open_office(settings, mode="observe") as office:
            office.world.daemons["slow"].own_s = 1.1
            slowed(office)
            before = len(office.heard("Q_ENACTMENT"))
            assert before >= 1
            for _ in range(3):
                office.pass_by(60, slow=1.0, quick=0.1, calm=0.1, semantic_dedup_consumer=0.1)
                office.beat()
            assert len(office.heard("Q_ENACTMENT")) == before
            assert {facts.reason_code for facts in office.heard("Q_ENACTMENT")} == {"observed"}

    def test_silence_is_told_to_a_person_also_of_who_beats_rarely(self, open_office: Opened) -> None:
        with open_office(QUICK + "[profile]\nwindow_s = 60.0\n") as office:
            others = {"quick": 0.1, "calm": 0.1, "semantic_dedup_consumer": 0.1}
            office.pass_by(100, slow=0.1, **others)
            office.pass_by(60, **others)
            office.beat()
            assert [(flag.module, "nothing is heard" in flag.rationale) for flag in office.flags()] == [("slow", True)]

    def test_who_has_rare_cycles_is_judged_by_its_last_ones(self, open_office: Opened) -> None:
        with open_office(QUICK + "[profile]\nwindow_s = 10.0\n") as office:
            office.pass_by(60, every_s=10.0, slow=5.0)
            office.beat()
            report = office.table.daemon.store.get(REPORT, Report)
            assert report is not None
            assert ("slow", 5) in [(each.module_name, each.calls) for each in report.modules]
            assert "slow" in report.unhealthy

    def test_who_was_slowed_down_may_do_less(self, open_office: Opened) -> None:
        with open_office(QUICK + "[profile]\nwindow_s = 60.0\n[detector]\nmin_throughput_rps = 0.15\n") as office:
            for pace, weak in ((1.0, True), (0.5, False)):
                office.world.paces["slow"] = pace
                office.pass_by(80, every_s=10.0, slow=0.1)
                office.beat()
                report = office.table.daemon.store.get(REPORT, Report)
                assert report is not None
                kinds = {each.kind for each in report.weaknesses if each.module_name == "slow"}
                assert ("LOW_THROUGHPUT" in kinds) is weak

    def test_it_does_not_judge_itself(self, office: Office) -> None:
        office.report("optimiser", 100.0, count=50)
        office.beat()
        assert not office.heard("Q_IMPROVEMENT_ACTION")


class TestEffects:
    def test_a_threshold_is_one_that_the_detector_really_reads(self, open_office: Opened) -> None:
        settings = QUICK.replace("min_samples = 5", "min_samples = 3") + "[detector]\nspike_ratio_threshold = 1000.0\n"
        with open_office(settings) as office:
            action_id = office.propose(
                "TUNE_THRESHOLD", parameters={"metric": "latency_p95_threshold_ms", "delta": "0.5"}
            )
            told = office.enactment(action_id)
            assert (told.before, told.after, told.status) == (500.0, 750.0, "SUCCESS")
            office.pass_by(60, slow=0.7, quick=0.7)
            office.beat()
            report = office.table.daemon.store.get(REPORT, Report)
            assert report is not None
            assert [each.module_name for each in report.weaknesses] == ["quick"]

    def test_a_step_and_all_steps_together_have_bounds(self, office: Office) -> None:
        told = office.enactment(office.propose(parameters={"budget_factor": "50"}))
        assert (told.status, told.after) == ("PARTIAL", 8.0)
        office.report("slow", 1.0, count=10)
        office.pass_by(60, slow=1.0)
        office.beat()

    def test_load_is_reduced_by_a_leased_pace_and_comes_back(self, office: Office) -> None:
        office.report("slow", 1.0, count=10)
        told = office.enactment(office.propose("REDUCE_LOAD", parameters={"pace": "0.5"}))
        assert (told.status, told.before, told.after) == ("SUCCESS", 1.0, 0.5)
        wish = office.heard("Q_SCHEDULE_CONTROL")[-1]
        assert (wish.op, wish.schedule, wish.value) == ("set_pace", "slow", 0.5)
        assert wish.ttl_s == pytest.approx(900.0)
        assert office.world.paces["slow"] == 0.5
        office.pass_by(60, slow=3.0)
        office.beat()
        assert office.verdicts() == [("REVERTED", "pace")]
        assert office.world.paces["slow"] == 1.0

    def test_without_a_scheduler_no_pace_is_changed(self, open_office: Opened) -> None:
        StrawOptimiser.world = World()
        with open_office() as office:
            office.world.has_scheduler = False
            office.table.daemon._live.ticked_s = None
            assert office.enactment(office.propose("REDUCE_LOAD")).reason_code == "not_there"

    def test_a_daemon_that_was_restarted_is_told_its_budget_again(self, office: Office) -> None:
        office.propose()
        office.world.daemons["slow"].granted_s = None
        office.beat()
        assert office.world.daemons["slow"].granted_s == 6.0
        assert not office.heard("Q_REFLECTION_REPORT")


class TestHotSwap:
    def test_a_staged_version_comes_into_force_and_is_confirmed(self, office: Office) -> None:
        staged = office.stage()
        action_id = office.promote(staged)
        told = office.enactment(action_id)
        assert (told.status, told.before, told.after) == ("SUCCESS", "", "p-1")
        assert office.current() == "p-1"
        assert office.world.helper.restarted == ["kloros-semantic-dedup-consumer.service"]
        office.pass_by(30, semantic_dedup_consumer=0.1)
        office.beat()
        assert office.verdicts() == [("CONFIRMED", "version")]
        assert office.current() == "p-1"
        assert not office.flags()

    def test_one_is_not_confirmed_before_it_was_compared(self, office: Office) -> None:
        office.pass_by(60, semantic_dedup_consumer=0.1)
        office.promote(office.stage())
        office.pass_by(25, semantic_dedup_consumer=0.3)
        office.beat()
        assert office.verdicts() == []
        office.pass_by(30, semantic_dedup_consumer=0.3)
        office.beat()
        assert office.verdicts() == [("REVERTED", "version")]
        assert office.current() is None

    def test_one_that_does_not_come_up_goes_back_at_once(self, office: Office) -> None:
        office.world.daemons["semantic_dedup_consumer"].broken_by = {"p-2"}
        office.promote(office.stage("p-1"), "c-1")
        office.pass_by(30, semantic_dedup_consumer=0.1)
        office.beat()
        began_s = office.table.clock.monotonic_s()
        told = office.enactment(office.promote(office.stage("p-2", text=b"a = 2\n"), "c-2"))
        assert office.table.clock.monotonic_s() - began_s < 30
        assert (told.status, told.reason_code) == ("FAILED", "not_made")
        assert office.current() == "p-1"
        assert office.world.daemons["semantic_dedup_consumer"].lives
        assert [flag.reason for flag in office.flags()] == ["swap_reverted"]
        assert office.verdicts() == [("CONFIRMED", "version"), ("REVERTED", "version")]

    @pytest.mark.parametrize("outcome", ["failed", "hung"])
    def test_one_bad_cycle_on_probation_brings_the_old_version_back_within_the_second(
        self, office: Office, outcome: str
    ) -> None:
        office.promote(office.stage())
        office.pass_by(10, semantic_dedup_consumer=0.1)
        office.report("semantic_dedup_consumer", 0.1, outcome)
        assert office.verdicts() == [("REVERTED", "version")]
        assert office.current() is None
        assert len(office.world.helper.restarted) == 2
        assert len(office.heard("FLAG_FOR_REVIEW")) == 1

    def test_one_that_is_started_anew_on_probation_goes_back(self, office: Office) -> None:
        office.promote(office.stage())
        office.advance(5)
        told = office.world.daemons["semantic_dedup_consumer"]
        told.began_s, told.pid = office.table.clock.monotonic_s(), 999
        office.advance(1)
        assert office.verdicts() == [("REVERTED", "version")]
        assert office.current() is None

    def test_one_that_falls_silent_on_probation_goes_back(self, office: Office) -> None:
        office.promote(office.stage())
        office.advance(5)
        office.world.daemons["semantic_dedup_consumer"].lives = False
        for _ in range(6):
            office.advance(5)
        assert office.verdicts() == [("REVERTED", "version")]
        assert office.current() is None

    def test_the_tournaments_own_proposal_waits_for_the_shadow(self, office: Office) -> None:
        told = office.enactment(office.promote(office.stage(), parameters={"source": "tournament"}))
        assert (told.status, told.reason_code) == ("SKIPPED", "not_tried")
        assert "shadow has tried it" in told.detail
        assert not office.flags()
        assert office.current() is None

    @pytest.mark.parametrize("source", ["", "planner", "mallory"])
    def test_nobody_else_may_propose_a_swap(self, office: Office, source: str) -> None:
        told = office.enactment(office.promote(office.stage(), parameters={"source": source}))
        assert (told.status, told.reason_code) == ("SKIPPED", "not_tried")
        assert [flag.reason for flag in office.flags()] == ["not_tried"]

    def test_a_persons_version_needs_no_trial(self, office: Office) -> None:
        staged = office.stage()
        given = {"artifact": staged.name, "sha256": staged.sha256, "source": "operator"}
        told = office.enactment(office.propose("HOT_SWAP_MODULE", "semantic_dedup", parameters=given))
        assert (told.status, office.current()) == ("SUCCESS", "p-1")
        office.pass_by(10, semantic_dedup_consumer=0.1)
        office.report("semantic_dedup_consumer", 0.1, "failed")
        assert office.verdicts() == [("REVERTED", "version")]

    @pytest.mark.parametrize("verdict", ["rolled_back", "expired", "refused"])
    def test_the_shadows_word_must_have_been_heard(self, office: Office, verdict: str) -> None:
        told = office.enactment(office.promote(office.stage(), verdict=verdict))
        assert (told.status, told.reason_code) == ("SKIPPED", "no_verdict")
        assert office.current() is None

    def test_a_manifest_that_does_not_match_is_refused_and_flagged(self, office: Office) -> None:
        told = office.enactment(office.promote(office.stage(), parameters={"sha256": "0" * 64}))
        assert (told.status, told.reason_code) == ("SKIPPED", "artifact_refused")
        assert [flag.reason for flag in office.flags()] == ["artifact_refused"]
        assert office.current() is None

    def test_a_file_that_was_changed_is_refused_and_flagged(self, office: Office) -> None:
        staged = office.stage()
        (office.root / staged.name / "parameters.toml").write_bytes(b"a = 3\n")
        assert office.enactment(office.promote(staged)).reason_code == "artifact_refused"
        assert office.current() is None

    def test_a_version_that_is_a_link_to_elsewhere_is_refused(self, office: Office, tmp_path: Path) -> None:
        staged = office.stage()
        (office.root / "semantic_dedup" / "p-9").symlink_to(office.root / "semantic_dedup" / "p-1")
        action_id = office.promote(staged._replace(version="p-9"))
        assert office.enactment(action_id).reason_code == "artifact_refused"

    def test_a_module_that_is_not_on_the_list_is_refused_and_flagged(self, office: Office) -> None:
        told = office.enactment(office.promote(office.stage(module="slow")))
        assert told.reason_code == "not_swappable"
        assert [flag.reason for flag in office.flags()] == ["not_swappable"]

    def test_without_the_helper_it_is_refused_and_flagged(self, office: Office) -> None:
        office.world.helper.is_there = False
        told = office.enactment(office.promote(office.stage()))
        assert (told.status, told.reason_code) == ("SKIPPED", "no_helper")
        assert [flag.reason for flag in office.flags()] == ["no_helper"]
        assert office.current() is None

    def test_a_swap_and_a_change_of_its_daemon_are_in_each_others_way(self, office: Office) -> None:
        office.promote(office.stage())
        told = office.enactment(office.propose(module="semantic_dedup_consumer"))
        assert told.reason_code == "conflict"


class TestTheRegisterOfFlags:
    ELSEWHERE = {"flag_id": "f-1", "rationale": "a disk", "fingerprint": "0123456789abcdef", "severity": "high"}

    def test_it_knows_the_flags_of_others_and_counts_none_twice(self, office: Office) -> None:
        office.table.say("FLAG_FOR_REVIEW", self.ELSEWHERE)
        office.table.say("FLAG_FOR_REVIEW", {**self.ELSEWHERE, "count": 5})
        office.propose("FLAG_FOR_REVIEW")
        assert sorted((flag.source, flag.count) for flag in office.flags()) == [("bus", 5), ("optimiser", 1)]
        office.table.say("FLAG_CLOSED", {"flag_id": "f-1", "reason": "it is mended"})
        office.settle()
        (closed,) = [flag for flag in office.flags() if flag.source == "bus"]
        assert (closed.state, closed.decided_reason) == (State.CLOSED, "it is mended")

    def test_people_decide_and_what_comes_back_is_opened_again(self, office: Office) -> None:
        office.propose("FLAG_FOR_REVIEW")
        (flag,) = office.flags()
        assert office.decide("acknowledge", flag_id=flag.flag_id).accepted
        assert office.flags()[0].state is State.ACKNOWLEDGED
        assert office.decide("reject", flag_id=flag.flag_id, reason="it is nothing").accepted
        assert [facts.reason for facts in office.heard("FLAG_CLOSED")] == ["it is nothing"]
        assert not office.decide("approve", flag_id=flag.flag_id).accepted
        office.propose("FLAG_FOR_REVIEW")
        (again,) = office.flags()
        assert (again.flag_id, again.state, again.count) == (flag.flag_id, State.REOPENED, 2)

    def test_what_nobody_looks_at_expires(self, office: Office) -> None:
        office.propose("FLAG_FOR_REVIEW")
        office.advance(2_592_001)
        office.beat()
        assert [each.state for each in office.flags() if each.module == "slow"] == [State.EXPIRED]

    def test_they_have_bounds(self, open_office: Opened) -> None:
        with open_office(QUICK + "[flags]\nat_most = 2\n") as office:
            words = ("disks", "fans", "doors")
            for word in words:
                office.propose("FLAG_FOR_REVIEW", rationale=word)
            assert {flag.rationale for flag in office.flags()} == {"disks", "fans"}
            told = office.enactment(office.propose("FLAG_FOR_REVIEW", rationale="fire", priority=1.0))
            assert told.status == "SUCCESS"
            live = {flag.rationale for flag in office.flags() if flag.is_live}
            assert live == {"fans", "fire"}
