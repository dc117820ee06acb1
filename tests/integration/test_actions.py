"""The action consumer in virtual time, with kinds of straw: what it takes up, does, says and leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from support.actions import HELPED, NO_HELP, NOT_YET, Desk, Straw, StrawConsumer
from support.bench import bench

from kloros.chembus.memory import MemoryHub
from kloros.clock import VirtualClock
from kloros.config import load, read_toml
from kloros.consumers.action import store
from kloros.consumers.action.action import Action, Stage, State
from kloros.consumers.action.kinds.base import Hand, NotDone, TooSlow, Unfit
from kloros.consumers.action.settings import ActionSettings
from kloros.errors import HelperAway, HelperRefused

CONFIG = Path(__file__).parents[2] / "config/action_consumer_config.toml"
Opened = Callable[..., AbstractContextManager[Desk]]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """A desk with these settings; opened again, it is the same daemon in another life."""
    clock, hub = VirtualClock(), MemoryHub()
    monkeypatch.setattr(StrawConsumer, "straw", {})

    @contextmanager
    def open_desk(settings: str = "") -> Iterator[Desk]:
        config = tmp_path / "config"
        config.mkdir(exist_ok=True)
        (config / "action_consumer_config.toml").write_text(settings)
        with bench(StrawConsumer, tmp_path, clock, hub=hub) as table:
            table.settle()
            yield Desk(table)

    return open_desk


def mode(mode: str, kind: str = "restart_unit") -> str:
    return f'[kinds.{kind}]\nmode = "{mode}"\n'


def test_the_shipped_settings_are_the_defaults_and_explain_every_key() -> None:
    assert load(CONFIG, ActionSettings) == ActionSettings()
    shipped = read_toml(CONFIG)
    for section in ActionSettings.__struct_fields__:
        assert shipped[section].keys() == set(getattr(ActionSettings(), section).__struct_fields__)
    for kind, table in shipped["kinds"].items():
        assert table.keys() == set(ActionSettings().kinds.of(kind).__struct_fields__)  # type: ignore[union-attr]


# Modes


def test_by_default_it_only_says_what_it_would_do(opened: Opened) -> None:
    with opened() as desk:
        desk.recommend()
        (taken,) = desk.heard("Q_ACTION_SPAWNED")
        assert (taken.action_type, taken.target, taken.mode, taken.gap_id) == (
            "restart_unit", "web.service", "observe", "gap of web.service",
        )  # fmt: skip
        assert desk.heard("Q_ACTION_COMPLETE") == []
        desk.beat()
        (ended,) = desk.heard("Q_ACTION_COMPLETE")
        assert (ended.outcome, ended.verified, ended.detail) == ("observed", None, "would restart web.service")
        (flag,) = desk.heard("FLAG_FOR_REVIEW")
        assert "would restart web.service" in flag.rationale
        assert "it hangs" in flag.rationale
        assert "systemctl restart web.service" in flag.cure
        assert "kloros actions mode restart_unit approve" in flag.cure
        assert (flag.evidence, flag.action_id, flag.severity) == (["state=active"], taken.action_id, "high")
        assert desk.straw["restart_unit"].acted == []


def test_in_auto_it_acts_at_the_beat_and_says_whether_it_helped(opened: Opened) -> None:
    with opened(mode("auto")) as desk:
        desk.recommend()
        desk.beat()
        assert desk.straw["restart_unit"].acted == ["web.service"]
        (ended,) = desk.heard("Q_ACTION_COMPLETE")
        assert (ended.outcome, ended.verified, ended.detail) == ("helped", True, "it is well")
        assert desk.heard("FLAG_FOR_REVIEW") == []
        (kept,) = desk.actions(Stage.ENDED)
        assert kept.confirmed_us is None
        desk.restore()
        (kept,) = desk.actions(Stage.ENDED)
        assert kept.confirmed_us is not None


@pytest.mark.parametrize("kind", ["restart_unit", "reboot_host", "rm -rf /"])
def test_what_is_off_or_unknown_is_never_taken_up_and_flagged(opened: Opened, kind: str) -> None:
    with opened(mode("off")) as desk:
        desk.recommend(kind)
        desk.beat()
        assert desk.heard("Q_ACTION_SPAWNED") == []
        assert desk.outcomes() == [("web.service", "refused")]
        assert len(desk.heard("FLAG_FOR_REVIEW")) == 1


@pytest.mark.parametrize(
    "told",
    [{"confidence": 0.4}, {"confidence": None}, {"target": "db.socket"}, {"target": "x\n.service"}, {"target": ""}],
)
def test_what_is_not_sure_or_no_target_of_its_kind_is_not_done(opened: Opened, told: dict[str, object]) -> None:
    with opened(mode("auto")) as desk:
        desk.recommend(**told)  # type: ignore[arg-type]
        desk.beat()
        assert [outcome for _, outcome in desk.outcomes()] == ["refused"]
        assert len(desk.heard("FLAG_FOR_REVIEW")) == 1
        assert not any(straw.acted for straw in desk.straw.values())


def test_an_action_keeps_the_stricter_of_two_modes(opened: Opened) -> None:
    with opened(mode("observe")) as desk:
        desk.recommend(target="a.service")
    with opened(mode("auto")) as desk:
        desk.recommend(target="b.service")
    with opened(mode("observe")) as desk:
        desk.beat()
        assert sorted(desk.outcomes()) == [("a.service", "observed"), ("b.service", "observed")]
        desk.recommend(target="c.service")
    with opened(mode("auto")) as desk:
        desk.beat()
        assert ("c.service", "observed") in desk.outcomes()
        desk.recommend(target="d.service")
    with opened(mode("approve")) as desk:
        desk.beat()
        (waiting,) = desk.actions(Stage.WAITING)
        assert (waiting.target, waiting.mode) == ("d.service", "approve")
        assert waiting.expires_us is not None
    assert not any(straw.acted for straw in desk.straw.values())


# Approval


def test_an_approved_action_is_done_at_the_next_beat_and_names_who_approved(opened: Opened) -> None:
    with opened(mode("approve")) as desk:
        desk.recommend()
        (taken,) = desk.heard("Q_ACTION_SPAWNED")
        assert taken.expires_ts == pytest.approx(desk.table.clock.wall_us() / 1e6 + 14_400)
        desk.beat()
        assert desk.outcomes() == []
        answer = desk.decide(taken.action_id)
        assert (answer.accepted, answer.requester, answer.action_id) == (True, "Zoë", taken.action_id)
        assert "next beat" in answer.detail
        assert desk.straw["restart_unit"].acted == []
        assert desk.decide(taken.action_id).accepted is False
        desk.beat()
        assert desk.straw["restart_unit"].acted == ["web.service"]
        (ended,) = desk.heard("Q_ACTION_COMPLETE")
        assert (ended.outcome, ended.requester, ended.mode) == ("helped", "Zoë", "approve")
        assert "ended already" in desk.decide(taken.action_id).detail


def test_a_rejected_action_ends_and_needs_nobody_any_more(opened: Opened) -> None:
    with opened(mode("approve")) as desk:
        desk.recommend()
        (waiting,) = desk.actions(Stage.WAITING)
        assert desk.decide(waiting.action_id, "reject", reason="not now").accepted is True
        desk.beat()
        (ended,) = desk.heard("Q_ACTION_COMPLETE")
        assert (ended.outcome, ended.requester) == ("rejected", "Zoë")
        assert "not now" in ended.detail
        assert desk.heard("FLAG_FOR_REVIEW") == []
        assert desk.straw["restart_unit"].acted == []


@pytest.mark.parametrize("decides", [False, True])
def test_what_nobody_approved_in_time_is_not_done(opened: Opened, decides: bool) -> None:
    with opened(mode("approve") + "[approvals]\nvalid_s = 60.0\n") as desk:
        desk.recommend()
        (waiting,) = desk.actions(Stage.WAITING)
        desk.table.clock.advance(60.0)
        if decides:
            assert desk.decide(waiting.action_id).accepted is False
        desk.beat()
        desk.beat()
        assert desk.outcomes() == [("web.service", "expired")]
        assert len(desk.heard("FLAG_FOR_REVIEW")) == 1
        assert desk.straw["restart_unit"].acted == []


def test_a_decision_on_what_waits_for_nobody_is_refused_and_said(opened: Opened) -> None:
    with opened(mode("auto")) as desk:
        desk.recommend()
        (queued,) = desk.actions(Stage.QUEUED)
        assert "mode auto" in desk.decide(queued.action_id).detail
        assert "no action" in desk.decide("a-00000000").detail
        assert "no action" in desk.decide(queued.action_id[:4]).detail
        assert [answer.accepted for answer in desk.heard("Q_ACTION_DECIDED")] == [False] * 3


# Folding, queue, order


def test_the_same_recommendation_twice_is_one_action_and_of_another_question_folded(opened: Opened) -> None:
    with opened(mode("auto")) as desk:
        question = desk.recommend()
        desk.recommend(question_id=question)
        desk.recommend(gap="another finding", severity="critical")
        (queued,) = desk.actions(Stage.QUEUED)
        assert (queued.asked, queued.severity) == (2, "critical")
        desk.restore()
        assert len(desk.actions(Stage.QUEUED)) == 1
        desk.restore("another finding")
        assert desk.outcomes() == [("web.service", "withdrawn")]
        assert len(desk.heard("Q_ACTION_SPAWNED")) == 1


def test_a_full_queue_refuses_the_least_valuable_and_counts(opened: Opened) -> None:
    with opened(mode("auto") + "[queue]\nat_most = 3\n") as desk:
        for severity in ("low", "high", "medium"):
            desk.recommend(target=f"{severity}.service", severity=severity)
        desk.recommend(target="critical.service", severity="critical")
        desk.recommend(target="info.service", severity="info")
        assert desk.outcomes() == [("low.service", "refused"), ("info.service", "refused")]
        assert desk.table.daemon.counters["queue_refusals"] == 2
        desk.beat()
        assert desk.straw["restart_unit"].acted == ["critical.service", "high.service", "medium.service"]


def test_an_ended_finding_withdraws_what_waits_closes_its_flags_and_makes_late_words_moot(opened: Opened) -> None:
    with opened(mode("approve")) as desk:
        desk.recommend()
        desk.recommend(None)
        (flag,) = desk.heard("FLAG_FOR_REVIEW")
        desk.restore()
        assert desk.outcomes() == [("web.service", "withdrawn")]
        assert [(closed.flag_id, closed.gap_id) for closed in desk.heard("FLAG_CLOSED")] == [
            (flag.flag_id, "gap of web.service")
        ]
        desk.recommend()
        desk.recommend(None)
        assert len(desk.heard("Q_ACTION_SPAWNED")) == 1
        desk.reopen()
        desk.recommend()
        assert len(desk.heard("Q_ACTION_SPAWNED")) == 2


# Flags


def test_the_same_trouble_raises_a_count_that_is_told_at_steps(opened: Opened) -> None:
    with opened() as desk:
        for _ in range(12):
            desk.recommend(None)
        flags = desk.heard("FLAG_FOR_REVIEW")
        assert [flag.count for flag in flags] == [1, 2, 5, 10]
        assert len({flag.flag_id for flag in flags}) == len({flag.fingerprint for flag in flags}) == 1
        desk.recommend(None, severity="critical")
        assert [flag.severity for flag in desk.heard("FLAG_FOR_REVIEW")][-1] == "critical"
        desk.restore()
        desk.reopen()
        desk.recommend(None)
        again = desk.heard("FLAG_FOR_REVIEW")[-1]
        assert (again.count, again.fingerprint) == (1, flags[0].fingerprint)
        assert again.flag_id != flags[0].flag_id


@pytest.mark.parametrize("status", ["concluded", "inconclusive", "failed", "timed_out", "suppressed", "refused"])
def test_an_investigation_without_advice_is_a_flag_unless_it_is_of_little_weight(opened: Opened, status: str) -> None:
    with opened() as desk:
        desk.recommend(None, status=status, severity="low", gap="a")
        assert desk.heard("FLAG_FOR_REVIEW") == []
        assert desk.table.daemon.counters["conclusions_not_flagged"] == 1
        desk.recommend(None, status=status, severity="medium", gap="b", cure="free some space")
        (flag,) = desk.heard("FLAG_FOR_REVIEW")
        assert (flag.cure, flag.gap_id) == ("free some space", "gap of b")


def test_a_withdrawn_investigation_is_nothing(opened: Opened) -> None:
    with opened() as desk:
        desk.recommend(None, status="withdrawn")
        assert desk.heard("FLAG_FOR_REVIEW") == []


def test_too_many_flags_make_room_for_worse_ones_and_the_refused_are_counted(opened: Opened) -> None:
    with opened("[queue]\nflags_at_most = 2\n") as desk:
        desk.recommend(None, gap="a", severity="medium")
        desk.recommend(None, gap="b", severity="high")
        desk.recommend(None, gap="c", severity="critical")
        desk.recommend(None, gap="d", severity="medium")
        assert [flag.gap_id for flag in desk.heard("FLAG_FOR_REVIEW")] == ["gap of a", "gap of b", "gap of c"]
        assert [closed.gap_id for closed in desk.heard("FLAG_CLOSED")] == ["gap of a"]
        assert desk.table.daemon.counters["flags_refused"] == 1


# What goes wrong


@pytest.mark.parametrize(
    ("straw", "outcome", "undone"),
    [
        (Straw(unfit=Unfit("it is well")), "refused", []),
        (Straw(unfit=ValueError("a fault of its own")), "refused", []),
        (Straw(fails=HelperRefused(reason="not in the policy")), "refused", []),
        (Straw(fails=HelperAway(path="/run", reason="nobody")), "refused", []),
        (Straw(fails=NotDone("no"), inverse="taken back"), "failed", ["web.service"]),
        (Straw(fails=TooSlow("slow"), inverse="taken back"), "timed_out", ["web.service"]),
        (Straw(fails=KeyError("a fault of its own"), inverse="taken back"), "failed", ["web.service"]),
        (Straw(judgement=NO_HELP, inverse="taken back"), "no_help", ["web.service"]),
    ],
)
def test_what_goes_wrong_is_taken_back_said_and_flagged(
    opened: Opened, straw: Straw, outcome: str, undone: list[str]
) -> None:
    with opened(mode("auto")) as desk:
        desk.straw["restart_unit"] = straw
        desk.recommend()
        desk.beat()
        (ended,) = desk.heard("Q_ACTION_COMPLETE")
        assert ended.outcome == outcome
        assert ended.verified is (False if undone else None)
        assert straw.undone == undone
        assert ("taken back" in ended.detail) == bool(undone)
        (flag,) = desk.heard("FLAG_FOR_REVIEW")
        assert flag.action_id == ended.action_id
        assert flag.cure == "systemctl restart web.service"


def test_a_target_that_was_not_helped_is_left_alone_for_longer_each_time(opened: Opened) -> None:
    limits = "[limits]\nper_target = 100\nin_all = 100\nbackoff_s = 100.0\nwait_at_most_s = 10000.0\n"
    with opened(mode("auto") + limits + "[breaker]\nfailures = 100\n") as desk:
        straw = desk.straw["restart_unit"] = Straw(judgement=NO_HELP)
        for pause_s in (100.0, 200.0, 400.0):
            desk.recommend()
            desk.beat()
            desk.recommend()
            desk.beat()
            (queued,) = desk.actions(Stage.QUEUED)
            assert "left alone" in (queued.waits_for or "")
            before = len(straw.acted)
            desk.table.clock.advance(pause_s - 1)
            desk.beat()
            assert len(straw.acted) == before
            desk.table.clock.advance(1)
        straw.judgement = HELPED
        desk.beat()
        desk.recommend()
        desk.beat()
        assert [outcome for _, outcome in desk.outcomes()][-2:] == ["helped", "helped"]


def test_three_failures_in_two_minutes_pause_everything_also_across_lives(opened: Opened) -> None:
    with opened(mode("auto")) as desk:
        desk.straw["restart_unit"] = Straw(judgement=NO_HELP)
        for name in "abcd":
            desk.recommend(target=f"{name}.service")
        desk.beat()
        assert [outcome for _, outcome in desk.outcomes()] == ["no_help"] * 3
        assert desk.table.daemon.counters["breaker_trips"] == 1
    with opened(mode("auto")) as desk:
        desk.table.clock.advance(590.0)
        desk.beat()
        assert len(desk.straw["restart_unit"].acted) == 3
        (queued,) = desk.actions(Stage.QUEUED)
        assert "pause" in (queued.waits_for or "")
        desk.table.clock.advance(11.0)
        desk.beat()
        assert len(desk.straw["restart_unit"].acted) == 4


def test_limits_hold_in_each_window_and_across_lives_and_what_waits_too_long_is_refused(opened: Opened) -> None:
    settings = mode("auto") + "[limits]\nper_target = 1\nin_all = 2\nwait_at_most_s = 5000.0\n"
    with opened(settings) as desk:
        for name in "abc":
            desk.recommend(target=f"{name}.service")
        desk.beat()
        assert len(desk.straw["restart_unit"].acted) == 2
    with opened(settings) as desk:
        desk.recommend(target="a.service", question_id="q-later")
        desk.beat()
        assert len(desk.straw["restart_unit"].acted) == 2
        desk.table.clock.advance(3601.0)
        desk.beat()
        assert sorted(desk.straw["restart_unit"].acted) == ["a.service", "a.service", "b.service", "c.service"]
        desk.recommend(target="a.service", question_id="q-last")
        desk.beat()
        desk.table.clock.advance(5001.0)
        desk.beat()
        (refused,) = [each for each in desk.heard("Q_ACTION_COMPLETE") if each.outcome == "refused"]
        assert "could not be done for" in refused.detail


def test_a_clock_that_is_set_back_blocks_nothing_for_long(opened: Opened) -> None:
    with opened(mode("auto") + "[limits]\nper_target = 1\nwait_at_most_s = 86400.0\n") as desk:
        desk.recommend()
        desk.beat()
        desk.table.clock.step_wall(-1_000_000.0)
        desk.recommend()
        desk.beat()
        assert len(desk.straw["restart_unit"].acted) == 1
        desk.table.clock.advance(3601.0)
        desk.beat()
        assert len(desk.straw["restart_unit"].acted) == 2


class Resting(Straw):
    """A pause of an hour, of an entry that somebody else may resume and pause as well."""

    is_paused = False

    def act(self, action: Action, before: State, hand: Hand) -> None:
        self.is_paused = True

    def lapses_after_s(self, before: State) -> float:
        return 3600.0

    def is_over(self, action: Action) -> bool:
        return not self.is_paused

    def take_back(self, action: Action, hand: Hand) -> bool:
        if self.is_paused:
            self.undone.append(action.target)
            self.is_paused = False
        return True


@pytest.fixture
def resting(opened: Opened) -> Iterator[tuple[Desk, Resting]]:
    with opened(mode("auto", "pause_entry")) as desk:
        kind = desk.straw["pause_entry"] = Resting()
        desk.recommend("pause_entry", "x")
        desk.beat()
        assert kind.is_paused
        yield desk, kind


@pytest.mark.parametrize("step_s", [0.0, -30 * 86_400.0])
def test_what_is_for_a_while_ends_also_when_the_clock_is_set_back(resting: tuple[Desk, Resting], step_s: float) -> None:
    desk, kind = resting
    desk.table.clock.step_wall(step_s)
    for _ in range(2):
        assert not kind.undone
        desk.beat()
        desk.table.clock.advance(1801.0)
    desk.beat()
    assert kind.undone == ["x"]


def test_what_somebody_else_ended_is_no_business_of_ours_any_more(resting: tuple[Desk, Resting]) -> None:
    desk, kind = resting
    kind.is_paused = False
    desk.beat()
    kind.is_paused = True  # it is theirs
    desk.table.clock.advance(3601.0)
    desk.beat()
    assert not kind.undone


# Time and death


def test_what_is_not_settled_in_a_beat_is_judged_at_the_next_and_done_once(opened: Opened) -> None:
    with opened(mode("auto")) as desk:
        straw = desk.straw["restart_unit"] = Straw(judgement=NOT_YET)
        desk.recommend()
        desk.beat()
        assert [action.stage for action in desk.actions(Stage.SETTLING)] == [Stage.SETTLING]
        desk.recommend(kind="reset_failed")
        straw.judgement = HELPED
        desk.beat()
        assert straw.acted == ["web.service"]
        assert ("web.service", "helped") in desk.outcomes()


@pytest.mark.parametrize(("judgement", "outcome"), [(HELPED, "helped"), (NO_HELP, "no_help")])
def test_an_action_that_was_under_way_at_a_kill_is_judged_at_the_next_start_and_not_repeated(
    opened: Opened, judgement: object, outcome: str
) -> None:
    with opened(mode("auto")) as desk:
        desk.recommend()
        (queued,) = desk.actions(Stage.QUEUED)
        # As the kill leaves it: written down as begun, nothing after that.
        queued.stage, queued.before, queued.started_us = Stage.ACTING, {"was": "ill"}, desk.table.clock.wall_us()
        store.put(desk.table.daemon.store.database, queued)  # type: ignore[arg-type]
        desk.recommend(target="other.service")
    desk.straw["restart_unit"] = Straw(judgement=judgement)  # type: ignore[arg-type]
    with opened(mode("auto")) as desk:
        (ended,) = desk.heard("Q_ACTION_COMPLETE")
        assert (ended.outcome, ended.target) == (outcome, "web.service")
        assert "cut short" in ended.detail
        assert desk.straw["restart_unit"].acted == []
        assert [action.target for action in desk.actions(Stage.QUEUED)] == ["other.service"]


def test_nobody_acts_while_the_suite_is_in_maintenance(opened: Opened) -> None:
    with opened(mode("auto")) as desk:
        desk.table.say("MAINTENANCE_SUSPEND", {"reason": "a test"})
        desk.recommend()
        desk.beat()
        assert desk.heard("Q_ACTION_SPAWNED") == []
        desk.table.advance(1.0)
        desk.table.say("MAINTENANCE_RESUME", None)
        desk.table.advance(2.0)
        desk.beat()
        assert desk.straw["restart_unit"].acted == ["web.service"]
