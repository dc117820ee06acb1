"""Units broken in every way that a rule knows, on a real systemd, looked into by the installed, hardened daemon."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.systemd.conftest import Installed
from tests.systemd.machine import booted
from tests.systemd.suite import INVESTIGATION, PROXY, Suite
from tests.systemd.system import wait_for

PYTHON = "/usr/bin/python3 -c"
LOOP = "Restart=always\nRestartSec=50ms\n"
NO_LIMIT = "\n[Unit]\nStartLimitIntervalSec=0"


@dataclass(frozen=True)
class Broken:
    """A service, the rule that is to name its trouble, what is to be told, and what is recommended (or nothing)."""

    service: str
    rule: str
    told: str
    action: str | None = None
    evidence: str = ""
    then: str = ""


UNITS = {
    "no-program": Broken("ExecStart=/opt/no/such/program", "missing_binary", "/opt/no/such/program does not exist"),
    "bad-interpreter": Broken("ExecStart=/srv/script", "bad_interpreter", "/no/such/interpreter"),
    "not-executable": Broken("ExecStart=/srv/plain", "not_executable", "/srv/plain", evidence="mode 0644"),
    "no-format": Broken("ExecStart=/srv/text", "bad_executable", "neither a program nor a script"),
    "no-user": Broken("User=nobody-knows-him\nExecStart=/bin/true", "missing_user", "nobody-knows-him does not exist"),
    "no-group": Broken("Group=no-such-group\nExecStart=/bin/true", "missing_group", "no-such-group does not exist"),
    "no-directory": Broken("WorkingDirectory=/no/such\nExecStart=/bin/true", "missing_directory", "/no/such"),
    "no-namespace": Broken("ReadWritePaths=/no/such\nExecStart=/bin/true", "setup_failed", "226/NAMESPACE"),
    "bad-file": Broken("ExecStart=/bin/echo 'never ends", "bad_unit_file", "unit file has an error", evidence=":2:"),
    "before": Broken("ExecStartPre=/bin/false\nExecStart=/bin/true", "exit_code", "ExecStartPre=/bin/false exited"),
    "crash-loop": Broken(
        f"{LOOP}ExecStart=/bin/sh -c 'echo \"out of cheese\" >&2; exit 3'", "start_limit_hit",
        r"given up.* status 3; it said: out of cheese",
    ),
    "exit": Broken("ExecStart=/bin/sh -c 'echo \"it is no good\" >&2; exit 7'", "exit_code", "it is no good"),
    "port": Broken("ExecStartPre=/bin/sleep 1\nExecStart=/usr/bin/python3 -m http.server 8099", "address_in_use",
                   r"port 8099 .*try-holder\.service, pid \d+ \(python3\)", evidence="8099 is held by try-holder"),
    "permission": Broken("User=nobody\nExecStart=/bin/cat /etc/shadow", "permission_denied", "may not use /etc/shadow",
                         evidence="mode 0640"),
    "start-time-out": Broken("Type=notify\nTimeoutStartSec=1s\nExecStart=/bin/sleep 99", "start_timeout", "never told"),
    "stop-time-out": Broken("TimeoutStopSec=1s\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'",
                            "stop_timeout", "did not stop within 1.0 s",
                            then="sleep 0.5; systemctl stop --no-block {}"),
    "watchdog": Broken(
        "Type=notify\nNotifyAccess=all\nWatchdogSec=1s\nLimitCORE=0\n"
        "ExecStart=/bin/sh -c 'systemd-notify --ready; exec sleep 99'", "watchdog", "did not feed", "restart_unit",
    ),
    "crash": Broken("LimitCORE=0\nExecStart=/bin/sh -c 'kill -SEGV $$$$'", "crash", "signal SEGV", "restart_unit"),
    "killed": Broken("ExecStart=/bin/sleep 99", "killed", "SIGKILL, sent through systemd", "restart_unit",
                     then="systemctl kill --signal=KILL {}"),
    "killed-again": Broken(
        f"{LOOP}ExecStart=/bin/sleep 99{NO_LIMIT}", "killed_again", "killed again and again: 4 times",
        then="for n in 1 2 3 4; do sleep 0.3; systemctl kill --signal=KILL {}; done",
    ),
    "oom": Broken(
        f"MemoryMax=30M\nMemorySwapMax=0\nExecStart={PYTHON} \"hoard = b'x' * 60_000_000\"", "oom_kill",
        r"MemoryMax= is 30 MiB", "raise_limit",
    ),
    "files": Broken(f'LimitNOFILE=16\nExecStart={PYTHON} "kept = [open(\'/dev/null\') for n in range(99)]"',
                    "too_many_files", "LimitNOFILE=", "raise_limit"),
    "no-space": Broken("ExecStart=/bin/dd if=/dev/zero of=/dev/full count=1", "no_space", "no space left"),
    "read-only": Broken("ReadOnlyPaths=/srv\nExecStart=/bin/touch /srv/mark", "read_only", "mounted read-only"),
    "config": Broken(f"ExecStart={PYTHON} \"import tomllib; tomllib.loads('a = ')\"", "config_syntax",
                     "TOMLDecodeError"),
    "library": Broken(f'ExecStart={PYTHON} "import no_such_module"', "missing_library", "no_such_module"),
    "no-file": Broken("ExecStart=/bin/cat /srv/absent", "missing_file", "/srv/absent is missing"),
    "name": Broken(f"ExecStart={PYTHON} \"import socket; socket.getaddrinfo('no.such.invalid', 80)\"",
                   "name_resolution_failure", "DNS", "restart_unit"),
    "refused": Broken(f"ExecStart={PYTHON} \"import socket; socket.create_connection(('127.0.0.1', 9))\"",
                      "connection_refused", "does not listen", "restart_unit"),
    "shop": Broken("ExecStart=/bin/sleep 99\n[Unit]\nRequires=try-before.service\nAfter=try-before.service",
                   "dependency_failed", r"try-before\.service, which it needs, failed: .*ExecStartPre=/bin/false"),
    "mended": Broken("ExecStart=/srv/later", "missing_binary", "it is there now", "restart_unit",
                     then="sleep 0.5; cp /bin/true /srv/later"),
}  # fmt: skip
FILES = {
    "/srv/script": ("#!/no/such/interpreter\n", 0o755),
    "/srv/plain": ("#!/bin/sh\n", 0o644),
    "/srv/text": ("just words\n", 0o755),
}


class Bureau:
    """A machine with broken units, and what the investigation consumer said of each."""

    def __init__(self, suite: Suite) -> None:
        self._machine, self._suite = suite.machine, suite
        self.said: dict[str, dict[str, Any]] = {}

    def break_all(self) -> None:
        machine = self._machine
        for path, (text, mode) in FILES.items():
            machine.write_file(path, text, mode)
        for name, broken in UNITS.items():
            machine.write_file(f"/etc/systemd/system/try-{name}.service", f"[Service]\n{broken.service}\n")
        machine.write_file(
            "/etc/systemd/system/try-holder.service", "[Service]\nExecStart=/usr/bin/python3 -m http.server 8099\n"
        )
        machine.systemctl("daemon-reload")
        machine.systemctl("start", "try-holder")
        machine.run("systemctl", "start", "--no-block", *(f"try-{name}" for name in UNITS), check=False)
        for name, broken in UNITS.items():
            if broken.then:
                machine.sh(broken.then.format(f"try-{name}"))
        down = [f"try-{name}.service" for name in UNITS if name not in ("killed-again", "bad-file", "shop")]
        wait_for(lambda: {machine.show(unit, "ActiveState") for unit in down} == {"failed"}, 20, "all to fail")

    def ask_about_all(self) -> None:
        with self._suite.listening("Q_INVESTIGATION_COMPLETE") as heard:
            self._suite.ask_why(*UNITS)
            wait_for(lambda: len(UNITS) == self._waiting(), 20, "all to wait")
            self._suite.emit("Q_TRIGGER_INVESTIGATION", "introspection")
            wait_for(lambda: len(heard()) >= len(UNITS), 60, "all to end")
            self.said = {message["facts"]["question_id"][2:]: message["facts"] for message in heard()}

    def story(self, name: str) -> str:
        return self._suite.kloros("investigations", "show", f"q-{name}")

    def _waiting(self) -> int:
        return len(json.loads(self._suite.kloros("investigations", "--open", "--json"))["waiting"])


@pytest.fixture(scope="module")
def bureau(installed: Installed) -> Iterator[Bureau]:
    with booted(installed.binds, installed.files, kernel_log=True) as machine:
        suite = Suite(machine)
        suite.start(PROXY, INVESTIGATION)
        bureau = Bureau(suite)
        bureau.break_all()
        bureau.ask_about_all()
        yield bureau


@pytest.mark.parametrize("name", UNITS)
def test_each_is_concluded_by_the_right_rule(bureau: Bureau, name: str) -> None:
    broken, said = UNITS[name], bureau.said[name]
    assert (said["status"], said["rule"]) == ("concluded", broken.rule), said
    assert re.search(broken.told, said["conclusion"]), said["conclusion"]
    recommended = said.get("recommended_action")
    assert (recommended["action_type"] if recommended else None) == broken.action, said["conclusion"]
    assert any(re.search(broken.evidence, line) for line in said["evidence"]), said["evidence"]


def test_what_it_could_not_look_at_is_not_much(bureau: Bureau) -> None:
    lacks = [line for said in bureau.said.values() for line in said["evidence"] if line.startswith("could not look")]
    assert lacks == []


def test_a_person_can_read_each_story(bureau: Bureau) -> None:
    story = bureau.story("port")
    assert "what was seen" in story
    assert "8099 is held by try-holder.service" in story
    assert "a person could" in story
