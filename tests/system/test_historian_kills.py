"""The historian is killed while signals pass: what is stored and what is a gap is still what was sent, exactly."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.suite import PROXY, Suite, suite

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.zmq_bus import ZmqBus
from kloros.storage.history_reader import HistoryReader
from kloros.storage.history_rows import Record, Wanted

HISTORIAN = "kloros.consumers.chembus_historian_daemon"
VOLATILE, DURABLE = "Q_TRIGGER_STORM", "OBSERVATION"
KILLS = 5
LIMIT_S = 30.0


def accounted(running: Suite, name: str) -> tuple[int, int]:
    """How many of that signal are stored, and how many are gaps."""
    stored = missing = 0
    with HistoryReader(running.folder / "state/chembus_historian/state.db") as reader:
        for entry in reader.read(Wanted(signals=(name,))):
            if isinstance(entry, Record):
                stored += 1 + entry.repeats
            else:
                missing += entry.missing
    return stored, missing


def emit_for(bus: ZmqBus, seconds: float, observations: list[str]) -> None:
    """Some thousand volatile signals a second, and a few durable ones."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        for _ in range(40):
            bus.emit(VOLATILE)
        number = str(len(observations))
        bus.emit(DURABLE, {"ts": 1.0, "zooid": "z", "ok": True, "sig": number})
        observations.append(number)
        bus.receive()
        time.sleep(0.01)


def test_the_count_is_exact_though_the_historian_is_killed_again_and_again(
    runtime_dir: Path, wait_for: Callable[..., None]
) -> None:
    seed = random.SystemRandom().randrange(10_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    observations: list[str] = []
    with suite(runtime_dir) as running:
        running.start(PROXY)
        running.join()
        historian = running.start(HISTORIAN)
        running.wait_logged(HISTORIAN, "started")
        bus = ZmqBus(Endpoints.for_runtime_dir(runtime_dir / "runtime"), name="stormy")
        bus.join(LIMIT_S)
        for _ in range(KILLS):
            emit_for(bus, chance.uniform(0.3, 1.5), observations)
            historian.send_signal(signal.SIGKILL)
            historian.wait()
            emit_for(bus, chance.uniform(0.0, 0.3), observations)
            historian = running.start(HISTORIAN)
        emit_for(bus, 2.0, observations)
        sent = bus.sent_seqs()[VOLATILE]
        bus.close()  # its last heartbeat says how many there were
        try:
            wait_for(lambda: sum(accounted(running, VOLATILE)) >= sent, LIMIT_S, "all to be accounted for")
            wait_for(lambda: accounted(running, DURABLE)[0] >= len(observations), LIMIT_S, "the durable ones")
        except pytest.fail.Exception:
            print(sent, accounted(running, VOLATILE), len(observations), accounted(running, DURABLE))
            raise
        stored, missing = accounted(running, VOLATILE)
        print(f"{sent} sent over {KILLS} kills: {stored} stored, {missing} missing; {len(observations)} durable ones")
        assert stored + missing == sent
        assert missing > 0, "somebody was away"
        assert accounted(running, DURABLE)[0] == len(observations)
