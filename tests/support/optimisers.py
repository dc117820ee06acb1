"""An optimiser in virtual time, and a world of straw for it: daemons with hearts, a scheduler, a privileged helper."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from kloros.chembus.facts import ChangedFacts, HeartbeatFacts, TickEntry, TickFacts
from kloros.clock import VirtualClock
from kloros.daemon.cycle import Cycle
from kloros.errors import HelperAway
from kloros.machine.privileged_protocol import Answer, AnyRequest, Restart
from kloros.optimisation import register, store
from kloros.optimisation.changes import Change
from kloros.optimisation.flags import Flag
from kloros.optimisation.optimiser_daemon import OptimiserDaemon
from kloros.optimisation.store import Stage, Taken
from kloros.optimisation.swap import Helper
from kloros.storage import artifacts
from kloros.units import us_to_seconds
from support.bench import Bench, bench

ENTRIES = {"slow": 5.0, "quick": 5.0, "calm": 5.0, "semantic_dedup_consumer": 5.0}
QUICK = """
[limits]
cool_down_s = 0.0
window_s = 10.0
answer_s = 1.0
[verification]
settle_s = 10.0
min_samples = 5
lease_s = 600.0
[planner]
propose_again_s = 60.0
[hot_swap]
start_s = 5.0
probation_cycles = 3
lease_s = 900.0
"""


@dataclass
class StrawDaemon:
    """A daemon as the optimiser hears it."""

    stem: str
    own_s: float = 4.0
    granted_s: float | None = None
    began_s: float = 0.0
    pid: int = 100
    lives: bool = True
    obeys: bool = True
    broken_by: set[str] = field(default_factory=set)


class World:
    """What is outside: it reacts while the optimiser waits, and whenever time passes."""

    def __init__(self) -> None:
        self.daemons = {stem: StrawDaemon(stem) for stem in ENTRIES}
        self.paces = dict.fromkeys(ENTRIES, 1.0)
        self.has_scheduler = True
        self.helper = StrawHelper(self)
        self.on_wait: Callable[[], None] = lambda: None
        self.table: Bench[StrawOptimiser] | None = None
        self._heard = 0

    @property
    def daemon(self) -> StrawOptimiser:
        assert self.table is not None
        return self.table.daemon

    def react(self) -> None:
        """Obey what was said since the last time, and let everybody's heart beat."""
        assert self.table is not None
        clock, live = self.table.clock, self.daemon._live
        messages = [each for each in self.table.everything() if each.signal in ("CYCLE_BUDGET", "Q_SCHEDULE_CONTROL")]
        for message in messages[self._heard :]:
            self._obey(message.signal, message.facts)
        self._heard = len(messages)
        for each in self.daemons.values():
            if each.lives:
                facts = HeartbeatFacts(
                    zooid=f"{each.stem}_daemon", niche="straw", uptime_s=clock.monotonic_s() - each.began_s,
                    pid=each.pid, processed_count=0, mode="normal", schedule=each.stem,
                    budget_s=each.granted_s or each.own_s,
                )  # fmt: skip
                live.hear_heart(facts, clock.monotonic_s())
        if self.has_scheduler:
            entries = {
                stem: TickEntry(signal=f"Q_TRIGGER_{stem.upper()}", interval_s=interval_s, pace=self.paces[stem])
                for stem, interval_s in ENTRIES.items()
            }
            live.hear_tick(TickFacts(tick=1, uptime_s=1.0, entries=entries), clock.monotonic_s())

    def _obey(self, signal: str, facts: Any) -> None:
        if signal == "CYCLE_BUDGET":
            told = self.daemons.get(facts.daemon.removesuffix("_daemon"))
            if told is not None and told.obeys:
                told.granted_s = facts.budget_s
        elif self.has_scheduler:
            self.paces[facts.schedule] = facts.value
            self.daemon._live.hear_answer(
                ChangedFacts(op="set_pace", ok=True, schedule=facts.schedule, requester=facts.requester)
            )


