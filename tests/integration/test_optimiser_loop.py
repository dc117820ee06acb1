"""The loop of the optimiser closed, on a bench: what is found, done, verified and taken back, and each effect."""

from __future__ import annotations

import pytest
from support.optimisers import QUICK, Office, Opened, StrawOptimiser, World, slowed

from kloros.optimisation.round import REPORT, Report


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
