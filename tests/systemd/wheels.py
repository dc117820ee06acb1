"""The packages the suite needs, as wheels for the system's Python, so that it installs without a network."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tomllib
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"


def wheelhouse(cache: Path, checkout: Path) -> Path:
    """A directory of wheels for what pyproject.toml asks for; made once per set of requirements."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())
    requirements = project["build-system"]["requires"] + project["project"]["dependencies"]
    version = subprocess.run([SYSTEM_PYTHON, "--version"], capture_output=True, text=True, check=True).stdout
    key = hashlib.sha256("\n".join([version, *requirements]).encode()).hexdigest()[:16]
    wheels = cache / f"wheels-{key}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several runs beside each other one makes them
        if not wheels.exists():
            _build(cache, wheels, requirements)
    return wheels


def _build(cache: Path, wheels: Path, requirements: list[str]) -> None:
    for stale in cache.glob("wheels-*"):
        shutil.rmtree(stale)
    unfinished = cache / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    subprocess.run([SYSTEM_PYTHON, "-m", "venv", unfinished / "venv"], check=True)
    pip = [str(unfinished / "venv/bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--quiet", "wheel", "--wheel-dir", str(unfinished / "wheels"), *requirements], check=True)
    (unfinished / "wheels").rename(wheels)
    shutil.rmtree(unfinished)
