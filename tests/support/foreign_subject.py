"""A subject as another package would bring it: installed for importlib.metadata, with an entry point of its own."""

from __future__ import annotations

from pathlib import Path

SOURCE = '''
"""Whether a question is worth boiling the kettle for. Above 0.9 it misbehaves, each way of its own."""

from pathlib import Path

from kloros.consumers.candidates.space import Parameter
from kloros.consumers.candidates.subject import Example


class Kettle:
    name = "kettle"
    settings = "kettle"
    assumes = {}
    space = (Parameter(path="level", low=0.0, high=1.0, default=0.5),)

    def examples(self, history):
        return [
            Example(
                key=each.question.question_id, group=each.question.question_id, closed=each.closed,
                is_labelled=each.answer is not None, data=(each.question.value_estimate, each.answer is not None
                and each.answer.confidence > 0.5),
            )
            for each in history
            if each.folded_into is None
        ]

    def replay(self, parameters, examples):
        level = parameters["level"]
        if level == 0.91:
            raise ValueError("it boils over")
        if level == 0.92:
            examples = examples[:-1]
        if level == 0.93:
            Path("kettle.log").write_text("boiling")
        return {each.key: each.data[0] > 2 * level for each in examples}

    def loss(self, example, output):
        return float(output != example.data[1])

    def cost(self, example, output):
        return float(output)


class Broken(Kettle):
    name = "broken"

    def replay(self, parameters, examples):
        raise ZeroDivisionError("always")
'''


def install_kettle(folder: Path, entry: str = "kettle_subject:Kettle") -> None:
    """Put the package into a folder of the module search path."""
    (folder / "kettle_subject.py").write_text(SOURCE)
    info = folder / "kettle_subject-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kettle-subject\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[kloros.subjects]\nkettle = {entry}\n")
