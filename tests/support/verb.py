"""The kloros command within the test's own process: faster than a process, and its settings are the environment's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kloros.cli.app import call


class Verb:
    """`kloros BEFORE... ARGUMENTS...`; `out` and `err` are what the last call printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *before: str) -> None:
        self._capsys, self._before = capsys, before
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        """Returns the exit code."""
        self._capsys.readouterr()  # what others printed meanwhile
        code = call([*self._before, *arguments])
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *arguments: str) -> Any:
        """What it prints with --json, whatever the exit code."""
        self(*arguments, "--json")
        assert self.out, self.err
        return json.loads(self.out)


def link_state(state: Path, stem: str) -> None:
    """Let the state of a bench's daemon be found where `kloros` looks for it: below the daemon's own name."""
    (state / stem).mkdir()
    for suffix in ("", "-wal", "-shm"):
        (state / stem / f"state.db{suffix}").symlink_to(state / f"state.db{suffix}")
