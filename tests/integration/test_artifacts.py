"""Artifacts on a real disk: whole or not there, never changed unnoticed, never leading elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kloros.errors import ArtifactRefused
from kloros.storage.artifacts import (
    MAX_FILE_BYTES,
    Artifact,
    artifacts_under,
    current_version,
    drop_current,
    make_current,
    prune,
    split_name,
    stage,
    verify,
)

FILES = {"parameters.toml": b"threshold = 0.8\n"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return artifacts_under(tmp_path)


@pytest.fixture
def staged(root: Path) -> Artifact:
    return stage(root, "dedup", "p-1", FILES, {"tournament": "t-1"})


def test_what_was_staged_is_verified(root: Path, staged: Artifact) -> None:
    assert verify(root, "dedup", "p-1", staged.sha256) == staged
    assert staged.files == FILES
    assert staged.about == {"tournament": "t-1"}
    assert split_name(staged.name) == ("dedup", "p-1")


def test_staged_again_it_stays_as_it_is(root: Path, staged: Artifact) -> None:
    assert stage(root, "dedup", "p-1", FILES, {"tournament": "t-2"}) == staged
    with pytest.raises(ArtifactRefused, match="other files"):
        stage(root, "dedup", "p-1", {"parameters.toml": b"threshold = 0.9\n"})


def swap_for_link(folder: Path) -> None:
    body = folder / "parameters.toml"
    body.rename(folder.parent / "elsewhere.toml")
    body.symlink_to(folder.parent / "elsewhere.toml")


def swap_folder_for_link(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.symlink_to("moved")


def swap_module_for_link(folder: Path) -> None:
    folder.parent.rename(folder.parent.with_name("moved"))
    folder.parent.symlink_to("moved")


def swap_for_pipe(folder: Path) -> None:
    (folder / "parameters.toml").unlink()
    os.mkfifo(folder / "parameters.toml")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "changed": lambda folder: (folder / "parameters.toml").write_bytes(b"threshold = 0.1\n"),
    "longer": lambda folder: (folder / "parameters.toml").write_bytes(FILES["parameters.toml"] + b"#"),
    "missing": lambda folder: (folder / "parameters.toml").unlink(),
    "added": lambda folder: (folder / "more.toml").write_bytes(b""),
    "a directory in it": lambda folder: (folder / "more").mkdir(),
    "oversize": lambda folder: (folder / "parameters.toml").write_bytes(b"#" * (MAX_FILE_BYTES + 1)),
    "oversize manifest": lambda folder: (folder / "manifest.json").write_bytes(b" " * (MAX_FILE_BYTES + 1)),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "empty manifest": lambda folder: (folder / "manifest.json").write_bytes(b""),
    "manifest of another": lambda folder: (folder / "manifest.json").write_bytes(
        (folder / "manifest.json").read_bytes().replace(b"p-1", b"p-2")
    ),
    "manifest that leads outside": lambda folder: (folder / "manifest.json").write_bytes(
        (folder / "manifest.json").read_bytes().replace(b"parameters.toml", b"../../../passwd")
    ),
    "a link": swap_for_link,
    "a pipe": swap_for_pipe,
    "the version is a link": swap_folder_for_link,
    "the module is a link": swap_module_for_link,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_is_not_as_it_was_staged_is_refused(
    root: Path, staged: Artifact, damage: Callable[[Path], object]
) -> None:
    damage(root / "dedup" / "p-1")
    with pytest.raises(ArtifactRefused):
        verify(root, "dedup", "p-1")
    with pytest.raises(ArtifactRefused):
        stage(root, "dedup", "p-1", FILES)
    with pytest.raises(ArtifactRefused):
        make_current(root, "dedup", "p-1")


def test_a_manifest_made_to_fit_is_still_another_one(root: Path, staged: Artifact) -> None:
    other = stage(root.with_name("other"), "dedup", "p-1", {"parameters.toml": b"threshold = 0.1\n"})
    (root / "dedup/p-1/parameters.toml").write_bytes(other.files["parameters.toml"])
    manifest = root.with_name("other") / "dedup/p-1/manifest.json"
    (root / "dedup/p-1/manifest.json").write_bytes(manifest.read_bytes())
    assert verify(root, "dedup", "p-1").sha256 == other.sha256
    with pytest.raises(ArtifactRefused, match="SHA-256"):
        verify(root, "dedup", "p-1", staged.sha256)


@pytest.mark.parametrize(
    "name",
    ["", "dedup", "/p-1", "dedup/", "dedup/..", "../p-1", "dedup/../x", "dedup/p-1/x", "/etc/passwd", "dedup/current",
     "Dedup/p-1", "dedup/.p", "dedup/p 1", "dedup/p\n", "dedup/" + "p" * 99],
)  # fmt: skip
def test_a_name_that_could_lead_elsewhere_is_none(root: Path, name: str) -> None:
    with pytest.raises(ArtifactRefused):
        split_name(name)
    module, _, version = name.partition("/")
    with pytest.raises(ArtifactRefused):
        verify(root, module, version)


@pytest.mark.parametrize(
    "files",
    [{}, {"../x": b""}, {"manifest.json": b""}, {".hidden": b""}, {"x": b" " * (MAX_FILE_BYTES + 1)},
     {f"f{n}": b"" for n in range(65)}],
)  # fmt: skip
def test_what_may_not_be_staged_leaves_nothing(root: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(ArtifactRefused):
        stage(root, "dedup", "p-1", files)
    assert not root.exists()


def test_current_is_switched_and_dropped(root: Path, staged: Artifact) -> None:
    assert current_version(root, "dedup") is None
    make_current(root, "dedup", "p-1", staged.sha256)
    assert (root / "dedup/current/parameters.toml").read_bytes() == FILES["parameters.toml"]
    stage(root, "dedup", "p-2", FILES)
    make_current(root, "dedup", "p-2")
    assert current_version(root, "dedup") == "p-2"
    drop_current(root, "dedup")
    drop_current(root, "dedup")
    assert current_version(root, "dedup") is None


@pytest.mark.parametrize("target", ["/etc", "../other", ".", "p-1/../.."])
def test_a_current_that_leads_elsewhere_is_refused(root: Path, staged: Artifact, target: str) -> None:
    (root / "dedup/current").symlink_to(target)
    with pytest.raises(ArtifactRefused):
        current_version(root, "dedup")


def test_old_versions_go_but_not_the_current_one_and_the_spared(root: Path) -> None:
    for number in range(8):
        stage(root, "dedup", f"p-{number}", FILES)
        os.utime(root / f"dedup/p-{number}", (number, number))
    make_current(root, "dedup", "p-0")
    assert prune(root, "dedup", 2, spare=["p-3"]) == ["p-5", "p-4", "p-2", "p-1"]
    assert sorted(each.name for each in (root / "dedup").iterdir()) == ["current", "p-0", "p-3", "p-6", "p-7"]
    assert prune(root, "nobody", 2) == []


STAGING = """
import itertools, sys
from pathlib import Path
from kloros.storage.artifacts import make_current, stage
root = Path(sys.argv[1])
for number in itertools.count(int(sys.argv[2])):
    stage(root, "dedup", f"p-{number}", {"parameters.toml": b"x = 1 # " + b"x" * 50_000})
    make_current(root, "dedup", f"p-{number}")
    print(number, flush=True)
"""


def test_killed_while_staging_there_are_only_whole_ones(root: Path) -> None:
    for life in range(6):
        command = [sys.executable, "-c", STAGING, str(root), str(life * 1_000_000)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout
        last = [process.stdout.readline() for _ in range(5)][-1]
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        versions = [each.name for each in (root / "dedup").iterdir() if each.name.startswith("p-")]
        assert f"p-{int(last)}" in versions
        for version in versions:
            verify(root, "dedup", version)
        assert current_version(root, "dedup") in versions
