"""A user's own daemon runs from a staged package, from nothing but what was verified, or as it is installed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from kloros.daemon.packages import owners_of, put_in_force
from kloros.errors import ArtifactRefused
from kloros.storage.artifacts import make_current, prune, stage, verify
from kloros.telemetry.logs import get_logger

MODULE = "disk_tale"
INSTALLED = b"from disk_parts import WORD\nSAYS = f'installed {WORD}'\n"
GOOD = {"disk_tale.py": b"from disk_parts import WORD\nSAYS = f'staged {WORD}'\n", "disk_parts.py": b"WORD = 'new'\n"}
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where artifacts are; beside it the module as installed. Nothing of it stays imported."""
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / f"{MODULE}.py").write_bytes(INSTALLED)
    (installed / "disk_parts.py").write_bytes(b"WORD = 'old'\n")
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield tmp_path / "artifacts"
    for name in (MODULE, "disk_parts", "broken"):
        sys.modules.pop(name, None)


def staged(root: Path, files: dict[str, bytes] | None = None, version: str = "m-1") -> Path:
    """A package in force; returns its folder."""
    stage(root, MODULE, version, files or GOOD)
    make_current(root, MODULE, version)
    return root / MODULE / version


def run(root: Path) -> tuple[Any, list[Any]]:
    """What the module says once it is imported, and what was logged."""
    with capture_logs() as logs:
        put_in_force(root, MODULE, get_logger())
    return importlib.import_module(MODULE).SAYS, logs


def test_the_staged_code_runs_and_what_it_imports_comes_with_it(root: Path) -> None:
    folder = staged(root)
    says, logs = run(root)
    assert says == "staged new"
    sha256 = verify(root, MODULE, "m-1").sha256
    assert [(each["event"], each["artifact"], each["sha256"]) for each in logs] == [
        ("package_in_force", "disk_tale/m-1", sha256)
    ]
    assert sys.modules[MODULE].__file__ == str(folder / "disk_tale.py")


def test_nothing_is_read_from_the_disk_after_it_was_verified(root: Path) -> None:
    folder = staged(root)
    assert put_in_force(root, MODULE, get_logger())
    for each in folder.iterdir():
        each.write_bytes(b"raise SystemExit('read again')\n")
    assert importlib.import_module(MODULE).SAYS == "staged new"


def test_the_switch_of_the_pointer_is_all_it_takes_for_the_next_start(root: Path) -> None:
    staged(root)
    staged(root, {"disk_tale.py": b"SAYS = 'staged later'\n"}, "m-2")
    assert run(root)[0] == "staged later"


@pytest.mark.parametrize("module", ["disk_tale", "mine.disk", "Upper", ""])
def test_without_a_package_the_module_as_installed_runs_and_nothing_is_said(root: Path, module: str) -> None:
    with capture_logs() as logs:
        assert put_in_force(root, module, get_logger()) is None
    assert logs == []
    assert importlib.import_module(MODULE).SAYS == "installed old"


def test_parameters_alone_are_no_package(root: Path) -> None:
    staged(root, {"parameters.toml": b"a = 1\n"})
    assert run(root) == ("installed old", [])


def link(folder: Path) -> None:
    (folder / "disk_parts.py").rename(folder.parent / "elsewhere.py")
    (folder / "disk_parts.py").symlink_to(folder.parent / "elsewhere.py")


def gone(folder: Path) -> None:
    folder.rename(folder.with_name("m-9"))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (lambda folder: (folder / "disk_parts.py").write_bytes(b"WORD = 'bad'\n"), "not as the manifest says"),
    "added": (lambda folder: (folder / "more.py").write_bytes(b""), "not in the manifest"),
    "missing": (lambda folder: (folder / "disk_parts.py").unlink(), "is missing"),
    "a link": (link, "symbolic links"),
    "gone": (gone, "No such file"),
    "a file for all to write": (lambda folder: (folder / "disk_parts.py").chmod(0o666), "others than its owner"),
    "a file for its group to write": (lambda folder: (folder / "disk_parts.py").chmod(0o664), "others than its owner"),
    "a manifest for all to write": (lambda folder: (folder / "manifest.json").chmod(0o666), "others than its owner"),
    "a folder for all to write": (lambda folder: folder.chmod(0o777), "others than its owner"),
}


