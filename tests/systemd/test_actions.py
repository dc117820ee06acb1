"""Actions in a real machine: what is done really happens, what helped is verified, what did not is taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.systemd.suite import ACTION, HISTORIAN, PROXY, SCHEDULER, Suite
from tests.systemd.system import wait_for

SETTINGS = "/etc/kloros/action_consumer_config.toml"
POLICY = "/etc/kloros/helper_policy.toml"
SIGNALS = ("Q_ACTION_*", "FLAG_*", "Q_HISTORY_PRUNE")
KINDS = ("restart_unit", "reset_failed", "raise_limit", "vacuum_journal", "prune_history", "pause_entry")
Heard = Callable[[], list[dict[str, Any]]]


class Actions:
    """An action consumer in that mode, for which root's policy allows units whose names begin with try-."""

    def __init__(self, suite: Suite, mode: str, heard: Heard) -> None:
        self.suite, self.machine, self.heard, self._questions = suite, suite.machine, heard, 0

    @staticmethod
    def begin(suite: Suite, mode: str = "auto", settle_s: float = 1.0, **extra: str) -> None:
        kinds = [
            f'[kinds.{kind}]\nmode = "{mode}"\nsettle_s = {settle_s}\ntimeout_s = 10.0\n{extra.get(kind, "")}'
            for kind in KINDS
        ]
        suite.machine.write_file(SETTINGS, "\n".join(kinds))
        patterns = json.dumps(["kloros-*.service", "try-*.service"])
        verbs = "\n".join(f"{verb} = {patterns}" for verb in ("restart", "start", "reset_failed", "limit"))
        suite.machine.write_file(POLICY, f"[units]\n{verbs}\n[journal]\nkeep_mb_at_least = 10\n")
        suite.schedule(history_rotate=3600.0, action_processing=3600.0)
        suite.start(PROXY, SCHEDULER, ACTION)

    def unit(self, name: str, service: str) -> None:
        self.machine.write_file(f"/etc/systemd/system/{name}", f"[Service]\n{service}\n")
        self.machine.systemctl("daemon-reload")

    def recommend(self, kind: str, target: str, **parameters: str) -> None:
        """An investigation ends."""
        self._questions += 1
        before = len(self.of("Q_ACTION_SPAWNED")) + len(self.of("Q_ACTION_COMPLETE"))
        self.suite.emit(
            "Q_INVESTIGATION_COMPLETE", "introspection", question_id=f"q-{self._questions:08x}", status="concluded",
            conclusion="it takes this", confidence=0.9, gap_id=f"gap of {target}", gap_type="unit_unhealthy",
            gap_name=target, severity="high", rule="a test",
            recommended_action={"action_type": kind, "target": target, "parameters": parameters},
        )  # fmt: skip
        wait_for(
            lambda: len(self.of("Q_ACTION_SPAWNED")) + len(self.of("Q_ACTION_COMPLETE")) > before, 20, "to be taken up"
        )

    def trigger(self) -> None:
        self.suite.emit("Q_TRIGGER_ACTION_PROCESSING", "queue_management")

    def of(self, signal: str) -> list[dict[str, Any]]:
        return [message["facts"] for message in self.heard() if message["signal"] == signal]

    def outcome(self, target: str) -> dict[str, Any]:
        """How the action on that target ended."""

        def ended() -> list[dict[str, Any]]:
            return [facts for facts in self.of("Q_ACTION_COMPLETE") if facts["target"] == target]

        return wait_for(ended, 40, f"an end of the action on {target}")[-1]

    def flag(self) -> dict[str, Any]:
        return wait_for(lambda: self.of("FLAG_FOR_REVIEW"), 10, "a flag")[-1]


TRANSIENT = """
ExecStart=/bin/sh -c 'test -e /run/cured && exec sleep infinity; exit 1'
Restart=on-failure
RestartSec=10ms
[Unit]
StartLimitBurst=3
StartLimitIntervalSec=600"""


