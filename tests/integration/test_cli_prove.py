"""`kloros prove` and `kloros why` on a real record: green as it was, red for every lie that is planted in a copy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.recorded import FLUSH, REST, SCAN, Recorded, recorded_run

from kloros.cli.app import call
from kloros.cli.units import moment

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run() -> Iterator[Recorded]:
    with recorded_run() as recorded:
        yield recorded


@pytest.fixture
def record(run: Recorded) -> Recorded:
    run.tell_the_truth()
    return run


@pytest.fixture
def kloros(record: Recorded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    for name, value in record.place.places.items():
        monkeypatch.setenv(name, value)

    def verb(*arguments: str) -> tuple[int, str, str]:
        code = call(list(arguments))
        return code, *capsys.readouterr()

    return verb


def proof(kloros: Verb, record: Recorded, *arguments: str) -> tuple[int, Any]:
    code, out, err = kloros("prove", "--since", record.since, "--until", record.until, *arguments, "--json")
    assert err == ""
    return code, json.loads(out)


def assert_red(kloros: Verb, record: Recorded, kind: str, due_us: int, entry: str = SCAN) -> None:
    code, shown = proof(kloros, record)
    assert (code, shown["ok"]) == (1, False)
    assert (kind, entry, due_us) in {(each["kind"], each["entry"], each["due_us"]) for each in shown["counterexamples"]}
    code, out, _ = kloros("prove", "--since", record.since, "--until", record.until)
    assert code == 1
    assert f"{kind}: {entry}@{moment(due_us / 1e6)}" in out
    assert "red: " in out
    assert "certificate" not in out


# As it was


def test_what_really_happened_is_green(kloros: Verb, record: Recorded) -> None:
    code, shown = proof(kloros, record)
    assert (code, shown["ok"], shown["counterexamples"]) == (0, True, [])
    by_entry = {each["entry"]: each for each in shown["schedule"]}
    assert by_entry[SCAN]["due"] >= 12
    assert by_entry[SCAN]["due"] == by_entry[SCAN]["emitted"] + sum(by_entry[SCAN]["skipped"].values())
    consumers = {each["daemon"]: each for each in shown["consumers"]}
    told = consumers["introspection_daemon"]
    assert told["emitted"] == told["run"] + told["fallback"] + told["overlapped"] + told["lost"]
    assert told["open"] == 0
    assert consumers["ledger_writer_daemon"]["run"] >= 6


def test_a_certificate_is_given_twice_alike_and_not_for_something_else(kloros: Verb, record: Recorded) -> None:
    code, out, err = kloros("prove", "--since", record.since, "--until", record.until)
    assert (code, err) == (0, "")
    assert "green: " in out
    digest = proof(kloros, record)[1]["digest"]
    assert f"certificate {digest}" in out
    assert proof(kloros, record)[1]["digest"] == digest
    assert proof(kloros, record, FLUSH)[1]["digest"] != digest


def test_single_entries_are_proven_alone(kloros: Verb, record: Recorded) -> None:
    due_us = record.beat(SCAN)
    record.change("scheduler", "DELETE FROM beats WHERE entry = ? AND due_us = ?", SCAN, due_us)
    assert proof(kloros, record, FLUSH)[0] == 0
    assert proof(kloros, record, SCAN)[0] == 1


# Lies


def test_a_beat_that_was_removed_is_named(kloros: Verb, record: Recorded) -> None:
    due_us = record.beat()
    record.change("scheduler", "DELETE FROM beats WHERE entry = ? AND due_us = ?", SCAN, due_us)
    assert_red(kloros, record, "vanished", due_us)


def test_a_beat_that_was_run_twice_is_named(kloros: Verb, record: Recorded) -> None:
    due_us = record.beat()
    number, message = record.report_of(due_us)
    record.add_report(number, message)
    assert_red(kloros, record, "run twice", due_us)


def test_a_cycle_that_was_not_due_is_named(kloros: Verb, record: Recorded) -> None:
    due_us = record.beat()
    number, message = record.report_of(due_us)
    message["facts"]["due_ts"] += 0.2
    record.add_report(number, message)
    assert_red(kloros, record, "not due", due_us + 200_000)


def test_a_beat_that_was_emitted_without_being_due_is_named(kloros: Verb, record: Recorded) -> None:
    due_us = record.beat()
    record.change(
        "scheduler", "INSERT INTO beats SELECT entry, due_us + 200000, beat, reason, emitted_us, interval_us, epoch,"
        " is_lost, why FROM beats WHERE entry = ? AND due_us = ?", SCAN, due_us,
    )  # fmt: skip
    assert_red(kloros, record, "not due", due_us + 200_000)


@pytest.mark.parametrize("entry", [SCAN, FLUSH])
def test_a_beat_that_was_emitted_and_never_run_is_named(kloros: Verb, record: Recorded, entry: str) -> None:
    due_us = record.beat(entry)
    number, _ = record.report_of(due_us, entry)
    record.change("chembus_historian", "DELETE FROM messages WHERE number = ?", number)
    assert_red(kloros, record, "never run", due_us, entry)


def test_a_skip_that_was_made_up_is_named(kloros: Verb, record: Recorded) -> None:
    due_us = record.beat()
    record.change(
        "scheduler", "INSERT INTO skips (entry, first_us, last_us, count, reason, at_us)"
        " VALUES (?, ?, ?, 1, 'late', ?)", SCAN, due_us, due_us, due_us,
    )  # fmt: skip
    assert_red(kloros, record, "settled twice", due_us)


def test_many_lies_are_counted_and_the_first_named(kloros: Verb, record: Recorded) -> None:
    record.change("scheduler", "DELETE FROM beats WHERE entry IN (?, ?)", SCAN, FLUSH)
    record.change("scheduler", "INSERT INTO beats VALUES (?, ?, 1, 'due', ?, 1, 1, 0, NULL)", SCAN,
                  round(float(record.since) * 1e6), 1)  # fmt: skip
    code, out, _ = kloros("prove", "--since", record.since, "--until", record.until)
    assert code == 1
    assert " more (--json)" in out


# Errors


@pytest.mark.parametrize(
    ("stem", "verb", "words"),
    [
        ("scheduler", ("prove",), "is kloros-scheduler running?"),
        ("scheduler", ("why", SCAN), "is kloros-scheduler running?"),
        ("scheduler", ("schedule", "plot"), "is kloros-scheduler running?"),
        ("chembus_historian", ("prove",), "is kloros-chembus-historian running?"),
        ("chembus_historian", ("schedule", "plot"), "is kloros-chembus-historian running?"),
    ],
)
def test_where_there_is_no_record_the_cure_is_named(
    kloros: Verb, record: Recorded, stem: str, verb: tuple[str, ...], words: str
) -> None:
    shutil.rmtree(record.state / stem)
    code, out, err = kloros(*verb)
    assert (code, out) == (4, "")
    assert words in err
    assert str(record.state / stem) in err


def test_a_ledger_of_an_earlier_version_is_told(kloros: Verb, record: Recorded) -> None:
    record.change("scheduler", "DELETE FROM plans")
    for table in ("plans", "beats", "skips"):
        record.query("scheduler", f"DROP TABLE {table}")
    code, _, err = kloros("prove")
    assert code == 4
    assert "start this version's scheduler" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("prove", "introspection_scam"), "did you mean introspection_scan"),
        (("prove", "xyz"), f"known are {SCAN}"),
        (("why", "introspection_scam"), "did you mean introspection_scan"),
        (("why", f"{SCAN}@soon"), "is not a moment"),
        (("prove", "--since", "soon"), "is not a moment"),
        (("prove", "--since", "1m", "--until", "2m"), "is not before"),
    ],
)
def test_what_was_meant_is_asked(kloros: Verb, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = kloros(*arguments)
    assert (code, out) == (2, "")
    assert words in " ".join(err.split())


# Why


def test_why_a_beat_ran(kloros: Verb, record: Recorded) -> None:
    due_us = record.beat()
    code, out, _ = kloros("why", f"{SCAN}@{due_us / 1e6:.6f}")
    assert code == 0
    assert out.splitlines()[0] == f"{SCAN}, due {moment(due_us / 1e6)}"
    for words in ("planned every 0.5 s", "emitted ", " as beat ", "run by introspection_daemon", "the next one: "):
        assert words in out, words
    told = json.loads(kloros("why", f"{SCAN}@{due_us / 1e6:.6f}", "--json")[1])
    assert (told["entry"], told["due_us"], told["outcome"]) == (SCAN, due_us, "emitted")


def test_why_a_beat_did_not_run(kloros: Verb, record: Recorded) -> None:
    due_us = record.beat()
    record.change("scheduler", "DELETE FROM beats WHERE entry = ? AND due_us = ?", SCAN, due_us)
    record.change(
        "scheduler", "INSERT INTO skips (entry, first_us, last_us, count, reason, at_us)"
        " VALUES (?, ?, ?, 1, 'downtime', ?)", SCAN, due_us, due_us, due_us,
    )  # fmt: skip
    number, _ = record.report_of(due_us)
    record.change("chembus_historian", "DELETE FROM messages WHERE number = ?", number)
    out = kloros("why", f"{SCAN}@{due_us / 1e6:.6f}")[1]
    assert "skipped: the scheduler was not running" in out
    assert "nobody reported to have run it" in out


def test_why_nothing_was_due(kloros: Verb, record: Recorded) -> None:
    code, out, _ = kloros("why", f"{REST}@{record.since}")
    assert code == 0
    assert f"{REST}: nothing was due up to" in out
    code, out, _ = kloros("why", SCAN)  # long after it was taken out of the schedule
    assert code == 0


def test_without_a_history_why_tells_the_rest(kloros: Verb, record: Recorded) -> None:
    due_us = record.beat()
    shutil.rmtree(record.state / "chembus_historian")
    code, out, _ = kloros("why", f"{SCAN}@{due_us / 1e6:.6f}")
    assert code == 0
    assert "emitted " in out
    assert "who ran it is not known" in out
