"""Ways to break a machine on purpose, and what is to come of each: a table, in a file per sort of thing broken."""

from tests.systemd.breakages.resources import RESOURCES
from tests.systemd.breakages.units import UNITS

BREAKAGES = (*UNITS, *RESOURCES)
