"""Which investigators there are: the built-in ones, and those of other packages (group `kloros.investigators`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from kloros.chembus.facts_work import QuestionFacts
from kloros.consumers.investigation.base import Investigator
from kloros.consumers.investigation.cycle_book import CycleBook
from kloros.consumers.investigation.playbooks.bus import BusInvestigator
from kloros.consumers.investigation.playbooks.daemon import DaemonInvestigator
from kloros.consumers.investigation.playbooks.descriptors import DescriptorsInvestigator
from kloros.consumers.investigation.playbooks.disk import DiskInvestigator
from kloros.consumers.investigation.playbooks.general import GeneralInvestigator
from kloros.consumers.investigation.playbooks.journal import JournalInvestigator
from kloros.consumers.investigation.playbooks.load import LoadInvestigator
from kloros.consumers.investigation.playbooks.unit import UnitInvestigator
from kloros.consumers.investigation.samples import Samples
from kloros.consumers.investigation.settings import InvestigationSettings

ENTRY_POINT_GROUP = "kloros.investigators"


def built_in(settings: InvestigationSettings, book: CycleBook, samples: Samples, history: Path) -> list[Investigator]:
    """Those of this package. history: the directory of the historian."""
    sample_s = settings.load.sample_s
    return [
        UnitInvestigator(),
        LoadInvestigator(book, sample_s),
        DiskInvestigator(settings.disk, samples, history),
        JournalInvestigator(),
        DaemonInvestigator(book, history / "state.db", sample_s),
        BusInvestigator(book),
        DescriptorsInvestigator(),
        GeneralInvestigator(),
    ]


def from_other_packages() -> Iterator[tuple[str, Investigator | Exception]]:
    """(name, investigator) of each entry point, a callable that needs no arguments; or what was wrong with it."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            investigator = entry.load()()
            for part in ("handles", "gather"):
                if not callable(getattr(investigator, part, None)):
                    raise TypeError(f"it has no {part}()")
            if not isinstance(getattr(investigator, "name", None), str):
                raise TypeError("it has no name")
            yield entry.name, investigator
        except Exception as error:  # noqa: BLE001 - somebody else's code; it is named, and the rest goes on
            yield entry.name, error


def best_for(question: QuestionFacts, investigators: Sequence[Investigator]) -> Investigator:
    """The one that answers best; of equals the first. One that raises does not answer."""
    return max(investigators, key=lambda each: _score(each, question))


def _score(investigator: Investigator, question: QuestionFacts) -> float:
    try:
        return float(investigator.handles(question))
    except Exception:  # noqa: BLE001 - somebody else's code; another one will answer
        return -1.0
