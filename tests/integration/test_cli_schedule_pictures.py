"""`kloros schedule lint`, `simulate` and `plot`: on the shipped schedule, on faulty ones, on a real record."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.recorded import FLUSH, SCAN, Recorded, recorded_run

from kloros.cli.app import call
from kloros.orchestration.lint import RULES

Verb = Callable[..., tuple[int, str, str]]
SHIPPED = Path(__file__).parents[2] / "config" / "scheduler_config.toml"
TWO = """
[entries.one]
interval_s = 60.0
signal = "Q_TRIGGER_CURIOSITY"
offset_s = {}

[entries.other]
interval_s = 120.0
signal = "Q_TRIGGER_DECAY"
offset_s = {}
"""


@pytest.fixture(scope="module")
def record() -> Iterator[Recorded]:
    with recorded_run() as recorded:
        yield recorded


@pytest.fixture
def kloros(capsys: pytest.CaptureFixture[str]) -> Verb:
    def verb(*arguments: object) -> tuple[int, str, str]:
        code = call([str(each) for each in arguments])
        return code, *capsys.readouterr()

    return verb


@pytest.fixture
def at_the_record(record: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    record.tell_the_truth()
    for name, value in record.place.places.items():
        monkeypatch.setenv(name, value)
    return record


def written(tmp_path: Path, text: str, name: str = "schedule.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


# Lint


def test_the_shipped_schedule_gives_no_cause_for_remarks(kloros: Verb) -> None:
    code, out, err = kloros("schedule", "lint", SHIPPED)
    assert (code, err) == (0, "")
    assert "nothing to remark" in out


def test_a_collision_is_a_warning_with_code_file_and_line(kloros: Verb, tmp_path: Path) -> None:
    path = written(tmp_path, TWO.format(7, 7))
    code, out, _ = kloros("schedule", "lint", path)
    assert code == 1
    line = next(line for line in out.splitlines() if "K101" in line)
    number = int(line.removeprefix(f"{path}:").partition(":")[0])
    assert path.read_text().splitlines()[number - 1].startswith("offset_s")
    assert "1 warning, " in out
    found = json.loads(kloros("schedule", "lint", path, "--json")[1])
    assert [(each["code"], each["line"]) for each in found if each["code"] == "K101"] == [("K101", number)]


def test_the_plan_parts_what_collides_and_can_be_pasted(kloros: Verb, tmp_path: Path) -> None:
    path = written(tmp_path, TWO.format(7, 7))
    code, out, _ = kloros("schedule", "lint", path, "--plan")
    assert code == 0
    assert "1 now, 0 with these offsets" in out
    plan = json.loads(kloros("schedule", "lint", path, "--plan", "--json")[1])
    assert (plan["collisions_before"], plan["collisions_after"]) == (1, 0)
    parted = written(tmp_path, TWO.format(plan["offsets_s"]["one"], plan["offsets_s"]["other"]), "parted.toml")
    assert "K101" not in kloros("schedule", "lint", parted)[1]


def test_a_file_that_cannot_be_used_is_an_error_with_its_line(kloros: Verb, tmp_path: Path) -> None:
    path = written(tmp_path, TWO.format(7, 121))
    code, out, _ = kloros("schedule", "lint", path)
    assert code == 2
    assert out.startswith(f"{path}:10: K001 error: entries.other.offset_s")
    missing = tmp_path / "nowhere.toml"
    code, out, _ = kloros("schedule", "lint", missing)
    assert (code, out.count(str(missing))) == (2, 1)
    told = json.loads(kloros("schedule", "lint", path, "--json")[1])
    assert (told[0]["code"], told[0]["line"]) == ("K001", 10)


def test_every_code_is_listed(kloros: Verb) -> None:
    out = kloros("schedule", "lint", "--rules")[1]
    for code in ("K001", *RULES):
        assert f"{code}  " in out


def test_measured_cycles_need_a_history(kloros: Verb, at_the_record: Recorded) -> None:
    path = written(at_the_record.place.folder, TWO.format(7, 20))
    assert kloros("schedule", "lint", path, "--measured")[0] == 0
    shutil.rmtree(at_the_record.state / "chembus_historian")
    code, _, err = kloros("schedule", "lint", path, "--measured")
    assert code == 4
    assert "is kloros-chembus-historian running?" in err


def test_before_and_after_of_the_default_entries_is_shown_by_lint_and_plot(kloros: Verb, tmp_path: Path) -> None:
    """All at the same second, as they would be without offsets; then at the offsets that are shipped."""
    before = written(tmp_path, re.sub(r"(?m)^offset_s = .*$", "offset_s = 0.0", Path(SHIPPED).read_text()))
    entries = len(tomllib.loads(Path(SHIPPED).read_text())["entries"])
    pairs = entries * (entries - 1) // 2
    code, out, _ = kloros("schedule", "lint", before)
    assert (code, out.count("K101 warning: ")) == (1, pairs)
    plan = json.loads(kloros("schedule", "lint", before, "--plan", "--json")[1])
    assert (plan["collisions_before"], plan["collisions_after"]) == (pairs, 0)
    assert kloros("schedule", "lint", SHIPPED)[0] == 0
    peaks = [kloros("schedule", "plot", path, "--simulate", 60)[1].splitlines()[-1] for path in (before, SHIPPED)]
    assert peaks == [f"at most {entries} beats in any second", "at most 1 beat in any second"]


# Simulate


def test_on_no_day_of_the_shipped_schedule_do_two_beats_share_a_second(kloros: Verb) -> None:
    code, out, _ = kloros("schedule", "simulate", SHIPPED)
    assert code == 0
    assert "at most 1 in any second" in out
    shown = json.loads(kloros("schedule", "simulate", SHIPPED, "--json")[1])
    beats = {each["entry"]: each["beats"] for each in shown["entries"]}
    assert (beats["introspection_scan"], beats["memory_decay"], shown["peak_second"]) == (17280, 24, 1)


def test_a_mood_slows_what_is_adaptive_for_as_long_as_it_lasts(kloros: Verb, tmp_path: Path) -> None:
    arguments = ("schedule", "simulate", SHIPPED, "--hours", 2, "--json")
    calm = json.loads(kloros(*arguments)[1])
    tired = json.loads(kloros(*arguments, "--affect", "CRITICAL_FATIGUE@30m+30m")[1])
    script = written(tmp_path, '[[mood]]\nsignal = "CRITICAL_FATIGUE"\nat = "30m"\nfor = "30m"\n', "moods.toml")
    assert json.loads(kloros(*arguments, "--affect", script)[1]) == tired
    before, after = ({each["entry"]: each["beats"] for each in shown["entries"]} for shown in (calm, tired))
    assert after["introspection_scan"] == before["introspection_scan"]
    assert before["curiosity_generation"] - 17 <= after["curiosity_generation"] <= before["curiosity_generation"] - 14


@pytest.mark.parametrize(
    ("mood", "words"),
    [("FOO@1h+1m", "there is no mood AFFECT_FOO"), ("CRITICAL_FATIGUE", "NAME@WHEN+SPAN"), ("a@b+c", "no mood")],
)
def test_a_mood_that_is_none_is_refused(kloros: Verb, mood: str, words: str) -> None:
    code, _, err = kloros("schedule", "simulate", SHIPPED, "--affect", mood)
    assert code == 2
    assert words in " ".join(err.split())


def test_a_difference_says_which_beats_moved_and_how_the_peak_changed(kloros: Verb, tmp_path: Path) -> None:
    apart, together = written(tmp_path, TWO.format(7, 20)), written(tmp_path, TWO.format(7, 7), "together.toml")
    code, out, _ = kloros("schedule", "simulate", apart, "--hours", 1, "--diff", together)
    assert code == 0
    assert "other" in out
    assert "most beats in any second: 1, there 2" in out
    assert "no beat moves" in kloros("schedule", "simulate", apart, "--hours", 1, "--diff", apart)[1]
    told = json.loads(kloros("schedule", "simulate", apart, "--hours", 1, "--diff", together, "--json")[1])
    assert {each["entry"]: each["moved"] for each in told["entries"]} == {"one": 0, "other": 30}
    assert told["peak_second"] == [1, 2]


def test_every_beat_is_printed_when_asked_for(kloros: Verb, tmp_path: Path) -> None:
    path = written(tmp_path, TWO.format(7, 20))
    lines = kloros("schedule", "simulate", path, "--hours", 1, "--beats")[1].splitlines()
    assert len(lines) == 90
    told = [json.loads(line) for line in
            kloros("schedule", "simulate", path, "--hours", 1, "--beats", "--json")[1].splitlines()]  # fmt: skip
    assert all(each["due_ts"] % 60 == (7 if each["entry"] == "one" else 20) for each in told)


# Plot


def test_a_record_is_drawn_as_it_was(kloros: Verb, at_the_record: Recorded) -> None:
    until = f"{float(at_the_record.since) + 12:.3f}"
    code, out, err = kloros("schedule", "plot", "--since", at_the_record.since, "--until", until, "--width", 120)
    assert (code, err) == (0, "")
    lanes = {line.split()[0]: line for line in out.splitlines() if line.split()[:1] in ([SCAN], [FLUSH])}
    assert lanes[SCAN].count("█") >= 10
    assert lanes[FLUSH].count("█") >= 6
    assert "!" not in lanes[SCAN] + lanes[FLUSH]
    assert all(len(line) <= 120 for line in out.splitlines())


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_a_drawing_keeps_to_its_width(kloros: Verb, width: int) -> None:
    out = kloros("schedule", "plot", SHIPPED, "--simulate", 5, "--width", width)[1]
    assert all(len(line) <= max(width, 48) for line in out.splitlines()[1:-1])


def test_a_beat_that_nobody_ran_is_marked(kloros: Verb, at_the_record: Recorded) -> None:
    record = at_the_record
    for number in (0, 1):
        found = record.query("scheduler", "SELECT due_us FROM beats WHERE entry = ? ORDER BY due_us", FLUSH)
        told, _ = record.report_of(found[3 + number][0], FLUSH)
        record.change("chembus_historian", "DELETE FROM messages WHERE number = ?", told)
    until = f"{float(record.since) + 12:.3f}"
    out = kloros("schedule", "plot", "--since", record.since, "--until", until, "--width", 160)[1]
    lane = next(line for line in out.splitlines() if line.strip().startswith(FLUSH))
    assert lane.count("!") == 2


def test_a_png_shows_what_ran(kloros: Verb, at_the_record: Recorded, tmp_path: Path) -> None:
    from PIL import Image

    from kloros.cli.plotting.png import COLOURS, INK

    path = tmp_path / "plot.png"
    until = f"{float(at_the_record.since) + 12:.3f}"
    code, out, _ = kloros("schedule", "plot", "--since", at_the_record.since, "--until", until, "--png", path)
    assert code == 0
    assert str(path) in out
    with Image.open(path) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or []}
    for name in (INK, COLOURS["trigger"]):
        assert tuple(bytes.fromhex(name[1:])) in colours


def test_without_pillow_a_png_names_the_extra(kloros: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    code, out, err = kloros("schedule", "plot", SHIPPED, "--simulate", 1, "--png", tmp_path / "x.png")
    assert (code, out) == (1, "")
    assert "pip install 'kloros[plot]'" in err
    assert not (tmp_path / "x.png").exists()


def test_a_png_that_cannot_be_written_is_told(kloros: Verb, tmp_path: Path) -> None:
    code, _, err = kloros("schedule", "plot", SHIPPED, "--simulate", 1, "--png", tmp_path / "nowhere" / "x.png")
    assert code == 1
    assert "No such file or directory" in err


def test_a_time_in_which_nothing_was_due_is_said(kloros: Verb, at_the_record: Recorded) -> None:
    code, out, _ = kloros("schedule", "plot", "--since", "2020-01-01", "--until", "2020-01-02")
    assert code == 0
    assert "nothing was due, and nothing ran" in out
    assert kloros("schedule", "plot", "--since", "1m", "--until", "2m")[0] == 2
