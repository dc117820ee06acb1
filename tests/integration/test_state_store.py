"""What a daemon must remember: written through, committed together, and never the end of the daemon."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from kloros.errors import StoreUnusable
from kloros.storage import database
from kloros.storage.snapshot import snapshot
from kloros.storage.state_store import StateStore

OWN = {
    "own": ("CREATE TABLE things (a TEXT, b TEXT); CREATE INDEX by_a ON things (a); CREATE INDEX by_b ON things (b)",)
}


class Thing(msgspec.Struct):
    n: int


def test_what_was_put_is_there_after_a_kill(tmp_path: Path) -> None:
    script = (
        "import os, signal; from pathlib import Path; from kloros.storage.state_store import StateStore\n"
        f"store = StateStore(Path({str(tmp_path)!r}) / 'state.db')\n"
        "store.put('thing', {'n': 42}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    assert StateStore(tmp_path / "state.db").get("thing", Thing) == Thing(42)


def test_a_batch_is_all_or_nothing(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.db")
    store.put("a", Thing(1))
    with pytest.raises(RuntimeError), store.batch():
        store.put("a", Thing(2))
        store.put("b", Thing(2))
        raise RuntimeError
    store.put("c", Thing(3))
    store.close()
    again = StateStore(tmp_path / "state.db")
    assert [again.get(name, Thing) for name in "abc"] == [Thing(1), None, Thing(3)]


def test_a_document_that_no_longer_fits_counts_as_none(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.db")
    store.put("thing", {"n": "forty-two"})
    assert store.get("thing", Thing) is None


def test_a_place_that_cannot_be_written_is_a_named_lack_and_memory_goes_on(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where the directory should be")
    store = StateStore(tmp_path / "blocked" / "state.db")
    store.put("thing", Thing(1))
    assert store.get("thing", Thing) == Thing(1)
    assert store.lack is not None
    assert "blocked" in store.lack
    (tmp_path / "blocked").unlink()
    assert store.flush()
    assert store.lack is None
    assert StateStore(tmp_path / "blocked" / "state.db").get("thing", Thing) == Thing(1)


def test_a_full_disk_is_a_named_lack_and_heals(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.db")
    store.put("small", Thing(1))
    pages = store.database.query("PRAGMA page_count")[0][0]
    store.database.execute(f"PRAGMA max_page_count = {pages}")
    store.put("big", "x" * 1_000_000)
    assert store.lack is not None
    assert "full" in store.lack
    assert store.get("big", str) == "x" * 1_000_000
    assert store.flush()
    assert StateStore(tmp_path / "state.db").get("big", str) == "x" * 1_000_000


def test_a_corrupt_file_is_set_aside_and_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database at all, but it is long enough to be looked at" * 100)
    store = StateStore(path)
    assert store.set_aside == tmp_path / "state.db.corrupt"
    assert store.lack is None
    store.put("thing", Thing(1))
    assert sqlite3.connect(path).execute("SELECT count(*) FROM documents").fetchone() == (1,)


def test_what_fails_while_a_snapshot_is_looked_at_is_not_laid_to_the_store(tmp_path: Path) -> None:
    StateStore(tmp_path / "state.db").close()
    with pytest.raises(BrokenPipeError), snapshot(tmp_path / "state.db"):
        raise BrokenPipeError
    with pytest.raises(StoreUnusable, match="no such table"), snapshot(tmp_path / "state.db") as taken:
        taken.query("SELECT * FROM nowhere")


@pytest.fixture
def large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state file that is too large to be examined at each start."""
    monkeypatch.setattr(database, "_CHECKED_BYTES", 0)
    path = tmp_path / "state.db"
    store = StateStore(path, OWN)
    store.put("thing", Thing(1))
    store.database.execute_many("INSERT INTO things VALUES (?, ?)", [(f"a{n}", "b" * 2_000) for n in range(200)])
    store.close()
    return path


def test_a_large_file_that_a_statement_finds_corrupt_is_set_aside_at_the_next_start(large_file: Path) -> None:
    size = large_file.stat().st_size
    with large_file.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size - size // 2))
    first = StateStore(large_file, OWN)
    assert first.set_aside is None
    with pytest.raises(StoreUnusable, match="malformed"):
        first.database.query("SELECT max(a || b) FROM things NOT INDEXED")
    first.close()
    second = StateStore(large_file, OWN)
    assert second.set_aside == large_file.with_name("state.db.corrupt")
    second.database.execute("INSERT INTO things VALUES ('a', 'b')")
    second.close()
    assert StateStore(large_file, OWN).set_aside is None


def test_a_large_file_whose_indices_do_not_fit_is_set_aside_too(large_file: Path) -> None:
    with sqlite3.connect(large_file) as raw:
        raw.execute("PRAGMA writable_schema = ON")
        roots = dict(raw.execute("SELECT name, rootpage FROM sqlite_master WHERE name LIKE 'by_%'"))
        for name, other in (("by_a", "by_b"), ("by_b", "by_a")):
            raw.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", (roots[other], name))
    raw.close()
    first = StateStore(large_file, OWN)
    with pytest.raises(StoreUnusable, match="malformed"):
        first.database.execute("DELETE FROM things WHERE rowid = 7")
    first.close()
    assert StateStore(large_file, OWN).set_aside is not None


def test_a_file_that_was_suspected_wrongly_stays_and_is_suspected_no_longer(large_file: Path) -> None:
    suspicion = large_file.with_name("state.db.suspect")
    suspicion.touch()
    store = StateStore(large_file, OWN)
    assert (store.set_aside, store.get("thing", Thing)) == (None, Thing(1))
    assert not suspicion.exists()
    store.close()


def test_what_is_in_memory_when_a_file_is_set_aside_is_written_into_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = StateStore(path)
    store.put("a", Thing(1))
    store._disconnect()
    path.write_bytes(b"this is no database at all, but it is long enough to be looked at" * 100)
    store.put("b", Thing(2))
    assert store.set_aside is not None
    store.close()
    again = StateStore(path)
    assert [again.get(name, Thing) for name in "ab"] == [Thing(1), Thing(2)]
    again.close()
