"""Every verb of the kloros command explains itself and stands in the README."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from kloros.cli.app import app

README = Path(__file__).parents[2] / "README.md"


def verbs(group: object, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    """Every verb with the words that call it."""
    commands = getattr(group, "commands", None)
    if commands is None:
        return [(words, group)]
    return [each for name, command in commands.items() for each in verbs(command, (*words, name))]


VERBS = verbs(get_command(app))
NAMES = [" ".join(words) for words, _ in VERBS]


@pytest.mark.parametrize(("words", "command"), VERBS, ids=NAMES)
def test_a_verb_and_its_options_have_help(words: tuple[str, ...], command: object) -> None:
    assert len(getattr(command, "help", None) or "") > 10
    for parameter in getattr(command, "params", []):
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{' '.join(words)}: {parameter.name} has no help"


@pytest.mark.parametrize("words", NAMES)
def test_a_verb_stands_in_the_readme(words: str) -> None:
    text = README.read_text(encoding="utf-8")
    noun, _, verb = words.partition(" ")
    # In a row of its siblings the noun is said once: `kloros schedule pause NAME`, `resume NAME`, `trigger NAME`.
    pattern = rf"kloros {noun}\b[^\n]*\b{verb}\b" if verb else rf"kloros {noun}\b"
    assert re.search(pattern, text), f"kloros {words} is not in the README"


ROOT = Path(__file__).parents[2]
TELLING = [README, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "kloros").rglob("*.py"))]
WITH_VERBS = {words.split()[0] for words in NAMES if " " in words}


@pytest.mark.parametrize("path", TELLING, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_verb_that_somebody_is_told_to_use_exists(path: Path) -> None:
    for noun, verb in re.findall(r"[`/\" (]kloros ([a-z]+) ([a-z]+)", path.read_text(encoding="utf-8")):
        assert noun not in WITH_VERBS or f"{noun} {verb}" in NAMES, f"kloros {noun} {verb}"


def test_every_verb_that_the_readme_shows_exists() -> None:
    text = README.read_text(encoding="utf-8")
    known = set(NAMES) | {words.split()[0] for words in NAMES}
    for noun, verb in re.findall(r"(?:^|[`/ ])kloros ([a-z]+)(?: ([a-z]+))?", text, re.MULTILINE):
        assert noun in known | {"command"}, f"kloros {noun}"
        has_verbs = any(words.startswith(f"{noun} ") for words in NAMES)
        assert not (has_verbs and verb) or f"{noun} {verb}" in known, f"kloros {noun} {verb}"
