"""Names of files that are no text, as they are told."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros.machine.names import readable


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"/srv/photos", "/srv/photos"),
        ("/srv/größe ✓".encode(), "/srv/größe ✓"),
        (b"/srv/gro\xdf.bin", "/srv/gro\\xdf.bin"),
        (b"\xff\xfe", "\\xff\\xfe"),
    ],
)
def test_bytes_that_are_no_utf8_are_named(name: bytes, told: str) -> None:
    assert readable(os.fsdecode(name)) == told


@given(st.text(alphabet=st.characters(), max_size=40))
def test_text_stays_as_it_is(text: str) -> None:
    assert readable(text) == text


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=40))
def test_whatever_it_is_it_can_be_told(text: str) -> None:
    told = readable(text)
    assert told.encode().decode() == readable(told) == told
