"""What the machine tells of itself: read here, and from files laid out as other kernels lay them out."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kloros.clock import SystemClock, VirtualClock
from kloros.errors import CannotObserve
from kloros.machine.cgroups import Cgroups, MemoryUse, unit_of
from kloros.machine.commands import output_of
from kloros.machine.deadline import Deadline
from kloros.machine.disk_usage import walk
from kloros.machine.journal_query import JournalQuery
from kloros.machine.listeners import Listeners
from kloros.machine.load import measure
from kloros.machine.mounts import mounts
from kloros.machine.open_files import deleted_files
from kloros.machine.processes import Processes
from kloros.machine.programs import describe_access, look_at_program
from kloros.machine.unit_state import UnitState, slice_group
from kloros.machine.users import group_exists, user_exists
from kloros.machine.whole import Machine

SERVICE = "system.slice/shop.service"


def deadline(timeout_s: float = 10.0) -> Deadline:
    return Deadline(SystemClock(), timeout_s)


def lay_out(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class TestDeadline:
    def test_it_ends_with_its_time_or_when_it_is_called_off(self) -> None:
        clock = VirtualClock()
        given = Deadline(clock, 10.0)
        assert (given.remaining_s, given.is_over, given.within(3.0)) == (10.0, False, 3.0)
        clock.advance(9.0)
        assert given.within(3.0) == 1.0
        clock.advance(2.0)
        assert given.is_over
        assert given.within(3.0) == 0.01  # never 0, which often means for ever
        other = Deadline(clock, 10.0)
        other.call_off()
        assert other.is_over

    def test_waiting_ends_when_it_is_called_off(self) -> None:
        given = deadline(60.0)
        timer = threading.Timer(0.05, given.call_off)
        timer.start()
        started = time.monotonic()
        given.wait(30.0)
        assert time.monotonic() - started < 10.0
        timer.join()


class TestCommands:
    def test_what_it_says(self) -> None:
        assert output_of(["printf", "a b"], 5.0, 100) == b"a b"

    def test_it_is_cut_off_at_its_bound(self) -> None:
        assert output_of(["yes"], 5.0, 10) == b"y\ny\ny\ny\ny\n"

    def test_one_that_hangs_is_ended_with_its_children(self) -> None:
        started = time.monotonic()
        with pytest.raises(CannotObserve, match="took too long"):
            output_of(["sh", "-c", "sleep 100 & wait"], 0.2, 100)
        assert time.monotonic() - started < 10.0

    def test_what_a_slow_one_said_before_its_end_counts(self) -> None:
        assert output_of(["sh", "-c", "echo early; exec sleep 100"], 0.5, 100) == b"early\n"

    def test_one_that_fails_or_is_not_there(self) -> None:
        with pytest.raises(CannotObserve, match="exit 3"):
            output_of(["sh", "-c", "exit 3"], 5.0, 100)
        with pytest.raises(CannotObserve, match="cannot be run"):
            output_of(["/no/such/program"], 5.0, 100)


class TestCgroups:
    def test_v2(self, tmp_path: Path) -> None:
        lay_out(tmp_path, {
            "cgroup.controllers": "cpu memory", f"{SERVICE}/memory.current": "1000\n",
            f"{SERVICE}/memory.peak": "4000\n", f"{SERVICE}/memory.max": "4096\n",
            f"{SERVICE}/memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\n",
            f"{SERVICE}/cpu.stat": "usage_usec 5000000\nnr_throttled 3\nthrottled_usec 1500000\n",
            f"{SERVICE}/io.stat": "254:0 rbytes=100 wbytes=50 rios=1 wios=1\n", f"{SERVICE}/cgroup.procs": "7\n8\n",
            f"{SERVICE}/io.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=123\n",
            "user.slice/user-1.slice/user@1.service/app.slice/a.scope/cgroup.procs": "9\n",
        })  # fmt: skip
        groups = Cgroups(tmp_path)
        assert groups.memory(f"/{SERVICE}") == MemoryUse(1000, 4000, 4096, 1, 7)
        assert groups.cpu_us(f"/{SERVICE}") == 5_000_000
        assert groups.throttled(f"/{SERVICE}") == (3, 1.5)
        assert groups.io_bytes(f"/{SERVICE}") == 150
        assert groups.waited_us(f"/{SERVICE}", "io") == 123
        assert groups.pids(f"/{SERVICE}") == [7, 8]
        assert groups.units() == ["/system.slice/shop.service", "/user.slice/user-1.slice/user@1.service"]
        inode = (tmp_path / SERVICE).stat().st_ino
        assert groups.by_number(inode) == f"/{SERVICE}"
        assert groups.by_number(1) is None

    def test_v1_beside_v2_without_controllers(self, tmp_path: Path) -> None:
        lay_out(tmp_path, {
            "unified/cgroup.controllers": "", f"unified/{SERVICE}/cpu.stat": "usage_usec 7\n",
            f"memory/{SERVICE}/memory.usage_in_bytes": "10", f"memory/{SERVICE}/memory.max_usage_in_bytes": "20",
            f"memory/{SERVICE}/memory.limit_in_bytes": "30", f"memory/{SERVICE}/memory.failcnt": "4",
            f"memory/{SERVICE}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            "memory/system.slice/memory.usage_in_bytes": "1",
        })  # fmt: skip
        groups = Cgroups(tmp_path)
        assert groups.memory(f"/{SERVICE}") == MemoryUse(10, 20, 30, 2, 4)
        assert groups.cpu_us(f"/{SERVICE}") == 7
        assert groups.has_memory

    def test_no_limit_is_none_and_nothing_there_is_nothing_known(self, tmp_path: Path) -> None:
        lay_out(tmp_path, {
            f"memory/{SERVICE}/memory.usage_in_bytes": "10",
            f"memory/{SERVICE}/memory.limit_in_bytes": "9223372036854771712",
        })  # fmt: skip
        groups = Cgroups(tmp_path)
        assert groups.memory(f"/{SERVICE}").limit is None
        assert groups.memory("/no.slice/such.service") == MemoryUse()
        assert groups.memory("/") == MemoryUse()
        assert (groups.cpu_us("/x"), groups.io_bytes("/x"), groups.pids("/x"), groups.units()) == (None, None, [], [])

    @pytest.mark.parametrize(
        ("path", "unit"),
        [
            ("/system.slice/nginx.service", "nginx.service"),
            ("/system.slice/docker.service/abc", "docker.service"),
            ("/user.slice/user-1.slice/user@1.service/app.slice/x.scope", "user@1.service"),
            ("/init.scope", "init.scope"),
            ("/", ""),
        ],
    )
    def test_the_unit_of_a_group(self, path: str, unit: str) -> None:
        assert unit_of(path) == unit


class TestProcesses:
    def test_this_one(self) -> None:
        processes = Processes()
        me = processes.one(os.getpid())
        assert me is not None
        assert me.memory_bytes > 1 << 20
        assert me.cpu_s > 0
        assert processes.open_files(os.getpid())
        assert "python" in processes.command(os.getpid())
        assert me.pid in {each.pid for each in processes.all()}

    def test_one_that_is_gone(self) -> None:
        gone = subprocess.Popen(["true"])
        gone.wait()
        processes = Processes()
        assert processes.one(gone.pid) is None
        assert (processes.command(gone.pid), processes.open_files(gone.pid), processes.targets(gone.pid, 9)) == (
            "",
            None,
            [],
        )

    def test_a_name_that_is_no_text_is_told_all_the_same(self, tmp_path: Path) -> None:
        with Path(os.fsdecode(bytes(tmp_path) + b"/gro\xdf")).open("w"):
            assert f"{tmp_path}/gro\\xdf" in Processes().targets(os.getpid(), 10_000)

    def test_who_is_busy(self) -> None:
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
            load = measure(Machine(), deadline(), 0.3)
            busy.kill()
        (use,) = [each for each in load.uses if each.pid == busy.pid or str(busy.pid) in each.name] or [
            load.by_cpu()[0]
        ]
        assert use.cores > 0.05
        assert load.sample_s >= 0.05


class TestListeners:
    def test_who_holds_a_port(self) -> None:
        processes = Processes()
        listeners = Listeners(Cgroups(), processes)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            holder = listeners.holder(port)
            assert holder is not None
            assert (holder.port, holder.pid) == (port, os.getpid())
            assert f"pid {os.getpid()}" in str(holder)
            assert port in listeners.ports()
        assert listeners.holder(port) is None

    def test_a_holder_of_udp(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
            bound.bind(("127.0.0.1", 0))
            holder = Listeners(Cgroups(), Processes()).holder(bound.getsockname()[1], "udp")
        assert holder is not None
        assert holder.pid == os.getpid()


class TestPrograms:
    def test_what_can_be_run_and_what_cannot(self, tmp_path: Path) -> None:
        script, lost, plain, text = (tmp_path / name for name in ("script", "lost", "plain", "text"))
        script.write_text(f"#!{sys.executable} -E\n")
        lost.write_text("#!/no/such/interpreter\n")
        plain.write_text("#!/bin/sh\n")
        text.write_text("words\n")
        for path in (script, lost, text):
            path.chmod(0o755)
        plain.chmod(0o644)
        looked = [look_at_program(str(path)) for path in (script, lost, plain, text, tmp_path, tmp_path / "absent")]
        assert [each.fault for each in looked] == [
            None, "bad_interpreter", "not_executable", "bad_format", "directory", "missing",
        ]  # fmt: skip
        assert looked[1].interpreter == "/no/such/interpreter"
        assert look_at_program(sys.executable).fault is None
        assert look_at_program("\0").fault == "missing"

    def test_who_may_use_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch(0o640)
        path.chmod(0o640)
        assert str(describe_access(str(path))).endswith("mode 0640")
        assert describe_access(str(tmp_path / "absent")) is None

    def test_users_and_groups(self) -> None:
        assert user_exists("root")
        assert group_exists("root")
        assert user_exists("4711")
        assert not user_exists("nobody-knows-him")
        assert not group_exists("nobody-knows-them")


class TestDisks:
    def test_what_fills_a_directory(self, tmp_path: Path) -> None:
        lay_out(tmp_path, {f"many/{number}": "" for number in range(150)})
        (tmp_path / "big").mkdir()
        (tmp_path / "big" / "file").write_bytes(b"x" * 400_000)
        (tmp_path / "big" / "again").hardlink_to(tmp_path / "big" / "file")
        os.utime(tmp_path / "big" / "file", (1.0, 1.0))
        usage = walk(tmp_path, deadline(), 10_000, fresh_s=time.time() - 60)
        assert usage.is_whole
        assert usage.directories[0][0] == str(tmp_path)
        assert usage.directories[1][0] == str(tmp_path / "big")
        assert 400_000 <= dict(usage.directories)[str(tmp_path / "big")] < 500_000  # a hard link counts once
        assert usage.files[0][1] >= 400_000
        assert usage.crowded[0] == (str(tmp_path / "many"), 150)
        assert all(path != str(tmp_path / "big" / "file") for path, _ in usage.fresh)

    def test_it_is_bounded_in_entries_and_time(self, tmp_path: Path) -> None:
        lay_out(tmp_path, {f"{number}": "" for number in range(2_000)})
        cut = walk(tmp_path, deadline(), 100, 0.0)
        assert (cut.is_whole, cut.entries) == (False, 100)
        over = deadline(60.0)
        over.call_off()
        assert not walk(tmp_path, over, 10_000, 0.0).is_whole

    def test_it_stays_on_its_file_system(self) -> None:
        usage = walk(Path("/dev"), deadline(), 10_000, 0.0)
        assert not [path for path, _ in usage.directories if path.startswith("/dev/shm/")]

    def test_names_that_are_no_text_are_looked_into_and_told(self, tmp_path: Path) -> None:
        folder = Path(os.fsdecode(bytes(tmp_path) + b"/gro\xdf"))
        folder.mkdir()
        Path(os.fsdecode(bytes(folder) + b"/\xff.bin")).write_bytes(b"x" * 300_000)
        usage = walk(folder, deadline(), 10_000, 0.0)
        told = f"{tmp_path}/gro\\xdf"
        assert (usage.root, usage.crowded, usage.unseen) == (told, [(told, 1)], 0)
        assert [path for path, _ in usage.files] == [path for path, _ in usage.fresh] == [f"{told}/\\xff.bin"]
        assert [path for path, _ in usage.directories] == [told]
        assert usage.total_bytes >= 300_000

    def test_a_deleted_file_that_is_held_open(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        with path.open("wb") as file:
            file.write(b"x" * 300_000)
            file.flush()
            path.unlink()
            found, _ = deleted_files(Path("/proc"), tmp_path.stat().st_dev, deadline())
        (mine,) = [each for each in found if each.path == str(path)]
        assert (mine.pid, mine.size_bytes >= 300_000) == (os.getpid(), True)

    def test_a_deleted_file_whose_name_is_no_text(self, tmp_path: Path) -> None:
        path = Path(os.fsdecode(bytes(tmp_path) + b"/gro\xdf"))
        with path.open("wb"):
            path.unlink()
            found, _ = deleted_files(Path("/proc"), tmp_path.stat().st_dev, deadline())
        assert f"{tmp_path}/gro\\xdf" in {each.path for each in found}

    def test_room_on_mounts(self, tmp_path: Path) -> None:
        assert any(room.total_bytes > 0 for room in mounts(Path("/proc")))
        (one,) = mounts(Path("/proc"), str(tmp_path / "x"))
        assert str(tmp_path).startswith(one.point.rstrip("/"))
        assert mounts(tmp_path) == []


class TestJournal:
    # As journalctl --reverse gives them, cut off at the end.
    LINES = (
        '{"__REALTIME_TIMESTAMP":"7","MESSAGE":null,"_TRANSPORT":"kernel"}\n'
        '{"__REALTIME_TIMESTAMP":"6","MESSAGE":[104,105],"_SYSTEMD_UNIT":"x.service","PRIORITY":"3","_COMM":"x"}\n'
        '{"__REALTIME_TIMESTAMP":"5","MESSAGE":"x.service: Failed with result \'signal\'.","PRIORITY":"4","_PID":"1",'
        '"SYSLOG_IDENTIFIER":"systemd","UNIT":"x.service","UNIT_RESULT":"signal"}\n[1]\n{"MESSAGE":"cut o'
    )

    def fake(self, tmp_path: Path, text: str, code: int = 0) -> JournalQuery:
        script = tmp_path / "journalctl"
        script.write_text(f"#!/bin/sh\necho \"$@\" >{tmp_path}/arguments\ncat <<'EOF'\n{text}\nEOF\nexit {code}\n")
        script.chmod(0o755)
        return JournalQuery((str(script),))

    def test_lines_of_systemd_of_the_unit_and_of_the_kernel(self, tmp_path: Path) -> None:
        lines = self.fake(tmp_path, self.LINES).of_unit("x.service", 10, deadline(), since_us=3_000_000)
        assert [(line.ts_us, line.message, line.by_manager, line.from_kernel) for line in lines] == [
            (5, "x.service: Failed with result 'signal'.", True, False), (6, "hi", False, False), (7, "", False, True),
        ]  # fmt: skip
        assert (lines[0].unit, lines[0].unit_result) == ("x.service", "signal")
        assert (lines[1].identifier, lines[1].priority) == ("x", 3)
        asked = (tmp_path / "arguments").read_text().split()
        assert {"--unit", "x.service", "--lines=10", "--since=@3", "--reverse"} <= set(asked)

    def test_one_that_hangs_is_given_up_in_time(self, tmp_path: Path) -> None:
        query = JournalQuery(("sh", "-c", "exec sleep 100", "journalctl"))
        with pytest.raises(CannotObserve, match="took too long"):
            query.of_kernel(10, deadline(0.2))


class TestUnitState:
    def test_what_is_not_set_is_none(self) -> None:
        state = UnitState("x.service", {"LoadError": ("bad", "it is bad")}, {
            "MemoryMax": (1 << 64) - 1, "NRestarts": 3, "TimeoutStartUSec": 90_000_000, "WatchdogUSec": 0, "Flag": True,
            "ExecStart": [["/bin/x", ["x", "-y"], False, 0, 0, 0, 0, 0, 0, 0]],
            "ExecStartPre": [["/bin/false", ["/bin/false"], False, 1, 1, 2, 2, 9, 1, 1]],
        })  # fmt: skip
        assert (state.number("MemoryMax"), state.number("NRestarts"), state.number("Flag")) == (None, 3, None)
        assert (state.seconds("TimeoutStartUSec"), state.seconds("WatchdogUSec")) == (90.0, None)
        assert state.commands == [("/bin/x", ["x", "-y"])]
        assert state.failed_command == "ExecStartPre=/bin/false"
        assert state.load_error == "it is bad"
        assert (state.text("Absent"), state.names("Absent"), state.files) == ("", [], [])

    def test_slices(self) -> None:
        assert slice_group("a-b-c.slice") == "/a.slice/a-b.slice/a-b-c.slice"
        assert slice_group("-.slice") == ""
        assert UnitState("x.service", {}, {"Slice": "system.slice"}).group == "/system.slice/x.service"
