"""The table of rules. Pure. The first that fits is right, so what is more exact stands above what is more general."""

from kloros.consumers.investigation.rule import Rule
from kloros.consumers.investigation.rules.logs import LOGS
from kloros.consumers.investigation.rules.resources import RESOURCES
from kloros.consumers.investigation.rules.suite import ERRORS, FLOOD, SUITE_FIRST, SUITE_LAST
from kloros.consumers.investigation.rules.unit_end import UNIT_END, UNIT_EXIT
from kloros.consumers.investigation.rules.unit_setup import UNIT_SETUP

RULES: tuple[Rule, ...] = (
    *SUITE_FIRST,
    *UNIT_SETUP,
    *UNIT_END,
    *FLOOD,
    *LOGS,
    *UNIT_EXIT,
    *RESOURCES,
    *SUITE_LAST,
    *ERRORS,
)