def test_a_unit_that_hit_its_start_limit_for_a_cause_that_is_gone_is_brought_back(suite: Suite) -> None:
    Actions.begin(suite)
    machine = suite.machine
    with suite.listening(*SIGNALS) as heard:
        actions = Actions(suite, "auto", heard)
        actions.unit("try-transient.service", TRANSIENT.strip())
        machine.systemctl("start", "try-transient.service", check=False)
        wait_for(lambda: machine.show("try-transient.service", "ActiveState") == "failed", 20, "the start limit")
        machine.run("touch", "/run/cured")
        assert machine.run("systemctl", "start", "try-transient.service", check=False).returncode != 0
        actions.recommend("reset_failed", "try-transient.service", start="yes")
        assert machine.show("try-transient.service", "ActiveState") == "failed"
        actions.trigger()
        ended = actions.outcome("try-transient.service")
        assert (ended["outcome"], ended["verified"], ended["mode"]) == ("helped", True, "auto")
        assert ended["duration_s"] >= 1.0
        assert machine.is_ready("try-transient.service")
        assert actions.of("FLAG_FOR_REVIEW") == []
        log = machine.journal(SYSLOG_IDENTIFIER="kloros-helper")
        assert any(ended["action_id"] in entry["MESSAGE"] and '"start"' in entry["MESSAGE"] for entry in log)


def test_a_unit_that_runs_badly_is_restarted_and_one_that_fails_again_did_not_help(suite: Suite) -> None:
    Actions.begin(suite)
    machine = suite.machine
    with suite.listening(*SIGNALS) as heard:
        actions = Actions(suite, "auto", heard)
        actions.unit("try-hung.service", "ExecStart=/bin/sleep infinity")
        actions.unit("try-broken.service", "ExecStart=/bin/sh -c 'sleep 0.3; exit 3'")
        machine.systemctl("start", "try-hung.service", "try-broken.service")
        before = machine.show("try-hung.service", "MainPID")
        wait_for(lambda: machine.show("try-broken.service", "ActiveState") == "failed", 10, "it to fail")
        actions.recommend("restart_unit", "try-hung.service")
        actions.recommend("restart_unit", "try-broken.service")
        actions.trigger()
        assert actions.outcome("try-hung.service")["outcome"] == "helped"
        assert machine.show("try-hung.service", "MainPID") not in (before, "0")
        ended = actions.outcome("try-broken.service")
        assert (ended["outcome"], ended["verified"]) == ("no_help", False)
        assert "exit-code" in ended["detail"]
        assert actions.flag()["action_id"] == ended["action_id"]


def test_a_raised_limit_is_in_force_and_is_exactly_as_before_when_it_did_not_help(suite: Suite) -> None:
    Actions.begin(suite, settle_s=3.0)
    machine = suite.machine
    with suite.listening(*SIGNALS) as heard:
        actions = Actions(suite, "auto", heard)
        actions.unit("try-hungry.service", "ExecStart=/bin/sh -c 'sleep 1.5; exit 1'\nMemoryMax=77777000")
        actions.unit("try-content.service", "ExecStart=/bin/sleep infinity\nMemoryMax=88888000")
        machine.systemctl("start", "try-hungry.service", "try-content.service")
        wait_for(lambda: machine.show("try-hungry.service", "ActiveState") == "failed", 10, "it to fail")
        before = {unit: machine.show(unit, "MemoryMax") for unit in ("try-hungry.service", "try-content.service")}
        for unit in before:
            actions.recommend("raise_limit", unit, property="MemoryMax", factor="1.5")
        actions.trigger()
        unit = "try-hungry.service"
        wait_for(lambda: int(machine.show(unit, "MemoryMax")) > 1.4 * int(before[unit]), 20, "the raise")
        ended = actions.outcome(unit)
        assert (ended["outcome"], ended["verified"]) == ("no_help", False)
        assert f"MemoryMax is {before[unit]} again" in ended["detail"]
        assert machine.show(unit, "MemoryMax") == before[unit]
        assert machine.show(unit, "DropInPaths") == ""
        assert "MemoryMax" in actions.flag()["cure"]
        assert actions.outcome("try-content.service")["outcome"] == "helped"
        assert int(machine.show("try-content.service", "MemoryMax")) > 1.4 * int(before["try-content.service"])


