"""Every refusal of a settings file names the file, the key, what was found and what was expected."""

from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta

from kloros.config import Settings, load
from kloros.errors import ConfigError


class Entry(Settings, frozen=True):
    interval_s: float
    retries: int = 1


class Shape(Settings, frozen=True):
    entries: dict[str, Entry] = {}
    one: Entry | None = None
    names: list[str] = []
    window_s: Annotated[float, Meta(gt=0)] = 1.0
    label: Annotated[str, Meta(max_length=2)] = ""


@pytest.mark.parametrize(
    ("text", "key", "found", "expected"),
    [
        (
            '[entries.b]\ninterval_s = 1\n[entries.a]\ninterval_s = "5"',
            "entries.a.interval_s",
            "'5' (str)",
            "a number in s",
        ),
        ("[entries.a]\ninterval_ms = 5", "entries.a.interval_ms", "means nothing", "`interval_s`"),
        ("[entries.a]\nintervall_s = 5", "entries.a.intervall_s", "means nothing", "`interval_s`"),
        ("[entries.a]\nretries = 2", "entries.a.interval_s", "nothing", "to be set"),
        ("[one]\ninterval_s = nan", "one.interval_s", "nan", "finite"),
        ("[one]\ninterval_s = 1\nretries = 1.5", "one.retries", "1.5", "whole number"),
        ("entries = 3", "entries", "3 (int)", "a table"),
        ("names = [1]", "names[0]", "1 (int)", "text in quotes"),
        ("names = 3", "names", "3 (int)", "a list"),
        ("window_s = -3", "window_s", "-3 (int)", "a number > 0.0 in s"),
        ('label = "abc"', "label", "'abc' (str)", "text in quotes of length <= 2"),
        ("sizes = 3", "sizes", "means nothing", "one of"),
        ("this is not toml", "(file)", "not TOML", "TOML"),
        ("window_s = 1" + "0" * 5000, "(file)", "4300 digits", "TOML"),
        ("window_s = 0x" + "F" * 5000, "window_s", "20000 bits", "at most 63"),
        ("names = " + "[" * 3000 + "]" * 3000, "(file)", "too deeply", "a few levels"),
        ("names = " + "[" * 100 + "]" * 100, "names" + "[0]" * 50, "too deeply", "a few levels"),
        ("[" + "a." * 3000 + "a]", "a" + ".a" * 50, "too deeply", "a few levels"),
    ],
)
def test_a_wrong_file_is_refused_with_one_clear_sentence(
    tmp_path: Path, text: str, key: str, found: str, expected: str
) -> None:
    path = tmp_path / "some_config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, Shape)
    error = caught.value
    assert error.key == key
    assert found in str(error.found)
    assert expected in error.expected
    assert str(path) in str(error)
    assert "\n" not in str(error)
    assert error.exit_code == 2


def test_a_file_that_is_missing_unreadable_or_not_text_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, found in ((tmp_path / "none.toml", "nothing there"), (tmp_path, "directory"), (binary, "UTF-8")):
        with pytest.raises(ConfigError, match=found):
            load(path, Shape)


def test_a_right_file_becomes_frozen_settings(tmp_path: Path) -> None:
    path = tmp_path / "right.toml"
    path.write_text("[entries.a]\ninterval_s = 5")
    settings = load(path, Shape)
    assert settings.entries["a"].interval_s == 5.0
    with pytest.raises(AttributeError):
        settings.names = ["x"]  # type: ignore[misc]
