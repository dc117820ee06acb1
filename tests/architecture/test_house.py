"""The shape of the house, where a reader would look for it and a linter would not."""

import ast
import re
from pathlib import Path

import pytest

from kloros.chembus.vocabulary import VOCABULARY

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kloros"
SOURCES = sorted(PACKAGE.rglob("*.py"))
DAEMONS = sorted(PACKAGE.rglob("*_daemon.py"))
LONGEST_FILE_LINES = 350

SIGNAL_LIKE = re.compile(
    r"(Q|AFFECT|FALLBACK|MAINTENANCE|BUS|CAPABILITY|STATUS)_[A-Z_]+|HEARTBEAT|OBSERVATION|FLAG_FOR_REVIEW"
)


def strings_in(path: Path) -> set[str]:
    """The string constants of a file that are not docstrings."""
    tree = ast.parse(path.read_text())
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings)
    return {node.value for node in constants if isinstance(node.value, str)}


@pytest.mark.parametrize("path", DAEMONS, ids=lambda path: path.stem)
def test_a_daemons_zooid_is_the_name_of_its_file_and_it_runs_as_a_module(path: Path) -> None:
    source = path.read_text()
    assert re.search(rf'zooid(: ClassVar\[str\])? = "{path.stem}"', source)
    assert 'if __name__ == "__main__":' in source


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_signal_named_in_the_code_is_in_the_vocabulary(path: Path) -> None:
    named = {text for text in strings_in(path) if SIGNAL_LIKE.fullmatch(text) and not text.endswith("_")}
    assert not {name for name in named if not VOCABULARY.knows(name)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_says_what_it_is_and_stays_readable(path: Path) -> None:
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source)), "a file begins with what it is for"
    assert len(source.splitlines()) <= LONGEST_FILE_LINES


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.toml")), ids=lambda path: path.name)
def test_every_settings_key_is_explained_beside_it(path: Path) -> None:
    lines = path.read_text().splitlines()
    explained = " ".join(line for line in lines if "#" in line)
    unexplained = []
    for number, line in enumerate(lines):
        key = re.match(r"([a-z_]+) = ", line)
        if not key or "#" in line or key[1] in explained:
            continue
        above = next((text for text in reversed(lines[:number]) if not re.match(r"[a-z_]+ = ", text)), "")
        if not above.startswith(("#", "[")):
            unexplained.append(key[1])
    assert not unexplained
