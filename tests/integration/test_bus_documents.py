from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kloros.chembus.vocabulary import suite_vocabulary
from kloros.chembus.wire_doc import DOCS, documents, stale


def test_the_documents_say_what_the_vocabulary_says() -> None:
    assert stale() == [], "run python -m kloros.chembus.wire_doc --write"
    done = subprocess.run(
        [sys.executable, "-m", "kloros.chembus.wire_doc"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_document_is_named(tmp_path: Path) -> None:
    for name, text in documents().items():
        (tmp_path / name).write_text(text)
    (tmp_path / "wire.md").write_text("old")
    assert stale(tmp_path) == ["wire.md"]


@pytest.mark.parametrize("signal", [signal.name for signal in suite_vocabulary()])
def test_every_signal_stands_in_the_page(signal: str) -> None:
    assert f"| `{signal}` |" in (DOCS / "wire.md").read_text()


def test_every_reference_leads_somewhere() -> None:
    document = msgspec.yaml.decode((DOCS / "asyncapi.yaml").read_text())

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            return [node["$ref"]] if "$ref" in node else [ref for value in node.values() for ref in references(value)]
        return [ref for value in node for ref in references(value)] if isinstance(node, list) else []

    found = references(document)
    assert len(found) > len(suite_vocabulary())
    for reference in found:
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
        assert node


def test_it_is_asyncapi_3_with_all_channels() -> None:
    document = msgspec.yaml.decode((DOCS / "asyncapi.yaml").read_text())
    assert document["asyncapi"] == "3.0.0"
    assert set(document["channels"]) == {signal.name for signal in suite_vocabulary()}
    for channel in document["channels"].values():
        assert channel["address"] in document["components"]["messages"]
