"""The table of rules: each of them on evidence, recorded from broken machines or written for it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kloros.consumers.investigation.evidence import Evidence
from kloros.consumers.investigation.rule import INCONCLUSIVE, conclude
from kloros.consumers.investigation.rules import RULES

RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data/unit_evidence.jsonl").read_text(encoding="utf-8").splitlines()
]
UNWELL = {"unit": "x.service", "is_unwell": True, "active_state": "failed", "load_state": "loaded"}
EXITED = UNWELL | {"result": "exit-code", "code": "exited", "status": 1}
ERRORS = {"is_about_errors": True, "source": "shop", "error_count": 3, "error_span_s": 60.0, "sample": "it broke"}
DISK = {"mount": "/srv", "used_bytes": 100 << 30, "used_percent": 99.0, "top_path": "/srv/logs", "top_bytes": 90 << 30}
GIB = 1 << 30

# (rule, what is told, the recommended action or None, facts)
WRITTEN: list[tuple[str, str, str | None, dict[str, Any]]] = [
    # units that cannot begin
    ("unit_not_found", "no unit file", None, UNWELL | {"load_state": "not-found"}),
    ("unit_masked", "masked", None, UNWELL | {"load_state": "masked"}),
    ("missing_binary", "it is there now", "restart_unit", EXITED | {
        "status": 203, "step": "EXEC", "exec_path": "/opt/x", "exec_fault": "none", "step_reason": "No such file"}),
    ("missing_binary", "does not exist", None, EXITED | {
        "status": 203, "step": "EXEC", "exec_path": "/opt/x", "exec_fault": "unseen", "step_reason": "No such file"}),
    ("not_executable", "Permission denied", None, EXITED | {
        "step": "EXEC", "exec_path": "/opt/x", "exec_fault": "none", "step_reason": "Permission denied"}),
    ("missing_user", "it does now", "restart_unit", EXITED | {"status": 217, "step": "USER", "user": "shop"}),
    ("missing_group", "it does now", "restart_unit", EXITED | {"status": 216, "step": "GROUP", "group": "shop"}),
    ("setup_failed", "226/NAMESPACE", None, EXITED | {"status": 226, "step": "NAMESPACE"}),
    ("setup_failed", "StateDirectory=", None, EXITED | {"status": 238, "step": "STATE_DIRECTORY"}),
    # units that came to an end
    ("oom_kill", "MemoryMax= is 64 MiB, of which it used 64 MiB", "raise_limit", UNWELL | {
        "result": "oom-kill", "memory_max": 64 << 20, "memory_peak": 64 << 20}),
    ("oom_kill", "MemoryMax=", "raise_limit", UNWELL | {  # cgroup v1: systemd only knows of a signal
        "result": "signal", "code": "killed", "signal": "KILL", "kills": ["KILL"], "memory_max": 64 << 20,
        "memory_was_full": True}),
    ("oom_kill", "the machine had no memory left", None, UNWELL | {"result": "oom-kill", "oom_scope": "machine"}),
    ("oom_kill", r"A process of x\.service \(baker\) was killed", "raise_limit", UNWELL | {
        "active_state": "active", "memory_max": 64 << 20, "oom": True, "oom_scope": "unit", "oom_process": "baker"}),
    ("oom_kill", "given up by systemd", "raise_limit", UNWELL | {
        "result": "oom-kill", "memory_max": 64 << 20, "gave_up": True, "start_burst": 5, "start_interval_s": 10.0}),
    ("watchdog", "4 times in an hour", None, UNWELL | {"result": "watchdog", "recent_ends": 4, "watchdog_s": 30.0}),
    ("start_timeout", "never told systemd", None, UNWELL | {
        "result": "timeout", "timed_out": "start", "kind": "notify", "start_timeout_s": 90.0}),
    ("start_timeout", "did not start", "restart_unit", UNWELL | {
        "result": "timeout", "timed_out": "start", "longest_run_s": 7200.0, "recent_ends": 1}),
    ("crash", "5 times in an hour", None, UNWELL | {
        "result": "core-dump", "code": "dumped", "signal": "SEGV", "recent_ends": 5, "kills": ["SEGV"] * 5}),
    ("crash", "signal ABRT", "restart_unit", UNWELL | {"result": "signal", "code": "killed", "signal": "ABRT"}),
    ("killed", "by whom is not recorded", "restart_unit", UNWELL | {
        "result": "signal", "code": "killed", "signal": "TERM", "kills": ["TERM"]}),
    ("killed_again", "a daemon of KLoROS itself", None, UNWELL | {
        "unit": "kloros-shadow.service", "active_state": "active", "kills": ["KILL"] * 6, "sent": ["KILL"] * 6}),
    ("dependency_failed", "that is active now", "restart_unit", UNWELL | {
        "active_state": "inactive", "dependency_failed": True}),
    ("resources", "lacked what it needs", None, UNWELL | {"result": "resources"}),
    ("protocol", "Type=forking", None, UNWELL | {"result": "protocol", "kind": "forking"}),
    # units that ended by themselves
    ("start_limit_hit", "given up by systemd.* no licence", None, EXITED | {
        "gave_up": True, "own_line": "no licence", "start_burst": 5, "start_interval_s": 10.0}),
    ("start_limit_hit", "given up", "reset_failed", EXITED | {"gave_up": True, "longest_run_s": 3600.0}),
    ("exit_code", "It had run for 2 h before", "restart_unit", EXITED | {"longest_run_s": 7200.0, "recent_ends": 1}),
    ("exit_code", "and said nothing", None, EXITED | {"longest_run_s": 7200.0, "recent_ends": 9}),
    ("connection_refused", "given up .* does not listen", "reset_failed", EXITED | {
        "gave_up": True, "trouble": "connection_refused", "trouble_passes": True, "trouble_line": "refused"}),
    ("address_in_use", "it is free now", "restart_unit", EXITED | {
        "trouble": "address_in_use", "port": 80, "port_is_free": True}),
    ("no_space", "/srv is full", None, EXITED | {"trouble": "no_space", "full_mount": "/srv"}),
    ("no_space", "no space left", "restart_unit", EXITED | {"trouble": "no_space", "has_room_now": True}),
    ("read_only", "read-only", None, EXITED | {"trouble": "read_only", "trouble_line": "read-only file system"}),
    ("too_many_files", "LimitNOFILE=", "raise_limit", EXITED | {"trouble": "too_many_files"}),
    ("machine_files", "the machine has", None, EXITED | {"trouble": "machine_files"}),
    ("no_threads", "TasksMax=", "raise_limit", EXITED | {"trouble": "no_threads"}),
    ("no_memory", "could not get the memory", None, EXITED | {"trouble": "no_memory"}),
    ("no_memory", "could not get", "raise_limit", EXITED | {"trouble": "no_memory", "memory_was_full": True}),
    ("certificate_failure", "certificate", None, EXITED | {"trouble": "certificate", "trouble_line": "expired"}),
    ("name_resolution_failure", "DNS", "restart_unit", EXITED | {"trouble": "name_resolution", "trouble_passes": True}),
    ("missing_library", "library or module", None, EXITED | {"trouble": "missing_library"}),
    ("already_running", "another one", None, EXITED | {"trouble": "already_running"}),
    ("unreachable", "cannot be reached", "restart_unit", EXITED | {"trouble": "unreachable", "trouble_passes": True}),
    ("timed_out", "does not answer", "restart_unit", EXITED | {"trouble": "timed_out", "trouble_passes": True}),
    ("io_error", "disk or device", None, EXITED | {"trouble": "io_error"}),
    ("missing_file", "it is there now", "restart_unit", EXITED | {
        "trouble": "missing_file", "path": "/srv/key", "path_is_there": True}),
    ("stuck", "starting .* for 5 min", None, UNWELL | {
        "active_state": "activating", "sub_state": "start", "in_state_s": 300.0}),
    ("runs_again", "3 automatic restarts", None, {
        "unit": "x.service", "is_unwell": True, "active_state": "active", "problem": "flapping", "restarts": 3}),
    # errors in the journal
    ("error_flood", "shop floods the journal: 5000 errors in 60 s.* it broke", None, ERRORS | {"error_count": 5000}),
    ("error_flood", "It says why: .*refused", None, ERRORS | {
        "error_count": 300, "trouble": "connection_refused", "trouble_line": "connection refused"}),
    ("error_flood", "250 errors", None, {"is_about_errors": True, "source": "shop", "told_count": 250}),
    ("errors_stopped", "any more", None, {"is_about_errors": True, "source": "shop", "error_count": 0}),
    ("errors_logged", "3 times in 60 s", None, ERRORS),
    ("certificate_failure", "shop logs errors because a certificate", None, ERRORS | {"trouble": "certificate"}),
    ("segfault", "crashed", None, ERRORS | {"trouble": "segfault", "trouble_line": "shop[1]: segfault at 0"}),
    # disks
    ("disk_full", "99 % full: most of it is in /srv/logs", None, DISK),
    ("disk_full", "/srv/tmp grew by 3.0 GiB since the look 10 min ago", None, DISK | {
        "grown_path": "/srv/tmp", "grown_bytes": 3 * GIB, "grown_s": 600.0}),
    ("disk_full_of_journal", "the journal takes 40 GiB", "vacuum_journal", DISK | {"journal_bytes": 40 * GIB}),
    ("disk_full_of_history", "own history takes 40 GiB", "prune_history", DISK | {"history_bytes": 40 * GIB}),
    ("disk_full_of_deleted_files", r"held open, most by shop \(pid 9\)", None, DISK | {
        "deleted_bytes": 40 * GIB, "deleted_by": "shop (pid 9)", "deleted_path": "/srv/log"}),
    ("inodes_exhausted", r"/srv/sessions \(9000 entries\)", None, DISK | {
        "is_about_inodes": True, "inodes_percent": 100.0, "inodes_free": 0, "crowded_path": "/srv/sessions",
        "crowded_count": 9000}),
    ("room_again", "40 % full", None, DISK | {"used_percent": 40.0}),
    ("room_again", "3 % of its inodes", None, DISK | {"is_about_inodes": True, "inodes_percent": 3.0}),
    # load
    ("cpu_hog", "keeps the CPUs busy: it uses 3.9 of 4", None, {
        "resource": "cpu", "top_name": "render.service", "top_share": 0.95, "top_cores": 3.9, "cores": 4,
        "some_avg10": 80.0}),
    ("cpu_hog", "kloros-decay.service", "pause_entry", {
        "resource": "cpu", "top_name": "kloros-decay.service", "top_share": 0.95, "top_cores": 1.0, "cores": 1,
        "top_entry": "memory_decay", "some_avg10": 80.0}),
    ("memory_hog", "holds 30 GiB of memory, 94%", None, {
        "resource": "memory", "top_name": "base.service", "top_share": 0.94, "top_bytes": 30 * GIB,
        "total_bytes": 32 * GIB, "available_bytes": GIB}),
    ("io_hog", "reads and writes 300 MiB/s", None, {
        "resource": "io", "top_name": "backup.service", "top_share": 0.8, "top_io": 300 << 20, "some_avg10": 90.0}),
    ("cpu_hog", "37% of what is used", None, {  # not most of it, but far more than the next one
        "resource": "cpu", "top_name": "a.service", "top_share": 0.37, "next_share": 0.1, "top_cores": 0.4, "cores": 2,
        "some_avg10": 80.0}),
    ("many_users", "No single program", None, {
        "resource": "cpu", "top_name": "a.service", "top_share": 0.37, "next_share": 0.3, "top_cores": 0.5, "cores": 2,
        "some_avg10": 80.0}),
    ("many_users", "No single program", None, {
        "resource": "cpu", "top_name": "a.service", "top_share": 0.2, "top_cores": 0.5, "cores": 4, "some_avg10": 90}),
    ("pressure_passed", "enough CPU time again", None, {
        "resource": "cpu", "top_name": "a.service", "top_share": 0.9, "top_cores": 0.1, "cores": 4, "some_avg10": 0.1}),
    # descriptors
    ("files_closed", "has ended", None, {"is_about_files": True, "is_gone": True, "top_name": "shop[9]"}),
    ("many_open_files", "950 files open of at most 1024, most of them sockets", "raise_limit", {
        "is_about_files": True, "is_one_process": True, "top_name": "shop[9]", "open_files": 950, "files_limit": 1024,
        "top_kind": "sockets", "unit": "shop.service"}),
    ("machine_files", "shop.9. has most: 950", None, {
        "is_about_files": True, "top_name": "shop[9]", "open_files": 950}),
    # the suite itself
    ("scheduler_down", "kloros-scheduler.service is failed, result watchdog", "restart_unit", {
        "ailment": "fallback_engaged", "daemon": "d", "scheduler_state": "failed", "scheduler_result": "watchdog"}),
    ("scheduler_down", "is inactive", None, {
        "ailment": "fallback_engaged", "daemon": "d", "scheduler_state": "inactive"}),
    ("scheduler_silent", "not heard for 5 min", None, {
        "ailment": "fallback_engaged", "daemon": "d", "scheduler_state": "active", "scheduler_silent_s": 300.0}),
    ("entry_not_triggered", "although the scheduler runs", None, {
        "ailment": "fallback_engaged", "daemon": "d", "scheduler_state": "active"}),
    ("cycles_failing", "3 of the last 9.: no such table", None, {
        "ailment": "cycles_failing", "daemon": "d", "cycles": 9, "cycles_bad": 3, "last_error": "no such table"}),
    ("cycles_slow", "20 wait", None, {
        "ailment": "cycles_slow", "daemon": "d", "cycles": 9, "cycles_over": 5, "median_s": 6.0, "backlog": 20}),
    ("daemon_stopped", "was stopped", None, {
        "ailment": "daemon_silent", "daemon": "d", "unit": "kloros-d.service", "active_state": "inactive"}),
    ("daemon_hangs", "it hangs", "restart_unit", {
        "ailment": "daemon_silent", "daemon": "d", "unit": "kloros-d.service", "active_state": "active",
        "heard_ago_s": 120.0}),
    ("daemon_back", "heard again", None, {
        "ailment": "daemon_silent", "daemon": "d", "active_state": "active", "heard_ago_s": 3.0}),
    ("oom_kill", "MemoryMax=", "raise_limit", UNWELL | {
        "ailment": "daemon_silent", "unit": "kloros-d.service", "result": "oom-kill", "memory_max": 64 << 20}),
    ("proxy_down", "The bus is down", "restart_unit", {
        "ailment": "bus_silent", "proxy_unit": "kloros-chem-proxy.service", "proxy_state": "failed"}),
    ("proxy_restarted", "restarted 3 min ago", None, {
        "ailment": "bus_gap", "proxy_state": "active", "proxy_since_s": 200.0}),
    ("observer_restarted", "d was restarted", None, {
        "ailment": "bus_gap", "proxy_state": "active", "proxy_since_s": 9000.0, "observer_state": "active",
        "observer_since_s": 200.0, "observer": "d"}),
    ("slow_reader", "more slowly", None, {"ailment": "bus_drop", "observer": "d", "signal_name": "X"}),
    ("lost_on_the_way", "missed messages of X", None, {"ailment": "bus_gap", "observer": "d", "signal_name": "X"}),
    ("source_missing", "because dbus.service is inactive", None, {
        "ailment": "scanner_blind", "name": "units", "needed": "dbus.service", "needed_state": "inactive"}),
    ("cannot_watch", "no pressure", None, {"ailment": "scanner_blind", "name": "pressure", "reason": "no pressure"}),
    ("too_many_findings", "More findings", None, {"ailment": "introspection_overflow"}),
]  # fmt: skip


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda each: each["evidence"]["subject"])
def test_what_was_recorded_of_a_broken_unit_is_concluded_as_it_was(recorded: dict[str, Any]) -> None:
    evidence = msgspec.convert(recorded["evidence"], Evidence)
    conclusion = conclude(evidence, RULES)
    assert conclusion.rule == recorded["rule"]
    assert (conclusion.action.action_type if conclusion.action else None) == recorded["action"]
    assert evidence.subject in conclusion.text


@pytest.mark.parametrize(("rule", "told", "action", "facts"), WRITTEN, ids=[each[0] for each in WRITTEN])
def test_a_rule_says_what_it_is_and_what_would_help(
    rule: str, told: str, action: str | None, facts: dict[str, Any]
) -> None:
    conclusion = conclude(Evidence(playbook="p", subject="s", seen=facts), RULES)
    assert conclusion.rule == rule, conclusion.text
    assert re.search(told, conclusion.text), conclusion.text
    assert (conclusion.action.action_type if conclusion.action else None) == action
    assert 0 < conclusion.confidence <= 1


def test_every_rule_of_the_table_is_tested_above() -> None:
    tested = {rule for rule, *_ in WRITTEN} | {recorded["rule"] for recorded in RECORDED}
    assert {rule.name for rule in RULES} - tested == set()


def test_each_conclusion_is_a_sentence_without_gaps_in_it() -> None:
    for _, _, _, facts in WRITTEN:
        text = conclude(Evidence(playbook="p", subject="s", seen=facts), RULES).text
        assert len(text) > 10
        assert "  " not in text
        assert "None" not in text


def test_what_could_not_be_looked_at_makes_less_sure() -> None:
    facts = EXITED | {"status": 217, "step": "USER", "user": "shop", "user_missing": True}
    sure = conclude(Evidence(playbook="p", subject="s", seen=facts), RULES)
    unsure = conclude(Evidence(playbook="p", subject="s", seen=facts, lacks=["the journal", "D-Bus"]), RULES)
    assert unsure.rule == sure.rule
    assert unsure.confidence < sure.confidence


def test_what_fits_no_rule_is_told_as_it_was_seen() -> None:
    evidence = Evidence(playbook="p", subject="x", lines=["it is odd"], lacks=["the journal"])
    conclusion = conclude(evidence, RULES)
    assert (conclusion.rule, conclusion.is_conclusive) == (INCONCLUSIVE, False)
    assert "it is odd" in conclusion.text
    assert evidence.told() == ["it is odd", "could not look at the journal"]
    blind = conclude(Evidence(playbook="p", subject="x", lacks=["the journal"]), RULES)
    assert "could not look at the journal" in blind.text


class TestNothingIsStartedThatWouldOnlyFailAgain:
    """Whatever fails: a restart needs a sign that the cause is over."""

    STARTS = ("restart_unit", "reset_failed")

    @pytest.mark.parametrize("trouble", ["permission_denied", "config_syntax", "missing_library", "already_running"])
    def test_not_for_what_stays_wrong(self, trouble: str) -> None:
        facts = EXITED | {"trouble": trouble, "trouble_line": trouble, "gave_up": True}
        assert conclude(Evidence(playbook="p", subject="s", seen=facts), RULES).action is None

    def test_not_for_a_unit_that_runs(self) -> None:
        facts = EXITED | {"active_state": "active", "trouble": "connection_refused", "trouble_passes": True}
        assert conclude(Evidence(playbook="p", subject="s", seen=facts), RULES).action is None

    def test_not_while_the_port_is_held(self) -> None:
        facts = EXITED | {"trouble": "address_in_use", "port": 80, "port_holder": "nginx.service, pid 3 (nginx)"}
        conclusion = conclude(Evidence(playbook="p", subject="s", seen=facts), RULES)
        assert "nginx.service, pid 3 (nginx)" in conclusion.text
        assert conclusion.action is None
