"""The protocol of outbox, journal and cursor under whatever may happen, in virtual time: order and exactly once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from support.bench import Bench, bench

from kloros.chembus.journal import memory as journal_memory
from kloros.chembus.journal.contract import Appended, Entry, NotKept
from kloros.chembus.memory import MemoryHub
from kloros.daemon.batch import Batch
from kloros.daemon.daemon import Daemon
from kloros.storage.database import Tables


class Relay(Daemon):
    """Counts gaps, passes each on as a flag, and now and then fails after half of its work."""

    zooid: ClassVar[str] = "relay"
    niche: ClassVar[str] = "tests"
    consumes: ClassVar[tuple[str, ...]] = ("CAPABILITY_GAP",)
    batch_limit: ClassVar[int] = 3
    tables: ClassVar[Tables] = {"relay": ("CREATE TABLE effects (gap_id TEXT)",)}
    fails: ClassVar[int] = 0

    def work(self, batch: Batch) -> None:
        for index, message in enumerate(batch.messages):
            if index and Relay.fails:
                Relay.fails -= 1
                raise RuntimeError("half done")
            batch.database.execute("INSERT INTO effects VALUES (?)", (message.facts.gap_id,))
            flag = {"flag_id": message.facts.gap_id, "module_name": "m", "rationale": "r"}
            batch.emit("FLAG_FOR_REVIEW", flag)


STEPS = st.lists(
    st.sampled_from(["emit", "emit", "emit", "away", "back", "full", "empty", "deaf", "life", "fail", "wait"])
)


class Answers:
    """Loses the journal's answers to appends while it is deaf."""

    def __init__(self) -> None:
        self.is_deaf = False
        self._append = journal_memory.MemoryJournalClient.append

    def __enter__(self) -> Answers:
        answers, append = self, self._append

        def lossy(
            client: journal_memory.MemoryJournalClient,
            entries: Sequence[Entry],
            done: Callable[[Appended | NotKept], None],
        ) -> None:
            append(client, entries, lambda answer: None if answers.is_deaf else done(answer))

        journal_memory.MemoryJournalClient.append = lossy  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        journal_memory.MemoryJournalClient.append = self._append  # type: ignore[method-assign]


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_each_signal_has_its_effect_once_and_in_order_whatever_happens(steps: list[str]) -> None:
    Relay.fails = 0
    hub, emitted = MemoryHub(), 0
    with tempfile.TemporaryDirectory() as folder, Answers() as answers:
        lives = [*" ".join(steps).split("life"), ""]
        for number, life in enumerate(lives):
            is_last = number == len(lives) - 1
            hub.up = True  # without a bus no daemon starts
            with bench(Relay, Path(folder), hub=hub) as table:
                if is_last:
                    hub.store.lack, answers.is_deaf = None, False
                for step in life.split():
                    emitted += take(step, table, answers, emitted)
                if is_last:
                    table.advance(5.0)
                    table.settle()
                    effects = [gap for (gap,) in table.daemon.store.database.query("SELECT gap_id FROM effects")]
                    waiting = table.daemon.store.database.query("SELECT count(*) FROM outbox")
    expected = [str(n) for n in range(emitted)]
    assert effects == expected
    assert waiting == [(0,)]
    flags = [body for signal, body in hub.store._rows if signal == "FLAG_FOR_REVIEW"]
    assert [body.split(b'"flag_id":"')[1].split(b'"')[0].decode() for body in flags] == expected


def take(step: str, table: Bench[Relay], answers: Answers, emitted: int) -> int:
    """Let it happen; how many gaps were emitted."""
    hub = table.hub
    if step == "emit" and hub.up and not hub.store.lack:
        gap = {"gap_id": str(emitted), "gap_type": "t", "gap_name": "n", "severity": "high"}
        table.outsider.emit("CAPABILITY_GAP", gap)
        return 1
    if step in ("away", "back"):
        hub.up = step == "back"
    elif step in ("full", "empty"):
        hub.store.lack = "the disk is full" if step == "full" else None
    elif step == "deaf":
        answers.is_deaf = True
    elif step == "fail":
        Relay.fails += 1
    elif step == "wait":
        for _ in range(5):
            table.daemon.loop.turn(0.01)
            table.clock.advance(0.5)
    return 0
