"""The scheduler as a process on a real bus: killed, reloaded, doubled, misconfigured."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.suite import LIMIT_S, PROXY, SCHEDULER, Suite, suite

from kloros.chembus.facts import TriggerFacts
from kloros.clock import SystemClock

KILLS = 6
FAST = '[entries.fast]\ninterval_s = 0.05\nsignal = "Q_TRIGGER_FAST"\nmisfire = "all"\nmisfire_limit = 1000\n'
FAST += '[entries.calm]\ninterval_s = 0.07\nsignal = "Q_TRIGGER_CALM"\n'


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Suite]:
    with suite(tmp_path) as ready:
        configure(ready, FAST)
        ready.start(PROXY)
        yield ready


def configure(running: Suite, text: str) -> None:
    (running.folder / "config" / "scheduler_config.toml").write_text(text, encoding="utf-8")


def hear_beats(running: Suite, signal_name: str, count: int) -> list[TriggerFacts]:
    """At least `count` beats of that signal, and every other one that came with them."""
    beats: list[TriggerFacts] = []
    clock = SystemClock()
    end_s = clock.monotonic_s() + LIMIT_S
    while len(beats) < count:
        assert clock.monotonic_s() < end_s, f"only {len(beats)} beats of {signal_name} were heard"
        beats += [message.facts for message in running.hear_all(0.05) if message.signal == signal_name]
    return beats


def test_a_scheduler_killed_again_and_again_loses_no_beat_and_repeats_none_that_a_consumer_would_run(
    running: Suite,
) -> None:
    running.join("Q_TRIGGER_*")
    heard: list[TriggerFacts] = []
    for _ in range(KILLS):
        scheduler = running.start(SCHEDULER)
        heard += hear_beats(running, "Q_TRIGGER_FAST", 20)
        scheduler.kill()
        scheduler.wait()
    running.start(SCHEDULER)
    heard += hear_beats(running, "Q_TRIGGER_FAST", 60)
    epochs = [facts.epoch or 0 for facts in heard]
    assert epochs == sorted(epochs)
    assert len(set(epochs)) == KILLS + 1
    run: list[int] = []
    for facts in heard:  # as a consumer does: a beat that is not later than the last one is not run
        if facts.beat is not None and (not run or facts.beat > run[-1]):
            run.append(facts.beat)
    missed = sum(facts.missed for facts in heard)
    assert run[-1] - run[0] + 1 == len(run) + missed, "every due beat was run or counted as missed"
    assert missed == 0, "misfire = all leaves none out"
    assert all((facts.late_s or 0.0) >= 0 for facts in heard), "never before it is due"


def test_a_second_scheduler_is_refused_and_names_the_first(running: Suite) -> None:
    running.join("Q_TRIGGER_FAST")
    first = running.start(SCHEDULER)
    hear_beats(running, "Q_TRIGGER_FAST", 1)
    second = subprocess.run(
        [sys.executable, "-m", SCHEDULER], env=running.environment, capture_output=True, text=True, timeout=20
    )
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stderr


def test_sighup_takes_a_good_file_and_refuses_a_bad_one(running: Suite) -> None:
    running.join("Q_TRIGGER_*", "Q_SCHEDULE_CHANGED")
    scheduler = running.start(SCHEDULER)
    hear_beats(running, "Q_TRIGGER_FAST", 1)
    configure(running, FAST.replace("0.05", '"often"'))
    scheduler.send_signal(signal.SIGHUP)
    refused = running.hear(lambda message: message.signal == "Q_SCHEDULE_CHANGED").facts
    assert not refused.ok
    assert "entries.fast.interval_s: found 'often'" in refused.detail
    hear_beats(running, "Q_TRIGGER_FAST", 3)
    configure(running, '[entries.other]\ninterval_s = 0.05\nsignal = "Q_TRIGGER_OTHER"')
    scheduler.send_signal(signal.SIGHUP)
    taken = running.hear(lambda message: message.signal == "Q_SCHEDULE_CHANGED").facts
    assert (taken.ok, taken.detail) == (True, "added other; removed calm, fast")
    hear_beats(running, "Q_TRIGGER_OTHER", 3)


def test_a_scheduler_stops_at_once_when_asked(running: Suite) -> None:
    running.join("Q_TRIGGER_FAST")
    scheduler = running.start(SCHEDULER)
    hear_beats(running, "Q_TRIGGER_FAST", 1)
    scheduler.terminate()
    assert scheduler.wait(2.0) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FAST.replace("interval_s", "interval_ms"), "entries.fast.interval_ms"),
        (FAST.replace("0.05", "-0.05"), "entries.fast.interval_s: found -0.05, expected 0.01 to 31622400"),
        (FAST.replace("Q_TRIGGER_FAST", "Q_TICK"), "entries.fast.signal: found 'Q_TICK'"),
        ("this is not TOML", "text that is not TOML"),
    ],
)
def test_a_wrong_file_is_one_clear_line_and_exit_code_2(running: Suite, text: str, message: str) -> None:
    configure(running, text)
    result = subprocess.run(
        [sys.executable, "-m", SCHEDULER], env=running.environment, capture_output=True, text=True, timeout=20
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert "scheduler_config.toml" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
