"""A verb changes one line of a settings file, and leaves to a person what it cannot change safely."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.cli.settings_edit import with_word
from kloros.consumers.action.settings import MODES, KindsSettings

SHIPPED = (Path(__file__).parents[2] / "config" / "action_consumer_config.toml").read_text()


@given(kind=st.sampled_from(KindsSettings.__struct_fields__), mode=st.sampled_from(MODES))
def test_one_mode_changes_and_nothing_else(kind: str, mode: str) -> None:
    changed = with_word(SHIPPED, f"kinds.{kind}", "mode", mode)
    tables, before = tomllib.loads(changed), tomllib.loads(SHIPPED)
    assert tables["kinds"][kind].pop("mode") == mode
    before["kinds"][kind].pop("mode")
    assert tables == before
    assert [line for line in changed.splitlines() if line.startswith("#")] == [
        line for line in SHIPPED.splitlines() if line.startswith("#")
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '\n[kinds.restart_unit]\nmode = "auto"\n'),
        ("[limits]\nin_all = 1", '[limits]\nin_all = 1\n\n[kinds.restart_unit]\nmode = "auto"\n'),
        ("[kinds.restart_unit]", '[kinds.restart_unit]\nmode = "auto"\n'),
        ("[kinds.restart_unit] # mine\nmode='off' # why\n", '[kinds.restart_unit] # mine\nmode="auto" # why\n'),
        (
            "[ kinds . restart_unit ]\nsettle_s = 1\n[limits]\n",
            '[ kinds . restart_unit ]\nmode = "auto"\nsettle_s = 1\n[limits]\n',
        ),
    ],
)  # fmt: skip
def test_a_mode_is_written_where_it_belongs(text: str, expected: str) -> None:
    assert with_word(text, "kinds.restart_unit", "mode", "auto") == expected


@pytest.mark.parametrize(
    "text", ['kinds = {restart_unit = {mode = "off"}}\n', "[[", '[kinds]\nrestart_unit.mode = "off"\n']
)
def test_what_cannot_be_changed_safely_is_left_to_a_person(text: str) -> None:
    with pytest.raises(ValueError, match=r"person|TOML"):
        with_word(text, "kinds.restart_unit", "mode", "auto")


def test_a_table_of_one_name() -> None:
    assert with_word("[modes]\na = 'off'\n", "modes", "a", "auto") == '[modes]\na = "auto"\n'
