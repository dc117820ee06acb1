"""Semantic dedup under whatever may happen, in whatever order: each question ends up in one place, and is told of."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.alike import TUNING, pairs
from support.bench import Bench, bench

from kloros.chembus.memory import MemoryHub
from kloros.clock import VirtualClock
from kloros.consumers.dedup.desk import Tally
from kloros.consumers.dedup.question import LEVELS
from kloros.consumers.semantic_dedup_consumer_daemon import TALLY, SemanticDedupConsumerDaemon

SAID = [text for pair in pairs(TUNING)[:40] for text in (pair.one, pair.other)]
SETTINGS = "[batch]\nquestions = 3\n[limits]\nwaiting = 8\nopen = 6\nfolded = 5\nended = 1000\n"
Table = Bench[SemanticDedupConsumerDaemon]


class World:
    """Curiosity, investigation and introspection, as far as dedup hears them; remembers what they were told."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.asked, self.gaps = chance, Counter[str](), 0
        self.folded: dict[str, str] = {}
        self.investigated: dict[str, int] = {}
        self.over: set[str] = set()

    def act(self, table: Table) -> None:
        chance, roll = self.chance, self.chance.random()
        if roll < 0.6:
            self._ask(table)
        elif roll < 0.75:
            table.say("Q_TRIGGER_SEMANTIC_DEDUP", {"schedule": "semantic_dedup"})
        elif roll < 0.85 and self.investigated:
            status = chance.choice(("concluded", "failed", "withdrawn", "refused"))
            question_id = chance.choice(sorted(self.investigated))
            table.say("Q_INVESTIGATION_COMPLETE", {"question_id": question_id, "status": status})
        elif roll < 0.95:
            gap = f"g{chance.randrange(max(1, self.gaps))}"
            table.say("CAPABILITY_RESTORED", {"gap_id": gap, "gap_type": "t", "gap_name": "n"})
        else:
            table.clock.advance(chance.choice((5.0, 40.0)))
        self._hear(table)

    def _ask(self, table: Table) -> None:
        chance = self.chance
        is_again = bool(self.asked) and chance.random() < 0.1
        question_id = chance.choice(sorted(self.asked)) if is_again else f"q-{len(self.asked)}"
        self.asked[question_id] += 1
        self.gaps += chance.random() < 0.7
        facts: dict[str, Any] = {"question_id": question_id, "question": chance.choice(SAID), "gap_id": f"g{self.gaps}"}
        table.say(f"Q_CURIOSITY_{chance.choice(LEVELS)}", {**facts, "value_estimate": chance.randrange(5)})

    def _hear(self, table: Table) -> None:
        for each in table.heard("Q_QUESTION_FOLDED"):
            self.folded[each.facts.question_id] = each.facts.folded_into
        for each in table.heard("Q_CURIOSITY_INVESTIGATE"):
            self.investigated[each.facts.question_id] = each.facts.folded
        for each in table.heard("Q_INVESTIGATION_COMPLETE"):
            if each.facts.status == "refused" and each.facts.evidence:
                self.over.add(each.facts.question_id)


def places(table: Table) -> dict[str, set[str]]:
    database = table.daemon.store.database
    names = ("waiting", "open", "folded", "ended")
    return {name: {row[0] for row in database.query(f"SELECT question_id FROM {name}")} for name in names}


def check(table: Table, world: World) -> None:
    where = places(table)
    assert set(world.asked) == set().union(*where.values()), "each question that was asked is somewhere"
    assert len(world.asked) == sum(map(len, where.values())), "in one place"
    assert len(where["waiting"]) <= 8
    assert len(where["open"]) <= 6
    assert len(where["folded"]) <= 5 + 8, "what is too much goes on the next beat"
    assert where["open"] <= world.investigated.keys(), "what is open was sent"
    database = table.daemon.store.database
    into = dict(database.query("SELECT question_id, folded_into FROM folded"))
    assert set(into.values()) <= where["open"], "what is folded has somebody who stands for it"
    assert all(world.folded[question_id] == other for question_id, other in into.items()), "and was told so"
    stands = Counter(into.values())
    assert dict(database.query("SELECT question_id, folded FROM open")) == {
        question_id: 1 + stands[question_id] for question_id in where["open"]
    }
    refused = {row[0] for row in database.query("SELECT question_id FROM ended WHERE reason IS NOT NULL")}
    assert refused <= world.over, "what was refused is told"
    tally = table.daemon.store.get(TALLY, Tally) or Tally()
    assert tally.taken == len(world.asked)
    assert tally.duplicates == sum(world.asked.values()) - len(world.asked)
    assert sum(tally.ended.values()) == len(where["ended"])


@pytest.mark.parametrize("seed", range(6))
def test_each_question_is_in_one_place_whatever_happens(seed: int) -> None:
    print(f"seed {seed}")
    chance, hub, clock = random.Random(seed), MemoryHub(), VirtualClock()
    world = World(chance)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config").mkdir()
        (folder / "config/semantic_dedup_consumer_config.toml").write_text(SETTINGS)
        for _life in range(3):
            with bench(SemanticDedupConsumerDaemon, folder, clock, hub=hub) as table:
                for _ in range(50):
                    world.act(table)
                    check(table, world)
