"""What each kind of action looks at before it acts, and afterwards; systemd, helper and schedule are of straw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kloros.chembus.facts import ChangedFacts, Facts, TickEntry
from kloros.consumers.action.action import Action, Stage
from kloros.consumers.action.kinds.base import Hand, Interrupted, Kind, Lapses, NotDone, Tools, TooSlow, Unfit
from kloros.consumers.action.kinds.registry import all_kinds
from kloros.consumers.action.settings import KindsSettings, PruneHistorySettings
from kloros.errors import HelperFailed, HelperRefused
from kloros.machine.privileged_client import PrivilegedClient
from kloros.machine.privileged_protocol import Answer, AnyRequest, ResetFailed, Restart, RevertLimit, SetLimit, Start
from kloros.machine.systemd_bus import SystemdBus

MB = 1_000_000


class StrawSystemd(SystemdBus):
    """One unit, as the test says it is."""

    def __init__(self, **unit: Any) -> None:
        super().__init__()
        self.unit = {"LoadState": "loaded", "ActiveState": "active", "InvocationID": b"\1", "Job": (0, "/")} | unit
        self.own = {"Result": "success", "NRestarts": 0, "Type": "simple", "MemoryMax": 100, "LimitNOFILESoft": 10}

    def unit_path(self, name: str) -> str | None:
        return "/unit"

    def properties(self, path: str, interface: str) -> dict[str, Any]:
        return self.unit if interface == "Unit" else self.own


class StrawHelper(PrivilegedClient):
    """Notes what it is asked."""

    def __init__(self, *, is_there: bool = True, answers: Callable[[AnyRequest], Answer] | None = None) -> None:
        super().__init__(Path("/nowhere"))
        self.asked: list[AnyRequest] = []
        self._is_there, self._answers = is_there, answers

    @property
    def is_there(self) -> bool:
        return self._is_there

    def ask(self, request: AnyRequest, timeout_s: float = 1.0) -> Answer:
        self.asked.append(request)
        return self._answers(request) if self._answers else Answer(outcome="done")


class Bench:
    """The kinds, with tools of straw."""

    def __init__(self, folder: Path, settings: KindsSettings | None = None) -> None:
        self.systemd, self.helper = StrawSystemd(), StrawHelper()
        self.entries: dict[str, TickEntry] = {}
        self.answers: dict[str, ChangedFacts] = {}
        self.emitted: list[tuple[str, Any]] = []
        self.history = folder / "state.db"
        self.time_left = 1_000
        self._settings = settings or KindsSettings()

    def kind(self, name: str) -> Kind:
        tools = Tools(
            self.systemd, self.helper, lambda: self.entries, self.answers, self.history, own_entry="action_processing"
        )
        return all_kinds(tools, self._settings)[name]

    @property
    def hand(self) -> Hand:
        return Hand(wait=self._wait, emit=self._emit)

    def _wait(self, seconds: float) -> bool:
        self.time_left -= 1
        return self.time_left > 0

    def _emit(self, signal: str, facts: Facts) -> None:
        self.emitted.append((signal, facts))


@pytest.fixture
def straw(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def action(kind: str, target: str = "web.service", **parameters: str) -> Action:
    return Action(
        action_id="a-00000001", kind=kind, target=target, mode="auto", stage=Stage.QUEUED, taken_us=0, queued_us=0,
        parameters=parameters,
    )  # fmt: skip


UNIT_KINDS = {"restart_unit": {}, "reset_failed": {}, "raise_limit": {"property": "MemoryMax"}}


@pytest.mark.parametrize("name", UNIT_KINDS)
@pytest.mark.parametrize("load", ["not-found", "masked", "bad-setting", "error"])
def test_what_cannot_be_started_is_not_touched(straw: Bench, name: str, load: str) -> None:
    straw.systemd.unit["LoadState"] = load
    with pytest.raises(Unfit, match=load):
        straw.kind(name).check(action(name, **UNIT_KINDS[name]))


@pytest.mark.parametrize("name", UNIT_KINDS)
def test_without_a_helper_nothing_that_takes_root_is_begun(straw: Bench, name: str) -> None:
    straw.helper = StrawHelper(is_there=False)
    straw.systemd.unit["ActiveState"] = "failed"
    with pytest.raises(Unfit, match="kloros-helper"):
        straw.kind(name).check(action(name, **UNIT_KINDS[name]))


def test_a_unit_that_somebody_stopped_is_not_started_against_his_will(straw: Bench) -> None:
    straw.systemd.unit["ActiveState"] = "inactive"
    with pytest.raises(Unfit, match="stopped"):
        straw.kind("restart_unit").check(action("restart_unit"))


def test_a_restart_that_never_came_did_not_help(straw: Bench) -> None:
    kind, wish = straw.kind("restart_unit"), action("restart_unit")
    before = kind.check(wish)
    assert kind.judge(wish, before, kind.look(wish, before), 100.0).helped is False
    kind.act(wish, before, straw.hand)
    assert straw.helper.asked == [Restart(unit="web.service", by="a-00000001")]
    straw.systemd.unit["InvocationID"] = b"\2"
    assert kind.judge(wish, before, kind.look(wish, before), 100.0).helped is True


def test_a_job_that_does_not_end_is_too_slow_and_a_beat_that_ends_interrupts_it(straw: Bench) -> None:
    straw.systemd.unit["Job"] = (7, "/job/7")
    kind, wish = straw.kind("restart_unit"), action("restart_unit")
    before = kind.check(wish)
    with pytest.raises(TooSlow):
        kind.act(wish, before, straw.hand)
    straw.time_left = 3
    with pytest.raises(Interrupted):
        kind.act(wish, before, straw.hand)


def test_a_failed_unit_is_reset_and_started_unless_it_is_only_to_be_reset(straw: Bench) -> None:
    kind, wish = straw.kind("reset_failed"), action("reset_failed")
    with pytest.raises(Unfit, match="has not failed"):
        kind.check(wish)
    straw.systemd.unit["ActiveState"] = "failed"
    kind.act(wish, kind.check(wish), straw.hand)
    assert [type(request) for request in straw.helper.asked] == [ResetFailed, Start]
    straw.helper.asked.clear()
    only = action("reset_failed", start="no")
    before = kind.check(only)
    kind.act(only, before, straw.hand)
    assert [type(request) for request in straw.helper.asked] == [ResetFailed]
    straw.systemd.unit["ActiveState"] = "inactive"
    assert kind.judge(only, before, kind.look(only, before), 100.0).helped is True


@pytest.mark.parametrize(
    "parameters",
    [{}, {"property": "ExecStart"}, {"property": "TasksMax"}, {"property": "MemoryMax", "factor": "much"},
     {"property": "MemoryMax", "factor": "0.5"}, {"property": "MemoryMax", "factor": "nan"},
     {"property": "MemoryMax", "factor": "1e9"}],
)  # fmt: skip
def test_a_raise_that_makes_no_sense_is_not_begun(straw: Bench, parameters: dict[str, str]) -> None:
    with pytest.raises(Unfit):
        straw.kind("raise_limit").check(action("raise_limit", **parameters))


@pytest.mark.parametrize(
    ("name", "state", "asked"),
    [
        ("MemoryMax", "active", [SetLimit]),
        ("MemoryMax", "failed", [SetLimit, ResetFailed, Start]),
        ("LimitNOFILE", "active", [SetLimit, Restart]),
        ("LimitNOFILE", "failed", [SetLimit, ResetFailed, Start]),
    ],
)
def test_a_raise_brings_the_unit_up_so_that_it_is_in_force(
    straw: Bench, name: str, state: str, asked: list[type]
) -> None:
    straw.systemd.unit["ActiveState"] = state
    kind, wish = straw.kind("raise_limit"), action("raise_limit", property=name)
    kind.act(wish, kind.check(wish), straw.hand)
    assert [type(request) for request in straw.helper.asked] == asked


def test_a_raise_that_is_not_in_force_did_not_help_and_its_inverse_says_what_it_did(straw: Bench) -> None:
    kind, wish = straw.kind("raise_limit"), action("raise_limit", property="MemoryMax")
    before = kind.check(wish)
    assert kind.judge(wish, before, kind.look(wish, before), 100.0).helped is False
    straw.systemd.own["MemoryMax"] = 150
    assert kind.judge(wish, before, kind.look(wish, before), 100.0).helped is True

    def answer(told: Answer | Exception) -> str | None:
        def give(request: AnyRequest) -> Answer:
            assert isinstance(request, RevertLimit)
            if isinstance(told, Exception):
                raise told
            return told

        straw.helper = StrawHelper(answers=give)
        return straw.kind("raise_limit").undo(wish, before, straw.hand)

    assert answer(Answer(outcome="done", after=100)) == "MemoryMax is 100 again"
    assert "nothing to take back" in str(answer(HelperRefused(reason="not raised from here")))
    assert "could not be taken back" in str(answer(HelperFailed(reason="systemd says: no")))


def test_a_raise_that_never_came_takes_no_earlier_one_back(straw: Bench) -> None:
    def fails(request: AnyRequest) -> Answer:
        raise HelperFailed(reason="systemd did not answer over D-Bus")

    straw.helper = StrawHelper(answers=fails)
    kind, wish = straw.kind("raise_limit"), action("raise_limit", property="MemoryMax")
    before = kind.check(wish)
    with pytest.raises(HelperFailed):
        kind.act(wish, before, straw.hand)
    assert kind.undo(wish, before, straw.hand) is None
    assert not any(isinstance(request, RevertLimit) for request in straw.helper.asked)


def test_a_unit_that_may_not_be_started_after_its_raise_is_a_failure_that_is_taken_back(straw: Bench) -> None:
    def answers(request: AnyRequest) -> Answer:
        if isinstance(request, ResetFailed):
            raise HelperRefused(reason="not in the policy")
        return Answer(outcome="done")

    straw.helper = StrawHelper(answers=answers)
    straw.systemd.unit["ActiveState"] = "failed"
    kind, wish = straw.kind("raise_limit"), action("raise_limit", property="MemoryMax")
    with pytest.raises(NotDone, match="raised, but"):
        kind.act(wish, kind.check(wish), straw.hand)


# The history


def test_a_history_is_pruned_when_that_gains_something_and_has_helped_when_it_is_smaller(tmp_path: Path) -> None:
    straw = Bench(tmp_path, KindsSettings(prune_history=PruneHistorySettings(keep_mb=1)))
    kind, wish = straw.kind("prune_history"), action("prune_history", "chembus_historian", keep_mb="2")
    with pytest.raises(Unfit, match="there is no history"):
        kind.check(wish)
    straw.history.write_bytes(b"")
    with straw.history.open("r+b") as file:
        file.truncate(14 * MB)
        with pytest.raises(Unfit, match="are to be kept"):
            kind.check(wish)
        file.truncate(40 * MB)
        before = kind.check(wish)
        kind.act(wish, before, straw.hand)
        ((signal, facts),) = straw.emitted
        assert (signal, facts.keep_mb, facts.action_id) == ("Q_HISTORY_PRUNE", 2, "a-00000001")
        assert kind.judge(wish, before, {}, 1.0).helped is None
        assert kind.judge(wish, before, {}, 60.0).helped is False
        file.truncate(3 * MB)
        assert kind.judge(wish, before, {}, 1.0).helped is True


def test_never_less_than_the_settings_say_is_kept(tmp_path: Path) -> None:
    straw = Bench(tmp_path)
    straw.history.write_bytes(b"")
    with straw.history.open("r+b") as file:
        file.truncate(900 * MB)
    kind = straw.kind("prune_history")
    assert kind.check(action("prune_history", "chembus_historian", keep_mb="1"))["keep_mb"] == 256
    with pytest.raises(Unfit, match="not a number"):
        kind.check(action("prune_history", "chembus_historian", keep_mb="some"))


# The schedule


def entry(*, paused: bool = False) -> TickEntry:
    return TickEntry(signal="Q_TRIGGER_X", interval_s=1.0, paused=paused)


@pytest.mark.parametrize(
    ("entries", "target", "why"),
    [
        ({}, "x", "no scheduler"),
        ({"y": entry()}, "x", "no entry x"),
        ({"x": entry(paused=True)}, "x", "paused already"),
        ({"action_processing": entry()}, "action_processing", "resumed"),
    ],
)
def test_what_cannot_be_paused_is_not(straw: Bench, entries: dict[str, TickEntry], target: str, why: str) -> None:
    straw.entries = entries
    with pytest.raises(Unfit, match=why):
        straw.kind("pause_entry").check(action("pause_entry", target))


def test_an_entry_is_paused_when_the_scheduler_says_so_and_resumed_when_its_time_is_over(straw: Bench) -> None:
    straw.entries = {"x": entry()}
    kind, wish = straw.kind("pause_entry"), action("pause_entry", "x", for_s="90")
    before = kind.check(wish)
    with pytest.raises(TooSlow):
        kind.act(wish, before, straw.hand)
    ((signal, asked),) = straw.emitted
    assert (signal, asked.op, asked.schedule) == ("Q_SCHEDULE_CONTROL", "pause", "x")
    straw.answers[asked.requester] = ChangedFacts(op="pause", ok=False, detail="no")
    with pytest.raises(NotDone, match="refused: no"):
        kind.act(wish, before, straw.hand)
    straw.answers[asked.requester] = ChangedFacts(op="pause", ok=True)
    kind.act(wish, before, straw.hand)
    assert kind.judge(wish, before, {}, 0.1).helped is None
    straw.entries = {"x": entry(paused=True)}
    assert kind.judge(wish, before, {}, 0.1).helped is True

    assert isinstance(kind, Lapses)
    assert kind.lapses_after_s(before) == 90.0
    straw.emitted.clear()
    assert kind.take_back(wish, straw.hand) is False
    assert [facts.op for _, facts in straw.emitted] == ["resume"]
    straw.entries = {}
    assert kind.take_back(wish, straw.hand) is False
    assert not kind.is_over(wish)
    straw.entries = {"x": entry()}
    assert kind.is_over(wish)
    assert kind.take_back(wish, straw.hand) is True


def test_no_pause_is_longer_than_the_settings_allow(straw: Bench) -> None:
    straw.entries = {"x": entry()}
    assert straw.kind("pause_entry").check(action("pause_entry", "x", for_s="1e12"))["for_s"] == 86_400.0
