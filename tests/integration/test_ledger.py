"""The ledger on a real disk: what a batch does to it, tampering with sqlite3, and what `kloros ledger` says."""

from __future__ import annotations

import hmac
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.command import Home, home
from support.ledgers import NOW_TS, OBSERVATION_KEY, Ledger, ledger, message

from kloros.consumers.ledger.figures import Figures
from kloros.consumers.ledger.keys import make_key, read_key
from kloros.consumers.ledger.rows import observation_signature
from kloros.errors import KeyUnusable, LedgerBroken

NAMES = ("zähler", "日本", "plain")


@pytest.fixture
def place() -> Iterator[Home]:
    with home() as there:
        (there.folder / "state/ledger_writer").mkdir(parents=True)
        yield there


@pytest.fixture
def written(place: Home) -> Home:
    """A suite's ledger with twelve rows in three segments, the last one open."""
    with ledger(place.folder / "state/ledger_writer", {"segment_rows": 5}) as book:
        for first in (1, 6, 11):
            count = min(5, 13 - first)
            book.record(message(first + n, zooid=NAMES[n % 3], extras={"wo": f"Köln {n} 🌍"}) for n in range(count))
            book.flush()
    return place


class Verdict:
    def __init__(self, place: Home, *arguments: str) -> None:
        done = place.run("ledger", "verify", "--json", *arguments)
        self.code = done.returncode
        told = json.loads(done.stdout)
        self.ok, self.rows, self.count = told["ok"], told["rows"], told["fault_count"]
        self.faults = [(fault["kind"], fault["row"]) for fault in told["faults"]]


def by_hand(place: Home, *statements: str) -> None:
    """What somebody does who opens the file with sqlite3."""
    connection = sqlite3.connect(place.folder / "state/ledger_writer/state.db", isolation_level=None)
    for statement in statements:
        assert connection.execute(statement).rowcount
    connection.close()


SWAP = (
    "UPDATE ledger_rows SET seq = -3 WHERE seq = 3",
    "UPDATE ledger_rows SET seq = 3 WHERE seq = 9",
    "UPDATE ledger_rows SET seq = 9 WHERE seq = -3",
)
COPY = "INSERT INTO ledger_rows SELECT {seq}, source || 'x', signal, zooid, body, sig FROM ledger_rows WHERE seq = 2"

TAMPERINGS: dict[str, tuple[tuple[str, ...], list[tuple[str, int | None]]]] = {
    "one letter": (("UPDATE ledger_rows SET body = replace(body, 'Köln', 'Koln') WHERE seq = 7",), [("changed", 7)]),
    "one emoji": (("UPDATE ledger_rows SET body = replace(body, '🌍', '🌎') WHERE seq = 12",), [("changed", 12)]),
    "not UTF-8": (("UPDATE ledger_rows SET body = CAST(x'ff' || body AS TEXT) WHERE seq = 1",), [("changed", 1)]),
    "a space": (("UPDATE ledger_rows SET body = body || ' ' WHERE seq = 4",), [("changed", 4)]),
    "the signature": (("UPDATE ledger_rows SET sig = upper(sig) WHERE seq = 5",), [("changed", 5)]),
    "the zooid column": (("UPDATE ledger_rows SET zooid = 'zahler' WHERE seq = 6",), [("changed", 6)]),
    "the source column": (("UPDATE ledger_rows SET source = 'm.99' WHERE seq = 6",), [("changed", 6)]),
    "one row out": (("DELETE FROM ledger_rows WHERE seq = 8",), [("missing", 8)]),
    "the first row out": (("DELETE FROM ledger_rows WHERE seq = 1",), [("missing", 1)]),
    "the last row out": (("DELETE FROM ledger_rows WHERE seq = 12",), [("missing", 12)]),
    "two rows swapped": (SWAP, [("moved", 3), ("moved", 9)]),
    "a copy at the end": ((COPY.format(seq=13),), [("appended", 13)]),
    "a copy far off": ((COPY.format(seq=999),), [("appended", 999)]),
    "a copy in front": ((COPY.format(seq=0),), [("appended", 0)]),
    "no end": (("DELETE FROM ledger_head",), [("head", None)]),
    "another end": (("UPDATE ledger_head SET body = replace(body, '12', '11')",), [("head", None)]),
    "a segment out": (("DELETE FROM ledger_segments WHERE number = 2",), [("segment", None)]),
    "a segment changed": (
        ("UPDATE ledger_segments SET body = replace(body, '\"released_ts\":null', '\"released_ts\":1.0')",),
        [("segment", None)] * 3,
    ),
}


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_verify_is_red_and_names_the_row(written: Home, kind: str) -> None:
    statements, faults = TAMPERINGS[kind]
    by_hand(written, *statements)
    verdict = Verdict(written)
    assert (verdict.code, verdict.ok, verdict.faults) == (1, False, faults)


