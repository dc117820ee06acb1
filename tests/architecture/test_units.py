"""Each daemon has its unit and each unit its daemon; what they share stands once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
UNITS = CHECKOUT / "systemd"
SHARED = UNITS / "kloros-.service.d/10-shared.conf"
DAEMONS = sorted((CHECKOUT / "kloros").rglob("*_daemon.py"))
SERVICES = sorted(UNITS.glob("kloros-*.service"))
ACCUMULATING = {"Environment", "ReadWritePaths", "SystemCallFilter", "After", "Wants"}
HIGHEST_EXPOSURE = 15  # of 100, as systemd-analyze takes it; it prints 1.5
# No daemon: root by name, one process for each request to its socket.
HELPER = "kloros-helper@.service"
TEMPLATES = {"kloros-consumer@.service", HELPER}

needs_systemd_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")

Setting = tuple[str, str, str]


def settings(path: Path) -> list[Setting]:
    """(section, key, value) of each line of a unit file."""
    found, section = [], ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.append((section, key, value))
    return found


def value_of(path: Path, wanted: str) -> str:
    return next(value for _section, key, value in settings(path) if key == wanted)


def unit_name(daemon: Path) -> str:
    return f"kloros-{daemon.stem.removesuffix('_daemon').replace('_', '-')}.service"


def template_or_service(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("daemon", DAEMONS, ids=lambda path: path.stem)
def test_each_daemon_has_a_unit_that_runs_it(daemon: Path) -> None:
    module = ".".join(daemon.relative_to(CHECKOUT).with_suffix("").parts)
    assert value_of(UNITS / unit_name(daemon), "ExecStart") == f"/opt/kloros/bin/python -m {module}"


def test_each_unit_but_the_templates_has_its_daemon() -> None:
    daemons = {unit_name(daemon) for daemon in DAEMONS}
    assert {unit.name for unit in SERVICES} - TEMPLATES == daemons


def test_the_target_has_one_line_for_each_daemon_and_one_for_the_helpers_socket() -> None:
    wanted = [value for _section, key, value in settings(UNITS / "kloros.target") if key == "Wants"]
    assert sorted(wanted) == sorted([*(unit_name(daemon) for daemon in DAEMONS), "kloros-helper.socket"])


@pytest.mark.parametrize("unit", SERVICES, ids=template_or_service)
def test_no_unit_repeats_what_the_shared_drop_in_says(unit: Path) -> None:
    shared = settings(SHARED)
    once = {(section, key) for section, key, _value in shared if key not in ACCUMULATING}
    repeated = [line for line in settings(unit) if line in shared or line[:2] in once]
    assert repeated == []


@pytest.mark.parametrize("unit", SERVICES, ids=template_or_service)
def test_each_unit_keeps_its_state_in_a_directory_of_its_own(unit: Path) -> None:
    stem = "consumers" if unit.name.endswith("@.service") else unit.stem.removeprefix("kloros-").replace("-", "_")
    # What is below /var/lib/kloros belongs to the user kloros, who could put something else in its place.
    expected = "kloros-helper" if unit.name == HELPER else f"kloros/{stem}"
    assert value_of(unit, "StateDirectory") == expected


@pytest.mark.parametrize("unit", SERVICES, ids=template_or_service)
def test_no_unit_requires_the_proxy(unit: Path) -> None:
    strong = {"Requires", "Requisite", "BindsTo", "PartOf"}
    assert not [line for line in settings(unit) if line[1] in strong]


def settings_of_the_helper() -> dict[str, str]:
    """What holds for the helper in the end: systemd reads its drop-ins by their numbers."""
    files = [UNITS / HELPER, SHARED, UNITS / f"{HELPER}.d/20-is-root.conf"]
    return {key: value for file in files for _section, key, value in settings(file)}


def test_the_helper_is_root_by_name_and_by_nothing_else() -> None:
    holds = settings_of_the_helper()
    assert (holds["User"], holds["CapabilityBoundingSet"], holds["AmbientCapabilities"]) == ("root", "", "")
    assert (holds["PrivateNetwork"], holds["RestrictAddressFamilies"], holds["IPAddressAllow"]) == (
        "yes",
        "AF_UNIX",
        "",
    )
    assert (holds["NoNewPrivileges"], holds["Environment"], holds["Restart"]) == ("yes", "", "no")
    assert "python -I -m" in holds["ExecStart"]


def test_only_root_and_the_group_may_reach_the_helper() -> None:
    socket = {key: value for _section, key, value in settings(UNITS / "kloros-helper.socket")}
    assert (socket["SocketUser"], socket["SocketGroup"], socket["SocketMode"]) == ("root", "kloros", "0660")
    assert socket["Accept"] == "yes"


def test_the_shared_drop_in_uses_nothing_newer_than_systemd_252() -> None:
    newer = {"RestartSteps", "RestartMaxDelaySec", "RestartMode", "MemoryPressureWatch", "ImportCredential"}
    assert newer.isdisjoint(key for _section, key, _value in settings(SHARED))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with the units and stand-ins for the programs that they run."""
    shutil.copytree(UNITS, tmp_path / "etc/systemd/system")
    (tmp_path / "etc/systemd/system/kloros-.service.d/11-restart-steps.conf").unlink()
    for program in ("opt/kloros/bin/python", "opt/kloros/bin/kloros", "bin/kill"):
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o755)
    return tmp_path


@needs_systemd_analyze
@pytest.mark.parametrize("unit", SERVICES, ids=template_or_service)
def test_exposure_is_low(unit: Path, root: Path) -> None:
    name = unit.name.replace("@.", "@module:Class.")
    options = ["--offline=true", f"--root={root}", f"--threshold={HIGHEST_EXPOSURE}", "--no-pager"]
    command = ["systemd-analyze", "security", *options, name]
    analysed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert analysed.returncode == 0, analysed.stdout + analysed.stderr


@needs_systemd_analyze
def test_systemd_finds_nothing_to_complain_about(root: Path) -> None:
    units = [str(path) for path in (root / "etc/systemd/system").glob("kloros*.*") if path.is_file()]
    command = ["systemd-analyze", "verify", "--recursive-errors=no", f"--root={root}", *units]
    analysed = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [line for line in (analysed.stdout + analysed.stderr).splitlines() if "kloros" in line]
    assert complaints == []
