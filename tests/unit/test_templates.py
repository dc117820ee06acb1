"""Log lines that say the same thing fold into one template."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kloros.consumers.introspection.templates import MAX_TEMPLATE_CHARS, fold

lines = st.text(max_size=400) | st.from_regex(re.compile(r"[\w /.:<>@=-]{0,300}", re.ASCII), fullmatch=True)


@pytest.mark.parametrize(
    ("line", "template"),
    [
        ("connection 17 from 10.0.0.3:4411 refused", "connection <n> from <ip> refused"),
        ("cannot open /var/lib/app/file-7.db: No such file", "cannot open <path>: No such file"),
        ("request 6f1c1a52-3f0e-4a0c-9d5e-0a8a2b1f7c11 failed", "request <uuid> failed"),
        ("bad pointer 0x7ffdeadbeef0 in frame 3", "bad pointer <hex> in frame <n>"),
        ("2026-11-21T07:43:37.123Z it broke", "<time> it broke"),
        ("commit deadbeef42 is gone", "commit <hex> is gone"),
        ("mail from root@example.org refused", "mail from <address> refused"),
        ("GET https://example.org/a/b?c=1 gave 503", "GET <url> gave <n>"),
        ("\x1b[31mred\x1b[0m alert", "red alert"),
        ("first line\nsecond line 2", "first line"),
        ("\n\n  indented", "indented"),
        ("", ""),
    ],
)
def test_what_varies_becomes_a_mark(line: str, template: str) -> None:
    assert fold(line) == template


@given(lines)
@example("0/  0")
def test_folding_is_idempotent(line: str) -> None:
    assert fold(fold(line)) == fold(line)


@given(lines)
def test_a_template_is_bounded_and_one_printable_line(line: str) -> None:
    template = fold(line)
    assert len(template) <= MAX_TEMPLATE_CHARS
    assert template.isprintable()


@given(
    st.integers(0, 10**12), st.integers(0, 10**12), st.sampled_from(["retry {} of pool", "took {}ms", "id={}", "eth{}"])
)
def test_lines_that_differ_in_a_number_share_a_template(first: int, second: int, line: str) -> None:
    assert fold(line.format(first)) == fold(line.format(second))


@given(st.uuids(), st.uuids())
def test_lines_that_differ_in_a_uuid_share_a_template(first: object, second: object) -> None:
    assert fold(f"session {first} ended") == fold(f"session {second} ended")


def test_a_huge_line_is_cheap() -> None:
    assert len(fold("/a" * 5_000_000)) <= MAX_TEMPLATE_CHARS
