"""scripts/install lays the suite down, upgrades it, and says what it lacks."""

from __future__ import annotations

import subprocess

import pytest

from tests.systemd.conftest import Installed, run_install
from tests.systemd.machine import CHECKOUT, Machine
from tests.systemd.suite import DAEMONS, PYTHON, Suite

SETTINGS = "/etc/kloros/kloros.toml"


def test_install_says_what_it_does_and_what_comes_next(installed: Installed) -> None:
    assert "installing the kloros package" in installed.output
    assert "next: systemctl start kloros.target" in installed.output


def test_install_starts_nothing_and_enables_the_target(machine: Machine) -> None:
    assert machine.systemctl("is-enabled", "kloros.target").strip() == "enabled"
    assert not any(machine.is_ready(unit) for unit in DAEMONS)


def test_the_suite_runs_from_its_own_environment_as_its_own_user(machine: Machine) -> None:
    where = machine.run(PYTHON, "-c", "import kloros; print(kloros.__file__)", check=True).stdout
    assert where.startswith("/opt/kloros/lib/")
    assert machine.sh("stat -c '%A %U %G' /run/kloros").split() == ["drwxr-x---", "kloros", "kloros"]
    assert machine.run("kloros", "--help").returncode == 0


def test_config_is_readable_and_complete(machine: Machine) -> None:
    shipped = sorted(path.name for path in (CHECKOUT / "config").glob("*.toml"))
    installed = machine.sh("cd /etc/kloros && ls *.toml").split()
    assert installed == shipped


def test_rules_and_dashboard_are_laid_down_for_a_prometheus_that_there_may_be(machine: Machine) -> None:
    shipped = sorted(path.name for path in (CHECKOUT / "config/prometheus").iterdir())
    assert machine.sh("cd /opt/kloros/share/kloros/prometheus && ls").split() == shipped


def test_upgrade_keeps_edited_config_and_lays_the_new_default_beside_it(machine: Machine) -> None:
    machine.sh(f"echo '# mine' >>{SETTINGS}; echo '# shipped before' >>/opt/kloros/share/kloros/config/kloros.toml")
    result = run_install(machine)
    assert f"kept your {SETTINGS}" in result.stdout
    assert machine.read_file(SETTINGS).endswith("# mine\n")
    assert machine.read_file(f"{SETTINGS}.new") == (CHECKOUT / "config/kloros.toml").read_text()


def test_upgrade_replaces_untouched_config_and_removes_what_is_gone_and_restarts_what_ran(machine: Machine) -> None:
    old_unit = "/etc/systemd/system/kloros-of-old.service"
    machine.sh(
        f"echo '# shipped before' >>{SETTINGS}; cp {SETTINGS} /opt/kloros/share/kloros/config/kloros.toml;"
        f"touch {old_unit}; echo {old_unit} >>/opt/kloros/share/kloros/installed-files"
    )
    suite = Suite(machine)
    suite.start("kloros-scheduler")
    before = machine.show("kloros-scheduler", "MainPID")
    result = run_install(machine)
    assert "restarting" in result.stdout
    assert machine.read_file(SETTINGS) == (CHECKOUT / "config/kloros.toml").read_text()
    assert machine.run("test", "-e", old_unit, check=False).returncode == 1
    assert machine.is_ready("kloros-scheduler")
    assert machine.show("kloros-scheduler", "MainPID") != before
    assert not machine.is_ready("kloros-introspection")


@pytest.mark.parametrize("script", ["install", "uninstall"])
def test_scripts_want_root_and_explain_themselves(script: str) -> None:
    path = str(CHECKOUT / "scripts" / script)
    unprivileged = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    refused = subprocess.run(
        [*unprivileged, "bash", "-s"],
        input=(CHECKOUT / "scripts" / script).read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "needs root" in refused.stderr
    helped = subprocess.run([path, "--help"], capture_output=True, text=True, check=True)
    assert helped.stdout.startswith("Usage: sudo scripts/")


def test_install_names_the_package_that_brings_venv(machine: Machine) -> None:
    machine.sh("rm -r /usr/lib/python3*/ensurepip")
    refused = run_install(machine, check=False)
    assert refused.returncode == 1
    assert "apt install python3-venv" in refused.stderr
