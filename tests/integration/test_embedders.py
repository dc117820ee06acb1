"""Embedders of other packages: really installed ones are found and used; those that fail are named, and replaced."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.bench import Bench, bench

from kloros.clock import VirtualClock
from kloros.consumers.dedup.embedder import BUILT_IN, EmbedderUnusable, Embedding, find
from kloros.consumers.dedup.hashed_words import HashedWords
from kloros.consumers.semantic_dedup_consumer_daemon import SemanticDedupConsumerDaemon
from kloros.telemetry.logs import get_logger

Install = Callable[..., None]
Table = Bench[SemanticDedupConsumerDaemon]

# Two texts are alike when they have the same first letter: nothing like the built-in embedder.
FIRST_LETTER = """
calls = []

class FirstLetter:
    name, version = "first-letter", "{version}"

    def embed(self, texts):
        calls.append(list(texts))
        return [[1.0 if ord(text[0]) % 26 == place else 0.0 for place in range(26)] for text in texts]

class Counted(FirstLetter):
    name = "counted"

    def embed(self, texts):
        if len(calls) >= 3:
            raise RuntimeError("the model is gone")
        return super().embed(texts)

class Nameless:
    def embed(self, texts):
        return []

class Short(FirstLetter):
    def embed(self, texts):
        return super().embed(texts)[1:]

class Ragged(FirstLetter):
    def embed(self, texts):
        return [[1.0] * (1 + len(text)) for text in texts]

class NotNumbers(FirstLetter):
    def embed(self, texts):
        return [["one"] for _ in texts]

class Zero(FirstLetter):
    def embed(self, texts):
        return [[0.0, 0.0] for _ in texts]

class NotOne:
    name, version, embed = "not-one", "1", None

def broken():
    raise OSError("no model file")
"""
ENTRIES = {
    "first-letter": "FirstLetter", "counted": "Counted", "nameless": "Nameless", "short": "Short", "ragged": "Ragged",
    "not-numbers": "NotNumbers", "zero": "Zero", "not-one": "NotOne", "broken": "broken", "absent": "absent",
}  # fmt: skip


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A package that is installed: a module, and the metadata that an installer would leave beside it."""
    site = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(site))

    def write(version: str = "1") -> None:
        sys.modules.pop("others_embedders", None)
        info = site / "others_embedders-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (site / "others_embedders.py").write_text(FIRST_LETTER.replace("{version}", version))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others-embedders\nVersion: 1.0\n")
        points = "".join(f"{name} = others_embedders:{what}\n" for name, what in ENTRIES.items())
        (info / "entry_points.txt").write_text(f"[kloros.embedders]\n{points}")

    write()
    yield write
    sys.modules.pop("others_embedders", None)


def choose(folder: Path, embedder: str) -> None:
    (folder / "config").mkdir(exist_ok=True)
    file = folder / "config/semantic_dedup_consumer_config.toml"
    file.write_text(f'embedder = "{embedder}"\nnames_must_agree = false\n')


def ask(table: Table, question_id: str, question: str) -> None:
    facts = {"question_id": question_id, "question": question, "gap_id": f"g-{question_id}"}
    table.say("Q_CURIOSITY_MEDIUM", facts)


def fold(table: Table) -> None:
    table.say("Q_TRIGGER_SEMANTIC_DEDUP", {"schedule": "semantic_dedup"})


def sent(table: Table) -> list[str]:
    return [each.facts.question_id for each in table.heard("Q_CURIOSITY_INVESTIGATE")]


def calls() -> list[list[str]]:
    made: list[list[str]] = sys.modules["others_embedders"].calls
    return made


def kept(table: Table) -> set[str]:
    return {row[0] for row in table.daemon.store.database.query("SELECT embedder FROM vectors")}


def test_an_installed_embedder_is_chosen_by_its_name(tmp_path: Path, install: Install) -> None:
    choose(tmp_path, "first-letter")
    with bench(SemanticDedupConsumerDaemon, tmp_path) as table:
        ask(table, "q-1", "Why does nginx.service fail?")
        ask(table, "q-2", "What is this?")
        ask(table, "q-3", "xyz")
        fold(table)
        assert sorted(sent(table)) == ["q-1", "q-3"]
        assert kept(table) == {"first-letter 1 26"}
        fold(table)
        ask(table, "q-4", "xyz")
        fold(table)
    assert [len(each) for each in calls()] == [1, 3], "one to try it, then each text once"


