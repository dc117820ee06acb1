"""affect: says how the machine feels, why, and for how long that holds."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from kloros.affect.appraisal import appraise, signal_of
from kloros.affect.portrait import portrait
from kloros.affect.settings import AffectSettings
from kloros.affect.state import AffectState, Felt, Vitals, shifted
from kloros.affect.suite_watch import HEARD, SuiteWatch
from kloros.affect.vitals import Senses
from kloros.chembus.envelope import Message
from kloros.chembus.facts import AffectFacts, HeartbeatFacts, StatusRequestFacts, TickFacts, TriggerFacts
from kloros.daemon.consumer import Consumer
from kloros.daemon.cycle import Cycle
from kloros.daemon.daemon import Kit
from kloros.daemon.own_settings import OwnSettings
from kloros.daemon.runner import main, settings_file, stem_of
from kloros.units import us_to_seconds

# A feeling outlives this many beats that nobody ran: a consumer falls back after two.
BEATS_OUTLIVED = 3.5
# What was remembered longer ago than this says nothing of now.
FORGET_AFTER_S = 900.0
# Not to be named in each heartbeat: most machines that lack these lack nothing.
_OFTEN_ABSENT = ("heat", "limits")


class Memory(msgspec.Struct, frozen=True):
    """What is kept on disk: the state, and when that was by the wall clock."""

    state: AffectState
    wall_us: int


class AffectDaemon(Consumer):
    """Takes the vital signs on its beat, appraises them, and says what follows."""

    zooid = "affect_daemon"
    niche = "affect"
    ecosystem = "affect"
    schedule = "affect_sensing"
    signal = "Q_TRIGGER_AFFECT"
    interval_s = 10.0
    hears = (*HEARD, "AFFECT_*")

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._own = OwnSettings(settings_file(self.place, stem_of(type(self))), AffectSettings, self.log)
        self._watch = SuiteWatch(self._own.current.time.window_s, self.clock.monotonic_s())
        self._lock = Lock()  # the loop feeds the watch, the worker asks it
        self._senses = self.make_senses()
        self._state = self._remembered()
        self._said: AffectFacts | None = None
        self._by_hand: dict[str, dict[str, Any]] = {}
        self._blind: dict[str, str] = {}
        self._register_affect_metrics()

    def make_senses(self) -> Senses:
        """What perceives the machine, by the settings in force."""
        return Senses([*map(Path, self._own.current.disk.paths), self.place.state])

    def _register_affect_metrics(self) -> None:
        self._felt = self.metrics.counter("kloros_affect_signals_total", "Feelings said.", ("signal",))
        self._dimension = self.metrics.gauge("kloros_affect_dimension_ratio", "Sides of the mood.", ("dimension",))
        self._holding = self.metrics.gauge("kloros_affect_holds_ratio", "1 while the feeling holds.", ("signal",))

    # The cycle

    def cycle(self, cycle: Cycle) -> None:
        if self._own.take():
            self._watch.window_s = self._own.current.time.window_s
            self._senses = self.make_senses()
        now_s, wall_us = self.clock.monotonic_s(), self.clock.wall_us()
        vitals = self._perceive(now_s)
        before, settings = self._state, self._own.current
        ttl_s = max(settings.time.ttl_s, BEATS_OUTLIVED * us_to_seconds(self.beats.pacing.interval_us))
        self._state, said = appraise(before, now_s, vitals, settings, ttl_s)
        for felt in said:
            self._say(felt, vitals, us_to_seconds(wall_us), cycle)
        cycle.save("affect", Memory(self._state, wall_us))
        cycle.processed = len(vitals.readings)
        self._note(before, vitals)

    def _perceive(self, now_s: float) -> Vitals:
        vitals = self._senses.take(now_s)
        with self._lock:
            heard = self._watch.readings(now_s)
        return Vitals({**vitals.readings, **heard}, vitals.blind)

    def _say(self, felt: Felt, vitals: Vitals, wall_s: float, cycle: Cycle) -> None:
        facts = AffectFacts(state=felt.mood, cause=felt.cause, evidence=dict(felt.evidence), ttl_s=felt.ttl_s)
        if felt.signal == "AFFECT_STATE":
            facts.state = portrait(self._state, vitals, self._live_by_hand(wall_s), wall_s, felt.ttl_s)
            self._said = facts
        cycle.emit(felt.signal, facts, intensity=round(1.0 + min(1.0, felt.level), 2))
        self._felt.labels(felt.signal).inc()

    def _note(self, before: AffectState, vitals: Vitals) -> None:
        """Log what changed; set the metrics."""
        now = self._state
        for name, dimension in now.dimensions.items():
            self._dimension.labels(name).set(dimension.value)
        for name, hold in now.holds.items():
            self._holding.labels(signal_of(name)).set(hold.holds)
            held = name in before.holds and before.holds[name].holds
            if hold.holds and not held:
                self.log.warning("feeling_began", signal=signal_of(name), cause=hold.cause, **hold.evidence)
            elif held and not hold.holds:
                self.log.info("feeling_ended", signal=signal_of(name))
        if now.mood != before.mood:
            self.log.info("mood_turned", mood=now.mood, was=before.mood)
        if vitals.blind != self._blind:
            self._blind = vitals.blind
            self.log.info("blind_to", senses=sorted(vitals.blind), reasons=sorted(set(vitals.blind.values())))

    # Hearing

    def on_signal(self, message: Message) -> None:
        if message.signal.startswith("AFFECT_"):
            self._note_by_hand(message)
            return
        with self._lock:
            self._watch.hear(message, self.clock.monotonic_s())

    def on_tick(self, message: Message, tick: TickFacts) -> None:
        super().on_tick(message, tick)
        with self._lock:
            self._watch.tick(self._wall_s() - message.ts, self.clock.monotonic_s())

    def _on_trigger(self, message: Message) -> None:
        facts: TriggerFacts = message.facts
        if facts.due_ts is not None and facts.reason == "due":
            with self._lock:
                self._watch.delay(self._wall_s() - facts.due_ts, self.clock.monotonic_s())
        super()._on_trigger(message)

    def on_clock_step(self, step_s: float) -> None:
        self._begin_anew()
        super().on_clock_step(step_s)

    def on_maintenance(self, is_on: bool) -> None:
        self._begin_anew()
        super().on_maintenance(is_on)

    def _begin_anew(self) -> None:
        with self._lock:
            self._watch.begin_anew(self.clock.monotonic_s())

    def _note_by_hand(self, message: Message) -> None:
        """Somebody injected a feeling: it is shown beside our own, and changes nothing of how the machine feels."""
        facts: AffectFacts = message.facts
        if facts.requester is None or facts.ttl_s is None:
            return
        with self._lock:
            self._by_hand[message.signal] = {
                "cause": facts.cause or "",
                "requester": facts.requester,
                "until_ts": round(message.ts + facts.ttl_s, 3),
            }

    def _live_by_hand(self, wall_s: float) -> dict[str, dict[str, Any]]:
        with self._lock:
            return {signal: each for signal, each in self._by_hand.items() if each["until_ts"] > wall_s}

    def _on_status_request(self, message: Message) -> None:
        """Who asks how things are wants to know it now: what was said last is said again."""
        super()._on_status_request(message)
        facts: StatusRequestFacts = message.facts
        is_meant = facts.zooid in (None, self.zooid)
        if is_meant and self._said is not None and isinstance(self._said.state, dict):
            state = {**self._said.state, "by_hand": self._live_by_hand(self._wall_s())}
            self.bus.emit("AFFECT_STATE", msgspec.structs.replace(self._said, state=state))

    def _wall_s(self) -> float:
        return us_to_seconds(self.clock.wall_us())

    # Life

    def _remembered(self) -> AffectState:
        """The state of an earlier life, its moments told by this boot's clock. Too old a one is forgotten."""
        memory = self.store.get("affect", Memory)
        if memory is None or memory.state.at_s is None:
            return AffectState()
        away_s = us_to_seconds(self.clock.wall_us() - memory.wall_us)
        if not 0 <= away_s <= FORGET_AFTER_S:
            return AffectState()
        return shifted(memory.state, self.clock.monotonic_s() - away_s - memory.state.at_s)

    def on_reload(self) -> None:
        self._own.reload()

    def status(self) -> str:
        blind = f", blind: {', '.join(sorted(self._blind))}" if self._blind else ""
        return f"{super().status()}, {self._state.mood}{blind}"

    def heartbeat_facts(self) -> HeartbeatFacts:
        facts = super().heartbeat_facts()
        blind = sorted(sense for sense in self._blind if sense not in _OFTEN_ABSENT)
        if blind and not facts.detail:
            facts.detail = f"blind: {', '.join(blind)}"
        return facts


if __name__ == "__main__":
    sys.exit(main(AffectDaemon))
