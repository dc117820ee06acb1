"""The screen of `kloros top`: what is known by messages, what keys ask for, and that it fits every terminal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from kloros.chembus.envelope import Message
from kloros.chembus.facts import (
    AffectFacts,
    ChangedFacts,
    CycleReportFacts,
    Facts,
    GapFacts,
    HeartbeatFacts,
    TickEntry,
    TickFacts,
)
from kloros.chembus.facts_work import (
    ActionFacts,
    FlagClosedFacts,
    FoldedFacts,
    GapFoundFacts,
    InvestigationFacts,
    QuestionFacts,
    ReviewFacts,
)
from kloros.chembus.vocabulary import VOCABULARY
from kloros.cli.overview.bus_rates import BusFigures
from kloros.cli.overview.desk import HELP, Desk, Pane, Wanted
from kloros.cli.overview.keyboard import KeyReader
from kloros.cli.overview.layout import Scene, draw, plain
from kloros.cli.overview.lines import Section, beside, columns, share
from kloros.cli.overview.open_work import MOST_OF_A_KIND, Item, OpenWork
from kloros.cli.overview.state import SILENT_AFTER_S, TOPICS, Overview
from kloros.cli.roll_call import EXPECTED

NOW_TS = 1_700_000_000.0


def message(signal: str, facts: Facts, ts: float = NOW_TS) -> Message:
    assert VOCABULARY.knows(signal), signal
    assert any(signal == topic or (topic.endswith("*") and signal.startswith(topic[:-1])) for topic in TOPICS), signal
    return Message(signal=signal, ecosystem="e", facts=facts, ts=ts, id="1", pub="scheduler_daemon@b.1.x", seq=1)


def found(gap_id: str = "g1", ts: float = NOW_TS, **more: Any) -> Message:
    told: dict[str, Any] = {"gap_type": "unit_unhealthy", "gap_name": "x.service", "severity": "high"} | more
    return message("CAPABILITY_GAP", GapFoundFacts(gap_id=gap_id, **told), ts)


def heart(zooid: str, mode: str = "normal", ts: float = NOW_TS, **more: Any) -> Message:
    told: dict[str, Any] = {"uptime_s": 3.0, "processed_count": 1, "niche": "n"} | more
    return message("HEARTBEAT", HeartbeatFacts(zooid=zooid, mode=mode, **told), ts)


def tick(ts: float = NOW_TS, **more: Any) -> Message:
    entries = {
        "introspection_scan": TickEntry(signal="Q_TRIGGER_INTROSPECTION", interval_s=5, next_due_ts=NOW_TS + 2),
        "curiosity_generation": TickEntry(
            signal="Q_TRIGGER_CURIOSITY", interval_s=120, nominal_s=60, pace=0.5, next_due_ts=NOW_TS + 100,
            override_until_ts=NOW_TS + 600, why="base 60 s, AFFECT_CRITICAL_FATIGUE (tired) × 0.5: 120 s",
        ),
        "shadow_evaluation": TickEntry(signal="Q_TRIGGER_SHADOW_EVAL", interval_s=60, paused=True),
        "memory_decay": TickEntry(signal="Q_TRIGGER_DECAY", interval_s=3600, held=True, why="AFFECT_EMERGENCY_BRAKE"),
    }  # fmt: skip
    return message("Q_SCHEDULE_TICK", TickFacts(tick=1, uptime_s=9.0, epoch=1, **({"entries": entries} | more)), ts)


def report(outcome: str = "ok", **more: Any) -> Message:
    told: dict[str, Any] = {"source": "trigger", "outcome": outcome, "duration_s": 0.034, "backlog": 3} | more
    facts = CycleReportFacts(
        daemon="introspection_daemon", schedule="introspection_scan", beat=7, started_ts=NOW_TS - 3, **told
    )
    return message("Q_CYCLE_REPORT", facts)


def feeling() -> Message:
    sides = {"strain": {"value": 0.8, "cause": "load"}, "wellbeing": {"value": 0.2, "cause": "load"}}
    holds = {"AFFECT_RESOURCE_STRAIN": {"since_ts": NOW_TS - 9, "until_ts": NOW_TS + 40, "cause": "load"}}
    state = {"mood": "strained", "since_ts": NOW_TS - 9, "dimensions": sides, "holds": holds, "by_hand": {}}
    return message("AFFECT_STATE", AffectFacts(state=state, cause="load"))


def busy() -> Overview:
    known = Overview()
    for zooid in EXPECTED:
        known.add(heart(zooid, counters={"forwarded": 100, "gap": 0}))
    for each in (tick(), report(), feeling(), found(), found("g2", severity="critical", detail="/ is full")):
        known.add(each)
    known.add(message("FLAG_FOR_REVIEW", ReviewFacts(flag_id="f-1", rationale="look at x", cure="restart it", count=2)))
    return known


def scene(known: Overview, **more: Any) -> Scene:
    return Scene(known, NOW_TS, **more)


def text_of(lines: list[Text]) -> str:
    return "\n".join(line.plain for line in lines)


# What is open


def test_work_opens_and_closes_by_its_signals() -> None:
    work = OpenWork()
    asked = QuestionFacts(question_id="q-1", question="why?", gap_id="g1")
    folded = QuestionFacts(question_id="q-2", question="why so?", gap_id="g1")
    assert work.add(found()) is not None
    assert work.add(found()) is None  # told again, nothing new
    work.add(message("Q_CURIOSITY_HIGH", asked))
    work.add(message("Q_CURIOSITY_HIGH", folded))
    work.add(message("Q_QUESTION_FOLDED", FoldedFacts(question_id="q-2", folded_into="q-1", similarity=0.9)))
    assert [item.id for item in work.items("question")] == ["q-1"]
    work.add(message("Q_INVESTIGATION_COMPLETE", InvestigationFacts(question_id="q-1", status="concluded")))
    assert work.count("question") == 0
    action = ActionFacts(action_id="a-1", action_type="restart_unit", target="x.service", mode="approve")
    work.add(message("Q_ACTION_SPAWNED", action))
    assert work.items("action")[0].note == "waits for approval"
    work.add(message("Q_ACTION_COMPLETE", ActionFacts(action_id="a-1", action_type="restart_unit", outcome="helped")))
    assert work.count("action") == 0
    work.add(message("FLAG_FOR_REVIEW", ReviewFacts(flag_id="f-1", rationale="look")))
    work.add(message("FLAG_CLOSED", FlagClosedFacts(flag_id="f-1", reason="mended")))
    work.add(message("CAPABILITY_RESTORED", GapFoundFacts(gap_id="g1", gap_type="a", gap_name="b")))
    assert list(work.all) == []


def test_a_mended_finding_takes_its_questions_along_and_the_worst_come_first() -> None:
    work = OpenWork()
    for gap_id, severity in (("g1", "low"), ("g2", "critical"), ("g3", "medium")):
        work.add(found(gap_id, severity=severity))
        question = QuestionFacts(question_id=f"q-{gap_id}", question="?", gap_id=gap_id)
        work.add(message("Q_CURIOSITY_LOW", question))
    assert [item.id for item in work.items("finding")] == ["g2", "g3", "g1"]
    work.add(message("CAPABILITY_RESTORED", GapFoundFacts(gap_id="g2", gap_type="a", gap_name="b")))
    assert {item.id for item in work.all} == {"g1", "g3", "q-g1", "q-g3"}


def test_what_is_open_is_bounded_and_what_was_let_go_is_counted() -> None:
    work = OpenWork()
    for number in range(MOST_OF_A_KIND + 5):
        work.add(found(f"g{number}"))
    assert (work.count("finding"), work.forgotten) == (MOST_OF_A_KIND, 5)


def test_introspections_own_book_is_the_last_word() -> None:
    work = OpenWork()
    work.add(found("over"))
    work.know_findings([Item("finding", "open", "still", "low")])
    assert [item.id for item in work.all] == ["open"]


# The bus


def test_the_rate_is_counted_by_the_proxy_and_begins_anew_with_it() -> None:
    figures = BusFigures()
    assert figures.rate_hz is None

    def proxy(forwarded: int, ts: float, **counters: int) -> None:
        told = heart("chem_proxy_daemon", counters={"forwarded": forwarded, **counters}).facts
        assert isinstance(told, HeartbeatFacts)
        figures.add(told, ts)

    proxy(100, 0.0)
    proxy(150, 5.0, refused_not_json=2, refused_stale=1)
    assert (figures.rate_hz, figures.refused) == (10.0, 3)
    for second in range(10, 100, 5):
        proxy(150, second)
    assert figures.rate_hz == 0.0  # the old figures do not weigh for ever
    proxy(7, 101.0)
    assert figures.rate_hz is None
    proxy(9, 102.0)
    assert figures.rate_hz == 2.0


def test_losses_of_all_are_summed() -> None:
    known = Overview()
    known.add(heart("a_daemon", counters={"gap": 2, "drop": 1}))
    known.add(heart("b_daemon", counters={"gap": 3}))
    known.add(heart("b_daemon", counters={"gap": 4}))
    assert (known.bus.gaps, known.bus.drops) == (6, 1)
    assert "6 lost, 1 dropped" in text_of(draw(scene(known), 100, 24))


# What is known


def test_a_daemon_that_is_not_heard_is_silent_and_one_that_said_goodbye_is_not() -> None:
    known = busy()
    known.add(heart("decay_daemon", "stopped"))
    known.add(heart("kloros_status", niche="cli"))
    later_ts = NOW_TS + SILENT_AFTER_S + 1
    assert known.mode("shadow_daemon", NOW_TS) == "normal"
    assert known.mode("shadow_daemon", later_ts) == "silent"
    assert known.mode("decay_daemon", later_ts) == "stopped"
    assert "kloros_status" not in known.daemons
    assert any("decay_daemon says goodbye" in line.text for line in known.news)


def test_news_are_what_is_out_of_the_ordinary_each_told_once() -> None:
    known = busy()
    known.news.clear()
    strain = message("AFFECT_RESOURCE_STRAIN", AffectFacts(cause="load", ttl_s=45))
    for each in (tick(), report(), feeling(), found(), heart("decay_daemon"), strain, strain):
        known.add(each)
    assert [line.text for line in known.news] == ["AFFECT_RESOURCE_STRAIN for 45 s (load)"]
    known.add(report("failed", error="it broke"))
    known.add(message("BUS_GAP", GapFacts(observer="a", signal="HEARTBEAT", pub="b@1", missing=4)))
    adapted = ChangedFacts(op="adapt", ok=True, schedule="memory_decay", detail="base 3600 s, tired × 0.5")
    known.add(message("Q_SCHEDULE_CHANGED", adapted))
    told = "\n".join(line.text for line in known.news)
    assert "it broke" in told
    assert "a missed 4 HEARTBEAT of b" in told
    assert "memory_decay: base 3600 s" in told


def test_what_was_remembered_is_no_news_and_what_is_heard_overrules_it() -> None:
    known = Overview()
    for each in (report("failed"), found()):
        known.remember(each)
    assert not known.news
    assert known.work.count("finding") == 1
    known.add(report("ok"))
    assert known.ran["introspection_scan"].outcome == "ok"


# The picture


@given(st.integers(1, 260), st.integers(1, 90), st.booleans(), st.integers(0, 30), st.booleans())
def test_it_fits_every_terminal(width: int, height: int, has_pane: bool, findings: int, is_empty: bool) -> None:
    known = Overview() if is_empty else busy()
    for number in range(findings):
        known.add(found(f"x{number}", detail=f"a very long story about number {number} " * 4))
    pane = Pane("curiosity_generation, due then", ("planned " * 40, "emitted"), "curiosity_generation")
    lines = draw(scene(known, selected="memory_decay", pane=pane if has_pane else None), width, height)
    assert len(lines) == min(height, len(lines))
    assert len(lines) == (height if width >= 20 and height >= 5 else 1)
    assert all(line.cell_len <= width and "\n" not in line.plain for line in lines)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 40), (150, 40), (220, 60)])
def test_a_person_sees_what_matters_whatever_the_size(width: int, height: int) -> None:
    shown = text_of(draw(scene(busy(), selected="memory_decay"), width, height))
    for words in ("introspection_scan", "2.0 s", "paused", "held", "0.5", "base 60 s", "› memory_decay", "strained",
                  "/ is full", "look at x", "daemons", "none lost", "q quit"):  # fmt: skip
        assert words in shown, words


def test_wide_terminals_show_every_daemon_and_bar() -> None:
    shown = text_of(draw(scene(busy()), 160, 45))
    for zooid in EXPECTED:
        assert zooid.removesuffix("_daemon") in shown
    for words in ("strain", "0.80", "████", "ok in 34 ms", "RESOURCE_STRAIN until"):
        assert words in shown, words


def test_a_long_schedule_is_a_window_around_the_selected_entry() -> None:
    entries = {f"entry_{n:02}": TickEntry(signal="Q_TRIGGER_CURIOSITY", interval_s=10 + n) for n in range(40)}
    known = Overview()
    known.add(tick(entries=entries))
    shown = text_of(draw(scene(known, selected="entry_30"), 80, 20))
    assert "› entry_30" in shown
    assert "entry_02" not in shown
    assert "more above" in shown
    assert "more below" in shown


def test_trouble_stands_at_the_top() -> None:
    known = busy()
    assert "NO BUS for 7.0 s" in draw(scene(known, away_since_ts=NOW_TS - 7), 100, 24)[0].plain
    late = Scene(known, NOW_TS + 60)
    assert "SCHEDULER SILENT for 60 s" in draw(late, 100, 24)[0].plain
    known.add(tick(maintenance=True, maintenance_until_ts=NOW_TS + 60))
    assert "MAINTENANCE until" in draw(scene(known), 100, 24)[0].plain
    assert "rests" in text_of(draw(scene(known), 100, 24))


def test_daemons_that_are_not_well_are_named_where_there_is_no_room_for_all() -> None:
    known = busy()
    known.add(heart("decay_daemon", "fallback"))
    for height in (24, 19):
        shown = text_of(draw(scene(known), 80, height))
        assert f"{len(EXPECTED) - 1} normal, 1 fallback" in shown
        assert "decay" in shown.partition("daemons")[2]
        assert "ledger_writer" not in shown


def test_a_plain_frame_holds_everything_and_no_escape() -> None:
    lines = plain(scene(busy()), 120)
    shown = "\n".join(lines)
    assert "\x1b" not in shown
    for words in ("introspection_scan", "schedule", "open", "affect", "daemons", "affect_daemon"[:6], "/ is full"):
        assert words in shown
    assert all(len(line) <= 120 for line in lines)


def test_what_others_wrote_stays_in_its_place() -> None:
    wild = "x\n\x1b[2J\x9b2J\u202e"
    known = busy()
    known.add(heart(wild, mode=wild, detail=wild))
    known.add(message("AFFECT_STATE", AffectFacts(state={"mood": wild, "since_ts": NOW_TS}, cause=wild)))
    known.add(found("g3", detail=wild))
    known.add(message("FLAG_FOR_REVIEW", ReviewFacts(flag_id="f-2", rationale=wild, cure=wild)))
    known.add(message("Q_SCHEDULE_CHANGED", ChangedFacts(op="pause", ok=False, detail=wild)))
    told = scene(known, pane=Pane(wild, (wild,), "introspection_scan"), notice=wild)
    for lines in (draw(told, 100, 60), draw(told, 200, 60), draw(told, 60, 12)):
        assert all(line.plain.isprintable() for line in lines)
    assert all(line.isprintable() for line in plain(told, 100))


def test_before_anything_was_heard_it_says_what_it_waits_for() -> None:
    shown = text_of(draw(scene(Overview()), 80, 24))
    assert "waiting for the scheduler's first tick" in shown
    assert shown.count("silent") == len(EXPECTED)


# Lines


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(0, 60))
def test_sections_never_get_more_than_there_is_and_the_first_grow_first(fulls: list[int], room: int) -> None:
    sections = [Section(str(n), range(1, full + 1), lambda size: [Text()] * size) for n, full in enumerate(fulls)]
    given_sizes = share(sections, room)
    assert sum(section.cost(size) for section, size in zip(sections, given_sizes, strict=True)) <= room
    if room >= sum(section.cost(section.sizes[-1]) for section in sections):
        assert given_sizes == fulls


def test_halves_do_not_bleed_into_each_other() -> None:
    left = Text("left", "reverse")
    lines = beside([left], [Text("right"), Text("below")], 10, 30)
    assert [line.plain for line in lines] == ["left         right", " " * 13 + "below"]
    assert all(span.end <= 10 for span in lines[0].spans)


def test_columns_keep_their_place() -> None:
    lines = columns((">n", "what"), [("1", "one"), ("10", "a longer one")], 12)
    assert [line.plain for line in lines] == [" n  what", " 1  one", "10  a longe…"]


# Keys


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (["jk"], ["down", "up"]),
        (["\x1b[A\x1b[B\x1bOA"], ["up", "down", "up"]),
        (["\x1b", "[", "A"], ["up"]),
        (["\x1b", ""], ["escape"]),
        (["\x1bq"], ["escape", "q"]),
        (["\x1b[5~\x1b[F"], ["page up", "end"]),
        (["\x1b[1;5A"], ["\x1b[1;5A"]),  # known to nobody, and not taken for its parts
        (["", ""], []),
        (["ü?"], ["ü", "?"]),
    ],
)
def test_keys_are_read_however_they_come(typed: list[str], keys: list[str]) -> None:
    reader = KeyReader()
    assert [key for piece in typed for key in reader.keys(piece)] == keys


@given(st.text(max_size=40), st.lists(st.integers(1, 5), max_size=20))
def test_whatever_is_typed_is_read(text: str, cuts: list[int]) -> None:
    reader, at = KeyReader(), 0
    for cut in cuts:
        reader.keys(text[at : at + cut])
        at += cut
    reader.keys("")
    assert reader.keys("q") == ["q"]


ENTRIES = ["a", "b", "c"]


def press(desk: Desk, *keys: str, paused: tuple[str, ...] = (), is_resting: bool = False) -> Wanted | None:
    wanted = None
    for key in keys:
        wanted = desk.press(key, ENTRIES, paused, is_resting=is_resting)
    return wanted


def test_keys_select_and_ask() -> None:
    desk = Desk()
    assert press(desk, "t") == Wanted("trigger", "a")
    assert press(desk, "down", "down", "down", "p") == Wanted("pause", "c")
    assert press(desk, "up", "p", paused=("b",)) == Wanted("resume", "b")
    assert press(desk, "home", "e") == Wanted("explain", "a")
    assert press(desk, "q") == Wanted("quit")
    assert press(desk, "x") is None


def test_the_story_follows_the_selection_and_closes() -> None:
    desk = Desk()
    assert press(desk, "e") == Wanted("explain", "a")
    desk.pane = Pane("a", (), "a")
    assert press(desk, "down") == Wanted("explain", "b")
    desk.pane = Pane("b", (), "b")
    assert press(desk, "e") is None
    assert desk.pane is None
    press(desk, "?")
    assert desk.pane == Pane(is_help=True)
    assert any("pause" in line for line in HELP)
    press(desk, "escape")
    assert desk.pane is None


def test_maintenance_is_asked_for_twice() -> None:
    desk = Desk()
    assert press(desk, "m") is None
    assert desk.prompt is not None
    assert "rest" in desk.prompt
    assert press(desk, "n") is None
    assert (desk.prompt, desk.notice) == (None, "nothing was changed")
    assert press(desk, "m", "y") == Wanted("rest")
    assert press(desk, "m", is_resting=True) is None
    assert press(desk, "y", is_resting=True) == Wanted("work")


def test_who_may_only_look_changes_nothing() -> None:
    desk = Desk(read_only=True)
    for key in ("p", "t", "m"):
        assert press(desk, key) is None
        assert desk.notice is not None
        assert desk.prompt is None
    assert press(desk, "e") == Wanted("explain", "a")


def test_an_entry_that_has_gone_is_not_selected_any_more() -> None:
    desk = Desk()
    desk.selected = "gone"
    assert desk.press("t", ENTRIES, (), is_resting=False) == Wanted("trigger", "a")
    assert desk.press("t", [], (), is_resting=False) is None
