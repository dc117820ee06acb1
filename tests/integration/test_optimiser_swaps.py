"""Staged versions put in force and taken back by the optimiser, and its register of flags, on a bench."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.optimisers import QUICK, Office, Opened

from kloros.optimisation.flags import State
from kloros.storage import artifacts


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

    def test_a_clock_that_is_set_forward_is_no_restart(self, office: Office) -> None:
        office.promote(office.stage())
        office.pass_by(10, semantic_dedup_consumer=0.1)
        office.table.clock.step_wall(60.0)
        office.advance(1)
        office.advance(1)
        assert office.verdicts() == []
        assert office.current() == "p-1"

    def test_a_clock_that_is_set_back_hides_no_bad_cycle(self, office: Office) -> None:
        office.promote(office.stage())
        office.pass_by(10, semantic_dedup_consumer=0.1)
        office.table.clock.step_wall(-3600.0)
        office.advance(5)
        office.report("semantic_dedup_consumer", 0.1, "failed")
        office.advance(5)
        office.report("semantic_dedup_consumer", 0.1, "failed")
        assert office.verdicts() == [("REVERTED", "version")]
        assert office.current() is None

    def test_what_a_swap_goes_back_to_is_never_pruned(self, office: Office) -> None:
        office.promote(office.stage("p-1"), "c-1")
        office.pass_by(30, semantic_dedup_consumer=0.1)
        office.beat()
        staged = [office.stage(f"p-{number}", text=f"a = {number}\n".encode()) for number in range(2, 8)]
        office.promote(staged[-1], "c-7")
        assert artifacts.prune(office.root, "semantic_dedup", keep=2)
        office.advance(5)
        office.report("semantic_dedup_consumer", 0.1, "failed")
        assert office.verdicts() == [("CONFIRMED", "version"), ("REVERTED", "version")]
        assert office.current() == "p-1"

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

    def test_the_least_severe_gives_way_to_a_worse_one_of_somebody_elses(self, open_office: Opened) -> None:
        with open_office(f"{QUICK}[flags]\nat_most = 2\n") as office:
            for flag_id, severity in (("f-1", "low"), ("f-2", "low"), ("f-3", "critical"), ("f-4", "low")):
                told = {"flag_id": flag_id, "rationale": flag_id, "severity": severity, "fingerprint": flag_id}
                office.table.say("FLAG_FOR_REVIEW", told)
                office.settle()
            live = [flag.flag_id for flag in office.flags() if flag.is_live]
            assert "f-3" in live
            assert len(live) == 2

    def test_one_that_comes_with_others_is_counted_once(self, open_office: Opened) -> None:
        with open_office(f"{QUICK}[flags]\nat_most = 8\n", mode="observe") as office:
            action_id = office.propose("NO_OP")
            for number in range(4):
                told = {"flag_id": f"f-{number}", "rationale": "x", "severity": "high", "fingerprint": f"{number}"}
                office.table.outsider.emit("FLAG_FOR_REVIEW", told)
            other = {"action_id": action_id, "module_name": "slow", "action_kind": "NO_OP", "priority": 0.9}
            office.table.outsider.emit("Q_IMPROVEMENT_ACTION", {**other, "rationale": "another"})
            office.settle()
            assert sorted(flag.reason for flag in office.flags()) == ["", "", "", "", "same_id"]
