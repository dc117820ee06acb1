"""The historian on an in-memory bus in virtual time: what it keeps, what it folds, what it says is missing."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bench import Bench, bench

from kloros.chembus.facts import HeartbeatFacts
from kloros.chembus.memory import MemoryBus, MemoryHub
from kloros.clock import VirtualClock
from kloros.config import load
from kloros.consumers.chembus_historian_daemon import ChembusHistorianDaemon
from kloros.consumers.history.settings import HistorianSettings
from kloros.storage.history_reader import HistoryReader
from kloros.storage.history_rows import Entry, Gap, Record, Wanted

CONFIG = Path(__file__).parents[2] / "config/chembus_historian_config.toml"
Table = Bench[ChembusHistorianDaemon]
EVERYTHING = Wanted()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def table(tmp_path: Path, clock: VirtualClock) -> Iterator[Table]:
    with bench(ChembusHistorianDaemon, tmp_path, clock) as ready:
        yield ready


def written(table: Table) -> None:
    """Let a second pass and wait for the writer."""
    table.advance(1.1)
    done = threading.Event()
    table.daemon._writer.write_soon()
    table.daemon._writer._worker.run(done.set)
    assert done.wait(10)


def read(table: Table, wanted: Wanted = EVERYTHING) -> list[Entry]:
    written(table)
    with HistoryReader(table.daemon.store.path) as reader:
        return list(reader.read(wanted))


def count(entries: list[Entry]) -> Counter[str]:
    counted = Counter[str]()
    for entry in entries:
        if isinstance(entry, Record):
            counted[entry.signal] += 1 + entry.repeats
        else:
            counted[f"{entry.kind} {entry.signal}"] += entry.missing
    return counted


def test_a_volatile_signal_is_kept_with_who_when_and_what(table: Table, clock: VirtualClock) -> None:
    table.outsider.emit("AFFECT_STATE", {"state": "calm é"}, incident_id="i1")
    table.settle()
    (found,) = read(table, Wanted(signals=("AFFECT_STATE",)))
    assert isinstance(found, Record)
    assert (found.zooid, found.incident_id, found.ts_us) == ("outsider", "i1", 1_700_000_000_000_000)
    assert '"state":"calm é"'.encode() in found.body
    assert found.body.count(b'"seq":1') == 1


def test_ticks_and_heartbeats_that_say_the_same_are_folded_but_counted(table: Table, clock: VirtualClock) -> None:
    for number in range(150):
        table.outsider.emit("Q_SCHEDULE_TICK", {"tick": number, "uptime_s": 1.0})
        table.advance(1.0)
    found = [entry for entry in read(table, Wanted(signals=("Q_SCHEDULE_TICK",))) if isinstance(entry, Record)]
    assert [entry.repeats for entry in found] == [59, 59, 29]
    assert [(entry.last_us - entry.ts_us) / 1e6 for entry in found] == pytest.approx([59.0, 59.0, 29.0])


def test_what_was_lost_on_the_way_is_a_gap_and_the_sum_is_what_was_sent(table: Table) -> None:
    for number in range(100):
        table.outsider.emit("AFFECT_STATE", {"state": str(number)})
        if number % 11 == 5:
            table.daemon.bus._inbox.clear()  # type: ignore[attr-defined]
        elif number % 3 == 0:
            table.settle()
    table.outsider.emit("AFFECT_STATE", {"state": "the last"})
    table.settle()
    counted = count(read(table, Wanted(signals=("AFFECT_STATE",))))
    sent = table.outsider.sent_seqs()["AFFECT_STATE"]
    assert counted["lost AFFECT_STATE"] > 0
    assert counted.total() == sent


def test_a_full_buffer_drops_counts_announces_and_says_so_in_the_history(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/chembus_historian_config.toml").write_text("[write]\nbuffer_messages = 10\n")
    with bench(ChembusHistorianDaemon, tmp_path) as table:
        for number in range(50):
            table.outsider.emit("AFFECT_STATE", {"state": str(number)})
        table.daemon.loop.turn(0.0)
        counted = count(read(table, Wanted(signals=("AFFECT_STATE",))))
        dropped = counted["dropped AFFECT_STATE"]
        assert 40 <= dropped < 50
        assert counted.total() == 50
        table.advance(1.0)
        (told,) = [message for message in table.heard("BUS_DROP") if message.facts.signal == "AFFECT_STATE"]
        assert (told.facts.observer, told.facts.signal, told.facts.dropped) == (
            table.daemon.zooid,
            "AFFECT_STATE",
            dropped,
        )


def test_what_was_sent_while_nobody_recorded_is_a_gap_of_the_right_number(tmp_path: Path) -> None:
    clock, hub = VirtualClock(), MemoryHub()
    speaker = MemoryBus(hub, name="speaker", clock=clock)
    with bench(ChembusHistorianDaemon, tmp_path, clock, hub=hub) as table:
        for number in range(10):
            speaker.emit("AFFECT_STATE", {"state": str(number)})
            speaker.emit("AFFECT_WELLBEING_LOW")
        table.settle()
        written(table)
    for number in range(7):
        speaker.emit("AFFECT_STATE", {"state": str(number)})
        speaker.emit("AFFECT_WELLBEING_LOW")
    clock.advance(100.0)
    with bench(ChembusHistorianDaemon, tmp_path, clock, hub=hub) as table:
        speaker.emit("AFFECT_STATE", {"state": "back"})
        sent = speaker.sent_seqs()
        for _ in range(2):  # told twice, it is missing once
            heart = HeartbeatFacts(zooid="speaker", niche="n", uptime_s=1.0, processed_count=0, sent=sent)
            speaker.emit("HEARTBEAT", heart)
        table.settle()
        entries = read(table, Wanted(signals=("AFFECT_*",)))
        counted = count(entries)
    speaker.close()
    assert counted["away AFFECT_STATE"] == 7
    assert counted["away AFFECT_WELLBEING_LOW"] == 7
    assert counted.total() == 18 + 17
    (dark,) = [entry for entry in entries if isinstance(entry, Gap) and entry.signal == "*"]
    assert (dark.until_us - dark.since_us) / 1e6 == pytest.approx(100.0, abs=2.0)


def test_the_beat_lets_go_of_what_is_too_old(table: Table, clock: VirtualClock) -> None:
    table.outsider.emit("AFFECT_STATE", {"state": "old"})
    written(table)
    clock.advance(14 * 86_400.0 + 1)
    table.outsider.emit("AFFECT_STATE", {"state": "new"})
    written(table)
    table.say("Q_TRIGGER_HISTORY_ROTATE")
    reports = [message.facts for message in table.heard("Q_CYCLE_REPORT")]
    assert {(report.schedule, report.outcome) for report in reports} == {("history_rotate", "ok")}
    assert sum(report.processed for report in reports) >= 1
    found = read(table, Wanted(signals=("AFFECT_STATE",)))
    assert [b"new" in entry.body for entry in found if isinstance(entry, Record)] == [True]


def test_a_moment_that_has_not_come_does_not_outstay_its_time(table: Table, clock: VirtualClock) -> None:
    ahead = MemoryBus(table.hub, name="ahead", clock=VirtualClock(wall_us=clock.wall_us() + 10**15))
    ahead.emit("AFFECT_STATE", {"state": "from the future"})
    table.settle()
    ahead.close()
    (found,) = read(table, Wanted(signals=("AFFECT_STATE",)))
    assert found.ts_us <= clock.wall_us()


def test_recording_goes_on_in_maintenance(table: Table) -> None:
    table.say("MAINTENANCE_SUSPEND")
    table.say("AFFECT_STATE", {"state": "quiet"})
    assert count(read(table, Wanted(signals=("AFFECT_STATE",)))).total() == 1


def test_a_durable_signal_comes_from_the_journal_once_though_it_is_heard_live_too(table: Table) -> None:
    for number in range(30):
        table.outsider.emit("OBSERVATION", {"ts": 1.0, "zooid": "z", "ok": True, "sig": str(number)}, incident_id="i1")
        table.settle()
    found = [entry for entry in read(table, Wanted(incident_id="i1")) if isinstance(entry, Record)]
    assert [json.loads(entry.body)["facts"]["sig"] for entry in found] == [str(number) for number in range(30)]
    offsets = [json.loads(entry.body)["offset"] for entry in found]
    assert offsets == sorted(offsets)


def test_durable_signals_of_the_time_away_are_there_afterwards(tmp_path: Path) -> None:
    clock, hub = VirtualClock(), MemoryHub()
    speaker = MemoryBus(hub, name="speaker", clock=clock)
    observed = Wanted(signals=("OBSERVATION",))
    for part in range(3):
        with bench(ChembusHistorianDaemon, tmp_path, clock, hub=hub) as table:
            speaker.emit("OBSERVATION", {"ts": 1.0, "zooid": "z", "ok": True, "sig": f"there {part}"})
            table.settle()
            written(table)
        speaker.emit("OBSERVATION", {"ts": 1.0, "zooid": "z", "ok": True, "sig": f"away {part}"})
    with bench(ChembusHistorianDaemon, tmp_path, clock, hub=hub) as table:
        found = [entry for entry in read(table, observed) if isinstance(entry, Record)]
    speaker.close()
    said = [json.loads(entry.body)["facts"]["sig"] for entry in found]
    assert said == [f"{word} {part}" for part in range(3) for word in ("there", "away")]


def test_fields_of_a_later_version_are_kept(table: Table) -> None:
    body = (
        b'{"signal":"AFFECT_STATE","ecosystem":"affect","facts":{"state":"calm","mood":7},"ts":1.0,"schema_version":1}'
    )
    table.hub.publish(b"AFFECT_STATE", body)
    table.settle()
    (found,) = [entry for entry in read(table, Wanted(signals=("AFFECT_STATE",))) if isinstance(entry, Record)]
    assert (found.body, found.zooid, found.pub) == (body, "", None)


def test_what_the_journal_let_go_of_is_a_gap(table: Table) -> None:
    facts = {"observer": table.daemon.zooid, "signal": "*", "pub": "journal", "missing": 12}
    table.say("BUS_GAP", facts)
    assert count(read(table, Wanted(signals=("OBSERVATION",))))["overrun *"] == 12


def test_what_came_too_late_or_broken_is_missing_by_number(table: Table, clock: VirtualClock) -> None:
    for number in range(10):
        table.outsider.emit("Q_SCHEDULE_TICK", {"tick": number, "uptime_s": 1.0})
        if number == 4:
            clock.advance(11.0)  # nobody looked meanwhile: the first five are stale by now
    table.hub.publish(b"NOBODY_KNOWS", b"{")
    table.settle()
    counted = count(read(table, Wanted(signals=("Q_SCHEDULE_TICK",))))
    assert counted == {"Q_SCHEDULE_TICK": 5, "refused Q_SCHEDULE_TICK": 5, "refused *": 1}


def test_while_the_disk_is_full_messages_wait_and_afterwards_nothing_is_missing(table: Table) -> None:
    written(table)
    database = table.daemon.store.database
    (pages,) = database.query("PRAGMA page_count")[0]
    database.query(f"PRAGMA max_page_count = {pages}")
    for number in range(90):
        table.outsider.emit("AFFECT_STATE", {"state": str(number) * 200})
    table.settle()
    written(table)
    told = table.daemon.heartbeat_facts()
    assert told.detail is not None
    assert "cannot be written" in told.detail
    assert told.counters["history_waiting"] >= 90
    database.query("PRAGMA max_page_count = 1000000")
    found = [entry for entry in read(table, Wanted(signals=("AFFECT_STATE",))) if isinstance(entry, Record)]
    assert [json.loads(entry.body)["seq"] for entry in found] == list(range(1, 91))
    assert table.daemon.heartbeat_facts().detail is None


def test_other_limits_are_taken_over_by_a_reload(table: Table, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    settings = tmp_path / "config/chembus_historian_config.toml"
    settings.write_text("[keep]\nmax_size_mib = 4\n[fold_s]\nAFFECT_STATE = 30\n")
    table.daemon.reload()
    for _ in range(40):
        table.outsider.emit("AFFECT_STATE", {"state": "the same"})
        table.advance(1.0)
    found = [entry for entry in read(table, Wanted(signals=("AFFECT_STATE",))) if isinstance(entry, Record)]
    assert [entry.repeats for entry in found] == [29, 9]
    assert table.daemon._writer.bounds.max_bytes == 4 << 20
    settings.write_text("[keep]\nmax_size_mib = 1\n")
    table.daemon.reload()
    assert table.daemon._writer.bounds.max_bytes == 4 << 20, "a bad file changes nothing"


def test_the_settings_file_says_what_the_defaults_are() -> None:
    assert load(CONFIG, HistorianSettings) == HistorianSettings()


def fill(table: Table, messages: int) -> None:
    for number in range(messages):
        table.outsider.emit("AFFECT_STATE", {"state": f"{number} " + "x" * 4000})
        if number % 200 == 0:
            table.advance(1.0)
    written(table)


def size_bytes(table: Table) -> int:
    """As whoever looks from outside sees it."""
    return sum(path.stat().st_size for path in table.daemon.store.path.parent.glob("state.db*"))


def pruned(table: Table) -> None:
    """Wait for the writer to have done what it was told."""
    done = threading.Event()
    table.daemon._writer._worker.run(done.set)
    assert done.wait(20)
    table.settle()


def test_told_to_it_becomes_smaller_at_once_on_disk_and_the_accounts_agree(table: Table) -> None:
    fill(table, 4000)
    before = count(read(table, Wanted(signals=("AFFECT_STATE",)))).total()
    assert size_bytes(table) > 7_000_000
    table.say("Q_HISTORY_PRUNE", {"keep_mb": 5, "requester": "a test"})
    table.settle()
    pruned(table)
    assert size_bytes(table) <= 5_100_000
    left = read(table)
    (told,) = [entry for entry in left if isinstance(entry, Record) and entry.signal == "Q_HISTORY_PRUNE"]
    assert told.zooid == "outsider"
    assert count(left)["AFFECT_STATE"] < before
    assert count(left)["AFFECT_STATE"] + table.daemon._writer.let_go >= before
    newest = [entry.body for entry in left if isinstance(entry, Record) and entry.signal == "AFFECT_STATE"][-1]
    assert b"x" in newest


def test_an_order_to_become_smaller_outlives_a_kill(tmp_path: Path, clock: VirtualClock) -> None:
    hub = MemoryHub()
    with bench(ChembusHistorianDaemon, tmp_path, clock, hub=hub) as table:
        fill(table, 2000)
        table.daemon._writer.prune_soon = lambda *_: None  # type: ignore[method-assign]
        table.say("Q_HISTORY_PRUNE", {"keep_mb": 5})
        table.settle()
    with bench(ChembusHistorianDaemon, tmp_path, clock, hub=hub) as table:
        pruned(table)
        assert size_bytes(table) <= 5_100_000
        assert table.daemon.store.get("prune", dict) is None
