"""The privileged helper in a real machine: it does what its policy allows, for whom it knows, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.systemd.conftest import run_install
from tests.systemd.machine import CHECKOUT_INSIDE, Machine
from tests.systemd.suite import PYTHON
from tests.systemd.system import wait_for

POLICY = "/etc/kloros/helper_policy.toml"
ASK = """
import json, sys
from pathlib import Path
import msgspec
from kloros.errors import KlorosError
from kloros.machine.privileged_client import PrivilegedClient
from kloros.machine.privileged_protocol import AnyRequest
request = msgspec.json.decode(sys.argv[1], type=AnyRequest)
try:
    answer = PrivilegedClient(Path("/run/kloros")).ask(request)
    print(json.dumps({"before": answer.before, "after": answer.after}))
except KlorosError as error:
    print(json.dumps({type(error).__name__: str(error)}))
"""
RAW = """
import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.connect("/run/kloros/helper.sock")
    s.sendall(sys.argv[1].encode())
    s.shutdown(socket.SHUT_WR)
    print(s.recv(65536).decode())
"""
KLOROS = ("--reuid=kloros", "--regid=kloros", "--init-groups")
IN_THE_GROUP = ("--reuid=65534", "--regid=kloros", "--clear-groups")
STRANGER = ("--reuid=65534", "--regid=65534", "--clear-groups")
INFINITY = "infinity"


class Helper:
    """The helper of a machine, and somebody who asks."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def ask(self, verb: str, *, who: tuple[str, ...] = KLOROS, **fields: object) -> dict[str, Any]:
        return self._run(ASK, json.dumps({"verb": verb, "by": "a test", **fields}), who)

    def raw(self, text: str) -> dict[str, Any]:
        return self._run(RAW, text, KLOROS)

    def _run(self, script: str, argument: str, who: tuple[str, ...]) -> dict[str, Any]:
        told = self.machine.run("setpriv", *who, PYTHON, "-c", script, argument).stdout
        answer: dict[str, Any] = json.loads(told)
        return answer

    def allow(self, *patterns: str) -> None:
        listed = json.dumps(["kloros-*.service", *patterns])
        verbs = "\n".join(f"{verb} = {listed}" for verb in ("restart", "start", "reset_failed", "limit"))
        self.machine.write_file(POLICY, f"[units]\n{verbs}\n[journal]\nkeep_mb_at_least = 1\n")

    def unit(self, name: str, service: str) -> None:
        self.machine.write_file(f"/etc/systemd/system/{name}", f"[Service]\n{service}\n")
        self.machine.systemctl("daemon-reload")

    def log(self) -> str:
        return "\n".join(str(entry["MESSAGE"]) for entry in self.machine.journal(SYSLOG_IDENTIFIER="kloros-helper"))


@pytest.fixture
def helper(machine: Machine) -> Iterator[Helper]:
    machine.systemctl("start", "kloros-helper.socket")
    machine.run("systemctl", "start", "dbus.socket")
    yield Helper(machine)
    assert machine.is_ready("kloros-helper.socket")


def test_a_unit_of_ours_is_restarted_for_the_user_kloros_and_the_journal_says_for_whom(helper: Helper) -> None:
    machine = helper.machine
    machine.systemctl("start", "kloros-chem-proxy")
    before = machine.show("kloros-chem-proxy", "MainPID")
    assert helper.ask("restart", unit="kloros-chem-proxy.service") == {"before": None, "after": None}
    wait_for(lambda: machine.show("kloros-chem-proxy", "MainPID") not in (before, "0"), 20, "another process")
    uid = machine.sh("id -u kloros").strip()
    wait_for(lambda: f"uid {uid} " in helper.log(), 10, "a line in the journal")
    assert '"verb":"restart"' in helper.log()
    assert '"by":"a test"' in helper.log()


def test_what_the_policy_does_not_name_is_refused_and_stays_as_it_is(helper: Helper) -> None:
    helper.unit("stranger.service", "ExecStart=/bin/sleep infinity\nMemoryMax=64M")
    for verb in ("restart", "start", "reset-failed"):
        assert "does not let stranger.service" in helper.ask(verb, unit="stranger.service")["HelperRefused"]
    limit = helper.ask("set-limit", unit="stranger.service", property="MemoryMax", factor=1.5)
    assert "does not let stranger.service" in limit["HelperRefused"]
    assert "at least 500 MB" in helper.ask("vacuum-journal", keep_mb=499)["HelperRefused"]
    assert not helper.machine.is_ready("stranger.service")
    assert helper.machine.show("stranger.service", "MemoryMax") == str(64 << 20)


def test_root_may_not_do_more_than_the_policy_either_and_the_helper_nothing_to_itself(helper: Helper) -> None:
    root = ("--reuid=0",)
    assert "does not let" in helper.ask("restart", who=root, unit="dbus.service")["HelperRefused"]
    helper.allow("*")
    for unit in ("kloros-helper@x.service", "kloros-helper.socket"):
        assert "itself" in helper.ask("restart", who=root, unit=unit)["HelperRefused"]


