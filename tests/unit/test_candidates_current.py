"""A module's settings with its current artifact laid over them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta
from structlog.testing import capture_logs

from kloros.config import Settings
from kloros.consumers.candidates.current import in_force, parameters_text, tables_in_force
from kloros.consumers.dedup.settings import DedupSettings
from kloros.storage.artifacts import artifacts_under, make_current, stage
from kloros.telemetry.logs import get_logger


class Bounds(Settings, frozen=True):
    """[above]"""

    gap: Annotated[float, Meta(ge=0, le=2)] = 1.0
    chaos: float = 1.5


class Toy(Settings, frozen=True):
    """The whole file."""

    name: str = "toy"
    above: Bounds = Bounds()


def put_in_force(state: Path, body: str, version: str = "p-1") -> None:
    stage(artifacts_under(state), "toy", version, {"parameters.toml": body.encode()})
    make_current(artifacts_under(state), "toy", version)


def test_without_an_artifact_the_settings_file_holds(tmp_path: Path) -> None:
    with capture_logs() as logs:
        assert in_force(tmp_path, "toy", Toy(name="mine"), get_logger()) == Toy(name="mine")
    assert logs == []


def test_the_current_artifact_lies_over_the_settings_file(tmp_path: Path) -> None:
    put_in_force(tmp_path, parameters_text({"above.gap": 1.25}))
    with capture_logs() as logs:
        found = in_force(tmp_path, "toy", Toy(name="mine", above=Bounds(chaos=0.5)), get_logger())
    assert found == Toy(name="mine", above=Bounds(gap=1.25, chaos=0.5))
    assert [(each["event"], each["artifact"]) for each in logs] == [("parameters_in_force", "toy/p-1")]


def test_a_package_without_parameters_leaves_the_settings_as_they_are(tmp_path: Path) -> None:
    stage(artifacts_under(tmp_path), "toy", "m-1", {"toy.py": b""})
    make_current(artifacts_under(tmp_path), "toy", "m-1")
    with capture_logs() as logs:
        assert in_force(tmp_path, "toy", Toy(name="mine"), get_logger()) == Toy(name="mine")
    assert logs == []


@pytest.mark.parametrize(
    "body",
    ["[above]\ngap = 7.0\n", "[above]\nnothing = 1.0\n", "unknown = 1\n", "[above]\ngap = 'text'\n", "[above\n",
     "[above]\ngap = nan\n", "above = 1\n", "\x00"],
)  # fmt: skip
def test_an_artifact_that_does_not_fit_changes_nothing(tmp_path: Path, body: str) -> None:
    put_in_force(tmp_path, body)
    with capture_logs() as logs:
        assert in_force(tmp_path, "toy", Toy(), get_logger()) == Toy()
    assert [each["event"] for each in logs] == ["parameters_refused"]


def test_an_artifact_that_was_changed_on_the_disk_changes_nothing(tmp_path: Path) -> None:
    put_in_force(tmp_path, "[above]\ngap = 1.25\n")
    (artifacts_under(tmp_path) / "toy/current/parameters.toml").write_text("[above]\ngap = 1.75\n")
    assert in_force(tmp_path, "toy", Toy(), get_logger()) == Toy()
    assert tables_in_force(tmp_path, tmp_path, "toy", "toy") == {}


def test_what_is_in_force_is_the_file_and_the_artifact(tmp_path: Path) -> None:
    (tmp_path / "toy_config.toml").write_text("name = 'mine'\n[above]\ngap = 0.5\nchaos = 0.5\n")
    assert tables_in_force(tmp_path, tmp_path, "toy", "toy")["above"] == {"gap": 0.5, "chaos": 0.5}
    put_in_force(tmp_path, "[above]\ngap = 1.25\n")
    assert tables_in_force(tmp_path, tmp_path, "toy", "toy")["above"] == {"gap": 1.25, "chaos": 0.5}


def test_what_the_tournament_varies_are_settings_of_the_module(tmp_path: Path) -> None:
    stage(artifacts_under(tmp_path), "semantic_dedup", "p-1", {"parameters.toml": b"threshold = 0.65\n"})
    make_current(artifacts_under(tmp_path), "semantic_dedup", "p-1")
    assert in_force(tmp_path, "semantic_dedup", DedupSettings(), get_logger()) == DedupSettings(threshold=0.65)
