"""What breaks in a real machine and what introspection makes of it: one gap per trouble, none for healthy units."""

from __future__ import annotations

from typing import Any

from tests.systemd.suite import Suite
from tests.systemd.system import wait_for

# Restarted more often than its start limit allows, but not within its time, and then not restarted any more.
SLOW_LOOP = """\
ExecStart=/bin/sh -c 'echo >>/run/tries; test $$(wc -l </run/tries) -le 6 || exit 9; exit 1'
Restart=on-failure
RestartSec=300ms
RestartPreventExitStatus=9
[Unit]
StartLimitIntervalSec=1s
StartLimitBurst=5"""
WAYS_TO_BREAK = {
    "no-program": ("ExecStart=/opt/no/such/program", "203/EXEC"),
    "no-user": ("User=nobody-knows-him\nExecStart=/bin/true", "217/USER"),
    "bad-exit": ("Type=oneshot\nExecStart=/bin/sh -c 'exit 3'", "status 3"),
    "killed": ("ExecStart=/bin/sh -c 'kill -KILL $$$$'", "signal 9"),
    "crash-loop": ("ExecStart=/bin/false\nRestart=always\nRestartSec=50ms", "started too often"),
    "slow-loop": (SLOW_LOOP, "try-slow-loop.service failed: exit-code, status 9"),
}
HEALTHY = {
    "long-oneshot": "Type=oneshot\nExecStart=/bin/sleep 600",
    # Without a start limit: five starts in ten seconds are systemd's own idea of too many.
    "ends-well": "ExecStart=/bin/sleep 0.2\nRestart=always\nRestartSec=1s\n[Unit]\nStartLimitIntervalSec=0",
    "done": "Type=oneshot\nExecStart=/bin/true",
}
RUNS = "ExecStart=/bin/sleep infinity"
NEEDS_STOCK = "[Install]\nWantedBy=multi-user.target\n[Unit]\nAfter=try-stock.service\nRequires=try-stock.service"
# All are enabled and require what fails; the first two run until then.
DEPENDENTS = {
    "shop": f"{RUNS}\n{NEEDS_STOCK}",
    "bound": f"{RUNS}\n{NEEDS_STOCK}\nBindsTo=try-stock.service",
    "ended": f"ExecStart=/bin/true\n{NEEDS_STOCK}",
    "unmet": f"{RUNS}\n{NEEDS_STOCK}\nConditionPathExists=/none",
    "by-hand": f"{RUNS}\n{NEEDS_STOCK}",
}


def lay_down(suite: Suite, units: dict[str, str]) -> None:
    for name, service in units.items():
        suite.machine.write_file(f"/etc/systemd/system/try-{name}.service", f"[Service]\n{service}\n")
    suite.machine.systemctl("daemon-reload")


def names(messages: list[dict[str, Any]], signal: str, gap_type: str) -> list[str]:
    told = [message["facts"] for message in messages if message["signal"] == signal]
    return sorted(facts["gap_name"] for facts in told if facts["gap_type"] == gap_type and "try" in facts["gap_name"])


def test_each_broken_unit_is_one_gap_that_says_why_and_healthy_ones_are_none(suite: Suite) -> None:
    suite.schedule(introspection_scan=0.5)
    suite.start("kloros-chem-proxy")
    broken = [f"try-{name}.service" for name in WAYS_TO_BREAK]
    with suite.listening("CAPABILITY_GAP", "CAPABILITY_RESTORED") as heard:
        lay_down(suite, {name: service for name, (service, _) in WAYS_TO_BREAK.items()} | HEALTHY)
        suite.machine.systemctl("start", "--no-block", *broken, *(f"try-{name}.service" for name in HEALTHY))
        # Introspection comes when all have failed: on its way there a crash loop is rightly told as flapping first.
        wait_for(lambda: {suite.machine.show(unit, "ActiveState") for unit in broken} == {"failed"}, 20, "all to fail")
        suite.start()
        wait_for(lambda: names(heard(), "CAPABILITY_GAP", "unit_unhealthy") == sorted(broken), 20, "a gap for each")
        why = {message["facts"]["gap_name"]: message["facts"]["detail"] for message in heard()}
        assert [name for name, (_, said) in WAYS_TO_BREAK.items() if said not in why[f"try-{name}.service"]] == []

        lay_down(suite, dict.fromkeys(WAYS_TO_BREAK, RUNS))
        suite.machine.systemctl("reset-failed")
        suite.machine.systemctl("start", *broken)
        wait_for(lambda: names(heard(), "CAPABILITY_RESTORED", "unit_unhealthy") == sorted(broken), 20, "all restored")
        suite.wait_for_cycles(4, since=suite.machine.journal_mark())
        assert names(heard(), "CAPABILITY_GAP", "unit_unhealthy") == sorted(broken)


