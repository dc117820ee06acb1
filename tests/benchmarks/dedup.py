"""How fast questions are folded into 10,000 open ones, in how much memory. By hand: `tests/benchmarks/dedup.py`."""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import arguments, print_machine, table
from support.bench import Bench, bench
from support.many_questions import many_questions

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.dedup.hashed_words import HashedWords
from kloros.consumers.dedup.names import names_of
from kloros.consumers.dedup.open_set import OpenSet
from kloros.consumers.dedup.question import Question, question_of
from kloros.consumers.dedup.store import DedupStore
from kloros.consumers.dedup.vectors import packed
from kloros.consumers.semantic_dedup_consumer_daemon import SemanticDedupConsumerDaemon

OPEN = 10_000
BATCHES = (10, 100, 1_000)
Row = tuple[str, str, str]


def questions(texts: Sequence[str], first: int) -> list[Question]:
    """As they would be heard."""
    return [
        question_of(
            "Q_CURIOSITY_MEDIUM", QuestionFacts(question_id=f"q-{n:06}", question=text, gap_id=f"g{n}"), None, n
        )
        for n, text in enumerate(texts, first)
    ]


def parts(texts: Sequence[str]) -> list[Row]:
    """Each step by itself, without a database."""
    start_s = time.perf_counter()
    vectors = [packed(vector) for vector in HashedWords().embed(texts)]
    embedded_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    for text in texts:
        names_of(text)
    named_s = time.perf_counter() - start_s
    entries = [(str(n), text, vector) for n, (text, vector) in enumerate(zip(texts, vectors, strict=True))]
    held = OpenSet("k")
    held.add(entries[:OPEN])
    rows = [
        ("embedding", f"{len(texts) / embedded_s:,.0f}/s", ""),
        ("finding names", f"{len(texts) / named_s:,.0f}/s", ""),
    ]
    for batch in BATCHES:
        start_s, done = time.perf_counter(), 0
        while time.perf_counter() - start_s < 1.0:
            held.alike(entries[done % OPEN : done % OPEN + batch], 0.85, True)
            done += batch
        rate = done / (time.perf_counter() - start_s)
        rows.append((f"comparing, {batch} at once", f"{rate:,.0f}/s", f"{held.size_bytes / 2**20:.1f} MiB of vectors"))
    return rows


def whole(texts: Sequence[str], rounds: int) -> list[Row]:
    """The daemon: from the waiting table to what is committed and sent."""
    rows, at = [], OPEN
    with tempfile.TemporaryDirectory() as folder, bench(SemanticDedupConsumerDaemon, Path(folder)) as daemon:
        fold(daemon, questions(texts[:OPEN], 0))
        fold(daemon, questions(["Why?"], 10 * OPEN))
        for batch in BATCHES:
            took_s, done, cpu_s = 0.0, 0, time.process_time()
            for _ in range(rounds):
                took_s += fold(daemon, questions(texts[at : at + batch], at))
                at, done = at + batch, done + batch
            cpu_s = time.process_time() - cpu_s
            counts = DedupStore(daemon.daemon.store.database).counts()
            what = f"{done / cpu_s:,.0f} per CPU second; {counts['open']:,} open, {counts['folded']:,} folded"
            rows.append((f"{batch} a beat", f"{done / took_s:,.0f}/s", what))
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        database_mib = daemon.daemon.store.path.stat().st_size / 2**20
        rows.append(("memory", f"{peak_mib:.0f} MiB", "the whole process, at most, this benchmark with it"))
        rows.append(("database", f"{database_mib:.0f} MiB", "questions, vectors, outbox"))
    return rows


def fold(daemon: Bench[SemanticDedupConsumerDaemon], asked: Sequence[Question]) -> float:
    """Let questions wait, then let them be folded; returns the seconds that folding took."""
    database = daemon.daemon.store.database
    with database.transaction():
        store = DedupStore(database)
        for question in asked:
            store.put_waiting(question)
    took_s = 0.0
    while store.waiting().count:
        daemon.clock.advance(10.0)  # the bus takes no more than 2000 signals a second
        start_s = time.perf_counter()
        daemon.say("Q_TRIGGER_SEMANTIC_DEDUP", {"schedule": "semantic_dedup"})
        took_s += time.perf_counter() - start_s
    return took_s


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    rounds = options.rounds or (1 if options.quick else 5)
    print_machine()
    texts = many_questions(OPEN + sum(BATCHES) * rounds, random.Random(3))
    columns = ("what", "figure", "")
    table(f"{OPEN:,} open questions: the parts", columns, parts(texts[: OPEN + 2_000]))
    table(f"{OPEN:,} questions heard before: the daemon", columns, whole(texts, rounds))


if __name__ == "__main__":
    main()