def test_the_built_in_one_needs_no_package() -> None:
    assert isinstance(find(BUILT_IN), HashedWords)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unheard-of", "no installed package offers the embedder 'unheard-of'; there are: absent, broken, coun"),
        ("broken", "it cannot be loaded: OSError: no model file"),
        ("absent", "it cannot be loaded: AttributeError"),
        ("nameless", "it has no name and no version"),
        ("not-one", "its embed cannot be called"),
        ("short", "it gave 0 vectors for 1 texts"),
        ("not-numbers", "it gave something that is no vector: could not convert string to float"),
        ("zero", "it gave something that is no vector: all of it is zero"),
    ],
)  # fmt: skip
def test_one_that_cannot_be_used_is_named_with_its_fault_and_replaced(install: Install, name: str, reason: str) -> None:
    with capture_logs() as logs:
        embedding = Embedding(name, get_logger())
    assert [(entry["event"], entry["embedder"], entry["instead"]) for entry in logs] == [
        ("embedder_refused", name, "default")
    ]
    assert logs[0]["reason"].startswith(reason)
    assert embedding.lack == f"embedder {name!r} is not used: {logs[0]['reason']}"
    assert embedding.key == "default 1 512"
    assert len(embedding.vectors(["Why?"])[0]) == 512


def test_one_whose_vectors_are_of_different_lengths_is_found_out_when_it_happens(install: Install) -> None:
    embedding = Embedding("ragged", get_logger())
    assert embedding.lack is None
    embedding.vectors(["Why?"])
    assert "different lengths" in (embedding.lack or "")


def test_a_clear_error_says_what_there_is(install: Install) -> None:
    with pytest.raises(EmbedderUnusable, match="first-letter"):
        find("first-letters")


def test_one_that_fails_later_is_replaced_and_what_is_open_embedded_anew(tmp_path: Path, install: Install) -> None:
    choose(tmp_path, "counted")
    with bench(SemanticDedupConsumerDaemon, tmp_path) as table:
        ask(table, "q-1", "Why does nginx.service fail?")
        fold(table)
        ask(table, "q-2", "Xyz")
        fold(table)
        ask(table, "q-3", "What makes nginx.service crash?")
        ask(table, "q-4", "Why does redis.service fail?")
        fold(table)
        assert sent(table) == ["q-1", "q-2", "q-4"]
        assert [each.facts.folded_into for each in table.heard("Q_QUESTION_FOLDED")] == ["q-1"]
        assert kept(table) == {"counted 1 26", "default 1 512"}
        assert "the model is gone" in (table.daemon.heartbeat_facts().detail or "")
        sample = table.daemon.metrics.registry.get_sample_value
        assert sample("kloros_dedup_total", {"kind": "embedder_refused"}) == 1.0


def test_another_version_embeds_what_is_open_anew(tmp_path: Path, install: Install) -> None:
    clock = VirtualClock()
    choose(tmp_path, "first-letter")
    with bench(SemanticDedupConsumerDaemon, tmp_path, clock) as table:
        ask(table, "q-1", "Why does nginx.service fail?")
        fold(table)
    install("2")
    with bench(SemanticDedupConsumerDaemon, tmp_path, clock) as table:
        ask(table, "q-2", "Xyz")
        fold(table)
        assert kept(table) == {"first-letter 1 26", "first-letter 2 26"}
    assert sorted(text for call in calls()[1:] for text in call) == ["Why does nginx.service fail?", "Xyz"]


def test_another_embedder_can_be_chosen_while_it_runs(tmp_path: Path, install: Install) -> None:
    choose(tmp_path, "unheard-of")
    with bench(SemanticDedupConsumerDaemon, tmp_path) as table:
        ask(table, "q-1", "Why does nginx.service fail?")
        fold(table)
        assert "unheard-of" in (table.daemon.heartbeat_facts().detail or "")
        choose(tmp_path, "first-letter")
        table.daemon.reload()
        ask(table, "q-2", "What?")
        fold(table)
        assert sent(table) == ["q-1"]
        assert table.daemon.heartbeat_facts().detail is None


def test_a_slow_embedder_goes_on_in_the_next_cycle(
    tmp_path: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(tmp_path, "first-letter")
    clock = VirtualClock()
    with bench(SemanticDedupConsumerDaemon, tmp_path, clock) as table:
        for number in range(150):
            ask(table, f"q-{number}", f"{number} whys")
        find("first-letter")
        embedder = sys.modules["others_embedders"].FirstLetter
        embed = embedder.embed

        def slowly(self: object, texts: list[str]) -> object:
            clock.advance(3.0)
            return embed(self, texts)

        monkeypatch.setattr(embedder, "embed", slowly)
        fold(table)
        assert sent(table) == []
        for _ in range(4):
            fold(table)
        assert len(sent(table)) == 10
    texts = [text for call in calls() for text in call]
    assert len(texts) == len(set(texts)) == 151, "each once, and one to try it"