def test_verify_is_green_and_says_so(written: Home) -> None:
    verdict = Verdict(written)
    assert (verdict.code, verdict.ok, verdict.rows, verdict.count) == (0, True, 12, 0)
    said = written.run("ledger", "verify")
    assert (said.returncode, said.stderr) == (0, "")
    assert "green" in said.stdout
    assert "12 rows in 3 segments" in said.stdout


def test_verify_says_in_words_which_row(written: Home) -> None:
    by_hand(written, "DELETE FROM ledger_rows WHERE seq BETWEEN 4 AND 6")
    said = written.run("ledger", "verify")
    assert said.returncode == 1
    assert "red" in said.stdout
    assert "rows 4 to 6: are missing" in said.stdout


def test_a_ledger_set_back_shows_by_the_end_that_was_noted(written: Home) -> None:
    end = written.run("ledger", "verify").stdout.split("it ends with row ")[1].strip().replace(", ", ":")
    assert Verdict(written, "--end", end).ok
    folder = written.folder / "state/ledger_writer"
    shutil.copy(folder / "state.db", folder / "before.db")
    with ledger(folder, {"segment_rows": 5}) as book:
        later = book.record([message(13)]).head
    assert Verdict(written, "--end", end).ok
    shutil.copy(folder / "before.db", folder / "state.db")
    assert Verdict(written).ok
    verdict = Verdict(written, "--end", f"{later.seq}:{later.hash}")
    assert (verdict.code, verdict.faults) == (1, [("head", 13)])
    assert written.run("ledger", "verify", "--end", "12").returncode == 2


def test_verify_names_what_it_cannot_use(place: Home) -> None:
    folder = place.folder / "state/ledger_writer"
    assert place.run("ledger", "verify").returncode == 2
    make_key(folder / "ledger.key")
    missing = place.run("ledger", "verify")
    assert (missing.returncode, missing.stdout) == (4, "")
    assert "there is no such file" in missing.stderr
    sqlite3.connect(folder / "state.db").close()
    assert "there is no ledger in it" in place.run("ledger", "verify").stderr
    (folder / "state.db").write_bytes(b"not a database at all" * 100)
    assert place.run("ledger", "verify").returncode == 4


def test_another_key_verifies_nothing(written: Home) -> None:
    other = written.folder / "other.key"
    make_key(other)
    assert Verdict(written, "--key", str(other)).code == 1


def test_show_tells_figures_and_rows(written: Home) -> None:
    said = written.run("ledger", "show", "--last", "2").stdout
    assert "zähler (unknown)" in said
    assert "Köln" in said
    told = json.loads(written.run("ledger", "show", "--json", "--zooid", "日本", "--last", "1").stdout)
    assert [(each["zooid"], each["observations"], each["ok_rate"]) for each in told["figures"]] == [("日本", 5, 1.0)]
    assert (told["rows"], told["entries"][0]["entry"]["zooid"]) == (12, "日本")


