"""One value in a settings file, changed by a verb: one line changes, everything else stays; then its daemon is told."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import typer

from kloros.cli.output import say
from kloros.errors import ConfigError

RELOAD_TIMEOUT_S = 10.0
_HEADER = re.compile(r"\s*\[")


def set_word(path: Path, table: str, key: str, word: str) -> None:
    """Write `key = "word"` into `[table]` of the file, which need not exist yet.

    Raises:
        ConfigError: It cannot be read, written, or changed safely.
    """
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        changed = with_word(text, table, key, word)
        if changed != text:
            write_whole(path, changed)
    except ValueError as error:
        raise ConfigError(file=path, key=f"{table}.{key}", found=str(error), expected="an edit by hand") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(file=path, key="(file)", found=reason, expected="a file that you may write") from error


def with_word(text: str, table: str, key: str, word: str) -> str:
    """The file's text with `key = "word"` in `[table]`, which may be a dotted name. Pure.

    Raises:
        ValueError: The text is written in a way that cannot be changed safely, or is not TOML.
    """
    lines = text.splitlines(keepends=True)
    names = table.split(".")
    dotted = r"\s*\.\s*".join(map(re.escape, names))
    header = re.compile(rf"\s*\[\s*{dotted}\s*\]\s*(#.*)?$")
    line = re.compile(rf"(?P<key>\s*{re.escape(key)}\s*=\s*)(?P<value>\"[^\"]*\"|'[^']*')(?P<rest>.*)", re.DOTALL)
    start = next((number for number, each in enumerate(lines) if header.match(each.rstrip("\n"))), None)
    if start is None:
        gap = "" if not text or text.endswith("\n") else "\n"
        changed = f'{text}{gap}\n[{table}]\n{key} = "{word}"\n'
    else:
        end = next((n for n in range(start + 1, len(lines)) if _HEADER.match(lines[n])), len(lines))
        found = next((n for n in range(start + 1, end) if line.fullmatch(lines[n])), None)
        if found is None:
            head = lines[start] if lines[start].endswith("\n") else f"{lines[start]}\n"
            lines[start] = f'{head}{key} = "{word}"\n'
        else:
            lines[found] = line.sub(rf'\g<key>"{word}"\g<rest>', lines[found])
        changed = "".join(lines)
    if _parsed(changed) != _with(_parsed(text), names, key, word):
        raise ValueError("the file is written in a way that only a person can change")
    return changed


def write_whole(path: Path, text: str) -> None:
    """In one step, with the rights and the owner that the file had. Raises OSError."""
    unfinished = path.with_name(f".{path.name}.new")
    try:
        unfinished.write_text(text, encoding="utf-8")
        if path.exists():
            had = path.stat()
            unfinished.chmod(had.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.chown(unfinished, had.st_uid, had.st_gid)
        else:
            unfinished.chmod(0o644)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def have_it_read(
    unit: str, who: str, *, is_installed: bool, is_quiet: bool = False, must_restart: bool = False
) -> int:  # fmt: skip
    """Have the installed daemon read its settings; say how, where that is not for us to do. Returns the exit code.

    must_restart: reading again is not enough, for it may be code that is new.
    """
    import subprocess

    if not is_installed or os.geteuid() != 0:
        if not is_quiet:
            how = "restart it" if must_restart else "restart the suite, or send it SIGHUP"
            say(f"it holds once {who} has read it: {how}")
        return 0
    verb = "try-restart" if must_restart else "try-reload-or-restart"
    try:
        done = subprocess.run(
            ["systemctl", verb, unit], capture_output=True, text=True, timeout=RELOAD_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        done = subprocess.CompletedProcess([], 1, "", str(error))
    if done.returncode:
        typer.echo(f"kloros: {unit} could not be told: {done.stderr.strip()}", err=True)
        return 1
    if not is_quiet:
        say(f"{who} was {'started anew' if must_restart else 'told'}: it holds with its next work")
    return 0


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"it is not TOML: {error}") from error


def _with(tables: dict[str, Any], names: list[str], key: str, word: str) -> dict[str, Any]:
    if not names:
        return {**tables, key: word}
    return {**tables, names[0]: _with(tables.get(names[0], {}), names[1:], key, word)}
