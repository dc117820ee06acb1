"""scripts/uninstall leaves nothing but data."""

from __future__ import annotations

from tests.systemd.conftest import run_install
from tests.systemd.machine import CHECKOUT_INSIDE, Machine
from tests.systemd.suite import DAEMONS, Suite

UNINSTALL = f"{CHECKOUT_INSIDE}/scripts/uninstall"
# What any use of a machine leaves: logs, systemd's own notes and the place it makes for root's keys, the backups that
# useradd and userdel make; and what the tests bind into it.
NOT_OURS = ("/etc/.pwd.lock", "/var/log/", "/var/lib/systemd", "/srv/kloros-", "/root/.ssh")


def left_behind(machine: Machine) -> set[str]:
    return {path for path in machine.new_files() if not path.startswith(NOT_OURS) and not path.endswith("-")}


def accounts(machine: Machine) -> str:
    return machine.sh("getent passwd kloros; getent group kloros", check=False)


def test_uninstall_leaves_nothing_but_data(machine: Machine) -> None:
    suite = Suite(machine)
    suite.schedule(introspection_scan=0.5)
    suite.start()
    suite.wait_for_cycles(1)
    result = machine.run(UNINSTALL)
    left = left_behind(machine)
    edited = {"/etc/kloros", "/etc/kloros/scheduler_config.toml"}
    assert {path for path in left if not path.startswith("/var/lib/kloros")} == edited
    assert {"/var/lib/kloros/scheduler/state.db", "/var/lib/kloros/introspection/state.db"} <= left
    assert "kept the data in /var/lib/kloros" in result.stdout
    assert machine.sh("stat -c '%a %U' /var/lib/kloros").split() == ["700", "root"]
    assert accounts(machine) == ""
    assert machine.run("test", "-e", "/run/kloros", check=False).returncode == 1
    assert machine.systemctl("list-units", "--all", "--no-legend", "kloros*") == ""
    assert machine.systemctl("list-unit-files", "--no-legend", "kloros*", check=False) == ""


def test_uninstall_keeps_what_the_operator_wrote(machine: Machine) -> None:
    override = "/etc/systemd/system/kloros-scheduler.service.d/override.conf"
    machine.write_file(override, "[Service]\nCPUWeight=90\n")
    machine.write_file("/etc/kloros/consumers/mine.py", "# mine\n")
    machine.sh("echo '# mine' >>/etc/kloros/kloros.toml")
    said = machine.run(UNINSTALL).stdout
    kept = machine.sh("find /etc/kloros /etc/systemd/system/kloros* -type f").splitlines()
    assert sorted(kept) == ["/etc/kloros/consumers/mine.py", "/etc/kloros/kloros.toml", override]
    assert "/etc/kloros" in said
    assert "kloros-scheduler.service.d" in said


def test_purge_leaves_nothing_at_all(machine: Machine) -> None:
    machine.write_file("/etc/systemd/system/kloros-scheduler.service.d/override.conf", "[Service]\nCPUWeight=90\n")
    machine.write_file("/etc/kloros/consumers/mine.py", "# mine\n")
    Suite(machine).start("kloros-scheduler")
    machine.run(UNINSTALL, "--purge")
    assert left_behind(machine) == set()


def test_a_later_install_takes_up_the_data(machine: Machine) -> None:
    suite = Suite(machine)
    suite.start("kloros-scheduler")
    machine.run("/opt/kloros/share/kloros/uninstall")
    run_install(machine, "--start")
    assert all(machine.is_ready(unit) for unit in DAEMONS)
    assert machine.sh("stat -c %U /var/lib/kloros/scheduler/state.db").strip() == "kloros"