def test_an_alias_opens_no_door(helper: Helper) -> None:
    helper.unit("stranger.service", "ExecStart=/bin/sleep infinity\n[Install]\nAlias=kloros-friend.service")
    helper.machine.systemctl("enable", "stranger.service")
    assert helper.machine.show("kloros-friend.service", "Id") == "stranger.service"
    assert "does not let stranger.service" in helper.ask("start", unit="kloros-friend.service")["HelperRefused"]
    assert not helper.machine.is_ready("stranger.service")


def test_a_stranger_cannot_reach_it_and_a_member_of_the_group_is_refused_by_it(helper: Helper) -> None:
    assert "Permission denied" in helper.ask("start", who=STRANGER, unit="kloros-decay.service")["HelperAway"]
    told = helper.ask("start", who=IN_THE_GROUP, unit="kloros-decay.service")
    assert told == {"HelperRefused": "The privileged helper refused: uid 65534 may not ask for anything"}
    assert not helper.machine.is_ready("kloros-decay")


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", "not json\n", "{}\n", '{"verb":"exec","unit":"kloros-decay.service"}\n', "[" * 3000,
        '{"verb":"start","unit":"kloros-decay.service","mode":"isolate"}\n',
        '{"verb":"start","unit":"../../kloros-decay.service"}\n', '{"verb":"start","unit":"kloros-decay"}\n',
        '{"verb":"set-limit","unit":"kloros-decay.service","property":"ExecStart","factor":1.5}\n',
        '{"verb":"set-limit","unit":"kloros-decay.service","property":"MemoryMax","factor":-1}\n', "x" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(helper: Helper, text: str) -> None:
    assert helper.raw(text)["outcome"] == "refused"
    assert not helper.machine.is_ready("kloros-decay")


@pytest.mark.parametrize(
    "fault", [f"rm {POLICY}", f"chmod 666 {POLICY}", f"chown kloros {POLICY}", f"echo x >>{POLICY}"]
)
def test_without_a_sound_policy_of_roots_nothing_is_allowed(helper: Helper, fault: str) -> None:
    helper.machine.sh(fault)
    assert "without a policy" in helper.ask("start", unit="kloros-decay.service")["HelperRefused"]
    assert not helper.machine.is_ready("kloros-decay")


def files(helper: Helper) -> str:
    return helper.machine.sh("find /run/systemd/system.control /etc/systemd/system.control -type f", check=False)


@pytest.mark.parametrize(
    ("name", "value", "raised", "tells"),
    [("MemoryMax", "100000000", "150000000", "MemoryMax"), ("TasksMax", "40", "60", "TasksMax")],
)
def test_a_limit_is_raised_and_taken_back_to_exactly_what_it_was(
    helper: Helper, name: str, value: str, raised: str, tells: str
) -> None:
    helper.allow("worker.service")
    helper.unit("worker.service", f"ExecStart=/bin/sleep infinity\n{name}={value}")
    machine = helper.machine
    machine.systemctl("start", "worker.service")
    before = machine.show("worker.service", tells)
    answer = helper.ask("set-limit", unit="worker.service", property=name, factor=1.5)
    assert str(answer["after"]) == machine.show("worker.service", tells) == (raised if name == "MemoryMax" else "60")
    again = helper.ask("set-limit", unit="worker.service", property=name, factor=1.5)
    assert "was raised from" in again["HelperRefused"]
    assert machine.show("worker.service", tells) == str(answer["after"])

    helper.ask("revert-limit", unit="worker.service", property=name)
    assert machine.show("worker.service", tells) == before
    assert files(helper) == ""
    assert (
        "was not raised from here" in helper.ask("revert-limit", unit="worker.service", property=name)["HelperRefused"]
    )


def test_the_raised_memory_limit_is_in_the_kernel_too_and_so_is_the_old_one(helper: Helper) -> None:
    helper.allow("worker.service")
    helper.unit("worker.service", "ExecStart=/bin/sleep infinity\nTasksMax=40")
    machine = helper.machine
    machine.systemctl("start", "worker.service")
    group = machine.show("worker.service", "ControlGroup")
    read = f"cat /sys/fs/cgroup{group}/pids.max /sys/fs/cgroup/pids{group}/pids.max"

    def in_the_kernel() -> str:
        return machine.sh(f"{read} 2>/dev/null", check=False).strip()

    if in_the_kernel() != "40":
        pytest.skip("this machine has no pids controller for its units")
    helper.ask("set-limit", unit="worker.service", property="TasksMax", factor=2.0)
    assert in_the_kernel() == "80"
    helper.ask("revert-limit", unit="worker.service", property="TasksMax")
    wait_for(lambda: in_the_kernel() == "40", 10, "the old limit")


def test_the_limit_of_files_holds_with_the_next_start(helper: Helper) -> None:
    helper.allow("worker.service")
    helper.unit("worker.service", "ExecStart=/bin/sleep infinity\nLimitNOFILE=512:1024")
    machine = helper.machine
    machine.systemctl("start", "worker.service")
    answer = helper.ask("set-limit", unit="worker.service", property="LimitNOFILE", factor=1.5)
    assert answer == {"before": 512, "after": 768}
    machine.systemctl("restart", "worker.service")
    pid = machine.show("worker.service", "MainPID")
    assert "768" in machine.sh(f"grep 'Max open files' /proc/{pid}/limits")
    helper.ask("revert-limit", unit="worker.service", property="LimitNOFILE")
    assert machine.show("worker.service", "LimitNOFILESoft") == "512"
    assert machine.show("worker.service", "LimitNOFILE") == "1024"
    assert files(helper) == ""


def test_a_limit_is_never_raised_beyond_the_policys_bounds(helper: Helper) -> None:
    helper.allow("worker.service", "free.service", "full.service")
    machine = helper.machine
    helper.unit("worker.service", "ExecStart=/bin/sleep infinity\nMemoryMax=100000000")
    helper.unit("free.service", "ExecStart=/bin/sleep infinity")
    helper.unit("full.service", "ExecStart=/bin/sleep infinity\nMemoryMax=90%")
    for factor in (2.01, 50):
        told = helper.ask("set-limit", unit="worker.service", property="MemoryMax", factor=factor)
        assert "2 times at most" in told["HelperRefused"]
    lasting = helper.ask("set-limit", unit="worker.service", property="MemoryMax", factor=2, persistent=True)
    assert "next boot" in lasting["HelperRefused"]
    free = helper.ask("set-limit", unit="free.service", property="MemoryMax", factor=2)
    assert "is not limited" in free["HelperRefused"]
    full = helper.ask("set-limit", unit="full.service", property="MemoryMax", factor=2)
    assert "the policy ends at" in full["HelperRefused"]
    assert machine.show("free.service", "MemoryMax") == INFINITY


def test_what_an_operator_set_is_left_alone(helper: Helper) -> None:
    helper.allow("worker.service")
    helper.unit("worker.service", "ExecStart=/bin/sleep infinity\nMemoryMax=100000000")
    helper.machine.systemctl("set-property", "--runtime", "worker.service", "MemoryMax=120000000")
    told = helper.ask("set-limit", unit="worker.service", property="MemoryMax", factor=1.5)
    assert "set-property" in told["HelperRefused"]
    assert helper.machine.show("worker.service", "MemoryMax") == "120000000"


def test_a_raise_that_may_last_outlives_nothing_else(helper: Helper) -> None:
    helper.machine.write_file(POLICY, '[units]\nlimit = ["worker.service"]\n[limits]\npersistent = true\n')
    helper.unit("worker.service", "ExecStart=/bin/sleep infinity\nMemoryMax=100000000")
    helper.ask("set-limit", unit="worker.service", property="MemoryMax", factor=1.5, persistent=True)
    assert files(helper).split() == ["/etc/systemd/system.control/worker.service.d/50-MemoryMax.conf"]
    helper.ask("revert-limit", unit="worker.service", property="MemoryMax")
    assert (files(helper), helper.machine.show("worker.service", "MemoryMax")) == ("", "100000000")


def test_the_journal_really_shrinks(helper: Helper) -> None:
    helper.allow()
    machine = helper.machine
    for _ in range(3):
        machine.sh("head -c 12000000 /dev/urandom | base64 -w 4000 | systemd-cat -t filler", limit_s=60)
        machine.run("journalctl", "--rotate")
    size = "du -s -B1 /var/log/journal /run/log/journal 2>/dev/null | awk '{sum += $1} END {print sum}'"
    before = int(machine.sh(size))
    answer = helper.ask("vacuum-journal", keep_mb=20)
    assert answer["before"] - answer["after"] > 10_000_000
    assert int(machine.sh(size)) < before - 10_000_000


def test_uninstalling_takes_the_helper_away_and_names_a_limit_that_stays_raised(machine: Machine) -> None:
    machine.systemctl("start", "kloros-helper.socket")
    helper = Helper(machine)
    helper.allow("worker.service")
    helper.unit("worker.service", "ExecStart=/bin/sleep infinity\nMemoryMax=100000000")
    helper.ask("set-limit", unit="worker.service", property="MemoryMax", factor=1.5)
    said = machine.run(f"{CHECKOUT_INSIDE}/scripts/uninstall", "--purge").stdout
    assert "a limit stays raised" in said
    assert "worker.service" in said
    assert machine.sh("ls -d /run/kloros* /var/lib/kloros* /etc/kloros* 2>/dev/null", check=False) == ""
    assert machine.systemctl("list-units", "--all", "--no-legend", "kloros*") == ""


def test_an_upgrade_restarts_the_socket_that_was_open(machine: Machine) -> None:
    machine.systemctl("start", "kloros-helper.socket", "kloros-action-consumer")
    assert "kloros-helper.socket" in run_install(machine).stdout
    assert machine.is_ready("kloros-helper.socket")
    assert machine.is_ready("kloros-action-consumer")
