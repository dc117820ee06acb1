"""KLoROS's side of the benchmarks: its forwarder, a daemon that listens, and a scheduler that keeps no ledger of beats.
Each runs as a process of its own.

Usage: suite_parts.py forwarder|listener|forgetful ...
"""

from __future__ import annotations

import argparse
import signal
import sys
from array import array
from pathlib import Path
from typing import ClassVar

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.envelope import Message
from kloros.chembus.facts import TriggerFacts
from kloros.chembus.proxy import Forwarder
from kloros.chembus.sockets import SocketLimits
from kloros.daemon import runner
from kloros.daemon.daemon import Daemon
from kloros.orchestration.beat_ledger import BeatLedger, BeatRow
from kloros.orchestration.scheduler_daemon import SchedulerDaemon
from kloros.units import seconds_to_us


def forwarder(runtime: str, queue_messages: int) -> None:
    """The proxy of the suite, without the daemon around it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in its threads too
    limits = SocketLimits(send_queue=queue_messages, receive_queue=queue_messages, linger_ms=0)
    forwards = Forwarder([Endpoints.for_runtime_dir(Path(runtime))], limits=limits)
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM})
    forwards.close()


class ListenerDaemon(Daemon):
    """Notes when each trigger was due, emitted and received; writes all of it down at the end."""

    zooid = "listener_daemon"
    niche = "benchmark"
    hears = ("Q_TRIGGER_*",)
    result: ClassVar[Path]

    def on_start(self) -> None:
        self.heard = array("q")
        print("ready", flush=True)

    def on_signal(self, message: Message) -> None:
        received_us = self.clock.wall_us()
        facts: TriggerFacts = message.facts
        if facts.due_ts is None:
            return
        if not self.heard:
            print("first", flush=True)
        self.heard.extend((seconds_to_us(facts.due_ts), seconds_to_us(message.ts), received_us))

    def on_stop(self) -> None:
        counters = {name: count for name, count in self.bus.counters.as_dict().items() if count}
        print(f"counters {counters}", flush=True)
        self.result.write_bytes(self.heard.tobytes())


def forgetful() -> int:
    """The scheduler as it is, but that no beat gets a row: what is left is what it would cost without the ledger."""

    def forget(_ledger: BeatLedger, _row: BeatRow) -> None:
        pass

    BeatLedger.emitted = forget  # type: ignore[method-assign]
    return runner.main(SchedulerDaemon)


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["forwarder", "listener", "forgetful"])
    parser.add_argument("runtime", nargs="?", help="directory of the proxy's sockets")
    parser.add_argument("--queue-messages", type=int, default=100_000)
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    if given.part == "forwarder":
        forwarder(given.runtime, given.queue_messages)
    elif given.part == "forgetful":
        sys.exit(forgetful())
    else:
        ListenerDaemon.result = given.result
        sys.exit(runner.main(ListenerDaemon))


if __name__ == "__main__":
    main()
