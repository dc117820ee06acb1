"""`kloros run` as its user runs it: what it shows, how it ends, what it leaves behind."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Timer

import pytest
from support.command import LIMIT_S, Home, ended, home, running
from support.terminal import Terminal


@pytest.fixture
def place() -> Iterator[Home]:
    with home() as each:
        yield each
        assert each.held_locks() == []


def test_eight_seconds_show_ticks_triggers_reactions_and_findings(place: Home) -> None:
    done = place.run("run", "--seconds", "8", "--plain")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^\[\d\d:\d\d:\d\d\] Q_SCHEDULE_TICK \(", done.stdout, re.MULTILINE)
    assert re.search(r"^\[..:..:..\] Q_TRIGGER_INTROSPECTION emitted \(", done.stdout, re.MULTILINE)
    assert re.search(r"^\[..:..:..\]   introspection_daemon reacted: ok in ", done.stdout, re.MULTILINE)
    assert "introspection_daemon found: " in done.stdout or "no findings: units, journal" in done.stdout
    assert re.search(r"KLoROS ended after \S+ s: \d+ ticks, [1-9]\d* triggers, [1-9]\d* cycles", done.stdout)
    assert "\x1b" not in done.stdout
    assert (place.folder / "state" / "run.log").stat().st_size > 0


def test_what_is_still_open_is_told_by_the_next_run(place: Home) -> None:
    place.change("scheduler_config.toml", "interval_s = 5.0", "interval_s = 2.0")
    for old, new in (
        ("fill = { medium_percent = 90", "fill = { medium_percent = 1"),
        ("leave_percent = 87", "leave_percent = 0"),
    ):
        place.change("introspection_config.toml", old, new)
    place.change("introspection_config.toml", "roomy_free_mib = 20480", "roomy_free_mib = 1_000_000_000")
    first, second = (place.run("run", "--seconds", "4", "--plain") for _ in range(2))
    found = re.findall(r"introspection_daemon found: (.*) \[", first.stdout)
    assert any("disk" in what or "/" in what for what in found), first.stdout + first.stderr
    for what in found:
        start = re.escape(" ".join(what.split()[:2]))  # figures later in the line may have moved
        assert not re.search(rf"introspection_daemon found: {start}", second.stdout)
        assert re.search(rf"still open, for \S.*: {start}", second.stdout), second.stdout


def test_a_second_run_names_the_first_and_leaves_it_alone(place: Home) -> None:
    with running(place) as first:
        second = place.run("run", "--plain")
        assert second.returncode == 2
        assert second.stdout == ""
        assert f"A suite is already running here (process {first.pid}, since " in second.stderr
        assert second.stderr.count("\n") == 1
        assert place.run("status").returncode == 0


def test_bad_settings_are_one_sentence(place: Home) -> None:
    (place.folder / "config" / "kloros.toml").write_text("[bus]\nqueue_mesages = 5\n")
    done = place.run("run", "--plain")
    assert (done.returncode, done.stdout) == (2, "")
    assert "bus.queue_mesages" in done.stderr
    assert "`queue_messages`" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_order_to_stop_ends_it_in_order(place: Home, number: signal.Signals) -> None:
    with running(place) as process:
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, stderr) == (0, "")
    assert "KLoROS ended" in stdout


def test_ctrl_c_is_quiet_at_any_moment() -> None:
    """0 once the suite was told to stop, 130 while the command itself was still starting; never a traceback."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    dice = random.Random(seed)
    moments_s = sorted(dice.uniform(0.0, 2.5) for _ in range(12))
    with ExitStack() as homes:
        places = [homes.enter_context(home()) for _ in moments_s]
        processes: list[subprocess.Popen[str]] = []
        for place, moment_s in zip(places, moments_s, strict=True):
            processes.append(place.begin("run", "--plain"))
            Timer(moment_s, processes[-1].send_signal, [signal.SIGINT]).start()  # the moment is what is tested
        for place, process, moment_s in zip(places, processes, moments_s, strict=True):
            stdout, stderr = ended(process)
            assert stderr == "", f"after {moment_s:.3f} s"
            assert process.returncode in ({0} if "KLoROS" in stdout else {0, 130}), f"after {moment_s:.3f} s"
            assert place.held_locks() == []


def test_two_ctrl_c_end_it_at_once(place: Home) -> None:
    with running(place) as process:
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        _, stderr = process.communicate(timeout=LIMIT_S)
    assert process.returncode in (130, 143)
    assert stderr == ""


@pytest.mark.parametrize("topics", [[], ["Q_SCHEDULE_TICK"]])
def test_ctrl_c_ends_a_watch_with_130_and_without_a_word(place: Home, topics: list[str]) -> None:
    with running(place):
        watch = place.begin("bus", "watch", *topics)
        assert watch.stdout
        assert "Q_" in watch.stdout.readline()
        watch.send_signal(signal.SIGINT)
        _, stderr = watch.communicate(timeout=LIMIT_S)
    assert (watch.returncode, stderr) == (130, "")


def test_ctrl_c_while_a_verb_starts_is_quiet(place: Home) -> None:
    for moment_s in (0.0, 0.03, 0.06, 0.1, 0.15, 0.2):
        verb = place.begin("bus", "watch")
        Timer(moment_s, verb.send_signal, [signal.SIGINT]).start()
        _, stderr = ended(verb)
        # Without a bus it may have ended by itself before the signal came.
        assert (verb.returncode, stderr) == (130, "") or (verb.returncode == 3 and "There is no bus" in stderr)


def test_a_killed_run_is_followed_by_another(place: Home) -> None:
    with running(place) as process:
        process.kill()
        process.communicate(timeout=LIMIT_S)
    done = place.run("run", "--plain", "--seconds", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Q_SCHEDULE_TICK" in done.stdout


def test_a_reader_that_goes_away_ends_it_quietly(place: Home) -> None:
    pipeline = subprocess.run(
        f"{sys.executable} -m kloros.cli run --plain | head -3; echo ended ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        env=place.environment,
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert pipeline.stderr == ""
    assert pipeline.stdout.splitlines()[-1] == "ended 0"
    assert len(pipeline.stdout.splitlines()) == 4


@pytest.fixture
def terminal(place: Home) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def begin(*arguments: str) -> Terminal:
        opened.append(Terminal(place, *arguments))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


@pytest.mark.parametrize("key", ["q", "\x03"])
def test_the_live_view_draws_and_gives_the_terminal_back(
    terminal: Callable[..., Terminal], wait_for: Callable[..., None], key: str
) -> None:
    view = terminal("run")
    wait_for(lambda: "introspection_scan" in view.read(), LIMIT_S, "the schedule")
    assert "\x1b[?1049h" in view.drawn
    view.type(key)
    wait_for(lambda: "KLoROS ended" in view.read(), LIMIT_S, "the farewell")
    assert view.process.wait(LIMIT_S) == 0
    assert view.drawn.index("\x1b[?1049l") < view.drawn.index("KLoROS ended")
    assert "\x1b[?25h" in view.drawn
    assert "Traceback" not in view.drawn
