"""The tournament and the shadow as processes that are killed again and again: what they say is said once, and is what
they would have said undisturbed; and `kloros candidates` tells of it."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.bench import bench
from support.questions import Given, feed, incidents
from support.suite import PROXY, Suite, suite

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.envelope import Message
from kloros.chembus.pub import ChemPub
from kloros.consumers.tournament_consumer_daemon import TournamentConsumerDaemon
from kloros.storage.artifacts import artifacts_under, split_name, verify

TOURNAMENT = "kloros.consumers.tournament_consumer_daemon"
SHADOW = "kloros.consumers.shadow_daemon"
TOLD = ("Q_TOURNAMENT_COMPLETE", "Q_SHADOW_VERDICT", "Q_IMPROVEMENT_ACTION")
SEED, INCIDENTS = 3, 200
LIMIT_S = 90.0


class Killed:
    """One of our daemons; every now and then it is killed, and started anew."""

    def __init__(self, running: Suite, module: str, trigger: str, chance: random.Random) -> None:
        self._suite, self._module, self._trigger, self._chance = running, module, trigger, chance
        self._heard: list[Message] = []
        self.kills = 0
        self.process = running.start(module)

    def until(self, signal: str, module: str) -> list[Message]:
        """Trigger it, kill it, until that was told of the module; returns all that was."""
        bus = self._suite.bus
        assert bus
        end_s = time.monotonic() + LIMIT_S
        while time.monotonic() < end_s:
            self._heard += bus.receive()
            told = [each for each in self._heard if each.signal == signal and each.facts.module_name == module]
            if told:
                return told
            bus.emit(self._trigger)
            bus.pollables()[0].poll(30)
            if self.kills < 12 and self._chance.random() < 0.2:
                time.sleep(self._chance.uniform(0.0, 0.02))
                self.process.kill()
                self.process.wait()
                self.kills += 1
                self.process = self._suite.start(self._module)
        raise AssertionError(f"{signal} was not told")

    def rest(self, seconds: float) -> list[Message]:
        """Let it go on undisturbed; returns all that was heard since the beginning."""
        assert self._suite.bus
        for _ in range(10):
            self._suite.bus.emit(self._trigger)
            self._heard += self._suite.hear_all(seconds / 10)
        return self._heard


@pytest.fixture
def running(runtime_dir: Path) -> Iterator[Suite]:
    with suite(runtime_dir) as processes:
        turns = processes.folder / "config/tournament_consumer_config.toml"
        turns.write_text(turns.read_text().replace("between_s = 60.0", "between_s = 0.0"))
        trial = processes.folder / "config/shadow_config.toml"
        trial.write_text(trial.read_text().replace("watch_s = 86400.0", "watch_s = 3.0"))
        processes.start(PROXY)
        processes.join(*TOLD)
        yield processes


def tell(running: Suite, given: list[Given]) -> None:
    with ChemPub(Endpoints.for_runtime_dir(running.folder / "runtime"), zooid_name="chain") as pub:
        for signal, facts in given:
            pub.emit(signal, ecosystem="tests", facts=facts)


def recorded(running: Suite, stem: str) -> int:
    path = running.folder / "state" / stem / "state.db"
    try:
        with sqlite3.connect(path, timeout=10) as connection:
            found: int = connection.execute("SELECT count(*) FROM recorded").fetchone()[0]
        connection.close()
    except sqlite3.OperationalError:
        return 0
    return found


def cli(running: Suite, *arguments: str) -> Any:
    command = [sys.executable, "-m", "kloros.cli", "candidates", *arguments]
    said = subprocess.run(
        command, env=running.environment, cwd=running.folder, capture_output=True, text=True, timeout=30
    )
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout) if "--json" in arguments else said.stdout


def undisturbed(folder: Path) -> dict[str, Any]:
    """What a tournament on that history comes to when nobody is killed."""
    with bench(TournamentConsumerDaemon, folder) as table:
        feed(table, SEED, INCIDENTS)
        for _ in range(100):
            table.clock.advance(15.0)
            table.say("Q_TRIGGER_TOURNAMENT")
            for each in table.heard("Q_TOURNAMENT_COMPLETE"):
                if each.facts.module_name == "semantic_dedup":
                    return {name: getattr(each.facts, name) for name in each.facts.__struct_fields__}
    raise AssertionError("it did not end")


def test_killed_again_and_again_they_say_what_they_would_have_said_and_once(
    running: Suite, tmp_path: Path, wait_for: Callable[..., None]
) -> None:
    seed = random.SystemRandom().randrange(10_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    given = list(incidents(Random(SEED), INCIDENTS))
    asked = sum(signal == "Q_CURIOSITY_INVESTIGATE" or signal == "Q_QUESTION_FOLDED" for signal, _ in given)
    tell(running, given)
    tournament = Killed(running, TOURNAMENT, "Q_TRIGGER_TOURNAMENT", chance)
    wait_for(lambda: recorded(running, "tournament_consumer") == asked, 30.0, "the history")

    (ended,) = tournament.until("Q_TOURNAMENT_COMPLETE", "semantic_dedup")
    assert ended.facts.verdict == "proposed"
    told = {name: getattr(ended.facts, name) for name in ended.facts.__struct_fields__}
    assert told == undisturbed(tmp_path)
    verify(artifacts_under(running.folder / "state"), *split_name(ended.facts.artifact), ended.facts.sha256)

    shadow = Killed(running, SHADOW, "Q_TRIGGER_SHADOW_EVAL", chance)
    wait_for(lambda: recorded(running, "shadow") == asked, 30.0, "the history in the shadow")
    wait_for(lambda: cli(running, "--json")["trials"], 30.0, "the trial")
    assert "on trial" in cli(running)
    tell(running, list(incidents(Random(SEED + 1), INCIDENTS)))
    (verdict,) = shadow.until("Q_SHADOW_VERDICT", "semantic_dedup")
    assert verdict.facts.verdict == "promote"
    assert verdict.facts.candidate_id == ended.facts.candidate_id

    heard = shadow.rest(2.0) + tournament.rest(0.5)
    print(f"{tournament.kills} and {shadow.kills} kills; {verdict.facts.detail}")
    assert tournament.kills > 3
    for signal, count in (("Q_TOURNAMENT_COMPLETE", 1), ("Q_SHADOW_VERDICT", 1), ("Q_IMPROVEMENT_ACTION", 2)):
        ids = {each.id for each in heard if each.signal == signal and each.incident_id == ended.facts.candidate_id}
        assert len(ids) == count, signal

    shown = cli(running, "--json")
    (trial,) = [each for each in shown["trials"] if each["candidate_id"] == ended.facts.candidate_id]
    assert (trial["verdict"], trial["to_go_s"]) == ("promote", 0.0)
    assert trial["decisions"] == verdict.facts.keys
    assert shown["modules"]["semantic_dedup"]["in_force"] == "its settings file"
    for line in ("threshold 0.85 -> 0.", "0.000% in the mean"):
        assert line in cli(running, "show", ended.facts.candidate_id[:5])
    assert ended.facts.detail in cli(running, "show", ended.facts.tournament_id)
