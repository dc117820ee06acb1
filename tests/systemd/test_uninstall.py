"""scripts/uninstall leaves nothing but data."""

from __future__ import annotations

from tests.systemd.conftest import run_install
from tests.systemd.machine import CHECKOUT_INSIDE, Machine
from tests.systemd.suite import DAEMONS, Suite

UNINSTALL = f"{CHECKOUT_INSIDE}/scripts/uninstall"
PLACES = "/etc /opt /usr /var/lib /var/spool /srv /root /home"
# What any use of a machine leaves: journald's and systemd's own, the backups that userdel makes, D-Bus, caches.
NOT_OURS = "-path '/etc/*-' -o -path /etc/machine-id -o -path '/var/lib/systemd*' -o -path '/srv/kloros-*'"


def listing(machine: Machine) -> set[str]:
    return set(machine.sh(f"find {PLACES} -xdev \\( {NOT_OURS} \\) -prune -o -print", limit_s=60).splitlines())


def accounts(machine: Machine) -> str:
    return machine.sh("getent passwd kloros; getent group kloros", check=False)


def test_uninstall_leaves_nothing_but_data(machine: Machine, bare_machine: Machine) -> None:
    suite = Suite(machine)
    suite.start()
    suite.wait_for_cycles(1)
    result = machine.run(UNINSTALL)
    left = listing(machine) - listing(bare_machine)
    assert {path for path in left if not path.startswith("/var/lib/kloros")} == set()
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


def test_purge_leaves_nothing_at_all(machine: Machine, bare_machine: Machine) -> None:
    machine.write_file("/etc/systemd/system/kloros-scheduler.service.d/override.conf", "[Service]\nCPUWeight=90\n")
    machine.write_file("/etc/kloros/consumers/mine.py", "# mine\n")
    Suite(machine).start("kloros-scheduler")
    machine.run(UNINSTALL, "--purge")
    assert listing(machine) - listing(bare_machine) == set()


def test_a_later_install_takes_up_the_data(machine: Machine) -> None:
    suite = Suite(machine)
    suite.start("kloros-scheduler")
    machine.run("/opt/kloros/share/kloros/uninstall")
    run_install(machine, "--start")
    assert all(machine.is_ready(unit) for unit in DAEMONS)
    assert machine.sh("stat -c %U /var/lib/kloros/scheduler/state.db").strip() == "kloros"
