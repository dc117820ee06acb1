"""The schedule as a picture: what was due, emitted and run, per entry."""
