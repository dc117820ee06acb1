"""The installed suite in a machine, as its operator and its log reader see it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.systemd.machine import CHECKOUT, Machine
from tests.systemd.system import wait_for

PROXY = "kloros-chem-proxy.service"
SCHEDULER = "kloros-scheduler.service"
INTROSPECTION = "kloros-introspection.service"
HISTORIAN = "kloros-chembus-historian.service"
LEDGER_WRITER = "kloros-ledger-writer.service"
CURIOSITY = "kloros-curiosity-core-consumer.service"
SEMANTIC_DEDUP = "kloros-semantic-dedup-consumer.service"
INVESTIGATION = "kloros-investigation-consumer.service"
ACTION = "kloros-action-consumer.service"
SHADOW = "kloros-shadow.service"
TOURNAMENT = "kloros-tournament-consumer.service"
DECAY = "kloros-decay.service"
OPTIMISER = "kloros-optimiser.service"
AFFECT = "kloros-affect.service"
DAEMONS = (
    PROXY, SCHEDULER, INTROSPECTION, HISTORIAN, LEDGER_WRITER,
    CURIOSITY, SEMANTIC_DEDUP, INVESTIGATION, ACTION, SHADOW, TOURNAMENT, DECAY, AFFECT, OPTIMISER,
)  # fmt: skip
PYTHON = "/opt/kloros/bin/python"
SCHEDULE_FILE = "/etc/kloros/scheduler_config.toml"

ENTRY = """
[entries.{name}]
interval_s = {interval_s}
signal = "{signal}"
ecosystem = "{ecosystem}"
adaptive = false
"""

LISTENER = """
import json, sys
from kloros.chembus.sub import ChemSub
subscriptions = [ChemSub(topic, lambda heard: print(json.dumps(heard), flush=True)) for topic in sys.argv[1:]]
print("listening", flush=True)
sys.stdin.read()
for subscription in subscriptions:
    subscription.close()
"""

LISTENS = "listening\n"

EMITTER = """
import json, sys
from kloros.chembus.pub import ChemPub
signal, ecosystem, facts = sys.argv[1:]
with ChemPub() as bus:
    bus.emit(signal, ecosystem=ecosystem, facts=json.loads(facts))
"""

ASK = """
import json, sys
from kloros.chembus.pub import ChemPub
with ChemPub() as bus:
    for name in json.loads(sys.argv[1]):
        facts = {"question_id": f"q-{name}", "question": f"Why {name}?", "gap_id": f"g-{name}",
                 "gap_type": "unit_unhealthy", "gap_name": f"try-{name}.service", "evidence": ["problem=failed"]}
        bus.emit("Q_CURIOSITY_INVESTIGATE", ecosystem="introspection", facts=facts)