class TestBatches:
    @pytest.fixture
    def book(self, tmp_path: Path) -> Iterator[Ledger]:
        with ledger(tmp_path) as opened:
            yield opened

    def test_a_message_given_twice_is_written_once(self, book: Ledger) -> None:
        old, again = message(2, is_old=True), message(3, is_old=True)
        assert old[1] == again[1]  # an old client that repeats itself
        batch = [message(1), old, message(1), again]
        first = book.record(batch)
        assert (first.written.total(), first.duplicates) == (2, 2)
        second = book.record(batch)
        assert (second.written.total(), second.duplicates, second.head) == (0, 4, first.head)
        assert book.store.row_count() == 2

    def test_what_failed_left_nothing(self, book: Ledger) -> None:
        def failing() -> Iterator[object]:
            yield message(1)
            raise RuntimeError("in the middle")

        with pytest.raises(RuntimeError):
            book.record(failing())  # type: ignore[arg-type]
        assert book.record([message(1)]).head.seq == 1

    def test_the_other_signals_are_written_under_their_publishers_name(self, book: Ledger) -> None:
        book.record([message(1, "Q_ACTION_COMPLETE", action_id="a", action_type="restart")])
        [row] = book.store.last_rows(1)
        assert row[2:4] == ("Q_ACTION_COMPLETE", "someone")
        assert book.store.figures() == []

    def test_facts_that_the_vocabulary_does_not_know_are_kept(self, book: Ledger) -> None:
        book.record([message(1, p95_ms_mean=7, größe={"a": None})])
        facts = json.loads(book.store.last_rows(1)[0][4])["facts"]
        assert (facts["p95_ms_mean"], facts["größe"]) == (7, {"a": None})

    def test_existing_zooids_sign_all_that_they_send(self, book: Ledger) -> None:
        facts = {"ts": 1_700_000_000.0, "zooid": "zähler", "ok": True, "ttr_ms": 5, "niche": None, "p95_ms_mean": 7.5}
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        sig = hmac.new(OBSERVATION_KEY, text.encode(), "sha256").hexdigest()
        assert book.record([message(1, is_old=True, **facts, sig=sig)]).written.total() == 1

    def test_a_time_too_far_ahead_is_put_aside(self, book: Ledger) -> None:
        outcome = book.record([message(1, ts=NOW_TS + 121), message(2, ts=NOW_TS + 120)])
        assert (outcome.rejected, outcome.written.total()) == ({"ts_ahead": 1}, 1)
        [(source, signal, reason, detail, body, _)] = book.store.rejected(10)
        assert (source, signal, reason) == ("m.1", "OBSERVATION", "ts_ahead")
        assert "121 s ahead" in detail
        assert json.loads(body)["zooid"] == "zähler"

    def test_a_wrong_signature_is_put_aside_and_a_right_one_is_not(self, book: Ledger) -> None:
        facts = {"ts": NOW_TS, "zooid": "zähler", "ok": True, "ttr_ms": 5, "extras": {"wo": "Köln"}}
        right = observation_signature(OBSERVATION_KEY, facts)
        outcome = book.record([message(1, **facts, sig=right), message(2, **{**facts, "ok": False}, sig=right)])
        assert (outcome.written.total(), outcome.rejected) == (1, {"bad_signature": 1})
        assert book.record([message(2, **{**facts, "ok": False}, sig=right)]).duplicates == 1
        assert book.store.rejected_count() == 1

    def test_signatures_may_be_required(self, tmp_path: Path) -> None:
        with ledger(tmp_path, require_signature=True) as book:
            assert book.record([message(1)]).rejected == {"unsigned": 1}

    def test_known_and_unknown_zooids(self, tmp_path: Path) -> None:
        with ledger(tmp_path, known_zooids=["zähl*", "plain"]) as book:
            outcome = book.record([message(1), message(2, zooid="plain"), message(3, zooid="plainer")])
            assert outcome.unknown_zooids == {"plainer": 1}
            figures = [json.loads(body) for body in book.store.figures()]
        assert {each["zooid"]: each["known"] for each in figures} == {"plain": True, "plainer": False, "zähler": True}

    def test_figures_go_on_from_batch_to_batch(self, book: Ledger) -> None:
        taken = [(n % 3 > 0, float(n)) for n in range(50)]
        plain = Figures(zooid="zähler", known=False)
        for ok, ttr_ms in taken:
            plain.take(ok, ttr_ms, NOW_TS)
        for first in range(0, 50, 7):
            book.record(message(n + 1, ok=taken[n][0], ttr_ms=taken[n][1]) for n in range(first, min(first + 7, 50)))
        assert json.loads(book.store.figures()[0]) == json.loads(json.dumps(_fields(plain)))

    def test_zooids_without_end_do_not_fill_the_disk_with_figures(self, tmp_path: Path) -> None:
        with ledger(tmp_path, {"zooids": 3}) as book:
            outcome = book.record(message(n, zooid=f"z{n}") for n in range(1, 6))
            assert (outcome.figures_refused, book.store.figures_count(), book.store.row_count()) == (2, 3, 5)

    def test_rejections_are_bounded(self, tmp_path: Path) -> None:
        with ledger(tmp_path, {"rejected_rows": 3}) as book:
            book.record(message(n, ts=NOW_TS + 999) for n in range(1, 9))
            assert book.flush().forgotten == 5
            assert [each[0] for each in book.store.rejected(10)] == ["m.6", "m.7", "m.8"]


