"""Vital signs: of this very machine, and of machines whose /proc and /sys were written down."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kloros.affect.state import Vitals
from kloros.affect.vitals import Senses
from kloros.machine.heat import Zone, zones
from kloros.machine.own_cgroup import limited, memory_use, own_groups
from kloros.machine.pressure import read_pressure

MIB = 1 << 20
MEMINFO = "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 250 kB\nSwapTotal: 200 kB\nSwapFree: 50 kB\n"
STAT = "cpu  1 2 3\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n"
PRESSURE = "some avg10={some} avg60=0.00 avg300=0.00 total=1\nfull avg10={full} avg60=0.00 avg300=0.00 total=1\n"


class Tree:
    """A machine on paper."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.proc, self.sys, self.cgroups = folder / "proc", folder / "sys", folder / "sys/fs/cgroup"
        self.write("proc/meminfo", MEMINFO)
        self.write("proc/loadavg", "6.00 5.00 4.00 1/100 99\n")
        self.write("proc/stat", STAT)
        self.write("proc/self/cgroup", "0::/system.slice/kloros-affect.service\n")
        for resource in ("cpu", "memory", "io"):
            self.pressure(f"proc/pressure/{resource}", 10.0, 5.0)
        self.write("sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n")
        self.group("system.slice")
        self.group("system.slice/kloros-affect.service")

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def pressure(self, path: str, some: float, full: float) -> None:
        self.write(path, PRESSURE.format(some=some, full=full))

    def group(self, name: str, **files: str) -> None:
        """A control group without limits, but for these (`memory__max` stands for memory.max)."""
        defaults = {"memory__current": "0", "memory__max": "max", "memory__high": "max", "cpu__max": "max 100000"}
        for file, text in {**defaults, "io__max": "", "memory__stat": "", **files}.items():
            self.write(f"sys/fs/cgroup/{name}/{file.replace('__', '.')}", f"{text}\n")

    def remove(self, path: str) -> None:
        (self.folder / path).unlink()

    def take(self) -> Vitals:
        return Senses([self.folder], self.proc, self.sys, self.cgroups).take(1.0)

    def value(self, name: str) -> float:
        return self.take().readings[name].value


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_this_machine_has_vital_signs() -> None:
    taken = Senses([Path("/")]).take(1.0)
    assert {"load", "memory_used", "disk_used"} <= set(taken.readings)
    assert all(0 <= taken.readings[name].value <= 100 for name in taken.readings if name not in ("load", "heat"))
    assert all(reason for reason in taken.blind.values())


def test_what_is_taken_is_relative_to_the_machine(tree: Tree) -> None:
    taken = tree.take()
    readings = {name: round(reading.value, 1) for name, reading in taken.readings.items()}
    assert (readings["memory_used"], readings["swap_used"], readings["load"]) == (75.0, 75.0, 3.0)
    assert (readings["cpu_some"], readings["memory_full"], readings["io_some"]) == (10.0, 5.0, 10.0)
    assert "cpu_full" not in readings  # the machine as a whole has none
    assert set(taken.blind) == {"heat"}


def test_pressure_is_that_of_the_time_since_the_last_look(tree: Tree) -> None:
    senses = Senses([tree.folder], tree.proc, tree.sys, tree.cgroups)

    def waited(at_s: float, total_us: int) -> float:
        tree.write("proc/pressure/cpu", f"some avg10=7.00 avg60=0.00 avg300=0.00 total={total_us}\n")
        return senses.take(at_s).readings["cpu_some"].value

    assert waited(100.0, 5_000_000) == 7.0  # there was no look before
    assert waited(110.0, 14_000_000) == 90.0
    assert waited(110.1, 14_000_000) == 7.0  # too close to say
    assert waited(120.1, 14_000_000) == 0.0
    assert waited(300.0, 50_000_000) == 7.0  # so long ago that the kernel's mean is nearer
    assert waited(310.0, 49_000_000) == 7.0  # it counts from anew
    assert waited(320.0, 59_500_000) == 100.0


