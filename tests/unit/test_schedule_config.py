"""What the schedule's file may say, and what a person is told when it says something else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kloros.config import load
from kloros.errors import ConfigError
from kloros.orchestration.schedule_config import ScheduleConfig, load_schedule
from kloros.orchestration.schedule_settings import ScheduleFile
from kloros.orchestration.simulate import simulate

S = 1_000_000
DEFAULT = Path(__file__).parents[2] / "config" / "scheduler_config.toml"
SCAN = 'signal = "Q_TRIGGER_INTROSPECTION"'


def scheduled(folder: Path, text: str) -> ScheduleConfig:
    path = folder / "scheduler_config.toml"
    path.write_text(text, encoding="utf-8")
    return load_schedule(path)


def test_the_smallest_file_takes_the_rest_from_the_vocabulary(tmp_path: Path) -> None:
    (entry,) = scheduled(tmp_path, f"[entries.scan]\ninterval_s = 5\n{SCAN}").entries
    assert (entry.name, entry.interval_us, entry.offset_us, entry.ecosystem) == ("scan", 5 * S, 0, "introspection")
    assert (entry.misfire, entry.priority, entry.adaptive) == ("coalesce", 0, True)


def test_a_trigger_of_ones_own_needs_no_declaration(tmp_path: Path) -> None:
    (entry,) = scheduled(tmp_path, '[entries.tea]\ninterval_s = 5\nsignal = "Q_TRIGGER_BREW_TEA"').entries
    assert (entry.signal, entry.ecosystem) == ("Q_TRIGGER_BREW_TEA", "brew_tea")


WRONG = {
    "a negative interval": ("interval_s = -5", "entries.scan.interval_s", "-5", "0.01 to 31622400"),
    "an interval of nothing": ("interval_s = 0", "entries.scan.interval_s", "0", "0.01 to"),
    "an interval of a nanosecond": ("interval_s = 1e-9", "entries.scan.interval_s", "1e-09", "0.01 to"),
    "an interval of a million years": ("interval_s = 3e13", "entries.scan.interval_s", "3", "31622400"),
    "not a number": ("interval_s = nan", "entries.scan.interval_s", "nan", "a finite number"),
    "infinity": ("interval_s = inf", "entries.scan.interval_s", "inf", "a finite number"),
    "text": ('interval_s = "5s"', "entries.scan.interval_s", "'5s' (str)", "a number in s, without quotes"),
    "a truth value": ("interval_s = true", "entries.scan.interval_s", "True (bool)", "a number in s"),
    "another unit": ("interval_ms = 5000", "entries.scan.interval_ms", "means nothing here", "`interval_s`"),
    "a misspelt key": ("interval_s = 5\nadaptiv = true", "entries.scan.adaptiv", "means nothing", "`adaptive`"),
    "a key of another scheduler": ("interval_s = 5\ncron = '*'", "entries.scan.cron", "means nothing", "one of"),
    "no interval": ("", "entries.scan.interval_s", "nothing", "this key to be set"),
    "an offset beyond the interval": ("interval_s = 5\noffset_s = 5", "entries.scan.offset_s", "5", "less than the"),
    "a negative offset": ("interval_s = 5\noffset_s = -1", "entries.scan.offset_s", "-1", "0 or more"),
    "bounds the wrong way round": (
        "interval_s = 5\nmin_interval_s = 9\nmax_interval_s = 3", "entries.scan.max_interval_s", "3", "9 to",
    ),
    "an interval out of bounds": ("interval_s = 5\nmax_interval_s = 3", "entries.scan.interval_s", "5", "0.01 to 3"),
    "an unknown policy": ('interval_s = 5\nmisfire = "maybe"', "entries.scan.misfire", "'maybe'", ""),
    "an idle limit": ("interval_s = 5\nmisfire_limit = 3", "entries.scan.misfire_limit", "3", '= "all"'),
    "no limit": (
        'interval_s = 5\nmisfire = "all"\nmisfire_limit = -1', "entries.scan.misfire_limit", "-1", "1 to 1000",
    ),
    "a limit of nothing": (
        'interval_s = 5\nmisfire = "all"\nmisfire_limit = 0', "entries.scan.misfire_limit", "0", "1 to 1000",
    ),
    "a priority of half": ("interval_s = 5\npriority = 0.5", "entries.scan.priority", "0.5", "a whole number"),
    "a priority without bounds": ("interval_s = 5\npriority = 1000", "entries.scan.priority", "1000", "-100 to 100"),
    "no ecosystem": ('interval_s = 5\necosystem = ""', "entries.scan.ecosystem", "''", "a name"),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "key", "found", "expected"), WRONG.values(), ids=WRONG)
def test_a_wrong_entry(tmp_path: Path, lines: str, key: str, found: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scheduled(
            tmp_path, f"[entries.other]\ninterval_s = 1\nsignal = 'Q_TRIGGER_OTHER'\n[entries.scan]\n{SCAN}\n{lines}"
        )
    error = caught.value
    assert error.file == tmp_path / "scheduler_config.toml"
    assert error.key == key
    assert found in str(error.found)
    assert expected in str(error.expected)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        ("Q_TRIGGER_INTROSPECTOIN", "Q_TRIGGER_INTROSPECTION"),
        ("introspection", "a signal of the vocabulary, or a trigger of your own, Q_TRIGGER_<NAME>"),
        ("HEARTBEAT", "a trigger, Q_TRIGGER_<NAME>"),
        ("", "a signal of the vocabulary"),
    ],
)
def test_a_signal_that_triggers_nothing(tmp_path: Path, signal: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scheduled(tmp_path, f'[entries.scan]\ninterval_s = 5\nsignal = "{signal}"')
    assert caught.value.key == "entries.scan.signal"
    assert expected in caught.value.expected


def test_two_entries_may_not_share_a_signal(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"entries\.again\.signal.*a signal of its own \(scan has this one"):
        scheduled(tmp_path, f"[entries.scan]\ninterval_s = 5\n{SCAN}\n[entries.again]\ninterval_s = 7\n{SCAN}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"entries: found no entry at all, expected at least one table \[entries.NAME\]"),
        ("entries = 3", "entries: found 3"),
        ("[entries", "text that is not TOML"),
        (f"[entries.Scan-1]\ninterval_s = 5\n{SCAN}", "lower-case letters"),
        (f"[scheduler]\ntick_interval_s = 0\n[entries.scan]\ninterval_s = 5\n{SCAN}", r"scheduler\.tick_interval_s"),
        (f"[scheduler]\nmisfire_grace_s = -1\n[entries.scan]\ninterval_s = 5\n{SCAN}", r"scheduler\.misfire_grace_s"),
        (f"[schedule]\n[entries.scan]\ninterval_s = 5\n{SCAN}", "`scheduler`"),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        scheduled(tmp_path, text)


class TestTheDefaultSchedule:
    def test_it_has_every_entry_of_the_suite(self) -> None:
        intervals = {entry.signal: entry.interval_us // S for entry in load_schedule(DEFAULT).entries}
        assert intervals == {
            "Q_TRIGGER_INTROSPECTION": 5,
            "Q_TRIGGER_AFFECT": 10,
            "Q_TRIGGER_CURIOSITY": 60,
            "Q_TRIGGER_ACTION_PROCESSING": 300,
            "Q_TRIGGER_INVESTIGATION": 300,
            "Q_TRIGGER_SHADOW_EVAL": 60,
            "Q_TRIGGER_TOURNAMENT": 15,
            "Q_TRIGGER_SEMANTIC_DEDUP": 5,
            "Q_TRIGGER_DECAY": 3600,
            "Q_TRIGGER_LEDGER_FLUSH": 60,
            "Q_TRIGGER_HISTORY_ROTATE": 3600,
            "Q_TRIGGER_OPTIMISATION": 60,
        }

    def test_introspection_and_affect_are_not_adaptive_and_curiosity_and_actions_are(self) -> None:
        adaptive = {entry.name: entry.adaptive for entry in load_schedule(DEFAULT).entries}
        assert not adaptive["introspection_scan"]
        assert not adaptive["affect_sensing"]
        assert adaptive["curiosity_generation"]
        assert adaptive["action_processing"]

    def test_no_two_entries_share_a_second_in_the_whole_hyperperiod(self) -> None:
        seconds = [(beat.due_us or 0) // S for beat in simulate(load_schedule(DEFAULT).entries, 0, hours=1)]
        assert len(seconds) == len(set(seconds)) == 3600 * 2 // 5 + 360 + 240 + 4 * 60 + 2 * 12 + 2

    def test_a_day_has_all_its_beats_in_order_and_on_time(self) -> None:
        entries = load_schedule(DEFAULT).entries
        beats = list(simulate(entries, 1_700_000_000 * S, hours=24))
        assert len(beats) == sum(86_400 * S // entry.interval_us for entry in entries)
        assert all(beat.late_us == 0 and beat.missed == 0 and beat.reason == "due" for beat in beats)
        for entry in entries:
            numbers = [beat.beat or 0 for beat in beats if beat.entry is entry]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    def test_a_day_costs_less_than_a_second_of_processor_time(self) -> None:
        entries = load_schedule(DEFAULT).entries
        before_s = time.process_time()
        assert sum(1 for _ in simulate(entries, 1_700_000_000 * S, hours=24)) > 43_000
        assert time.process_time() - before_s < 1.0

    def test_every_key_is_explained_in_the_file(self) -> None:
        text = DEFAULT.read_text(encoding="utf-8")
        file = load(DEFAULT, ScheduleFile)
        keys = {*file.scheduler.__struct_fields__, *next(iter(file.entries.values())).__struct_fields__}
        comments = "\n".join(line for line in text.splitlines() if "#" in line)
        assert {key for key in keys if key not in comments} == set()