def _fields(figures: Figures) -> dict[str, object]:
    return {name: getattr(figures, name) for name in figures.__struct_fields__}


def test_rotation_keeps_the_chain_and_says_what_it_released(place: Home) -> None:
    with ledger(place.folder / "state/ledger_writer", {"segment_rows": 5, "keep_segments": 2}) as book:
        for first in range(1, 26, 5):
            book.record(message(first + n) for n in range(5))
            flushed = book.flush()
            assert flushed.sealed is not None
        assert [segment.number for segment in flushed.released] == [3]
        assert book.flush().sealed is None
    verdict = Verdict(place)
    assert (verdict.ok, verdict.rows) == (True, 10)
    assert "15 more were released" in place.run("ledger", "verify").stdout
    by_hand(place, "DELETE FROM ledger_rows WHERE seq = 16")
    assert Verdict(place).faults == [("missing", 16)]


HEAD_TAMPERINGS: list[Callable[[Home], None]] = [
    lambda place: by_hand(place, "DELETE FROM ledger_head"),
    lambda place: by_hand(place, "UPDATE ledger_head SET body = replace(body, '12', '11')"),
    lambda place: by_hand(place, "DELETE FROM ledger_rows WHERE seq = 12"),
    lambda place: by_hand(place, COPY.format(seq=13)),
    lambda place: by_hand(place, "DELETE FROM ledger_rows"),
]


@pytest.mark.parametrize("tamper", HEAD_TAMPERINGS)
def test_nothing_is_written_over_a_broken_end(written: Home, tamper: Callable[[Home], None]) -> None:
    tamper(written)
    before = Verdict(written).faults
    with pytest.raises(LedgerBroken), ledger(written.folder / "state/ledger_writer"):
        pytest.fail("it went on")
    assert Verdict(written).faults == before


class TestKeys:
    def test_a_new_key_is_its_owners_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "ledger.key"
        before = os.umask(0)
        try:
            make_key(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(read_key(path)) == 64
        assert list(path.parent.iterdir()) == [path]

    def test_making_it_again_keeps_it(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger.key"
        make_key(path)
        key = read_key(path)
        make_key(path)
        assert read_key(path) == key

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
    def test_a_key_that_others_may_read_is_refused(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "ledger.key"
        make_key(path)
        path.chmod(mode)
        with pytest.raises(KeyUnusable, match="others may read it"):
            read_key(path)

    def test_what_holds_no_key_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger.key"
        path.touch(mode=0o600)
        with pytest.raises(KeyUnusable, match="0 bytes"):
            read_key(path)
        with pytest.raises(KeyUnusable, match="No such file"):
            read_key(tmp_path / "none.key")
