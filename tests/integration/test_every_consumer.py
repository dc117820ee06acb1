"""What holds for every consumer, whatever it does: found from the code, so that a new one is held to it too."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.bench import Bench, bench
from support.consumer_examples import consumers, example, hostile, malformed, signals_of

from kloros.chembus.journal.contract import Entry
from kloros.chembus.journal.wire import Append
from kloros.chembus.vocabulary import VOCABULARY
from kloros.daemon.consumer import Consumer
from kloros.daemon.runner import stem_of
from kloros.errors import BadFacts, Oversize

CONSUMERS = consumers()
EATERS = [each for each in CONSUMERS if each.consumes]
RETRIES_S = 2.5  # longer than a consumer waits before it tries a signal again
Table = Bench[Consumer]
# The historian needs the bodies of messages just as they came.
KNOWINGLY = {"chembus_historian_daemon": {"_receive"}}


def test_all_ten_are_here() -> None:
    assert len(CONSUMERS) >= 10
    assert len({each.zooid for each in CONSUMERS}) == len({each.signal for each in CONSUMERS}) == len(CONSUMERS)


@pytest.mark.parametrize("consumer", CONSUMERS, ids=lambda each: stem_of(each))
def test_no_consumer_hides_a_private_part_of_the_base(consumer: type[Consumer], tmp_path: Path) -> None:
    class Plain(Consumer):
        schedule, signal, interval_s = "plain", "Q_TRIGGER_PLAIN", 1.0

    with bench(Plain, tmp_path) as plain:
        of_the_base = {*dir(Consumer), *vars(plain.daemon)}
    assigned = {
        node.attr
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(consumer))))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    own = {name for name in {*vars(consumer), *assigned} if name.startswith("_") and not name.startswith("__")}
    assert (own & of_the_base) - KNOWINGLY.get(consumer.zooid, set()) == set()


@pytest.fixture(params=CONSUMERS, ids=lambda each: stem_of(each))
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Table]:
    with bench(request.param, tmp_path) as ready:
        yield ready


@pytest.fixture(params=EATERS, ids=lambda each: stem_of(each))
def eating(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Table]:
    with bench(request.param, tmp_path) as ready:
        yield ready


def reports(table: Table) -> list[tuple[str, str]]:
    told = [message.facts for message in table.heard("Q_CYCLE_REPORT")]
    return [(facts.source, facts.outcome) for facts in told if facts.daemon == table.daemon.zooid]


def trigger(table: Table) -> None:
    """The present beat's, as the scheduler emits it."""
    interval_s = type(table.daemon).interval_s
    number = int(table.clock.wall_us() / 1e6 // interval_s)
    told = {"schedule": table.daemon.schedule, "beat": number, "due_ts": number * interval_s, "interval_s": interval_s}
    table.say(table.daemon.signal, {**told, "epoch": 1})


def work_off(table: Table) -> None:
    """Let the daemon read to the end of the journal, and try what it has to try again."""
    intake = table.daemon.intake
    assert intake
    for _ in range(20):
        table.settle()
        if intake.offset >= table.hub.store.bounds()[1] and not table.daemon.is_busy:
            return
        table.clock.advance(RETRIES_S)
    raise AssertionError(f"it stands at {intake.offset} of {table.hub.store.bounds()[1]}")


def give(table: Table, signal: str, facts: dict[str, Any]) -> bool:
    """Emit it, unless no emitter would."""
    with suppress(BadFacts, Oversize):
        table.outsider.emit(signal, facts)
        return True
    return False


def put_into_the_journal(table: Table, signal: str, body: bytes) -> None:
    """Whatever it is: as a foreign or damaged emitter might have left it there."""
    end = table.hub.store.bounds()[1]
    table.hub.keep(table.clock).append([Append(0, [Entry(f"foreign.{end}", signal, body)])])
    table.hub.tell()


# Triggers


def test_a_trigger_injected_by_hand_is_one_cycle_at_once(table: Table) -> None:
    table.say(table.daemon.signal)
    assert reports(table) == [("injected", "ok")]


def test_a_beat_is_one_cycle_however_often_it_is_triggered(table: Table) -> None:
    for _ in range(3):
        trigger(table)
    assert reports(table) == [("trigger", "ok")]
    assert table.daemon.counters["duplicate_beat"] == 2


def test_two_missed_intervals_engage_the_fallback_and_a_trigger_releases_it(table: Table) -> None:
    interval_s = type(table.daemon).interval_s
    trigger(table)
    table.clock.advance(1.5 * interval_s)
    table.settle()
    assert not table.heard("FALLBACK_ENGAGED")
    table.clock.advance(1.5 * interval_s)
    table.settle()
    assert len(table.heard("FALLBACK_ENGAGED")) == 1
    assert ("fallback", "ok") in reports(table)
    assert table.daemon.mode() == "fallback"
    before = len(reports(table))
    table.clock.advance(interval_s)
    trigger(table)
    assert len(table.heard("FALLBACK_RELEASED")) == 1
    assert reports(table)[before:] == [("trigger", "ok")]
    assert table.daemon.mode() == "normal"


def test_in_maintenance_there_is_no_work_and_no_fallback(table: Table) -> None:
    intake = table.daemon.intake
    table.say("MAINTENANCE_SUSPEND", {"reason": "the common test"})
    before = intake.offset if intake else 0
    for signal in signals_of(type(table.daemon)):
        table.say(signal, example(signal))
    table.say(table.daemon.signal)
    table.clock.advance(4 * type(table.daemon).interval_s)
    table.settle()
    assert reports(table) == []
    assert not table.heard("FALLBACK_ENGAGED")
    assert (intake.offset if intake else 0) == before
    table.say("MAINTENANCE_RESUME")
    if intake:
        work_off(table)
    done = len(reports(table))
    table.say(table.daemon.signal)
    assert reports(table)[done:] == [("injected", "ok")]


# Settings


def test_a_settings_file_with_a_fault_changes_nothing_and_is_told(table: Table) -> None:
    folder = table.daemon.place.config
    folder.mkdir()
    path = folder / f"{stem_of(type(table.daemon))}_config.toml"
    for text in ("this is [not toml", "no_such_key_anywhere = 3\n"):
        path.write_text(text)
        with capture_logs() as lines:
            table.daemon.reload()
        refused = [line for line in lines if line["event"] == "settings_refused"]
        assert len(refused) == 1
        assert path.name in str(refused[0]["reason"])
        table.say(table.daemon.signal)
    path.write_text("# nothing but defaults\n")
    with capture_logs() as lines:
        table.daemon.reload()
    assert [line["event"] for line in lines].count("settings_reloaded") == 1
    table.say(table.daemon.signal)
    assert reports(table) == [("injected", "ok")] * 3


# Poison


def test_garbage_on_the_trigger_topic_is_counted_and_the_next_trigger_works(table: Table) -> None:
    topic = table.daemon.signal.encode()
    bodies = [
        b"", b"\xff\xfe\x00", b"{", b"null", b"[]", b"[" * 100_000, b'{"signal":3}', b"x" * (2 << 20),
        b'{"signal":"Q_TRIGGER_OTHER","ecosystem":"x","ts":1,"facts":{}}',
        b'{"signal":"%b","ecosystem":"x","ts":1e999,"facts":{}}' % topic,
        b'{"signal":"%b","ecosystem":"x","ts":1,"facts":{"beat":"soon"}}' % topic,
        b'{"signal":"%b","ecosystem":"x","ts":1,"facts":{"interval_s":-5}}' % topic,
    ]  # fmt: skip
    for body in bodies:
        table.hub.publish(topic, body)
    table.settle()
    assert reports(table) == []
    table.say(table.daemon.signal)
    assert reports(table) == [("injected", "ok")]
    counters = table.daemon.heartbeat_facts().counters
    assert sum(count for name, count in counters.items() if name.startswith("refused_")) == len(bodies)


def test_a_trigger_with_hostile_facts_does_no_harm(table: Table) -> None:
    for facts in (
        {"beat": 2**53, "due_ts": 253_402_300_799.0, "interval_s": 1e-300, "epoch": 2**53},
        {"beat": -(2**53), "due_ts": 0.0, "interval_s": 1e300},
        {"schedule": "x" * 100_000, "why": "\0"},
    ):
        table.say(table.daemon.signal, facts)
    before = len(reports(table))
    table.say(table.daemon.signal)
    assert reports(table)[before:] == [("injected", "ok")]


def test_what_is_no_message_is_put_aside_and_the_next_good_one_works(eating: Table) -> None:
    planted = 0
    for signal in signals_of(type(eating.daemon)):
        for body in malformed(signal):
            put_into_the_journal(eating, signal, body)
            planted += 1
        work_off(eating)
    assert eating.daemon.counters["dead_letters"] == planted
    assert_it_works_on(eating)


@pytest.mark.timeout(300)
def test_hostile_values_do_no_harm_and_the_next_good_one_works(eating: Table) -> None:
    for signal in signals_of(type(eating.daemon)):
        given = sum(give(eating, signal, facts) for facts in hostile(signal))
        assert given > 10, VOCABULARY.lookup(signal)
        work_off(eating)
    eating.say(eating.daemon.signal)
    assert_it_works_on(eating)


def assert_it_works_on(table: Table) -> None:
    """A good one of each signal is taken without complaint, and a beat is done."""
    before = table.daemon.counters.get("dead_letters", 0)
    failed = table.daemon.counters.get("batch_failed", 0)
    for number, signal in enumerate(signals_of(type(table.daemon))):
        table.outsider.emit(signal, example(signal, 5_000 + number))
    work_off(table)
    assert table.daemon.counters.get("dead_letters", 0) == before
    assert table.daemon.counters.get("batch_failed", 0) == failed
    table.say(table.daemon.signal)
    assert reports(table)[-1] == ("injected", "ok")
    assert table.daemon.exit_code == 0
