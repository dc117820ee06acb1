"""Processes that die, disks that fill, messages that make no sense: what the suite does about each."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zmq
from support.suite import INTROSPECTION, PROXY, SCHEDULER, Suite, suite

from kloros.chembus.envelope import Message

TICKER = """
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.runner import main


class Ticker(Consumer):
    schedule = "ticker"
    signal = "Q_TRIGGER_TICKER"
    interval_s = 1.0

    def cycle(self, cycle: Cycle) -> None:
        cycle.save("runs", (cycle.load("runs", int) or 0) + 1)
        cycle.processed = 1


if __name__ == "__main__":
    raise SystemExit(main(Ticker))
"""
SCHEDULE = """
[entries.ticker]
interval_s = 1.0
signal = "Q_TRIGGER_TICKER"
ecosystem = "ticker"
adaptive = false
"""


@pytest.fixture
def ticking(tmp_path: Path) -> Iterator[Suite]:
    """Bus, scheduler, and a consumer with a beat a second."""
    with suite(tmp_path) as running:
        (tmp_path / "ticker.py").write_text(TICKER)
        (tmp_path / "config" / "scheduler_config.toml").write_text(SCHEDULE)
        running.start(PROXY)
        running.join("Q_CYCLE_REPORT", "HEARTBEAT", "FALLBACK_*", "Q_TRIGGER_TICKER", "Q_SCHEDULE_TICK", "BUS_*")
        yield running


def is_report(message: Message) -> bool:
    return message.signal == "Q_CYCLE_REPORT"


def is_heartbeat_of(zooid: str, message: Message) -> bool:
    return message.signal == "HEARTBEAT" and message.facts.zooid == zooid


def beats_of(messages: list[Message]) -> list[int]:
    return [message.facts.beat for message in messages if is_report(message) and message.facts.beat is not None]


def test_a_scheduler_that_is_killed_and_returns_repeats_no_beat_and_skips_none_unsaid(ticking: Suite) -> None:
    scheduler = ticking.start(SCHEDULER)
    ticking.start("ticker")
    reports = [ticking.hear(is_report)]
    for _ in range(3):
        scheduler.kill()
        scheduler.wait()
        scheduler = ticking.start(SCHEDULER)
        reports += [ticking.hear(is_report), ticking.hear(is_report)]
    beats = beats_of(reports)
    assert len(beats) == len(set(beats))
    missed = sum(report.facts.missed for report in reports[1:])
    assert beats[-1] - beats[0] == len(beats) - 1 + missed


def test_a_scheduler_that_is_gone_is_replaced_by_the_consumers_own_clock_and_welcomed_back(ticking: Suite) -> None:
    scheduler = ticking.start(SCHEDULER)
    ticking.start("ticker")
    ticking.hear(lambda message: is_report(message) and message.facts.source == "trigger")
    scheduler.kill()
    scheduler.wait()
    engaged = ticking.hear(lambda message: message.signal == "FALLBACK_ENGAGED").facts
    assert 2.0 <= engaged.silent_s <= 2.1
    alone = [ticking.hear(is_report) for _ in range(3)]
    assert {report.facts.source for report in alone} == {"fallback"}
    ticking.start(SCHEDULER)
    ticking.hear(lambda message: message.signal == "FALLBACK_RELEASED")
    after = [ticking.hear(lambda message: is_report(message) and message.facts.source == "trigger")]
    beats = beats_of(alone + after)
    assert beats == sorted(set(beats))


def test_a_bus_that_is_killed_and_returns_is_rejoined_by_everyone(ticking: Suite) -> None:
    ticking.start(SCHEDULER)
    ticking.start("ticker")
    ticking.hear(is_report)
    proxy = ticking.processes[0]
    proxy.kill()
    proxy.wait()
    ticking.start(PROXY)
    ticking.hear_all(0)
    ticking.hear(lambda message: is_report(message) and message.facts.source == "trigger")
    assert all(process.poll() is None for process in ticking.processes[1:])


GARBAGE: dict[str, list[bytes]] = {
    "random bytes": [b"Q_TRIGGER_TICKER", os.urandom(64)],
    "wrong JSON": [b"Q_TRIGGER_TICKER", b'{"signal": "Q_TRIGGER_TICKER", '],
    "wrong types": [b"Q_TRIGGER_TICKER", b'{"signal":"Q_TRIGGER_TICKER","ecosystem":7,"facts":[],"ts":"now"}'],
    "an unknown signal": [b"NO_SUCH_SIGNAL", b'{"signal":"NO_SUCH_SIGNAL","ecosystem":"x","facts":{},"ts":1.0}'],
    "10 MB": [b"Q_TRIGGER_TICKER", b'{"signal":"' + b"x" * 10_000_000 + b'"}'],
    "a wrong topic": [b"Q_TRIGGER_TICKER", b'{"signal":"HEARTBEAT","ecosystem":"x","facts":{},"ts":1.0}'],
    "NaN": [b"Q_TRIGGER_TICKER", b'{"signal":"Q_TRIGGER_TICKER","ecosystem":"x","intensity":NaN,"facts":{},"ts":1}'],
    "a schema of the future": [
        b"Q_TRIGGER_TICKER",
        b'{"signal":"Q_TRIGGER_TICKER","ecosystem":"x","facts":{},"ts":1.0,"schema_version":99}',
    ],
    "facts that do not fit": [
        b"Q_TRIGGER_TICKER",
        b'{"signal":"Q_TRIGGER_TICKER","ecosystem":"x","facts":{"beat":"three"},"ts":1.0}',
    ],
    "one frame": [b"Q_TRIGGER_TICKER"],
    "three frames": [b"Q_TRIGGER_TICKER", b"{}", b"{}"],
}


def test_nonsense_is_counted_and_stops_nobody(ticking: Suite) -> None:
    ticking.start("ticker")
    ticking.hear(lambda message: is_heartbeat_of("ticker", message))
    with zmq.Context() as context, context.socket(zmq.XPUB) as vandal:
        vandal.connect(f"ipc://{ticking.folder}/runtime/bus.pub")
        vandal.recv()
        for frames in GARBAGE.values():
            vandal.send_multipart(frames)
        assert ticking.bus
        ticking.bus.emit("Q_TRIGGER_TICKER")
        assert ticking.hear(is_report).facts.source == "injected"
    counted: dict[str, Counter[str]] = {}
    ticking.bus.emit("STATUS_REQUEST")
    for zooid in ("ticker", "chem_proxy_daemon"):
        ticking.bus.emit("STATUS_REQUEST")
        facts = ticking.hear(lambda message, zooid=zooid: is_heartbeat_of(zooid, message)).facts
        counted[zooid] = Counter({name: n for name, n in facts.counters.items() if name.startswith("refused_")})
    assert counted["chem_proxy_daemon"].total() == len(GARBAGE)
    assert counted["ticker"].total() == len(GARBAGE) - 1, "the unknown signal has a topic nobody else hears"
    assert ticking.wait_logged(PROXY, "messages_refused")["count"]


def test_a_state_directory_that_cannot_be_written_is_named_once_and_the_rest_goes_on(ticking: Suite) -> None:
    (ticking.folder / "state").mkdir(exist_ok=True)
    (ticking.folder / "state" / "ticker").write_text("a file where the directory should be")
    ticking.start(SCHEDULER)
    ticking.start("ticker")
    assert [ticking.hear(is_report).facts.outcome for _ in range(3)] == ["ok"] * 3
    lacks = [line for line in ticking.log("ticker") if line["event"] == "state_not_saved"]
    assert len(lacks) == 1


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as ballast, suppress(OSError):
        while ballast.write(b"\0" * 4096):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_named_once_and_what_was_kept_in_memory_is_saved_when_there_is_room(ticking: Suite) -> None:
    small = ticking.folder / "state" / "ticker"
    small.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "small", str(small)], check=True)
    try:
        ticking.start(SCHEDULER)
        ticking.start("ticker")
        ticking.hear(is_report)
        fill(small / "ballast")
        ticking.wait_logged("ticker", "state_not_saved")
        (small / "ballast").unlink()
        ticking.wait_logged("ticker", "state_saved_again")
        events = [line["event"] for line in ticking.log("ticker")]
        assert events.count("state_not_saved") == 1
    finally:
        ticking.close()
        subprocess.run(["umount", "-l", str(small)], check=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[entries.x]\nintervall_s = 5", ["entries.x.intervall_s", "`interval_s`"]),
        ('[entries.x]\ninterval_s = "5s"', ["entries.x.interval_s", "'5s' (str)", "a number"]),
        ("[entries.x]\ninterval_ms = 5000", ["entries.x.interval_ms", "`interval_s`"]),
        (SCHEDULE.replace("Q_TRIGGER_TICKER", "Q_TRIGGER_INTROSPECTON"), ["entries.ticker.signal", "INTROSPECTION"]),
        (SCHEDULE.replace("= 1.0", "= -1.0"), ["entries.ticker.interval_s", "-1.0"]),
        ("this is not toml", ["TOML"]),
    ],
)
def test_a_wrong_schedule_is_one_clear_message_and_exit_code_2(tmp_path: Path, text: str, words: list[str]) -> None:
    with suite(tmp_path) as running:
        path = tmp_path / "config" / "scheduler_config.toml"
        path.write_text(text)
        running.start(PROXY)
        running.join("HEARTBEAT")
        done = subprocess.run(
            [sys.executable, "-m", SCHEDULER], env=running.environment, capture_output=True, text=True, timeout=20
        )
        assert done.returncode == 2
        said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
        assert len(said) == 1
        assert all(word in said[0] for word in [str(path), *words])


def test_without_a_bus_a_daemon_says_so_and_exits_3(tmp_path: Path) -> None:
    with suite(tmp_path) as running:
        (tmp_path / "ticker.py").write_text(TICKER)
        done = subprocess.run(
            [sys.executable, "-m", "ticker"], env=running.environment, capture_output=True, text=True, timeout=30
        )
    assert done.returncode == 3
    assert "kloros-chem-proxy" in done.stderr


def test_introspection_without_systemd_journal_or_dbus_names_each_lack_once(tmp_path: Path) -> None:
    with suite(tmp_path) as running:
        running.start(PROXY)
        running.join("Q_CYCLE_REPORT", "HEARTBEAT")
        bare = tmp_path / "bin"
        bare.mkdir()
        running.environment |= {"PATH": str(bare), "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
        running.start(INTROSPECTION)
        running.hear(lambda message: is_heartbeat_of("introspection_daemon", message))
        assert running.bus
        for _ in range(3):
            running.bus.emit("Q_TRIGGER_INTROSPECTION")
            assert running.hear(is_report).facts.outcome == "ok"
        named = Counter(line.get("name") for line in running.log(INTROSPECTION) if line["event"] == "gap_opened")
        assert named["units"] == named["journal"] == 1