@pytest.mark.parametrize(("damage", "told"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_not_as_root_staged_it_is_refused_and_the_installed_one_runs(
    root: Path, damage: Callable[[Path], object], told: str
) -> None:
    damage(staged(root))
    says, (refused,) = run(root)
    assert says == "installed old"
    assert (refused["event"], refused["log_level"]) == ("package_refused", "error")
    assert told in refused["reason"]
    assert "kloros module" in refused["cure"]


@is_root
@pytest.mark.parametrize("what", [".", "manifest.json", "disk_tale.py", "disk_parts.py"])
def test_code_that_somebody_else_could_have_written_is_refused(root: Path, what: str) -> None:
    os.chown(staged(root) / what, 65533, 65533)
    says, (refused,) = run(root)
    assert (says, refused["event"]) == ("installed old", "package_refused")
    assert "user 65533 could have written its code" in refused["reason"]


CODE = {
    "no Python": {"disk_tale.py": b"def\n"},
    "no Python in a part": {**GOOD, "disk_parts.py": b"x = = 1\n"},
    "a null byte": {"disk_tale.py": b"\x00"},
    "no text": {"disk_tale.py": b"\xff\xfe"},
    "without the module": {"disk_parts.py": b"WORD = 1\n"},
    "a name of Python's": {**GOOD, "json.py": b""},
    "a name of the suite": {**GOOD, "kloros.py": b""},
    "no name of a module": {**GOOD, "disk-parts.py": b""},
}


@pytest.mark.parametrize("files", CODE.values(), ids=CODE)
def test_what_is_no_package_is_refused_whole(root: Path, files: dict[str, bytes]) -> None:
    staged(root, files)
    says, (refused,) = run(root)
    assert (says, refused["event"]) == ("installed old", "package_refused")


def test_a_pointer_that_leads_elsewhere_is_refused(root: Path, tmp_path: Path) -> None:
    folder = staged(root)
    (root / MODULE / "current").unlink()
    (root / MODULE / "current").symlink_to(folder)
    assert run(root)[1][0]["event"] == "package_refused"


def test_what_it_raises_at_its_import_names_its_file_and_line(root: Path) -> None:
    folder = staged(root, {"disk_tale.py": b"WORD = 1\n1 / 0\n"})
    put_in_force(root, MODULE, get_logger())
    with pytest.raises(ZeroDivisionError) as raised:
        importlib.import_module(MODULE)
    last = raised.traceback[-1]
    assert (str(last.path), last.lineno + 1) == (str(folder / "disk_tale.py"), 2)


class TestWhoMayStageCode:
    def test_root_and_whoever_owns_the_module_as_installed_and_runs_it(self, root: Path) -> None:
        assert set(owners_of(MODULE)) == {0, os.geteuid()}

    def test_root_alone_for_a_module_that_is_not_installed(self, root: Path) -> None:
        assert owners_of("no_such_module") == {0}

    @is_root
    @pytest.mark.parametrize("mode", [0o644, 0o664, 0o646])
    def test_a_daemons_user_is_trusted_with_what_it_owns_alone_and_nothing_else(self, mode: int) -> None:
        """As user 65533, as a unit runs it: the module as installed is root's, then its own, perhaps others' too."""
        with tempfile.TemporaryDirectory(dir="/tmp") as name:  # where such a user can look
            folder = Path(name)
            folder.chmod(0o755)
            installed = folder / f"{MODULE}.py"
            installed.write_bytes(INSTALLED)
            assert as_user(folder) == {0}
            os.chown(installed, 65533, 65533)
            installed.chmod(mode)
            assert as_user(folder) == ({0, 65533} if mode == 0o644 else {0})


def as_user(folder: Path) -> set[int]:
    """What `owners_of` says in a process of user 65533 that looks for modules in `folder`."""
    script = f"import os, sys; sys.path.insert(0, {str(folder)!r}); from kloros.daemon.packages import owners_of\n"
    script += f"os.setegid(65533); os.seteuid(65533); print(*owners_of({MODULE!r}))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return {int(each) for each in told.split()}


class TestStaging:
    def test_whatever_the_umask_is_the_daemons_can_read_it_and_nobody_else_write_it(self, root: Path) -> None:
        for mask in (0o000, 0o077):
            before = os.umask(mask)
            try:
                folder = staged(root, version=f"m-{mask}")
            finally:
                os.umask(before)
            assert {each.stat().st_mode & 0o777 for each in folder.iterdir()} == {0o644}
            assert folder.stat().st_mode & 0o777 == 0o755

    def test_a_link_in_its_way_is_not_followed(self, root: Path, tmp_path: Path) -> None:
        """Whoever may switch `current` may also lay links beside it; root must not write where they lead."""
        aim = tmp_path / "aim"
        aim.mkdir()
        (root / MODULE).mkdir(parents=True)
        (root / MODULE / ".making-m-1").symlink_to(aim)
        with pytest.raises((OSError, ArtifactRefused)):
            stage(root, MODULE, "m-1", GOOD)
        (root / MODULE / ".making-m-1").unlink()
        (root / MODULE).rmdir()
        (root / MODULE).symlink_to(aim)
        with pytest.raises((OSError, ArtifactRefused)):
            stage(root, MODULE, "m-1", GOOD)
        root.rename(tmp_path / "moved")
        root.symlink_to(aim)
        (aim / MODULE).mkdir()
        with pytest.raises((OSError, ArtifactRefused)):
            stage(root, MODULE, "m-1", GOOD)
        assert [each.name for each in aim.rglob("*")] == [MODULE]

    @is_root
    def test_what_somebody_else_staged_is_not_pruned(self, root: Path) -> None:
        for number in range(5):
            os.chown(staged(root, version=f"m-{number}"), 65533 if number < 2 else 0, -1)
        assert sorted(prune(root, MODULE, 0)) == ["m-2"]