def test_what_roots_policy_does_not_name_is_refused_by_the_helper_and_becomes_a_flag(suite: Suite) -> None:
    Actions.begin(suite)
    machine = suite.machine
    with suite.listening(*SIGNALS) as heard:
        actions = Actions(suite, "auto", heard)
        actions.unit("precious.service", "ExecStart=/bin/sleep infinity")
        machine.systemctl("start", "precious.service")
        pid = machine.show("precious.service", "MainPID")
        actions.recommend("restart_unit", "precious.service")
        actions.trigger()
        ended = actions.outcome("precious.service")
        assert ended["outcome"] == "refused"
        assert "the policy does not let precious.service have a restart" in ended["detail"]
        assert machine.show("precious.service", "MainPID") == pid
        flag = actions.flag()
        assert "precious.service" in flag["rationale"]
        assert flag["cure"] == "systemctl restart precious.service"


def test_without_the_helper_what_needs_it_is_refused_and_flagged(suite: Suite) -> None:
    suite.machine.sh("rm /etc/systemd/system/kloros-helper.socket; systemctl daemon-reload")
    Actions.begin(suite)
    with suite.listening(*SIGNALS) as heard:
        actions = Actions(suite, "auto", heard)
        actions.unit("try-hung.service", "ExecStart=/bin/sleep infinity")
        suite.machine.systemctl("start", "try-hung.service")
        actions.recommend("restart_unit", "try-hung.service")
        actions.trigger()
        assert "privileged helper" in actions.outcome("try-hung.service")["detail"]
        actions.flag()


def test_the_journal_really_shrinks(suite: Suite) -> None:
    Actions.begin(suite, vacuum_journal="keep_mb = 10\n")
    machine = suite.machine
    for _ in range(3):
        machine.sh("head -c 12000000 /dev/urandom | base64 -w 4000 | systemd-cat -t filler", limit_s=60)
        machine.run("journalctl", "--rotate")
    size = "du -s -B1 /var/log/journal /run/log/journal 2>/dev/null | awk '{sum += $1} END {print sum}'"
    before = int(machine.sh(size))
    with suite.listening(*SIGNALS) as heard:
        actions = Actions(suite, "auto", heard)
        actions.recommend("vacuum_journal", "journal", keep_mb="20")
        actions.trigger()
        ended = actions.outcome("journal")
        assert (ended["outcome"], ended["verified"]) == ("helped", True)
        assert int(machine.sh(size)) < before - 10_000_000


def test_an_entry_is_paused_and_resumed_when_its_time_is_over(suite: Suite) -> None:
    Actions.begin(suite, pause_entry="for_s = 5.0\n")
    with suite.listening(*SIGNALS) as heard:
        actions = Actions(suite, "auto", heard)

        def is_paused() -> bool:
            return bool(json.loads(suite.kloros("schedule", "show", "--json"))["entries"]["history_rotate"]["paused"])

        actions.recommend("pause_entry", "history_rotate", for_s="4")
        actions.recommend("pause_entry", "action_processing")
        actions.trigger()
        assert actions.outcome("history_rotate")["outcome"] == "helped"
        assert actions.outcome("action_processing")["outcome"] == "refused"
        assert is_paused()

        def is_resumed() -> bool:
            actions.trigger()
            return not is_paused()

        wait_for(is_resumed, 30, "the end of its rest")


