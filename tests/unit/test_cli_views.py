"""What is told of messages: lines, stories, the schedule, the roll call, the live view."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from rich.console import Console
from support.chain import ACTED, ASKED, CONCLUDED, whole_life
from support.chain import message as chain_message

from kloros.chembus.envelope import Message
from kloros.chembus.facts import (
    ChangedFacts,
    CycleReportFacts,
    Facts,
    HeartbeatFacts,
    ResumeFacts,
    SuspendFacts,
    TickEntry,
    TickFacts,
    TriggerFacts,
)
from kloros.chembus.facts_work import GapFoundFacts, ObservationFacts
from kloros.chembus.vocabulary import VOCABULARY
from kloros.cli.output import bare, say, table
from kloros.cli.roll_call import EXPECTED, assess
from kloros.cli.running.layout import Scene, draw
from kloros.cli.schedule import rows, summary
from kloros.cli.status import COLUMNS as STATUS_COLUMNS
from kloros.cli.status import lines as status_lines
from kloros.cli.status import rows as status_rows
from kloros.cli.story.fold import Fold
from kloros.cli.story.narrate import narrate
from kloros.cli.story.picture import Picture
from kloros.cli.story.ticks import TickBook
from kloros.consumers.introspection.findings import Finding, Severity

NOW_TS = 1_700_000_000.0


def message(signal: str, facts: Facts, pub: str = "introspection_daemon@b.1.x") -> Message:
    return Message(signal=signal, ecosystem="e", facts=facts, ts=NOW_TS, id="1", pub=pub, seq=1)


def trigger(beat: int = 7, **more: Any) -> Message:
    facts = TriggerFacts(schedule="introspection_scan", beat=beat, late_s=0.0004, epoch=1, **more)
    return message("Q_TRIGGER_INTROSPECTION", facts, "scheduler_daemon@b.1.x")


def report(beat: int | None = 7, **more: Any) -> Message:
    told: dict[str, Any] = {"source": "trigger", "outcome": "ok", "duration_s": 0.034, "processed": 5} | more
    facts = CycleReportFacts(
        daemon="introspection_daemon", schedule="introspection_scan", beat=beat, started_ts=NOW_TS, **told
    )
    return message("Q_CYCLE_REPORT", facts)


def gap(signal: str = "CAPABILITY_GAP") -> Message:
    facts = GapFoundFacts(gap_id="1", gap_type="unit_failed", gap_name="x", severity="high", detail="x.service failed")
    return message(signal, facts)


def tick(**more: Any) -> Message:
    entries = {
        "introspection_scan": TickEntry(
            signal="Q_TRIGGER_INTROSPECTION", interval_s=5, next_due_ts=NOW_TS + 2, last_beat=7, last_due_ts=NOW_TS - 3
        ),
        "curiosity_generation": TickEntry(
            signal="Q_TRIGGER_CURIOSITY", interval_s=120, nominal_s=60, pace=0.5, next_due_ts=NOW_TS + 1,
            override_until_ts=NOW_TS + 600, missed=3, why="base 60 s, at pace 0.5: 120 s",
        ),
        "shadow_evaluation": TickEntry(signal="Q_TRIGGER_SHADOW_EVAL", interval_s=60, paused=True),
    }  # fmt: skip
    return message("Q_SCHEDULE_TICK", TickFacts(tick=1, uptime_s=9.0, epoch=1, **({"entries": entries} | more)))


def heart(zooid: str = "scheduler_daemon", mode: str = "normal", **more: Any) -> HeartbeatFacts:
    return HeartbeatFacts(zooid=zooid, niche="n", uptime_s=3.0, processed_count=1, mode=mode, **more)


# Lines


def test_a_trigger_and_its_reaction_read_like_the_guide() -> None:
    first, second = str(narrate(trigger())), str(narrate(report()))
    assert first.endswith("] Q_TRIGGER_INTROSPECTION emitted (introspection_scan beat 7, 0.4 ms late)")
    assert second.endswith("]   introspection_daemon reacted: ok in 34 ms, 5 processed")


def test_a_trigger_by_hand_names_who_sent_it() -> None:
    by_hand = message("Q_TRIGGER_INTROSPECTION", TriggerFacts(), "kloros_emit@b.1.x")
    assert "by hand, from kloros_emit" in narrate(by_hand).text


def test_a_late_trigger_says_once_what_was_missed() -> None:
    text = narrate(
        trigger(missed=3, reason="misfire", why="could not be emitted in time, 3 before it were missed")
    ).text
    assert text.count("missed") == 1


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (report(outcome="failed", error="OSError: no"), "failed in 34 ms, 5 processed, OSError: no"),
        (report(source="fallback"), "ran by its own clock: ok"),
        (gap(), "introspection_daemon found: x.service failed [high]"),
        (gap("CAPABILITY_RESTORED"), "says it is over: x.service failed"),
        (tick(), "3 entries, next curiosity_generation in 1.0 s"),
        (message("MAINTENANCE_SUSPEND", SuspendFacts(reason="kernel")), "everything rests (kernel)"),
        (message("Q_SCHEDULE_CHANGED", ChangedFacts(op="pause", ok=False, schedule="x", detail="none", request_id="1")),
         "pause x refused (none)"),
        (message("Q_SCHEDULE_CHANGED", ChangedFacts(op="maintenance", ok=True, detail="maintenance on: kernel")),
         "introspection_daemon: maintenance on: kernel"),
        (message("HEARTBEAT", heart(mode="stopped")), "scheduler_daemon says goodbye"),
        (message("OBSERVATION", ObservationFacts(ts=1, zooid="z", ok=True)), 'OBSERVATION {"ts":1'),
    ],
)  # fmt: skip
def test_each_kind_of_message_has_its_sentence(told: Message, words: str) -> None:
    assert words in narrate(told).text


def test_every_signal_can_be_narrated_with_the_facts_it_may_be_emitted_with() -> None:
    required = {"str": "x", "float": 1.0, "int": 1, "bool": True}
    for signal in VOCABULARY:
        if signal.facts is CycleReportFacts:
            continue  # its literals have tests of their own above
        import msgspec

        values = {}
        for field in msgspec.structs.fields(signal.facts):
            if field.required:
                name = str(field.type)
                values[field.name] = next((value for word, value in required.items() if word in name), "x")
        values |= {
            "Q_SCHEDULE_CONTROL": {"op": "pause"},
            "Q_ACTION_DECISION": {"decision": "approve"},
            "Q_ACTION_DECIDED": {"decision": "approve"},
            "Q_REVIEW_DECISION": {"decision": "approve"},
            "Q_REVIEW_DECIDED": {"decision": "approve"},
        }.get(signal.name, {})
        line = narrate(message(signal.name, msgspec.convert(values, signal.facts)))
        assert line.text
        assert "\n" not in line.text


# Folding


def test_ticks_and_unchanged_heartbeats_are_folded() -> None:
    fold = Fold(5)
    assert [fold.hides(tick()) for _ in range(6)] == [False, True, True, True, True, False]
    hidden = [
        fold.hides(message("HEARTBEAT", heart(mode=mode))) for mode in ("normal", "normal", "fallback", "fallback")
    ]
    assert hidden == [False, True, False, True]


def test_what_the_chain_says_twice_is_told_once() -> None:
    fold = Fold(5)
    told = [fold.hides(each) for each in (*whole_life(), *whole_life()) if each.signal.startswith(("Q_", "FLAG_"))]
    #       asked  folded handed taken.. concluded     flagged decided done closed
    assert told[:9] == [False] * 9
    assert told[9:] == [False, True, False, False, False, True, False, False, False]
    alone = {**ASKED, "folded": 1}
    for signal, facts in (
        ("Q_CURIOSITY_INVESTIGATE", alone),
        ("Q_ACTION_SPAWNED", {**ACTED, "mode": "observe"}),
        ("Q_ACTION_COMPLETE", {**ACTED, "outcome": "withdrawn"}),
        ("Q_INVESTIGATION_COMPLETE", {**CONCLUDED, "status": "withdrawn"}),
    ):
        assert fold.hides(chain_message(signal, facts))
        assert not Fold(None).hides(chain_message(signal, facts))


def test_how_far_the_optimiser_is_is_shown_when_there_is_something_to_know() -> None:
    fold = Fold(5)
    states: list[dict[str, object]] = [
        {"state": "idle"}, {"state": "profiling"}, {"state": "idle", "open_changes": 1},
        {"state": "optimising", "open_changes": 1}, {"state": "stopped", "paused": "a test"}, {"state": "idle"},
    ]  # fmt: skip
    assert [fold.hides(chain_message("OPTIMISER_STATE", each)) for each in states] == [1, 1, 0, 1, 0, 0]


def test_who_asks_for_topics_gets_every_one() -> None:
    fold = Fold(None)
    assert not any(fold.hides(each) for each in (tick(), tick(), message("HEARTBEAT", heart())))


# Stories


def texts(picture: Picture, count: int = 99) -> list[str]:
    return [line.text.split(":")[0].split(" (")[0] for line in picture.latest_lines(count)]


def test_reactions_stand_under_their_own_trigger_even_when_others_came_between() -> None:
    picture = Picture()
    other = message("Q_TRIGGER_CURIOSITY", TriggerFacts(schedule="curiosity_generation", beat=1))
    for each in (trigger(7), other, gap(), report(7)):
        picture.add(each)
    assert texts(picture) == [
        "Q_TRIGGER_INTROSPECTION emitted",
        "introspection_daemon found",
        "introspection_daemon reacted",
        "Q_TRIGGER_CURIOSITY emitted",
    ]
    assert (picture.triggers, picture.cycle_count, picture.findings_told) == (2, 1, 1)


def test_a_reaction_without_its_trigger_stands_by_itself() -> None:
    picture = Picture()
    picture.add(report(9, source="fallback"))
    assert texts(picture) == ["introspection_daemon ran by its own clock"]


def test_only_whole_stories_are_shown_where_they_fit() -> None:
    picture = Picture()
    for beat in (1, 2):
        picture.add(trigger(beat))
        picture.add(report(beat))
    assert len(picture.latest_lines(3)) == 2
    assert texts(picture, 1) == ["introspection_daemon reacted"]


ACTING = {"daemon": "action_consumer_daemon", "schedule": "action_processing", "source": "trigger", "outcome": "ok"}


def test_the_work_of_a_cycle_stands_under_its_trigger_and_other_work_by_itself() -> None:
    picture = Picture()
    beat = TriggerFacts(schedule="action_processing", beat=1)
    acting = heart("action_consumer_daemon", schedule="action_processing")
    spawned, flag = (each for each in whole_life() if each.signal in ("Q_ACTION_SPAWNED", "FLAG_FOR_REVIEW"))
    done = CycleReportFacts(**ACTING, beat=1, started_ts=NOW_TS, duration_s=0.1)
    for each in (
        message("HEARTBEAT", acting, "action_consumer_daemon@b.1.x"),
        message("Q_TRIGGER_ACTION_PROCESSING", beat),
        trigger(7),
        spawned,
        message("Q_CYCLE_REPORT", done, "action_consumer_daemon@b.1.x"),
        flag,
    ):
        picture.add(each)
    assert texts(picture)[1:] == [
        "Q_TRIGGER_ACTION_PROCESSING emitted",
        "action_consumer_daemon takes up restart_unit web.service [approve]",
        "action_consumer_daemon reacted",
        "Q_TRIGGER_INTROSPECTION emitted",
        "action_consumer_daemon needs a person",
    ]
    assert not picture.latest_lines(1)[0].is_reaction


def test_the_work_is_kept_apart_from_the_feed_and_counted() -> None:
    picture = Picture()
    for each in whole_life():
        picture.add(each)
    for beat in range(300):
        picture.add(trigger(beat))
    assert [line.text.split(" ")[1] for line in picture.work] == [
        "asks:", "folds", "hands", "concludes:", "takes", "needs", "is", "needs",
    ]  # fmt: skip
    assert picture.steps == {"questions": 1, "investigations": 1, "actions": 1, "flags": 1}
    for _ in range(100):
        picture.add(whole_life()[1])
    assert len(picture.work) == 50


def test_stories_are_bounded() -> None:
    picture = Picture()
    for beat in range(1000):
        picture.add(trigger(beat))
    assert len(picture.stories) == 200


# The schedule


def test_the_schedule_is_sorted_by_what_is_due_next_and_says_why() -> None:
    shown = [[bare(cell) for cell in row] for row in rows(tick().facts, NOW_TS)]
    assert [row[0] for row in shown] == ["curiosity_generation", "introspection_scan", "shadow_evaluation"]
    assert shown[0][2:5] == ["2 min", "0.5", "1.0 s"]
    assert shown[0][7] == "3"
    assert shown[0][8].startswith("base 60 s, at pace 0.5: 120 s until ")
    assert shown[2][4] == "paused"
    assert "MAINTENANCE" in summary(tick(maintenance=True).facts)


def test_a_long_schedule_is_put_together_from_its_pages() -> None:
    book = TickBook()
    entry = TickEntry(signal="Q_TRIGGER_X", interval_s=1)
    book.add(TickFacts(tick=1, uptime_s=1, page=0, pages=2, epoch=5, entries={"a": entry}))
    assert not book.is_whole
    book.add(TickFacts(tick=1, uptime_s=1, page=1, pages=2, epoch=5, entries={"b": entry}))
    assert book.is_whole
    assert book.whole
    assert set(book.whole.entries) == {"a", "b"}
    book.add(TickFacts(tick=1, uptime_s=0, page=0, pages=1, epoch=6, entries={"c": entry}))
    assert set(book.whole.entries) == {"c"}


# The roll call


def everyone(**modes: str) -> list[HeartbeatFacts]:
    return [heart(name, modes.get(name, "normal")) for name in EXPECTED]


def test_when_all_answer_there_is_nothing_to_complain_about() -> None:
    assert assess(everyone(), tick().facts).complaints == []


def test_silence_fallback_and_governance_are_complaints() -> None:
    others = [facts for facts in everyone() if facts.zooid != "introspection_daemon"]
    silent = assess(others, tick().facts)
    assert [daemon.zooid for daemon in silent.daemons if not daemon.answered] == ["introspection_daemon"]
    assert "systemctl status kloros-introspection" in silent.complaints[0]
    for mode in ("fallback", "killed", "confused"):
        assert assess(everyone(introspection_daemon=mode), tick().facts).complaints
    for mode in ("maintenance", "paused"):
        assert not assess(everyone(introspection_daemon=mode), tick().facts).complaints


def test_a_scheduler_that_answers_but_does_not_tick_is_a_complaint() -> None:
    assert "did not tick" in assess(everyone(), None).complaints[0]


def test_what_a_daemon_lacks_is_a_complaint_and_what_it_cannot_watch_is_not() -> None:
    full, blind = everyone(), everyone()
    full[1].detail, blind[2].detail = "state.db cannot be written", "blind: journal"
    assert assess(full, tick().facts).complaints == ["scheduler_daemon: state.db cannot be written"]
    assert assess(blind, tick().facts).complaints == []


def test_the_bus_figures_come_from_who_hears_everything() -> None:
    hearts = everyone()
    hearts[0].counters = {"forwarded": 9, "refused_not_json": 2}
    hearts[2].counters = {"gap": 3, "refused_not_json": 1}
    found = assess(hearts, tick().facts)
    assert (found.forwarded, found.refused, found.gaps) == (9, {"not_json": 2}, 3)


# The live view


def scene(findings: int = 2) -> Scene:
    picture = Picture()
    for each in (message("HEARTBEAT", heart()), tick(), trigger(), gap(), report()):
        picture.add(each)
    found = [
        Finding(
            gap_id=str(n), gap_type="unit_failed", gap_name=f"u{n}", scanner="units", severity=Severity.HIGH,
            summary=f"unit number {n} failed", evidence={}, first_seen_us=0, last_seen_us=0, clear_after_s=8,
            occurrences=1,
        )
        for n in range(findings)
    ]  # fmt: skip
    zooids = ["chem_proxy_daemon", "introspection_daemon", "scheduler_daemon"]
    return Scene(picture, zooids, found, ["units", "journal"], NOW_TS)


def screen(drawn: Scene, width: int, height: int) -> list[str]:
    terminal = Console(width=width, height=height, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with terminal.file:
        terminal.print(draw(drawn, width, height))
        return terminal.export_text().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (120, 40), (170, 40), (250, 70), (80, 20)])
@pytest.mark.parametrize("findings", [0, 2, 50])
def test_the_view_fits_its_terminal_and_shows_what_matters(width: int, height: int, findings: int) -> None:
    lines = screen(scene(findings), width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    shown = "\n".join(lines)
    for words in ("KLoROS", "curiosity_generation", "introspection_daemon", "Q_TRIGGER_INTROSPECTION"):
        assert words in shown
    assert ("all quiet" if findings == 0 else "unit number 0 failed") in shown


def test_the_view_shows_the_chain_at_work_where_there_is_room() -> None:
    drawn = scene()
    for each in (*whole_life(), *(trigger(beat) for beat in range(8, 300))):
        drawn.picture.add(each)
    shown = screen(drawn, 120, 40)
    at_work = shown.index(next(line for line in shown if "at work" in line))
    assert "needs a person: restart_unit web.service is only observed" in "".join(shown[at_work + 1 : at_work + 6])
    assert "at work" not in "\n".join(screen(drawn, 80, 20))
    for width, height in ((80, 20), (80, 24), (100, 30), (170, 40), (250, 70)):
        lines = screen(drawn, width, height)
        assert len(lines) <= height
        assert any("Q_TRIGGER_INTROSPECTION" in line for line in lines)


def test_what_others_wrote_stays_in_its_place_of_the_view() -> None:
    wild = "x\n\x1b[2J\x9b2J\u202e"
    drawn = scene()
    drawn.picture.add(message("HEARTBEAT", msgspec.structs.replace(heart(), zooid=wild, mode=wild, detail=wild)))
    drawn.picture.add(message("MAINTENANCE_RESUME", ResumeFacts(reason=wild)))
    drawn.findings[0].summary = wild
    for width, height in ((80, 40), (200, 60)):
        lines = screen(drawn, width, height)
        assert len(lines) <= height
        assert all(line.isprintable() for line in lines)


def test_what_others_wrote_stays_in_its_row_of_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    wild = "x\n\x1b[2J"
    hearts = [msgspec.structs.replace(heart(), zooid=wild, mode=wild, detail=wild)]
    hearts += [HeartbeatFacts(zooid="chem_proxy_daemon", niche="bus", uptime_s=1, processed_count=0,
                              counters={f"refused_{wild}": 1})]  # fmt: skip
    told = assess(hearts, msgspec.structs.replace(tick().facts, maintenance=True, maintenance_reason=wild))
    table(STATUS_COLUMNS, status_rows(told))
    for line in status_lines(told):
        say(line)
    printed = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert len(printed) == 1 + len(status_rows(told)) + len(status_lines(told))
    assert all(line.isprintable() for line in (*printed, *told.complaints))


def test_the_view_can_be_drawn_before_anything_was_heard() -> None:
    empty = Scene(Picture(), ["scheduler_daemon"], [], ["units"], NOW_TS)
    assert any("waiting for the scheduler" in line for line in screen(empty, 100, 30))