def test_a_restart_that_fails_holds_up_what_ran_and_not_what_was_down_before(suite: Suite) -> None:
    suite.schedule(introspection_scan=0.5)
    suite.start("kloros-chem-proxy")
    machine, dependents = suite.machine, [f"try-{name}.service" for name in DEPENDENTS]
    stock = "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'test -e /srv/stock'"
    with suite.listening("CAPABILITY_GAP", "CAPABILITY_RESTORED") as heard:
        lay_down(suite, {"stock": stock} | DEPENDENTS)
        machine.run("touch", "/srv/stock")
        machine.systemctl("enable", "--quiet", *dependents)
        machine.systemctl("start", *dependents)
        machine.systemctl("stop", "try-by-hand")
        machine.run("sleep", "11")  # until then it could have been for the restart
        machine.run("rm", "/srv/stock")
        machine.systemctl("restart", "try-stock", check=False)
        suite.start()
        held_up = ["try-bound.service", "try-shop.service"]
        told = sorted([*held_up, "try-stock.service"])
        wait_for(lambda: names(heard(), "CAPABILITY_GAP", "unit_unhealthy") == told, 20, "a gap for each")
        machine.run("touch", "/srv/stock")
        machine.systemctl("start", "try-stock")
        wait_for(lambda: names(heard(), "CAPABILITY_RESTORED", "unit_unhealthy"), 20, "the required one restored")
        assert names(heard(), "CAPABILITY_RESTORED", "unit_unhealthy") == ["try-stock.service"]
        machine.systemctl("start", *held_up)
        wait_for(lambda: names(heard(), "CAPABILITY_RESTORED", "unit_unhealthy") == told, 20, "all restored")
        assert names(heard(), "CAPABILITY_GAP", "unit_unhealthy") == told


def test_a_service_that_crashes_for_ever_is_found_flapping(suite: Suite) -> None:
    suite.schedule(introspection_scan=0.5)
    suite.start()
    with suite.listening("CAPABILITY_GAP") as heard:
        flapping = "ExecStart=/bin/sh -c 'sleep 0.3; exit 1'\nRestart=on-failure\nRestartSec=500ms"
        lay_down(suite, {"flapper": f"{flapping}\n[Unit]\nStartLimitIntervalSec=0"})
        suite.machine.systemctl("start", "try-flapper")
        wait_for(lambda: names(heard(), "CAPABILITY_GAP", "unit_unhealthy"), 20, "the gap")
        (told,) = [message["facts"] for message in heard() if "flapper" in message["facts"]["gap_name"]]
        assert "was restarted" in told["detail"]


def test_an_error_flood_is_one_gap_and_a_rotated_journal_loses_nothing_new(suite: Suite) -> None:
    suite.schedule(introspection_scan=0.5)
    suite.start()
    machine = suite.machine
    with suite.listening("CAPABILITY_GAP") as heard:
        suite.wait_for_cycles(2)
        flood = (
            'for i in $(seq 300); do echo "<3>connection $i from 10.0.0.$i refused"; done | systemd-cat -t try-flood'
        )
        machine.run("sh", "-c", flood)
        machine.run("sh", "-c", "printf '<3>bad \\377\\376 bytes\\n' | systemd-cat -t try-bytes")
        wait_for(lambda: len(names(heard(), "CAPABILITY_GAP", "journal_errors")) >= 2, 20, "both")
        machine.run("journalctl", "--rotate")
        machine.run("journalctl", "--vacuum-time=1s")
        machine.run("logger", "-p", "user.err", "-t", "try-later", "after the rotation")
        wait_for(lambda: len(names(heard(), "CAPABILITY_GAP", "journal_errors")) >= 3, 20, "the new one")
        assert sorted(set(names(heard(), "CAPABILITY_GAP", "journal_errors"))) == [
            "try-bytes: bad \ufffd\ufffd bytes",
            "try-flood: connection <n> from <ip> refused",
            "try-later: after the rotation",
        ]


def test_without_d_bus_the_lack_is_told_once_the_rest_goes_on_and_it_heals(suite: Suite) -> None:
    suite.schedule(introspection_scan=0.5)
    suite.start()
    machine = suite.machine
    with suite.listening("CAPABILITY_GAP", "CAPABILITY_RESTORED") as heard:
        machine.systemctl("stop", "dbus.socket", "dbus.service")
        machine.run("logger", "-p", "user.err", "-t", "try-meanwhile", "still watched")
        wait_for(lambda: names(heard(), "CAPABILITY_GAP", "journal_errors"), 20, "the error")
        suite.wait_for_cycles(4, since=machine.journal_mark())
        blind = [message for message in heard() if message["facts"]["gap_type"] == "scanner_blind"]
        assert [message["facts"]["gap_name"] for message in blind] == ["units"]
        machine.systemctl("start", "dbus.socket", "dbus.service")
        wait_for(
            lambda: [message for message in heard() if message["signal"] == "CAPABILITY_RESTORED"], 20, "sight again"
        )
