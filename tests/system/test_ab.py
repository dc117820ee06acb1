"""`kloros ab` as its user has it: beside daemons that run as processes of their own, some of them badly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.suite import INTROSPECTION, LIMIT_S, PROXY, SCHEDULER, Suite, suite

INTERVAL_S = 0.5
SCHEDULE = f"""
[entries.introspection_scan]
interval_s = {INTERVAL_S}
signal = "Q_TRIGGER_INTROSPECTION"
adaptive = false
"""
WaitFor = Callable[..., None]


class Beside:
    """A suite of three processes, and the command beside it."""

    def __init__(self, running: Suite) -> None:
        self.running = running
        (running.folder / "config" / "scheduler_config.toml").write_text(SCHEDULE)
        self.home = running.folder / "home"
        self.daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.running.start(PROXY)
        self.running.start(SCHEDULER)
        self.daemon = self.running.start(INTROSPECTION)
        self.running.wait_logged(INTROSPECTION, "cycle")

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `kloros ab ARGUMENTS`."""
        home = {"HOME": str(self.home), "XDG_STATE_HOME": "", "NO_COLOR": "1", "TZ": "UTC"}
        return subprocess.Popen(
            [sys.executable, "-m", "kloros.cli", "ab", *arguments],
            env={**self.running.environment, **home},
            cwd=self.running.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.begin(*arguments)
        stdout, stderr = process.communicate(timeout=LIMIT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    @property
    def record(self) -> Path:
        return self.home / ".local/state/kloros/ab/introspection.json"

    def saw(self, count: int) -> bool:
        """Whether so many cycles have been logged since the recording began."""
        started_ts = self.record.stat().st_mtime
        cycles = [line for line in self.running.log(INTROSPECTION) if line["event"] == "cycle"]
        return sum(float(str(line.get("due_ts") or 0)) > started_ts for line in cycles) >= count


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Beside]:
    with suite(tmp_path) as running:
        yield Beside(running)


def verdict(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def test_a_daemon_that_hears_its_signal_is_go_and_the_report_says_so_again(beside: Beside) -> None:
    beside.start()
    done = beside.run("run", "introspection", "--for", "4s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(beside.record) in done.stdout
    assert "GO: switch introspection_daemon: " in done.stdout
    assert "old timer" in done.stdout
    again = beside.run("report", "introspection_daemon")
    assert again.returncode == 0
    assert again.stdout.splitlines() == done.stdout.splitlines()[1:], "the same, from the record"
    told = verdict(beside.run("report", "introspection", "--json"))
    assert (told["word"], told["rows"]) == ("GO", [])
    assert 6 <= told["new"]["run"] <= 9
    assert told["new"]["missed"] == told["new"]["duplicates"] == 0
    assert told["old"]["run"] <= 4, "a loop that looks once a second cannot work twice a second"
    assert told["old"]["missed"] >= 3


def test_a_daemon_that_is_killed_and_comes_back_is_no_go_with_the_beats_it_missed(
    beside: Beside, wait_for: WaitFor
) -> None:
    beside.start()
    process = beside.begin("run", "introspection", "--for", "6s", "--json")
    wait_for(beside.record.exists, LIMIT_S, "the recording")
    wait_for(lambda: beside.saw(2), LIMIT_S, "two cycles")
    assert beside.daemon
    beside.daemon.kill()
    beside.daemon.wait()
    heard = len(beats(beside))
    wait_for(lambda: len(beats(beside)) >= heard + 3, LIMIT_S, "three beats that nobody runs")
    unheard = beats(beside)[heard : heard + 2]
    beside.running.start(INTROSPECTION)
    stdout, stderr = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, stdout + stderr
    told = json.loads(stdout)
    assert told["word"] == "NO-GO"
    missed = [row["due_us"] for row in told["rows"] if row["kind"] == "missed"]
    assert {round(due_ts * 1e6) for due_ts in unheard} <= set(missed)
    assert f"{len(missed)} missed" in told["sentence"]
    report = beside.run("report", "introspection")
    assert report.returncode == 1
    assert report.stdout.count("missed: 20") == len(missed), "a row for each, with its moment"
    assert "NO-GO: do not switch introspection_daemon yet" in report.stdout


def test_a_daemon_that_is_stopped_for_a_while_is_no_go(beside: Beside, wait_for: WaitFor) -> None:
    beside.start()
    process = beside.begin("run", "introspection", "--for", "5s", "--json")
    wait_for(beside.record.exists, LIMIT_S, "the recording")
    wait_for(lambda: beside.saw(2), LIMIT_S, "two cycles")
    assert beside.daemon
    beside.daemon.send_signal(signal.SIGSTOP)
    heard = len(beats(beside))
    wait_for(lambda: len(beats(beside)) >= heard + 4, LIMIT_S, "four beats that nobody runs in time")
    beside.daemon.send_signal(signal.SIGCONT)
    stdout, stderr = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, stdout + stderr
    told = json.loads(stdout)
    assert told["word"] == "NO-GO"
    assert told["rows"]
    assert told["new"]["late_p99_ms"] > 1e3 * INTERVAL_S or told["new"]["missed"]


def test_ctrl_c_ends_it_early_and_keeps_what_was_seen(beside: Beside, wait_for: WaitFor) -> None:
    beside.start()
    process = beside.begin("run", "introspection", "--for", "48h")
    wait_for(beside.record.exists, LIMIT_S, "the recording")
    wait_for(lambda: beside.saw(5), LIMIT_S, "five cycles")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, stdout + stderr
    assert "GO: switch introspection_daemon: " in stdout
    assert json.loads(beside.record.read_text())["cycles"]


def test_what_is_paused_meanwhile_is_compared_with_its_triggers(beside: Beside, wait_for: WaitFor) -> None:
    beside.start()
    process = beside.begin("run", "introspection", "--for", "6s")
    wait_for(beside.record.exists, LIMIT_S, "the recording")
    wait_for(lambda: beside.saw(2), LIMIT_S, "two cycles")
    kloros(beside, "maintenance", "on")
    kloros(beside, "maintenance", "off")
    stdout, stderr = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, stdout + stderr
    assert "compared with its triggers" in stdout
    assert "GO: switch" in stdout


def test_what_cannot_be_compared_is_said_in_a_sentence(beside: Beside) -> None:
    for verb in ("run", "report"):
        done = beside.run(verb, "introspection")
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
    assert "there is no bus" in beside.run("run", "introspection").stderr.lower()
    report = beside.run("report", "introspection").stderr.replace("\n", " ")
    assert "there is no record" in report
    assert "kloros ab run introspection" in report
    beside.start()
    assert "no daemon introspecton answers" in words(beside.run("run", "introspecton").stderr)
    assert "there are introspection" in words(beside.run("run", "introspecton").stderr)
    assert "works on no schedule" in words(beside.run("run", "scheduler").stderr)
    nowhere = beside.run("run", "introspection", "--file", "/proc/nowhere/record.json", "--for", "1h")
    assert nowhere.returncode == 2
    assert "cannot be written" in words(nowhere.stderr)
    (broken := beside.running.folder / "broken.json").write_text("{")
    assert "cannot be read" in words(beside.run("report", "introspection", "--file", str(broken)).stderr)


def beats(beside: Beside) -> list[float]:
    """The due moments that the scheduler has logged."""
    return [float(str(line["due_ts"])) for line in beside.running.log(SCHEDULER) if line["event"] == "beat"]


def kloros(beside: Beside, *arguments: str) -> None:
    command = [sys.executable, "-m", "kloros.cli", *arguments]
    subprocess.run(command, env={**os.environ, **beside.running.environment}, check=True, capture_output=True)


def words(text: str) -> str:
    """An error of the command, without its frame and its line breaks."""
    return " ".join(text.replace("│", " ").split())
