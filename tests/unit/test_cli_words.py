"""How the command reads and writes durations, moments, tables and facts."""

import pytest
import typer

from kloros.chembus.vocabulary import VOCABULARY
from kloros.cli.facts_args import facts_from_json, facts_from_pairs
from kloros.cli.output import bare, columns_that_fit, plain_table, say, style_of, styled, table
from kloros.cli.units import countdown, duration, interval, parse_duration
from kloros.errors import BadFacts


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("10m", 600),
        ("10min", 600),
        ("2h", 7200),
        ("1h30m", 5400),
        ("0.5", 0.5),
        ("250ms", 0.25),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "5x", "ten", "1h nonsense", "nan", "inf"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36526d", "99999999999d", "9" * 400])
def test_a_duration_longer_than_a_century_is_refused(text: str) -> None:
    assert parse_duration("36525d") == 36525 * 86400
    with pytest.raises(typer.BadParameter, match="longer than 100 years"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0002, "0.2 ms"),
        (0.028, "28 ms"),
        (0.0999, "0.1 s"),
        (4.21, "4.2 s"),
        (9.96, "10 s"),
        (90, "90 s"),
        (119.6, "2 min"),
        (3599, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (86400 * 3 + 4 * 3600, "3 d 04 h"),
        (-3, "-3.0 s"),
    ],
)
def test_durations_are_written_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_intervals_are_written_exactly() -> None:
    assert [interval(s) for s in (5, 0.5, 60, 90, 300, 3600)] == ["5 s", "0.5 s", "1 min", "90 s", "5 min", "1 h"]


def test_a_countdown_ends_in_now() -> None:
    assert countdown(None, 10.0) == "-"
    assert countdown(14.2, 10.0) == "4.2 s"
    assert countdown(9.0, 10.0) == "now"


def test_a_style_is_kept_apart_from_the_text() -> None:
    cell = styled("silent", "bold red")
    assert (bare(cell), style_of(cell)) == ("silent", "bold red")
    assert (bare("plain"), style_of("plain")) == ("plain", "")


def test_a_plain_table_is_aligned_uncut_and_has_no_colour() -> None:
    lines = plain_table(("entry", ">pace"), [("introspection_scan" * 8, styled("0.5", "yellow")), ("x", "1")])
    assert lines[0].split() == ["ENTRY", "PACE"]
    assert lines[1] == "introspection_scan" * 8 + "   0.5"
    assert "\x1f" not in "".join(lines)
    assert len({len(line) for line in lines}) == 1


def test_what_others_wrote_moves_no_cursor_and_breaks_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    wild = "x\n\x1b[2J\x9b2J\x1fred\x1f\u202e"
    say(styled(f"{wild} of mine", "bold"))
    say(wild)
    table(("one", "other"), [(wild, styled(wild, "red"))])
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 1 + 1 + 2 + 1
    assert all(line.isprintable() for line in lines)


def test_a_narrow_terminal_spares_what_can_be_spared_and_a_column_without_a_word_is_never_shown() -> None:
    columns, rows = (
        ("entry", "signal", ">next in", "why"),
        [("introspection_scan", "Q_TRIGGER_INTROSPECTION", "4 s", "")],
    )
    assert columns_that_fit(columns, rows, 120, 1, ("signal",)) == [0, 1, 2]
    assert columns_that_fit(columns, rows, 52, 1, ("signal",)) == [0, 1, 2]
    assert columns_that_fit(columns, rows, 51, 1, ("signal",)) == [0, 2]
    assert columns_that_fit(columns, [], 120) == []


def test_pairs_become_facts_of_the_declared_types() -> None:
    trigger = VOCABULARY.lookup("Q_TRIGGER_INTROSPECTION")
    facts = facts_from_pairs(trigger, ["schedule=12", "interval_s=5", "beat=7", "reason=control"])
    assert facts == {"schedule": "12", "interval_s": 5.0, "beat": 7, "reason": "control"}


def test_lists_and_tables_are_written_as_json() -> None:
    gap = VOCABULARY.lookup("CAPABILITY_GAP")
    pairs = ["gap_id=1", "gap_type=t", "gap_name=a=b", 'evidence=["x=1"]']
    assert facts_from_pairs(gap, pairs) == {"gap_id": "1", "gap_type": "t", "gap_name": "a=b", "evidence": ["x=1"]}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("intervl_s=3", r"did you mean interval_s\?"),
        ("colour=red", "it carries schedule"),
        ("interval_s=soon", "interval_s=soon"),
        ("interval_s=-1", "> 0"),
        ("beat=1.5", "beat=1.5"),
        ("nonsense", "not key=value"),
    ],
)
def test_wrong_pairs_are_refused_by_name(pair: str, message: str) -> None:
    with pytest.raises(BadFacts, match=message):
        facts_from_pairs(VOCABULARY.lookup("Q_TRIGGER_CURIOSITY"), [pair])


def test_facts_in_json_must_be_an_object() -> None:
    trigger = VOCABULARY.lookup("Q_TRIGGER_CURIOSITY")
    assert facts_from_json(trigger, '{"beat": 3}') == {"beat": 3}
    for text in ("[1]", "{", "NaN"):
        with pytest.raises(BadFacts, match="--facts is not"):
            facts_from_json(trigger, text)
