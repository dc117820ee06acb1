"""`kloros doctor` on the privileged helper: away, in order, or with a policy that it will not follow."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kloros.cli.diagnosis.suite import POLICY, privileged_helper
from kloros.machine.privileged_protocol import SOCKET
from kloros.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(config=tmp_path, state=tmp_path, runtime=tmp_path)


@pytest.fixture
def listening(place: Place) -> Iterator[None]:
    """A helper's socket."""
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(str(place.runtime / SOCKET))
        yield


def test_without_one_it_is_said_what_is_not_done(place: Place) -> None:
    [found] = privileged_helper(place)
    assert (found.verdict, found.cure != "") == ("note", True)
    assert "not swapped" in found.found


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [("[units]\nrestart = 3\n", 0o644, "units.restart"), ("", 0o666, "only root can write"), (None, 0, "No such file")],
)
def test_a_policy_that_it_will_not_follow_is_bad(place: Place, text: str | None, mode: int, said: str) -> None:
    if text is not None:
        (place.config / POLICY).write_text(text)
        (place.config / POLICY).chmod(mode)
    if text and os.geteuid() != 0:
        said = "only root can write"
    [found] = privileged_helper(place)
    assert found.verdict == "bad"
    assert said in found.found
    assert "the helper does nothing" in found.cure


@pytest.mark.usefixtures("listening")
@pytest.mark.skipif(os.geteuid() != 0, reason="the policy has to belong to root")
def test_with_a_policy_of_roots_it_is_good(place: Place) -> None:
    (place.config / POLICY).write_text('[units]\nrestart = ["kloros-*.service"]\n')
    (place.config / POLICY).chmod(0o644)
    [found] = privileged_helper(place)
    assert found.verdict == "good"
