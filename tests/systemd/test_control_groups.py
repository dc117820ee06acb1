"""Control groups of version 2, whole, as a computer of today has them: who outgrew its memory is told by what
the kernel counts. (The containers of the other tests often have no memory controller of their own.)

scripts/test -m own_kernel
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.systemd.own_kernel import OwnKernel
from tests.systemd.suite import INVESTIGATION, PROXY, Suite
from tests.systemd.system import wait_for

pytestmark = [pytest.mark.own_kernel, pytest.mark.timeout(1800)]

HOARD = '/usr/bin/python3 -c "hoard = bytes(range(256)) * 250_000"'
UNITS = {
    "greedy": f"MemoryMax=30M\nMemorySwapMax=0\nExecStart={HOARD}",
    "parent": f"MemoryMax=30M\nMemorySwapMax=0\nOOMPolicy=continue\nExecStart=/bin/sh -c '{HOARD}; sleep infinity'",
}
EVENTS = "/sys/fs/cgroup/system.slice/try-parent.service/memory.events"
CONCLUDED = ("concluded", "oom_kill", "raise_limit")
SLOW_S = 120.0
POLL_S = 2.0


@pytest.fixture(scope="module")
def said(own_kernel: OwnKernel) -> dict[str, dict[str, Any]]:
    """What was found out about each."""
    suite = Suite(own_kernel)
    for unit in (PROXY, INVESTIGATION):
        own_kernel.systemctl("start", unit, limit_s=SLOW_S)
    for name, service in UNITS.items():
        own_kernel.write_file(f"/etc/systemd/system/try-{name}.service", f"[Service]\n{service}\n")
    own_kernel.systemctl("start", *(f"try-{name}" for name in UNITS), check=False)
    wait_for(lambda: own_kernel.show("try-greedy", "Result") == "oom-kill", SLOW_S, "the first to be killed", POLL_S)
    wait_for(lambda: "oom_kill 1\n" in own_kernel.read_file(EVENTS), SLOW_S, "the second to be killed", POLL_S)
    suite.ask_why(*UNITS)
    wait_for(lambda: len(investigations(own_kernel, "--open")["waiting"]) == len(UNITS), SLOW_S, "both to wait", POLL_S)
    suite.emit("Q_TRIGGER_INVESTIGATION", "introspection")

    def all_told() -> list[dict[str, Any]]:
        told = investigations(own_kernel)["ended"]
        return told if len(told) == len(UNITS) else []

    told = wait_for(all_told, SLOW_S, "both to be looked into", POLL_S)
    return {each["question_id"].removeprefix("q-"): each for each in told}


def investigations(machine: OwnKernel, *options: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(
        machine.run("kloros", "investigations", "--json", *options, limit_s=SLOW_S).stdout
    )
    return shown


def test_a_unit_that_outgrew_its_memory_and_is_gone(said: dict[str, dict[str, Any]]) -> None:
    told = said["greedy"]
    assert (told["status"], told["rule"], told["recommended_action"]["action_type"]) == CONCLUDED
    assert told["conclusion"].startswith("try-greedy.service was killed because it needed more memory than it may have")
    assert any("Memory cgroup out of memory: Killed process" in line for line in told["evidence"])


def test_a_process_of_a_unit_that_lives_on_was_killed(said: dict[str, dict[str, Any]]) -> None:
    told = said["parent"]
    assert (told["status"], told["rule"], told["recommended_action"]["action_type"]) == CONCLUDED
    assert told["conclusion"].startswith("A process of try-parent.service (python3) was killed because it needed more")
    assert "its control group counts 1 process killed for want of memory (oom_kill)" in told["evidence"]
    assert any("30 MiB at its peak" in line for line in told["evidence"])


def test_what_is_read_is_what_systemd_says(own_kernel: OwnKernel, said: dict[str, dict[str, Any]]) -> None:
    """Of a unit that sleeps, by our own reader."""
    script = (
        "import json\nfrom kloros.machine.cgroups import Cgroups\n"
        "use = Cgroups().memory('/system.slice/try-parent.service')\nprint(json.dumps(use._asdict()))"
    )
    use = json.loads(Suite(own_kernel).python(script, limit_s=SLOW_S))
    assert use["current"] == int(own_kernel.show("try-parent", "MemoryCurrent"))
    assert (use["limit"], use["oom_kills"]) == (30 << 20, 1)
    assert use["hits"] >= 1
    assert use["peak"] >= 0.95 * use["limit"]
