"""Semantic dedup as a process on a real bus, killed at any moment: each question is folded or sent, once."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.many_questions import many_questions
from support.suite import PROXY, Suite, suite

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.pub import ChemPub

WaitFor = Callable[..., None]
DEDUP = "kloros.consumers.semantic_dedup_consumer_daemon"
LIFE_S = (0.6, 1.6)
LIVES = 6


@pytest.fixture
def running(runtime_dir: Path) -> Iterator[Suite]:
    with suite(runtime_dir) as processes:
        yield processes


@pytest.fixture
def pub(running: Suite) -> Iterator[ChemPub]:
    running.start(PROXY)
    running.join()
    with ChemPub(Endpoints.for_runtime_dir(running.folder / "runtime"), zooid_name="curious") as opened:
        yield opened


def ask(pub: ChemPub, number: int, question: str) -> None:
    facts = {"question_id": f"q-{number:04}", "question": question, "gap_id": f"g-{number}"}
    pub.emit("Q_CURIOSITY_MEDIUM", ecosystem="curiosity", facts=facts)


def told(running: Suite, signal: str) -> Counter[str]:
    """How often each question is in the journal under that signal."""
    with closing(sqlite3.connect(running.folder / "state/chem_proxy/journal.db")) as journal:
        bodies = journal.execute("SELECT body FROM messages WHERE signal = ?", (signal,)).fetchall()
    return Counter(json.loads(body)["facts"]["question_id"] for (body,) in bodies)


def test_killed_at_any_moment_each_question_is_sent_or_folded_once(
    running: Suite, pub: ChemPub, wait_for: WaitFor
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    texts = many_questions(2_000, chance)
    number = 0
    for _ in range(LIVES):
        dedup = running.start(DEDUP)
        end_s = time.monotonic() + chance.uniform(*LIFE_S)
        while time.monotonic() < end_s and number < len(texts):
            ask(pub, number, texts[number])
            number += 1
            if number % 7 == 0:
                pub.emit("Q_TRIGGER_SEMANTIC_DEDUP", ecosystem="curiosity", facts={"schedule": "semantic_dedup"})
        dedup.kill()
        dedup.wait()
    running.start(DEDUP)

    def all_told() -> bool:
        pub.emit("Q_TRIGGER_SEMANTIC_DEDUP", ecosystem="curiosity", facts={"schedule": "semantic_dedup"})
        return len(told(running, "Q_CURIOSITY_INVESTIGATE") | told(running, "Q_QUESTION_FOLDED")) == number

    wait_for(all_told, 60.0, f"{number} questions (seed {seed})")
    sent, folded = told(running, "Q_CURIOSITY_INVESTIGATE"), told(running, "Q_QUESTION_FOLDED")
    assert set((sent + folded).values()) == {1}
    assert folded
    with closing(sqlite3.connect(running.folder / "state/semantic_dedup_consumer/state.db")) as database:
        assert {row[0] for row in database.execute("SELECT question_id FROM open")} == set(sent)
        assert {row[0] for row in database.execute("SELECT question_id FROM folded")} == set(folded)
        assert database.execute("SELECT sum(folded) FROM open").fetchone() == (number,)
