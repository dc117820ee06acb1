"""What the command does when its output, or what it was called with, is not as it would wish."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from support.command import LIMIT_S, Home, home

PLOT = ("schedule", "plot", "--simulate", "1", "--width", "80")
NO_TEXT = os.fsdecode(b"gro\xdf")


@pytest.fixture(scope="module")
def place() -> Iterator[Home]:
    with home() as each:
        yield each


def kloros(
    place: Home, *arguments: str, stdout: IO[str] | int = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """`kloros ARGUMENTS` in a process of its own, with bytes for outputs."""
    return subprocess.run(
        [sys.executable, "-m", "kloros.cli", *arguments], env={**place.environment, **environment}, cwd=place.folder,
        stdout=stdout, stderr=subprocess.PIPE, timeout=LIMIT_S,
    )  # fmt: skip


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}],
    ids=["ascii", "latin-1", "locale"],
)
def test_what_the_encoding_of_stdout_does_not_have_is_a_question_mark(place: Home, environment: dict[str, str]) -> None:
    usual = kloros(place, *PLOT, PYTHONIOENCODING="utf-8")
    done = kloros(place, *PLOT, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert any(ord(each) > 255 for each in usual.stdout.decode())
    assert b"?" in done.stdout
    assert len(done.stdout.splitlines()) == len(usual.stdout.splitlines())


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("verb", [PLOT, ("config", "dump"), ("--version",), ("--help",)], ids=" ".join)
def test_a_full_disk_below_stdout_is_one_line(place: Home, verb: tuple[str, ...], unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = kloros(place, *verb, stdout=full, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    told = done.stderr.decode()
    assert told.startswith("kloros: standard output cannot be written: No space left on device;")
    assert told.count("\n") == 1


def test_a_closed_stdout_is_one_line(place: Home) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m kloros.cli --version >&-', sys.executable],
        env=place.environment, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("kloros: standard output cannot be written: it is closed;")
    assert done.stderr.count("\n") == 1


def test_an_error_without_a_stderr_is_not_told_on_stdout(place: Home) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m kloros.cli schedule show 2>&-', sys.executable],
        env=place.environment, stdout=subprocess.PIPE, timeout=LIMIT_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, b"")


def test_a_reader_who_has_had_enough_is_no_error(place: Home) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as broken:
        done = kloros(place, *PLOT, stdout=broken)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_file_whose_name_is_no_text_can_be_given(place: Home) -> None:
    (place.folder / NO_TEXT).write_bytes((place.folder / "config/scheduler_config.toml").read_bytes())
    done = kloros(place, "schedule", "lint", NO_TEXT)
    assert b"Traceback" not in done.stderr
    assert done.returncode == kloros(place, "schedule", "lint", "config/scheduler_config.toml").returncode
