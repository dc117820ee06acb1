"""Ways to break a machine on purpose, and what is to come of each: a table, in a file per sort of thing broken."""