def test_the_history_becomes_smaller_on_demand(suite: Suite) -> None:
    Actions.begin(suite, settle_s=20.0, prune_history="keep_mb = 5\n")
    suite.start(HISTORIAN)
    fill = """
from kloros.chembus.pub import ChemPub
with ChemPub() as bus:
    for number in range(9000):
        facts = {"ts": 1.0, "zooid": "filler", "ok": True, "extras": {"filling": f"{number} " + "x" * 3000}}
        bus.emit("OBSERVATION", ecosystem="observability", facts=facts)
"""
    suite.python(fill, limit_s=120)
    size = "cat /var/lib/kloros/chembus_historian/state.db* | wc -c"
    wait_for(lambda: int(suite.machine.sh(size)) > 25_000_000, 60, "the history to be large")
    with suite.listening(*SIGNALS) as heard:
        actions = Actions(suite, "auto", heard)
        actions.recommend("prune_history", "chembus_historian", keep_mb="6")
        actions.trigger()
        ended = actions.outcome("chembus_historian")
        assert (ended["outcome"], ended["verified"]) == ("helped", True), ended
        assert int(suite.machine.sh(size)) < 20_000_000


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_person_decides_with_the_command_and_an_approved_action_is_done_at_once(suite: Suite, decision: str) -> None:
    Actions.begin(suite, mode="approve")
    machine = suite.machine
    with suite.listening(*SIGNALS) as heard:
        actions = Actions(suite, "approve", heard)
        actions.unit("try-hung.service", "ExecStart=/bin/sleep infinity")
        machine.systemctl("start", "try-hung.service")
        pid = machine.show("try-hung.service", "MainPID")
        actions.recommend("restart_unit", "try-hung.service")
        (waiting,) = json.loads(suite.kloros("actions", "--json"))["actions"]
        assert waiting["stage"] == "waiting"
        extra = ("--now",) if decision == "approve" else ("--reason", "it is not hung")
        said = suite.kloros(decision, waiting["action_id"][:5], *extra)
        ended = actions.outcome("try-hung.service")
        assert ended["outcome"] in said or decision == "reject"
        assert (machine.show("try-hung.service", "MainPID") == pid) == (decision == "reject")
        assert "root" in ended["requester"]
        again = machine.run("kloros", decision, waiting["action_id"], check=False)
        assert again.returncode == 1
        assert "ended already" in again.stderr
        assert waiting["action_id"] in suite.kloros("actions", "list", "--all")
        assert "try-hung.service" in suite.kloros("actions", "show", waiting["action_id"])


def test_a_mode_is_switched_with_the_command_and_holds_at_once(suite: Suite) -> None:
    Actions.begin(suite, mode="observe")
    machine = suite.machine
    with suite.listening(*SIGNALS) as heard:
        actions = Actions(suite, "observe", heard)
        actions.unit("try-hung.service", "ExecStart=/bin/sleep infinity")
        machine.systemctl("start", "try-hung.service")
        pid = machine.show("try-hung.service", "MainPID")
        actions.recommend("restart_unit", "try-hung.service")
        actions.trigger()
        assert actions.outcome("try-hung.service")["outcome"] == "observed"
        assert machine.show("try-hung.service", "MainPID") == pid
        assert "was told" in suite.kloros("actions", "mode", "restart_unit", "auto")
        actions.recommend("restart_unit", "try-hung.service")
        actions.trigger()
        wait_for(lambda: actions.outcome("try-hung.service")["outcome"] == "helped", 20, "it to be done")
        assert machine.show("try-hung.service", "MainPID") != pid


def test_a_consumer_that_is_killed_in_the_middle_of_an_action_judges_it_and_does_not_repeat_it(suite: Suite) -> None:
    Actions.begin(suite, settle_s=8.0)
    machine = suite.machine
    with suite.listening(*SIGNALS) as heard:
        actions = Actions(suite, "auto", heard)
        actions.unit("try-hung.service", "ExecStart=/bin/sleep infinity")
        machine.systemctl("start", "try-hung.service")
        before = machine.show("try-hung.service", "MainPID")
        actions.recommend("restart_unit", "try-hung.service")
        actions.trigger()
        wait_for(lambda: machine.show("try-hung.service", "MainPID") not in (before, "0"), 20, "the restart")
        restarted = machine.show("try-hung.service", "MainPID")
        machine.kill(ACTION, "KILL")
        ended = actions.outcome("try-hung.service")
        assert (ended["outcome"], ended["verified"]) == ("helped", True)
        assert machine.show("try-hung.service", "MainPID") == restarted
        assert len(actions.of("Q_ACTION_COMPLETE")) == 1