class StrawHelper:
    """Restarts daemons of straw; what is in force then decides whether they come up."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.is_there = True
        self.restarted: list[str] = []

    def ask(self, request: AnyRequest, timeout_s: float = 30.0) -> Answer:
        assert isinstance(request, Restart)
        if not self.is_there:
            raise HelperAway(path=Path("helper.sock"), reason="no such file")
        self.restarted.append(request.unit)
        stem = request.unit.removeprefix("kloros-").removesuffix(".service").replace("-", "_")
        told = self._world.daemons[stem]
        state = self._world.daemon.place.state
        version = artifacts.current_version(artifacts.artifacts_under(state), "semantic_dedup") or ""
        told.lives = version not in told.broken_by
        told.pid += 1
        told.began_s = self._world.daemon.clock.monotonic_s()
        self._world.daemon._live.hearts.pop(f"{stem}_daemon", None)
        return Answer(outcome="done")


class StrawOptimiser(OptimiserDaemon):
    """In a world of straw; waiting takes no real time."""

    world: ClassVar[World]

    def helper(self) -> Helper:
        return self.world.helper

    def wait(self, cycle: Cycle, seconds: float) -> bool:
        assert isinstance(cycle.clock, VirtualClock)
        cycle.clock.advance(seconds)
        is_said = threading.Event()
        self.loop.call_soon(is_said.set)  # behind what the cycle gave to be sent
        assert is_said.wait(10)
        self.world.on_wait()
        self.world.react()
        return not cycle.cancelled.is_set()


class Office:
    """Somebody who proposes, decides, plants cycle reports and lets beats pass."""

    def __init__(self, table: Bench[StrawOptimiser], world: World) -> None:
        self.table, self.world = table, world
        world.table = table
        world.react()

    # Saying

    def propose(self, kind: str = "INCREASE_BUDGET", module: str = "slow", **told: Any) -> str:
        """An action on the bus, by hand; returns its id."""
        facts = {
            "action_id": told.pop("action_id", f"i-{len(self.table.everything())}"), "module_name": module,
            "action_kind": kind, "priority": 0.5, "rationale": "somebody thinks so", **told,
        }  # fmt: skip
        self.table.say("Q_IMPROVEMENT_ACTION", facts)
        self.settle()
        return str(facts["action_id"])

    def decide(self, decision: str, **told: Any) -> Any:
        """A person's word; returns the answer."""
        self.table.say("Q_REVIEW_DECISION", {"decision": decision, "requester": "Zoë", **told})
        self.settle()
        return self.heard("Q_REVIEW_DECIDED")[-1]

    def report(self, module: str, duration_s: float = 0.1, outcome: str = "ok", count: int = 1) -> None:
        """Cycles of a module end, one after the other."""
        for _ in range(count):
            facts = {
                "daemon": f"{module}_daemon", "schedule": module, "source": "trigger", "outcome": outcome,
                "started_ts": us_to_seconds(self.table.clock.wall_us()) - duration_s, "duration_s": duration_s,
            }  # fmt: skip
            self.table.outsider.emit("Q_CYCLE_REPORT", facts)
        self.settle()

    def pass_by(self, seconds: float, every_s: float = 5.0, **durations_s: float) -> None:
        """Time passes; these modules' cycles end in it, each so often."""
        for _ in range(round(seconds / every_s)):
            self.advance(every_s)
            for module, duration_s in durations_s.items():
                self.report(module, duration_s)

    def advance(self, seconds: float) -> None:
        self.table.clock.advance(seconds)
        self.settle()

    def beat(self) -> None:
        """The trigger, injected."""
        self.table.say("Q_TRIGGER_OPTIMISATION", None)
        self.settle()

    def settle(self) -> None:
        for _ in range(3):
            self.world.react()
            self.table.settle()
        self.table.daemon.on_housekeeping()
        self.table.settle()

    # Hearing

    def heard(self, signal: str) -> list[Any]:
        self.table.settle()
        return [message.facts for message in self.table.heard(signal)]

    def enactment(self, action_id: str) -> Any:
        """What became of an action; told just once."""
        told = [facts for facts in self.heard("Q_ENACTMENT") if facts.action_id == action_id]
        assert len(told) == 1, told
        return told[0]

    def verdicts(self) -> list[tuple[str, str | None]]:
        return [(facts.verdict, facts.name) for facts in self.heard("Q_REFLECTION_REPORT")]

    def changes(self) -> list[Change]:
        database = self.table.daemon.store.database
        return [*store.open_changes(database), *store.ended_changes(database, 100)]

    def actions(self, *stages: Stage) -> list[Taken]:
        return store.actions(self.table.daemon.store.database, *stages)

    def flags(self) -> list[Flag]:
        return register.flags(self.table.daemon.store.database)

    # Artifacts

    @property
    def root(self) -> Path:
        return artifacts.artifacts_under(self.table.daemon.place.state)

    def stage(
        self, version: str = "p-1", module: str = "semantic_dedup", text: bytes = b"a = 1\n"
    ) -> artifacts.Artifact:
        return artifacts.stage(self.root, module, version, {artifacts.PARAMETERS: text})

    def current(self, module: str = "semantic_dedup") -> str | None:
        return artifacts.current_version(self.root, module)

    def promote(self, staged: artifacts.Artifact, candidate: str = "c-1", **told: Any) -> str:
        """The shadow's verdict, and its proposal."""
        verdict = {
            "candidate": {"a": 1.0}, "verdict": told.pop("verdict", "promote"), "artifact": staged.name,
            "module_name": staged.module, "sha256": staged.sha256, "candidate_id": candidate,
        }  # fmt: skip
        self.table.say("Q_SHADOW_VERDICT", verdict)
        parameters = {
            "artifact": staged.name, "sha256": staged.sha256, "candidate_id": candidate, "source": "shadow",
            **told.pop("parameters", {}),
        }  # fmt: skip
        return self.propose("HOT_SWAP_MODULE", staged.module, parameters=parameters, **told)


def modes(mode: str) -> str:
    """[modes] with all of them the same."""
    return "[modes]\n" + "".join(
        f'{kind} = "{mode}"\n' for kind in ("tune_threshold", "increase_budget", "reduce_load", "hot_swap_module")
    )


Opened = Callable[..., AbstractContextManager[Office]]


def opener(folder: Path) -> Opened:
    world, clock = World(), VirtualClock()

    @contextmanager
    def opened(settings: str = QUICK, mode: str = "auto", **more: Any) -> Iterator[Office]:
        StrawOptimiser.world = world
        path = folder / "config" / "optimiser_config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{modes(mode)}{settings}")
        with bench(StrawOptimiser, folder, clock, **more) as table:
            yield Office(table, world)

    return opened


def slowed(office: Office, duration_s: float = 1.0, before_s: float = 0.1) -> None:
    """A module was quick for long, and is slow now; the others are well."""
    well = {"quick": 0.1, "calm": 0.1, "semantic_dedup_consumer": 0.1}
    office.pass_by(100, slow=before_s, **well)
    office.beat()
    office.pass_by(300, slow=duration_s, **well)
    office.beat()