def test_a_control_group_that_is_fuller_than_the_machine_counts_and_is_named(tree: Tree) -> None:
    tree.group(
        "system.slice", memory__max=str(100 * MIB), memory__current=str(95 * MIB),
        memory__stat=f"anon {85 * MIB}\nactive_file {3 * MIB}\ninactive_file {5 * MIB}\nslab_reclaimable {1 * MIB}",
    )  # fmt: skip
    reading = tree.take().readings["memory_used"]
    assert (reading.value, reading.where) == (86.0, "system.slice")


def test_the_lower_of_two_limits_counts_and_swap_has_its_own(tree: Tree) -> None:
    tree.group(
        "system.slice/kloros-affect.service", memory__max=str(200 * MIB), memory__high=str(100 * MIB),
        memory__current=str(90 * MIB), memory__swap__max="10", memory__swap__current="9",
    )  # fmt: skip
    assert tree.value("memory_used") == 90.0
    assert tree.value("swap_used") == 90.0


def test_pressure_within_a_limit_counts_and_that_of_unlimited_groups_does_not(tree: Tree) -> None:
    tree.pressure("sys/fs/cgroup/system.slice/cpu.pressure", 77.0, 50.0)
    tree.pressure("sys/fs/cgroup/system.slice/memory.pressure", 66.0, 33.0)
    assert (tree.value("cpu_some"), tree.value("memory_some")) == (10.0, 10.0)
    tree.group("system.slice", cpu__max="50000 100000", memory__max=str(MIB))
    taken = tree.take().readings
    assert (taken["cpu_some"].value, taken["cpu_some"].where) == (77.0, "system.slice")
    assert (taken["memory_full"].value, taken["io_some"].value) == (33.0, 10.0)


def test_a_container_that_hides_its_place_is_looked_at_from_its_top(tree: Tree) -> None:
    tree.write("proc/self/cgroup", "0::/../../machine.slice/of/the/host\n")
    tree.write("sys/fs/cgroup/memory.current", f"{97 * MIB}\n")
    tree.write("sys/fs/cgroup/memory.max", f"{100 * MIB}\n")
    reading = tree.take().readings["memory_used"]
    assert (round(reading.value), reading.where) == (97, "the container")


BLINDNESS: dict[str, tuple[Callable[[Tree], None], str, str]] = {
    "no pressure": (lambda tree: tree.remove("proc/pressure/cpu"), "cpu pressure", "no pressure information"),
    "no meminfo": (lambda tree: tree.remove("proc/meminfo"), "memory", "cannot be read"),
    "an old meminfo": (lambda tree: tree.write("proc/meminfo", "MemTotal: 5 kB\n"), "memory", "does not tell how much"),
    "no load": (lambda tree: tree.write("proc/loadavg", ""), "load", "the load is not told"),
    "no groups": (lambda tree: tree.remove("sys/fs/cgroup/cgroup.controllers"), "limits", "version 2"),
    "no place": (lambda tree: tree.remove("proc/self/cgroup"), "limits", "own control group unknown"),
}


@pytest.mark.parametrize(("spoil", "sense", "reason"), BLINDNESS.values(), ids=BLINDNESS)
def test_a_sense_that_is_lacking_is_named_and_the_others_go_on(
    tree: Tree, spoil: Callable[[Tree], None], sense: str, reason: str
) -> None:
    before = set(tree.take().readings)
    spoil(tree)
    taken = tree.take()
    assert reason in taken.blind[sense]
    assert len(taken.readings) >= len(before) - 2
    assert set(taken.blind) == {sense, "heat"}


def test_where_only_control_groups_tell_pressure_they_are_heard(tree: Tree) -> None:
    tree.remove("proc/pressure/cpu")
    tree.group("system.slice", cpu__max="50000 100000")
    tree.pressure("sys/fs/cgroup/system.slice/cpu.pressure", 42.0, 0.0)
    taken = tree.take()
    assert taken.readings["cpu_some"].value == 42.0
    assert "cpu pressure" not in taken.blind