"""


@dataclass(frozen=True)
class Beat:
    """A line of the journal about one beat: a trigger of the scheduler, or a cycle of a consumer."""

    number: int | None
    due_ts: float | None
    source: str | None
    missed: int
    logged_ts: float


class Suite:
    """The suite in `machine`."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def schedule(self, **intervals_s: float) -> None:
        """Write a schedule of these entries only; the names are those of the shipped schedule or a user's own."""
        shipped = tomllib.loads((CHECKOUT / "config/scheduler_config.toml").read_text())["entries"]
        text = "".join(
            ENTRY.format(
                name=name,
                interval_s=interval_s,
                signal=shipped.get(name, {}).get("signal", f"Q_TRIGGER_{name.upper()}"),
                ecosystem=shipped.get(name, {}).get("ecosystem", name),
            )
            for name, interval_s in intervals_s.items()
        )
        self.machine.write_file(SCHEDULE_FILE, text)

    def start(self, *units: str) -> None:
        """Start units (all of them by default); returns when systemd was told READY by each."""
        self.machine.systemctl("start", *(units or ("kloros.target",)))

    def triggers(self, since: int = 0) -> list[Beat]:
        """What the scheduler's journal says it emitted for introspection."""
        return self._beats(SCHEDULER, since, KLOROS_SIGNAL="Q_TRIGGER_INTROSPECTION")

    def cycles(self, since: int = 0, unit: str = INTROSPECTION) -> list[Beat]:
        """The consumer's canonical lines, one for each cycle that ended."""
        return self._beats(unit, since, KLOROS_EVENT="cycle")

    def events(self, unit: str, event: str, since: int = 0) -> list[dict[str, Any]]:
        return self.machine.journal(unit, since, KLOROS_EVENT=event)

    def wait_for_cycles(
        self,
        count: int,
        *,
        since: int = 0,
        unit: str = INTROSPECTION,
        source: str | None = None,
        limit_s: float = 20,
    ) -> list[Beat]:
        """Wait until `count` such cycles have ended, and return them."""

        def enough() -> list[Beat]:
            cycles = [cycle for cycle in self.cycles(since, unit) if source in (None, cycle.source)]
            return cycles if len(cycles) >= count else []

        return wait_for(enough, limit_s, f"{count} cycles of {unit} by {source or 'anyone'}")

    def quicken_watchdog(self) -> None:
        """Let the watchdog bite after 2 s, so that a test need not wait as long as an operator would."""
        quick = "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n"
        self.machine.write_file("/etc/systemd/system/kloros-.service.d/90-quick-watchdog.conf", quick)
        self.machine.systemctl("daemon-reload")

    def emit(self, signal: str, ecosystem: str, **facts: object) -> None:
        """Emit from a plain script, as a person at that machine would."""
        self.python(EMITTER, signal, ecosystem, json.dumps(facts))

    def ask_why(self, *names: str) -> None:
        """Ask why `try-NAME.service` is not well, question `q-NAME`, as curiosity would."""
        self.python(ASK, json.dumps(names))

    def python(self, script: str, *arguments: str, **options: Any) -> str:
        """Run a script with the installed suite's Python; returns what it printed."""
        run = self.machine.run("env", "KLOROS_RUNTIME_DIR=/run/kloros", PYTHON, "-c", script, *arguments, **options)
        return str(run.stdout)

    def kloros(self, *arguments: str) -> str:
        """Run the kloros command."""
        return str(self.machine.run("kloros", *arguments).stdout)

    @contextlib.contextmanager
    def listening(self, *topics: str) -> Iterator[Callable[[], list[dict[str, Any]]]]:
        """Listen on the bus meanwhile; what is yielded tells everything heard so far."""
        with tempfile.NamedTemporaryFile("w") as output:
            script = ("env", "KLOROS_RUNTIME_DIR=/run/kloros", PYTHON, "-c", LISTENER, *topics)
            listener = self.machine.start(*script, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT)

            def lines() -> list[str]:
                # Read as a file of its own: moving in this one would move the place where the listener writes.
                text = Path(output.name).read_text()
                return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]

            def is_listening() -> bool:
                assert listener.poll() is None, "".join(lines())
                return LISTENS in lines()

            try:
                wait_for(is_listening, 20, "the listener on the bus")
                # Something may be heard before it says that it listens.
                yield lambda: [json.loads(line) for line in lines() if line != LISTENS]
            finally:
                listener.communicate(timeout=10)  # the end of its input is its order to stop

    def _beats(self, unit: str, since: int, **fields: str) -> list[Beat]:
        return [_beat(entry) for entry in self.machine.journal(unit, since, **fields)]


def _beat(entry: dict[str, Any]) -> Beat:
    number, due_ts = entry.get("KLOROS_BEAT"), entry.get("KLOROS_DUE_TS")
    return Beat(
        number=None if number is None else int(number),
        due_ts=None if due_ts is None else float(due_ts),
        source=entry.get("KLOROS_SOURCE"),
        missed=int(entry.get("KLOROS_MISSED") or 0),
        logged_ts=int(entry.get("_SOURCE_REALTIME_TIMESTAMP") or entry["__REALTIME_TIMESTAMP"]) / 1e6,
    )


def ran_twice(cycles: list[Beat]) -> list[float]:
    """Due moments that were run more than once."""
    dues = [cycle.due_ts for cycle in cycles if cycle.due_ts is not None]
    return sorted({due for due in dues if dues.count(due) > 1})


def never_ran(cycles: list[Beat], interval_s: float) -> list[float]:
    """Due moments between the first and the last cycle that no cycle ran, nor stood for (`missed`)."""
    ran = sorted((cycle.due_ts, cycle.missed) for cycle in cycles if cycle.due_ts is not None)
    due = [moment for moment, _missed in ran]
    stood_for = {round(moment - n * interval_s, 6) for moment, missed in ran for n in range(missed + 1)}
    expected = [round(due[0] + n * interval_s, 6) for n in range(round((due[-1] - due[0]) / interval_s) + 1)]
    return [moment for moment in expected if moment not in stood_for]