def test_file_systems_count_once_and_what_is_not_there_is_passed_over(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    paths = [tmp_path, tmp_path / "inside", tmp_path / "nowhere"]
    reading = Senses(paths, tree.proc, tree.sys, tree.cgroups).take(1.0).readings["disk_used"]
    state = os.statvfs(tmp_path)
    used = state.f_blocks - state.f_bfree
    assert reading.where == str(tmp_path)
    assert reading.value == pytest.approx(100 * used / (used + state.f_bavail), abs=1.0)
    nothing = Senses([tmp_path / "nowhere"], tree.proc, tree.sys, tree.cgroups).take(1.0)
    assert "none of the paths" in nothing.blind["disks"]


def thermal_zone(tree: Tree, number: int, kind: str, now: str, **trips: str) -> None:
    tree.write(f"sys/class/thermal/thermal_zone{number}/type", f"{kind}\n")
    tree.write(f"sys/class/thermal/thermal_zone{number}/temp", f"{now}\n")
    for index, (trip, temp) in enumerate(trips.items()):
        tree.write(f"sys/class/thermal/thermal_zone{number}/trip_point_{index}_type", f"{trip}\n")
        tree.write(f"sys/class/thermal/thermal_zone{number}/trip_point_{index}_temp", f"{temp}\n")


def test_heat_is_the_distance_to_the_nearest_critical_point(tree: Tree) -> None:
    thermal_zone(tree, 0, "acpitz", "27800", critical="119000", active="50000")
    thermal_zone(tree, 1, "x86_pkg_temp", "91000", passive="90000", critical="100000")
    thermal_zone(tree, 2, "of nothing", "-274000", critical="0")
    thermal_zone(tree, 3, "without limits", "60000")
    thermal_zone(tree, 4, "asleep", "", critical="90000")
    tree.write("sys/class/hwmon/hwmon0/name", "nvme\n")
    tree.write("sys/class/hwmon/hwmon0/temp1_input", "40000\n")
    tree.write("sys/class/hwmon/hwmon0/temp1_crit", "84800\n")
    tree.write("sys/class/hwmon/hwmon0/temp1_label", "Composite\n")
    assert zones(tree.sys) == [
        Zone("acpitz", 27.8, 119.0), Zone("x86_pkg_temp", 91.0, 100.0), Zone("nvme Composite", 40.0, 84.8),
    ]  # fmt: skip
    reading = tree.take().readings["heat"]
    assert (reading.value, reading.where) == (9.0, "x86_pkg_temp: 91 °C")
    assert "heat" not in tree.take().blind


def test_own_groups_go_up_to_the_outermost(tree: Tree) -> None:
    groups = own_groups(tree.proc, tree.cgroups)
    assert groups == [tree.cgroups / "system.slice/kloros-affect.service", tree.cgroups / "system.slice", tree.cgroups]
    assert memory_use(tree.cgroups) is None  # the machine's own root counts nothing
    assert limited(groups[0]) == set()


def test_a_real_control_group_tells_its_own_pressure() -> None:
    """A hog in a group of its own: the kernel's files read as ours do."""
    top = next((each for each in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
                if (each / "cgroup.procs").is_file() and os.access(each / "cgroup.procs", os.W_OK)), None)  # fmt: skip
    if top is None or not (top / "cgroup.controllers").is_file():
        pytest.skip("needs root and control groups of version 2")
    group = top / f"kloros-test-{os.getpid()}"
    group.mkdir()
    try:
        script = (
            "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); print(open('/proc/self/cgroup').read())"
        )
        ran = subprocess.run(
            [sys.executable, "-c", script, str(group / "cgroup.procs")], capture_output=True, text=True, check=True
        )
        assert f"0::/{group.name}" in ran.stdout
        if (group / "cpu.pressure").is_file():
            assert "some" in read_pressure(group / "cpu.pressure")
    finally:
        group.rmdir()
